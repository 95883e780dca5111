package data

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/data"
	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/admin"
	"github.com/adyton-dev/adyton/internal/broker/api"
	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/refusal"
)

// maxPolicy bounds a policy file in bytes.
const maxPolicy = 1 << 20

// sealing is what `adyton data seal` was asked for.
type sealing struct {
	in, out                      string
	resource                     string
	keyFile                      string
	brokerURL, brokerPin, policy string
	ownerKey                     string
	force, randomAccess          bool
}

func newSeal() *cobra.Command {
	var s sealing
	cmd := &cobra.Command{
		Use:   "seal IN OUT",
		Short: "Seal a file or a directory",
		Long: `Seals the file or directory IN into the file OUT.

With --broker, a fresh key is made and stored at the broker as --resource, together
with --policy in one step; the resource must not exist yet. The key is nowhere else.
OUT appears last, complete: if anything fails before, there is no OUT, and a key
without a file is removed or named in the error. There is never a file without its key.

With --key-file, the key is the 32 bytes of that file ("adyton data keygen"), and no
broker is asked; --resource may name the key for whoever opens the file.

The format is documented in the Go package github.com/adyton-dev/adyton/data: Tink
streaming AES-256-GCM. A directory may hold files and directories, no links.`,
		Example: `  adyton data seal --broker https://broker:8443 --broker-spki sha256:… \
      --owner-key hospital-a.key --resource kbs:///hospital-a/key/cohort \
      --policy release.yaml cohort/ cohort.sealed
  adyton data seal --key-file backup.key notes.txt notes.sealed`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.in, s.out = args[0], args[1]
			return s.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&s.resource, "resource", "", "the key's name at the broker, kbs:///REPOSITORY/TYPE/TAG")
	flags.StringVar(&s.policy, "policy", "", "release policy to store with the key (YAML; see adyton policy init)")
	flags.StringVar(&s.brokerURL, "broker", "", "URL of the broker, https://HOST:PORT")
	flags.StringVar(&s.brokerPin, "broker-spki", "", "pin of the broker's key, sha256:HEX, as \"adyton broker pin\" prints it")
	flags.StringVar(&s.ownerKey, "owner-key", "", "file with your private key as an owner (adyton broker keygen)")
	flags.StringVar(&s.keyFile, "key-file", "", "file with the key, instead of a broker")
	flags.BoolVar(&s.force, "force", false, "replace OUT if it exists")
	flags.BoolVar(&s.randomAccess, "random-access", false, "use segments of 4 KiB instead of 1 MiB, for reading small parts")
	cmd.MarkFlagsMutuallyExclusive("key-file", "broker")
	cmd.MarkFlagsMutuallyExclusive("key-file", "policy")
	cmd.MarkFlagsMutuallyExclusive("key-file", "owner-key")
	return cmd
}

// keeper keeps keys: the broker.
type keeper interface {
	PutResource(ctx context.Context, path string, value, policy []byte, createOnly bool) error
	DeleteResource(ctx context.Context, path string) error
	Metadata(ctx context.Context, path string) (*api.Metadata, error)
}

func (s *sealing) run(ctx context.Context, stdout, stderr io.Writer) error {
	if s.resource != "" {
		uri, err := kbs.ParseResourceURI(s.resource)
		if err != nil {
			return ui.Usage("--resource: %w", err)
		}
		s.resource = uri.String()
	}
	if err := checkFree(s.out, s.force); err != nil {
		return err
	}
	if s.keyFile != "" {
		kek, err := readKey(s.keyFile)
		if err != nil {
			return err
		}
		defer clear(kek)
		sealed, err := s.seal(ctx, kek, stderr)
		if err != nil {
			return err
		}
		if err := sealed.Commit(); err != nil {
			return errors.Join(err, sealed.Discard())
		}
		return s.report(stdout, "the key of "+s.keyFile)
	}
	if s.brokerURL == "" || s.ownerKey == "" || s.resource == "" || s.policy == "" {
		return ui.Usage("say where the key is kept: --broker URL --broker-spki PIN --owner-key FILE --resource kbs:///… --policy FILE, or --key-file FILE")
	}
	policy, err := readPolicy(s.policy)
	if err != nil {
		return err
	}
	client, err := admin.New(s.brokerURL, s.brokerPin, s.ownerKey)
	if err != nil {
		return err
	}
	if err := s.sealWith(ctx, client, policy, stderr); err != nil {
		return err
	}
	return s.report(stdout, s.resource)
}

func (s *sealing) report(w io.Writer, key string) error {
	_, err := fmt.Fprintf(w, "sealed %s to %s under %s\n", s.in, s.out, key)
	return err
}

func (s *sealing) seal(ctx context.Context, kek []byte, stderr io.Writer) (*data.Sealed, error) {
	h := data.Header{Key: s.resource}
	if s.randomAccess {
		h.SegmentSize = data.SmallSegment
	}
	total, err := contentSize(s.in)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	p := newProgress(stderr, "sealing", total)
	defer p.end()
	return data.Seal(ctx, s.in, s.out, kek, h, p.add)
}

// sealWith seals under a fresh key that k keeps. The order makes every failure
// harmless: the file is complete on the disk before the key is stored, and gets
// its name after that.
func (s *sealing) sealWith(ctx context.Context, k keeper, policy []byte, stderr io.Writer) (err error) {
	_, err = k.Metadata(ctx, s.resource)
	if err == nil {
		return fmt.Errorf("%s exists at the broker already; seal under another name, or remove it with `adyton broker resource delete`", s.resource)
	}
	if refusal.Of(err) != refusal.ResourceNotFound {
		return fmt.Errorf("look up %s: %w", s.resource, err)
	}
	kek := make([]byte, data.KeySize)
	defer clear(kek)
	_, _ = rand.Read(kek) // never fails
	sealed, err := s.seal(ctx, kek, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sealed.Discard()) }()
	err = k.PutResource(ctx, s.resource, kek, policy, true)
	if errors.Is(err, admin.ErrExists) {
		return fmt.Errorf("%s was made by somebody else meanwhile; seal under another name", s.resource)
	}
	if refusal.Of(err) == refusal.BrokerUnreachable {
		// Deleting now could remove a key that somebody else stored.
		return fmt.Errorf("store key (if it arrived all the same, remove it with `adyton broker resource delete %s`): %w", s.resource, err)
	}
	if err != nil {
		return fmt.Errorf("store key: %w", err)
	}
	if err := sealed.Commit(); err != nil {
		return errors.Join(err, s.takeBack(ctx, k))
	}
	return nil
}

// takeBack removes the key of a file that could not be written, also if the user
// has interrupted the command.
func (s *sealing) takeBack(ctx context.Context, k keeper) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := k.DeleteResource(ctx, s.resource); err != nil {
		return fmt.Errorf("remove the key %s again: %w", s.resource, err)
	}
	return nil
}

// readPolicy reads and compiles a policy, so that a mistake is found before
// hours of sealing.
func readPolicy(name string) ([]byte, error) {
	text, err := readBounded(name, maxPolicy)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	compiler, err := broker.NewPolicyCompiler()
	if err != nil {
		return nil, err
	}
	if _, err := compiler.CompileFile(name, text); err != nil {
		return nil, err
	}
	return text, nil
}
