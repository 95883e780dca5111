package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/data"
	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/refusal"
)

// What the launcher puts into an enclave.
const (
	initDataFile = "/run/adyton/initdata.toml"
	brokerSocket = "/run/adyton/broker.sock"
	maxInitData  = 1 << 20
)

// opening is what `adyton data open` was asked for.
type opening struct {
	in, out              string
	keyFile              string
	brokerURL, brokerPin string
	force                bool
	attestation          attest.Paths // where to look for a TEE
}

func newOpen() *cobra.Command {
	var o opening
	cmd := &cobra.Command{
		Use:   "open IN OUT",
		Short: "Open a sealed file",
		Long: `Opens the sealed file IN into OUT: a file, or a directory that must not exist yet.
OUT appears complete and authenticated, or not at all.

The key comes from --key-file, or, inside a TEE, from the broker, which gets evidence
of the TEE first. Elsewhere no broker gives a key; that is the purpose. Programs in an
enclave rarely need this command: "unlock" in enclave.yaml opens files before they start.`,
		Example: `  adyton data open --key-file backup.key notes.sealed notes.txt
  adyton data open --broker https://broker:8443 --broker-spki sha256:… cohort.sealed /run/cohort`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.in, o.out = args[0], args[1]
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.keyFile, "key-file", "", "file with the key, instead of a broker")
	flags.StringVar(&o.brokerURL, "broker", "", "URL of the broker, https://HOST:PORT")
	flags.StringVar(&o.brokerPin, "broker-spki", "", "pin of the broker's key, sha256:HEX")
	flags.BoolVar(&o.force, "force", false, "replace OUT if it is a file that exists")
	cmd.MarkFlagsMutuallyExclusive("key-file", "broker")
	return cmd
}

func (o *opening) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := checkFree(o.out, o.force); err != nil {
		return err
	}
	info, err := os.Stat(o.in)
	if err != nil {
		return fmt.Errorf("open sealed data: %w", err)
	}
	var p *progress
	key := func(h *data.Header) ([]byte, error) {
		kek, err := o.key(ctx, h)
		if err != nil {
			return nil, err
		}
		total, err := h.PlainSize(info.Size())
		if err != nil {
			return nil, err
		}
		p = newProgress(stderr, "opening", total)
		return kek, nil
	}
	err = data.Open(ctx, o.in, o.out, key, data.OpenOptions{Progress: func(n int) { p.add(n) }})
	if p != nil {
		p.end()
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "opened %s to %s\n", o.in, o.out)
	return err
}

// checkFree refuses to replace what exists, unless it is a file and force is set.
// A device would be replaced, too, not written to.
func checkFree(out string, force bool) error {
	switch info, err := os.Lstat(out); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for %s: %w", out, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s exists and is not a file: name another OUT", out)
	case !force:
		return fmt.Errorf("%s exists; --force replaces it", out)
	}
	return nil
}

func (o *opening) key(ctx context.Context, h *data.Header) ([]byte, error) {
	if o.keyFile != "" {
		return readKey(o.keyFile)
	}
	attester, err := attest.Detect(o.attestation)
	if refusal.Of(err) == refusal.EvidenceUnsupported {
		return nil, refusal.New(refusal.EvidenceUnsupported, "a broker gives the key only to a TEE, and this is none; open it inside an approved enclave, or with --key-file if you have the key")
	}
	if err != nil {
		return nil, err
	}
	if h.Key == "" {
		return nil, errors.New("no broker keeps its key; give --key-file")
	}
	if o.brokerURL == "" {
		return nil, ui.Usage("name the broker that keeps %s: --broker URL --broker-spki PIN", h.Key)
	}
	opts := kbs.Options{URL: o.brokerURL, SPKI: o.brokerPin, Attester: attester}
	opts.InitData, err = readBounded(initDataFile, maxInitData)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("init-data: %w", err)
	}
	if _, err := os.Stat(brokerSocket); err == nil {
		// An enclave without a network: the launcher relays to the broker.
		opts.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", brokerSocket)
		}
	}
	client, err := kbs.New(opts)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if _, err := client.Attest(ctx); err != nil {
		return nil, err
	}
	return client.Resource(ctx, h.Key)
}
