package broker

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	core "github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/api"
	ownerkey "github.com/adyton-dev/adyton/internal/broker/owner"
	"github.com/adyton-dev/adyton/internal/broker/store/bolt"
	"github.com/adyton-dev/adyton/internal/cli/broker/connect"
	"github.com/adyton-dev/adyton/internal/cli/ui"
)

func newKeygen() *cobra.Command {
	var out ui.Output
	cmd := &cobra.Command{
		Use:     "keygen NAME",
		Short:   "Make an owner's key pair",
		Long:    "Writes an Ed25519 key pair: NAME.key (PKCS #8 PEM, mode 0600), which stays with the\nowner, and NAME.pub, which the broker's administrator registers. An existing file is\nnot overwritten.",
		Example: "  adyton broker keygen hospital-a",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			private, public := args[0]+".key", args[0]+".pub"
			for _, path := range []string{private, public} {
				if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("%s exists already", path)
				}
			}
			id, err := keygen(private, public)
			if err != nil {
				return err
			}
			result := map[string]string{"private_key": private, "public_key": public, "key_id": id}
			return out.Print(cmd, result, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "private key: %s\npublic key:  %s\nkey id:      %s\n", private, public, id)
				return err
			})
		},
	}
	out.AddFlag(cmd)
	return cmd
}

func keygen(private, public string) (string, error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make key: %w", err)
	}
	privPEM, err := ownerkey.MarshalPrivateKey(priv)
	if err != nil {
		return "", err
	}
	pubPEM, err := ownerkey.MarshalPublicKey(pub)
	if err != nil {
		return "", err
	}
	if err := renameio.WriteFile(private, privPEM, 0o600); err != nil {
		return "", fmt.Errorf("write %s: %w", private, err)
	}
	if err := renameio.WriteFile(public, pubPEM, 0o644); err != nil {
		return "", fmt.Errorf("write %s: %w", public, err)
	}
	return ownerkey.KeyID(pub)
}

// owners is the part of the administration that is about owners; *admin.Client
// and offline have it.
type owners interface {
	AddOwner(ctx context.Context, o api.Owner) error
	RemoveOwner(ctx context.Context, name string, shred bool) error
	Owners(ctx context.Context) ([]api.Owner, error)
}

// offline administers a broker that does not run.
type offline struct{ broker *core.Broker }

func (o offline) AddOwner(ctx context.Context, owner api.Owner) error {
	return o.broker.AddOwner(ctx, core.Admin(), owner)
}

func (o offline) RemoveOwner(ctx context.Context, name string, shred bool) error {
	return o.broker.RemoveOwner(ctx, core.Admin(), name, shred)
}

func (o offline) Owners(ctx context.Context) ([]api.Owner, error) {
	return o.broker.Owners(ctx, core.Admin())
}

// administration is the flags of the owner commands.
type administration struct {
	dir    string
	remote connect.Remote
	unlock unlock
}

// with calls f with the broker that the flags name.
func (a *administration) with(ctx context.Context, f func(owners) error) (err error) {
	if a.dir == "" {
		c, err := a.remote.Client("admin-key")
		if err != nil {
			return err
		}
		return f(c)
	}
	if err := connect.Exists(a.dir); err != nil {
		return err
	}
	b, err := core.Open(ctx, a.dir, core.Options{Means: a.unlock.means(a.dir)})
	if errors.Is(err, bolt.ErrInUse) {
		c, err := connect.Local(a.dir)
		if err != nil {
			return err
		}
		return f(c)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return f(offline{b})
}

func (a *administration) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.dir, "dir", "", "the broker's directory on this machine, whether it runs or not")
	a.remote.AddFlags(cmd, "admin-key", "the administrator's")
	a.unlock.addFlags(cmd)
	cmd.MarkFlagsOneRequired("dir", "broker")
	cmd.MarkFlagsMutuallyExclusive("dir", "broker")
}

func newOwner() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "owner",
		Short: "Register and remove owners of resources",
		Example: `  adyton broker owner add --dir broker hospital-a \
      --public-key hospital-a.pub --repository hospital-a
  adyton broker owner list --dir broker`,
	}
	cmd.AddCommand(newOwnerAdd(), newOwnerRemove(), newOwnerList())
	return cmd
}

func newOwnerAdd() *cobra.Command {
	var (
		a            administration
		publicKey    string
		repositories []string
	)
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Register an owner",
		Long: `Registers an owner by its public key. It alone may then store resources and
policies in the repositories named. A repository has one owner, and one that holds
resources cannot be given to another.`,
		Example: `  adyton broker owner add --dir broker hospital-a \
      --public-key hospital-a.pub --repository hospital-a`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pem, err := os.ReadFile(publicKey)
			if err != nil {
				return fmt.Errorf("--public-key: %w", err)
			}
			o := api.Owner{Name: args[0], PublicKey: string(pem), Repositories: repositories}
			return a.with(cmd.Context(), func(owners owners) error { return owners.AddOwner(cmd.Context(), o) })
		},
	}
	a.addFlags(cmd)
	cmd.Flags().StringVar(&publicKey, "public-key", "", "file with the owner's public key")
	cmd.Flags().StringSliceVar(&repositories, "repository", nil, "repository that it owns; may be repeated")
	_ = cmd.MarkFlagRequired("public-key") // the flag exists
	_ = cmd.MarkFlagRequired("repository")
	return cmd
}

func newOwnerRemove() *cobra.Command {
	var (
		a     administration
		shred bool
	)
	cmd := &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove an owner",
		Long:    "Removes an owner. While its repositories hold resources this is refused, unless\n--shred is given, which removes them for good.",
		Example: "  adyton broker owner remove --dir broker hospital-a --shred",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(owners owners) error { return owners.RemoveOwner(cmd.Context(), args[0], shred) })
		},
	}
	a.addFlags(cmd)
	cmd.Flags().BoolVar(&shred, "shred", false, "remove the owner's resources too")
	return cmd
}

func newOwnerList() *cobra.Command {
	var (
		a   administration
		out ui.Output
	)
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the owners",
		Example: "  adyton broker owner list --dir broker",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(owners owners) error {
				list, err := owners.Owners(cmd.Context())
				if err != nil {
					return err
				}
				return out.Print(cmd, list, func(w io.Writer) error {
					tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
					fmt.Fprintln(tw, "NAME\tREPOSITORIES\tREGISTERED")
					for _, o := range list {
						fmt.Fprintf(tw, "%s\t%s\t%s\n", o.Name, strings.Join(o.Repositories, ","), o.Created.Format("2006-01-02 15:04:05Z"))
					}
					return tw.Flush()
				})
			})
		},
	}
	a.addFlags(cmd)
	out.AddFlag(cmd)
	return cmd
}
