package broker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	core "github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/admin"
	"github.com/adyton-dev/adyton/internal/broker/api"
	"github.com/adyton-dev/adyton/internal/cli/broker/connect"
	"github.com/adyton-dev/adyton/internal/cli/ui"
)

const ownerKeyFlag = "owner-key"

func newResource() *cobra.Command {
	var r connect.Remote
	cmd := &cobra.Command{
		Use:   "resource",
		Short: "Store and remove resources as their owner",
		Long:  "Resources are named kbs:///REPOSITORY/TYPE/TAG. Their values go in and are released\nto approved TEEs; no command reads one back.",
		Example: `  adyton broker resource list --broker https://127.0.0.1:8443 --broker-spki sha256:… \
      --owner-key hospital-a.key hospital-a`,
	}
	r.AddFlags(cmd, ownerKeyFlag, "the owner's")
	cmd.AddCommand(newResourcePut(&r), newResourceDelete(&r), newResourceMetadata(&r), newResourceList(&r), newResourcePolicy(&r))
	return cmd
}

func newResourcePut(r *connect.Remote) *cobra.Command {
	var (
		policyFile string
		createOnly bool
	)
	cmd := &cobra.Command{
		Use:   "put RESOURCE FILE",
		Short: "Store a resource with its release policy",
		Long:  "Stores the content of FILE (- for standard input, at most 1 MiB). With --policy the\nrelease policy is stored in the same step, so that the resource is never released\nunder another one. Without, a resource keeps the policy that it has, or else its\nrepository's policy decides.",
		Example: `  adyton broker resource put --broker https://127.0.0.1:8443 --broker-spki sha256:… \
      --owner-key hospital-a.key --policy release.yaml kbs:///hospital-a/key/cohort key.bin`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.Client(ownerKeyFlag)
			if err != nil {
				return err
			}
			value, err := readInput(cmd, args[1])
			if err != nil {
				return err
			}
			var policy []byte
			if policyFile != "" {
				if policy, err = readPolicy(policyFile); err != nil {
					return err
				}
			}
			err = c.PutResource(cmd.Context(), args[0], value, policy, createOnly)
			if errors.Is(err, admin.ErrExists) {
				return fmt.Errorf("%s exists already; it was left as it is", args[0])
			}
			return err
		},
	}
	cmd.Flags().StringVar(&policyFile, "policy", "", "file with the release policy")
	cmd.Flags().BoolVar(&createOnly, "create-only", false, "refuse if the resource exists")
	return cmd
}

// readPolicy reads a policy and compiles it as the broker will, so that a mistake
// is named by file and line.
func readPolicy(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("release policy: %w", err)
	}
	compiler, err := core.NewPolicyCompiler()
	if err != nil {
		return nil, err
	}
	if _, err := compiler.CompileFile(path, text); err != nil {
		return nil, err
	}
	return text, nil
}

func readInput(cmd *cobra.Command, path string) ([]byte, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close() // read only
		in = f
	}
	value, err := io.ReadAll(io.LimitReader(in, api.MaxResource+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", path, err)
	case len(value) == 0:
		return nil, fmt.Errorf("%s is empty", path)
	case len(value) > api.MaxResource:
		return nil, fmt.Errorf("%s is larger than %d bytes; seal it with `adyton data seal` and store only the key", path, api.MaxResource)
	}
	return value, nil
}

func newResourceDelete(r *connect.Remote) *cobra.Command {
	return &cobra.Command{
		Use:     "delete RESOURCE",
		Short:   "Remove a resource and its policy for good",
		Example: "  adyton broker resource delete --broker … --owner-key hospital-a.key kbs:///hospital-a/key/cohort",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.Client(ownerKeyFlag)
			if err != nil {
				return err
			}
			return c.DeleteResource(cmd.Context(), args[0])
		},
	}
}

func newResourceMetadata(r *connect.Remote) *cobra.Command {
	var out ui.Output
	cmd := &cobra.Command{
		Use:     "get-metadata RESOURCE",
		Short:   "Show what the broker tells of a resource; never its value",
		Example: "  adyton broker resource get-metadata --broker … --owner-key hospital-a.key kbs:///hospital-a/key/cohort",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.Client(ownerKeyFlag)
			if err != nil {
				return err
			}
			m, err := c.Metadata(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return out.Print(cmd, m, func(w io.Writer) error { return printResources(w, []api.Metadata{*m}) })
		},
	}
	out.AddFlag(cmd)
	return cmd
}

func newResourceList(r *connect.Remote) *cobra.Command {
	var out ui.Output
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the owner's resources",
		Example: "  adyton broker resource list --broker … --owner-key hospital-a.key",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := r.Client(ownerKeyFlag)
			if err != nil {
				return err
			}
			list, err := c.Resources(cmd.Context())
			if err != nil {
				return err
			}
			return out.Print(cmd, list, func(w io.Writer) error { return printResources(w, list) })
		},
	}
	out.AddFlag(cmd)
	return cmd
}

func newResourcePolicy(r *connect.Remote) *cobra.Command {
	var file string
	var remove bool
	cmd := &cobra.Command{
		Use:   "policy SCOPE",
		Short: "Show, set or remove a release policy",
		Long:  "SCOPE is a resource (kbs:///REPOSITORY/TYPE/TAG) or a repository. A resource's own\npolicy decides its release, else its repository's; without either it is refused.",
		Example: `  adyton broker resource policy --broker … --owner-key hospital-a.key hospital-a
  adyton broker resource policy --broker … --owner-key hospital-a.key hospital-a --set release.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.Client(ownerKeyFlag)
			if err != nil {
				return err
			}
			switch {
			case remove:
				return c.DeletePolicy(cmd.Context(), args[0])
			case file != "":
				text, err := readPolicy(file)
				if err != nil {
					return err
				}
				return c.SetPolicy(cmd.Context(), args[0], text)
			}
			text, err := c.Policy(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "set", "", "file with the policy to set")
	cmd.Flags().BoolVar(&remove, "remove", false, "remove the policy")
	cmd.MarkFlagsMutuallyExclusive("set", "remove")
	return cmd
}

func printResources(w io.Writer, list []api.Metadata) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "RESOURCE\tVERSION\tSIZE\tOWNER\tUPDATED\tPOLICY")
	for _, m := range list {
		policy := m.Policy
		if policy == "" {
			policy = "none: never released"
		}
		fmt.Fprintf(tw, "kbs:///%s\t%d\t%d\t%s\t%s\t%s\n", m.Resource, m.Version, m.Size, m.Owner, m.Updated.Format(time.RFC3339), policy)
	}
	return tw.Flush()
}
