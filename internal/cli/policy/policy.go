// Package policy is `adyton policy`: it writes, checks and explains release
// policies without a broker. It imports the broker's policy compiler and package
// appraise's claims through it.
package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker"
	engine "github.com/adyton-dev/adyton/internal/broker/policy"
	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/refusal"
)

// New makes the command group.
func New() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Write, check and explain release policies",
		Long: `A release policy says which TEEs may have a resource. It is a list of CEL
expressions over the claims that the broker makes of the evidence; all must be true.
An expression that is false, or that cannot be evaluated because the evidence lacks
what it reads, refuses.

Variables: tee, debug, root, tcb, platform, sgx, tdx, snp, init_data, report_data, as
in the claims' JSON; resource (repository, type, tag, uri); now.`,
		Example: `  adyton policy init > release.yaml
  adyton policy check release.yaml
  adyton policy test --policy release.yaml --claims claims.json`,
	}
	cmd.AddCommand(newInit(), newCheck(), newTest())
	return cmd
}

// template is a policy for an SGX enclave. The signer is to be filled in, so that
// it releases nothing as it stands.
const template = `apiVersion: adyton.dev/v1alpha1
kind: ReleasePolicy
metadata:
  name: %s
spec:
  # All must be true. The first that is not gives the refusal its reason.
  validations:
  - expression: tee == "sgx" && sgx.mrsigner == "%s"
    reason: SignerNotApproved
    message: the enclave is not signed by the key that this policy approves
  - expression: sgx.isv_prod_id == %d
    reason: ProductNotApproved
    message: the enclave is another product
  - expression: sgx.isv_svn >= %d
    reason: SVNTooLow
    message: the enclave is older than this policy accepts
  - expression: "!debug"
    reason: DebugNotAllowed
    message: the host can read a debug enclave
  - expression: init_data.sandbox in ["gvisor", "kata"]
    reason: SandboxRequired
    message: the enclave must run in a sandbox of its own
`

// unknownSigner stands where the signer is to be filled in.
const unknownSigner = "MRSIGNER-IN-HEX"

var (
	digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
)

func newInit() *cobra.Command {
	var (
		name, signer, file string
		product, svn       uint16
	)
	cmd := &cobra.Command{
		Use:     "init",
		Short:   "Write a release policy to start from",
		Long:    "Writes a policy that releases to a signed, sandboxed SGX enclave. \"adyton enclave\ninspect\" shows an enclave's signer, product and SVN.",
		Example: `  adyton policy init --signer 8f2c… --product 7 --svn 2 --file release.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if signer != unknownSigner && !digestPattern.MatchString(signer) {
				return ui.Usage("--signer %q: write the MRSIGNER as 64 lower-case hexadecimal digits, as 'adyton enclave inspect' shows it", signer)
			}
			if !namePattern.MatchString(name) {
				return ui.Usage("--name %q: use letters, digits, '.', '_' and '-'", name)
			}
			text := fmt.Sprintf(template, name, signer, product, svn)
			if file == "" {
				_, err := io.WriteString(cmd.OutOrStdout(), text)
				return err
			}
			if _, err := os.Lstat(file); err == nil {
				return fmt.Errorf("%s exists already", file)
			}
			if err := renameio.WriteFile(file, []byte(text), 0o644); err != nil {
				return fmt.Errorf("write policy: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "release", "name of the policy, for people")
	cmd.Flags().StringVar(&signer, "signer", unknownSigner, "MRSIGNER that is approved, 64 hex digits")
	cmd.Flags().Uint16Var(&product, "product", 0, "ISVPRODID that is approved")
	cmd.Flags().Uint16Var(&svn, "svn", 0, "lowest ISVSVN that is approved")
	cmd.Flags().StringVar(&file, "file", "", "file to write (default standard output)")
	return cmd
}

func newCheck() *cobra.Command {
	return &cobra.Command{
		Use:     "check FILE",
		Short:   "Check that a release policy compiles",
		Long:    "Checks a policy as the broker does when it is uploaded: its form, the syntax and\ntypes of its expressions, and that every claim that they name exists.",
		Example: "  adyton policy check release.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := load(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: valid, sha256 %s\n", args[0], p.Digest())
			return err
		},
	}
}

// maxFile bounds what is read, in bytes.
const maxFile = 1 << 20

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return data, nil
}

func load(path string) (*engine.Policy, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	compiler, err := broker.NewPolicyCompiler()
	if err != nil {
		return nil, err
	}
	return compiler.CompileFile(path, text)
}

func newTest() *cobra.Command {
	var (
		policyFile, claimsFile, resource, at string
		out                                  ui.Output
	)
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Explain what a release policy decides on given claims",
		Long: `Decides as the broker would and shows every validation: whether it is true, and the
values of the claims that it reads. Exit code 0 if the resource would be released, 3
if not.`,
		Example: `  adyton policy test --policy release.yaml --claims claims.json \
      --resource kbs:///hospital-a/key/cohort`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := load(policyFile)
			if err != nil {
				return err
			}
			in, err := input(claimsFile, resource, at)
			if err != nil {
				return err
			}
			e, err := p.Explain(cmd.Context(), *in)
			if err != nil {
				return fmt.Errorf("%s: %w", claimsFile, err)
			}
			if err := out.Print(cmd, e, func(w io.Writer) error { return explain(w, e) }); err != nil {
				return err
			}
			if !e.Allowed {
				return &ui.ExitError{Code: ui.ExitRefused}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&policyFile, "policy", "", "file with the release policy")
	cmd.Flags().StringVar(&claimsFile, "claims", "", "file with the claims in JSON")
	cmd.Flags().StringVar(&resource, "resource", "kbs:///repository/type/tag", "the resource that is asked for")
	cmd.Flags().StringVar(&at, "now", "", "time of the decision, RFC 3339 (default the present)")
	_ = cmd.MarkFlagRequired("policy") // the flags exist
	_ = cmd.MarkFlagRequired("claims")
	out.AddFlag(cmd)
	return cmd
}

func input(claimsFile, resource, at string) (*engine.Input, error) {
	claims, err := readFile(claimsFile)
	if err != nil {
		return nil, err
	}
	uri, err := kbs.ParseResourceURI(resource)
	if err != nil {
		return nil, ui.Usage("--resource: %w", err)
	}
	now := time.Now()
	if at != "" {
		if now, err = time.Parse(time.RFC3339, at); err != nil {
			return nil, ui.Usage("--now %q: write it as 2006-01-02T15:04:05Z", at)
		}
	}
	return &engine.Input{
		Claims:   json.RawMessage(claims),
		Resource: engine.Resource{Repository: uri.Repository, Type: uri.Type, Tag: uri.Tag, URI: uri.String()},
		Now:      now,
	}, nil
}

// explain writes an explanation for people.
func explain(w io.Writer, e *engine.Explanation) error {
	for i, v := range e.Validations {
		fmt.Fprintf(w, "%d. %-5s  %s\n", i+1, v.Result, v.Expression)
		for _, value := range v.Values {
			fmt.Fprintf(w, "          %s = %s\n", value.Name, value.Value)
		}
		if v.Error != "" {
			fmt.Fprintf(w, "          error: %s\n", v.Error)
		}
	}
	if e.Allowed {
		_, err := fmt.Fprintln(w, "released")
		return err
	}
	_, err := fmt.Fprintf(w, "refused: %v\n", refusal.New(e.Reason, "%s", e.Detail))
	return err
}
