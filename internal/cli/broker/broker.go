// Package broker is `adyton broker`: it makes and runs a key broker and
// administers it. It imports the broker's packages, package appraise and the
// collateral client.
package broker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/adyton-dev/adyton/attest"
	core "github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/vault"
	"github.com/adyton-dev/adyton/internal/cli/broker/connect"
	"github.com/adyton-dev/adyton/internal/cli/ui"
)

// New makes the command group.
func New() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "broker",
		Short: "Appraise TEEs and release keys to approved code",
		Long: `The broker holds keys and secrets (resources) for their owners and releases each
only to a TEE that proves, by a quote, that it is what the resource's release policy
asks for. It speaks the key-broker protocol of Confidential Containers (/kbs/v0,
protocol versions 0.1 to 0.4).

The administrator registers owners, each with a key of its own and repositories of
its own. An owner stores resources and policies; the administrator cannot, nor can
it make someone else the owner of a repository that holds resources. Every decision
is recorded in an audit log before it is answered: see "adyton audit".`,
		Example: `  adyton broker init --dir /var/lib/adyton/broker
  adyton broker keygen hospital-a
  adyton broker owner add --dir /var/lib/adyton/broker hospital-a \
      --public-key hospital-a.pub --repository hospital-a
  adyton broker serve --dir /var/lib/adyton/broker --trust-policy trust.yaml`,
	}
	cmd.AddCommand(newInit(), newServe(), newPin(), newKeygen(), newOwner(), newResource())
	return cmd
}

// DirFlag is the default of --dir.
const dirDefault = "/var/lib/adyton/broker"

// unlock are the flags that unwrap the root key.
type unlock struct {
	keyFile, passphraseFile, attestation string
}

func (u *unlock) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&u.keyFile, "root-key-file", "", "file whose key wraps the root key (default root.key in the broker's directory)")
	cmd.Flags().StringVar(&u.passphraseFile, "passphrase-file", "", "file with the passphrase that wraps the root key; else $ADYTON_BROKER_PASSPHRASE, else the terminal is asked")
	cmd.Flags().StringVar(&u.attestation, "attestation-dir", attest.GramineDir, "where the broker's own enclave offers its sealing keys")
}

func (u *unlock) means(dir string) vault.Means {
	m := vault.Means{KeyFile: u.keyFile, AttestationDir: u.attestation, Passphrase: u.passphrase}
	if m.KeyFile == "" {
		m.KeyFile = filepath.Join(dir, core.KeyFile)
	}
	return m
}

// maxPassphrase bounds a passphrase in bytes.
const maxPassphrase = 4096

func (u *unlock) passphrase() ([]byte, error) {
	if u.passphraseFile != "" {
		f, err := os.Open(u.passphraseFile)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(f, maxPassphrase))
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		return bytes.TrimRight(data, "\r\n"), nil
	}
	if p, ok := os.LookupEnv("ADYTON_BROKER_PASSPHRASE"); ok {
		return []byte(p), nil
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, errors.New("give it with --passphrase-file or $ADYTON_BROKER_PASSPHRASE")
	}
	fmt.Fprint(os.Stderr, "Passphrase of the broker: ")
	defer fmt.Fprintln(os.Stderr)
	return term.ReadPassword(int(os.Stdin.Fd()))
}

func newInit() *cobra.Command {
	var (
		dir, protect string
		hosts        []string
		u            unlock
		out          ui.Output
	)
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a broker: its keys, certificate and empty store",
		Long: `Makes a broker's directory (mode 0700). Everything in it is encrypted under a root
key, which is itself wrapped; --seal-to chooses by what:

  sgx-mrsigner   the sealing key of the enclave that the broker runs in, by signer
  sgx-mrenclave  the same, by exact measurement: an updated broker cannot open it
  passphrase     a passphrase, by argon2id
  key-file       a key file, made if there is none (mode 0600)
  auto           sgx-mrsigner inside an enclave, else passphrase if --passphrase-file
                 is given, else key-file

The broker says at every start which is in force.`,
		Example: `  adyton broker init --dir broker
  adyton broker init --dir broker --passphrase-file /run/secrets/broker --host broker.example`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m := u.means(dir)
			if u.keyFile == "" {
				m.KeyFile = "" // made in the directory
			}
			p, err := u.protection(protect)
			if err != nil {
				return err
			}
			result, err := core.Init(cmd.Context(), dir, core.InitOptions{Protection: p, Means: m, Hosts: hosts})
			if err != nil {
				return err
			}
			return out.Print(cmd, result, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "broker:     %s\nSPKI pin:   %s\nadmin key:  %s\naudit key:  %s\nprotection: %s\n",
					dir, result.Pin, result.AdminKey, result.AuditKey, result.Protection.Describe())
				return err
			})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", dirDefault, "the broker's directory, which must not exist or be empty")
	cmd.Flags().StringVar(&protect, "seal-to", "auto", "what wraps the root key")
	cmd.Flags().StringSliceVar(&hosts, "host", []string{"localhost", "127.0.0.1", "::1"}, "names and addresses in the TLS certificate")
	u.addFlags(cmd)
	out.AddFlag(cmd)
	return cmd
}

func (u *unlock) protection(name string) (vault.Protection, error) {
	switch p := vault.Protection(name); p {
	case vault.SGXMRSIGNER, vault.SGXMRENCLAVE, vault.Passphrase, vault.KeyFile:
		return p, nil
	case "auto":
		switch {
		case vault.InEnclave(u.attestation):
			return vault.SGXMRSIGNER, nil
		case u.passphraseFile != "":
			return vault.Passphrase, nil
		}
		return vault.KeyFile, nil
	}
	return "", ui.Usage("--seal-to %q: want auto, sgx-mrsigner, sgx-mrenclave, passphrase or key-file", name)
}

func newPin() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "pin",
		Short:   "Print the pin of the broker's TLS key",
		Long:    "Prints the SPKI pin of the certificate that was made with the broker, for\n--broker-spki and for broker.spki in an enclave.yaml.",
		Example: "  adyton broker pin --dir broker",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := connect.Exists(dir); err != nil {
				return err
			}
			pin, err := core.PinOf(filepath.Join(dir, core.CertificateFile))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), pin)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", dirDefault, "the broker's directory")
	return cmd
}
