// Package softtee is `adyton softtee`: it makes a software TEE and its platforms
// and serves their collateral. It imports package internal/softtee and ui.
package softtee

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/internal/softtee"
	"github.com/adyton-dev/adyton/internal/softtee/pki"
)

// New makes the command group.
func New() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "softtee",
		Short: "Make and serve a software TEE for development and CI",
		Long: `A software TEE is a root CA, platforms with software CPUs, and a collateral service,
all in Intel's formats: enclaves run, attest and seal as on SGX hardware, and any
DCAP verifier that is given its root verifies their quotes.

It protects nothing: whoever can read its directory can forge any quote. No policy
trusts its root unless the policy names it.`,
		Example: `  adyton softtee init
  adyton softtee show --trust-policy > trust.yaml
  adyton softtee platform create --tcb out-of-date stale
  adyton softtee serve`,
	}
	cmd.AddCommand(newInit(), newShow(), newPlatform(), newServe())
	return cmd
}

// directory is the --dir flag.
type directory struct{ path string }

func (d *directory) addFlag(cmd *cobra.Command) {
	usage := "directory of the software TEE"
	if path, err := softtee.DefaultDir(); err == nil {
		usage += fmt.Sprintf(" (default %q)", path)
	}
	cmd.Flags().StringVar(&d.path, "dir", "", usage)
	_ = cmd.MarkFlagDirname("dir") // the flag was just made
}

func (d *directory) get() (string, error) {
	if d.path != "" {
		return d.path, nil
	}
	return softtee.DefaultDir()
}

func (d *directory) open() (*softtee.Installation, error) {
	path, err := d.get()
	if err != nil {
		return nil, err
	}
	return softtee.Open(path)
}

func newInit() *cobra.Command {
	var dir directory
	var out ui.Output
	var ifMissing bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a software TEE",
		Long: `Makes a root CA, the PCK CAs and one up-to-date platform called "default", with keys
of its own, in a directory of mode 0700. The directory must be absent or empty.`,
		Example: `  adyton softtee init
  adyton softtee init --dir ./tee --if-missing`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := dir.get()
			if err != nil {
				return err
			}
			inst, err := softtee.Create(path)
			if errors.Is(err, softtee.ErrExists) {
				if !ifMissing {
					return fmt.Errorf("%w; use it, accept it with --if-missing, or name another --dir", err)
				}
				inst, err = softtee.Open(path)
			}
			if err != nil {
				return err
			}
			return out.Print(cmd, describe(inst), func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Software TEE %s in %s\nRoot %s\nIt is for development only: no policy trusts it unless it names this root (adyton softtee show --trust-policy).\n",
					inst.ID(), inst.Dir(), fingerprint(inst))
				return err
			})
		},
	}
	dir.addFlag(cmd)
	out.AddFlag(cmd)
	cmd.Flags().BoolVar(&ifMissing, "if-missing", false, "do nothing if there is one already")
	return cmd
}

func newShow() *cobra.Command {
	var dir directory
	var out ui.Output
	var asPEM, asPolicy bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show a software TEE's root, for policies that are to trust it",
		Example: `  adyton softtee show
  adyton softtee show --pem > root.pem
  adyton softtee show --trust-policy > trust.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inst, err := dir.open()
			if err != nil {
				return err
			}
			switch {
			case asPEM:
				_, err := cmd.OutOrStdout().Write(pki.PEM(inst.Root()))
				return err
			case asPolicy:
				return writeTrustPolicy(cmd.OutOrStdout(), inst)
			}
			return out.Print(cmd, describe(inst), func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "id           %s\ndirectory    %s\nroot         %s\nfingerprint  %s\nvalid until  %s\n",
					inst.ID(), inst.Dir(), inst.Root().Subject.CommonName, fingerprint(inst), inst.Root().NotAfter.Format("2006-01-02"))
				return err
			})
		},
	}
	dir.addFlag(cmd)
	out.AddFlag(cmd)
	cmd.Flags().BoolVar(&asPEM, "pem", false, "write the root certificate in PEM")
	cmd.Flags().BoolVar(&asPolicy, "trust-policy", false, "write a TrustPolicy that trusts this root alone")
	cmd.MarkFlagsMutuallyExclusive("pem", "trust-policy", "output")
	return cmd
}

// description is the JSON of init and show.
type description struct {
	ID          string `json:"id"`
	Dir         string `json:"dir"`
	Root        string `json:"root"`
	Fingerprint string `json:"fingerprint"`
	Certificate string `json:"certificate"`
}

func describe(inst *softtee.Installation) description {
	return description{
		ID: inst.ID(), Dir: inst.Dir(), Root: inst.Root().Subject.CommonName,
		Fingerprint: fingerprint(inst), Certificate: string(pki.PEM(inst.Root())),
	}
}

// fingerprint is the SHA-256 of the root certificate.
func fingerprint(inst *softtee.Installation) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(inst.Root().Raw))
}

func writeTrustPolicy(w io.Writer, inst *softtee.Installation) error {
	policy, err := template.New("policy").Funcs(template.FuncMap{"indent": indent}).Parse(trustPolicy)
	if err != nil {
		return err
	}
	return policy.Execute(w, describe(inst))
}

// indent puts eight spaces before each line but the first, for a YAML block.
func indent(text string) string {
	var out []byte
	for i, c := range []byte(text) {
		out = append(out, c)
		if c == '\n' && i < len(text)-1 {
			out = append(out, "        "...)
		}
	}
	return string(out)
}

const trustPolicy = `apiVersion: adyton.dev/v1alpha1
kind: TrustPolicy
metadata:
  name: software-tee
spec:
  roots:
    # {{.Root}}
    # A software TEE protects nothing from whoever holds its directory.
    - name: softtee-{{.ID}}
      software: true
      certificate: |
        {{indent .Certificate}}`
