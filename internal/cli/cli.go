// Package cli is the adyton command line: the root command, and how errors
// become one line and an exit code.
//
// Each command group is a package below this one that exports New, which makes
// its cobra command; it may import the rooms of the product and package ui, and
// nothing imports it but this package. To add a group, write its package and
// list it in commands.
package cli

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/internal/cli/audit"
	"github.com/adyton-dev/adyton/internal/cli/broker"
	"github.com/adyton-dev/adyton/internal/cli/data"
	"github.com/adyton-dev/adyton/internal/cli/enclave"
	"github.com/adyton-dev/adyton/internal/cli/man"
	"github.com/adyton-dev/adyton/internal/cli/policy"
	"github.com/adyton-dev/adyton/internal/cli/run"
	"github.com/adyton-dev/adyton/internal/cli/softtee"
	"github.com/adyton-dev/adyton/internal/cli/ui"
)

// The headings under which `adyton --help` lists the commands.
const (
	groupWorkload = "workload"
	groupUnlock   = "unlock"
	groupMachine  = "machine"
)

// Main runs the command line args and gives the program's exit code. An error is
// printed to stderr as one line that begins with "adyton:".
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := New()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	started := false
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	err := root.ExecuteContext(ctx)
	if err != nil && !started {
		// Cobra refused the command line before any command ran.
		err = &ui.ExitError{Code: ui.ExitUsage, Err: err}
	}
	if err != nil && !ui.Silent(err) {
		fmt.Fprintf(stderr, "adyton: %s\n", oneLine(err))
	}
	return ui.ExitCode(err)
}

// New makes the root command with all command groups.
func New() *cobra.Command {
	root := &cobra.Command{
		Use:   "adyton",
		Short: "Confidential computing for containers and Kubernetes",
		Long: `Adyton runs containers inside trusted execution environments (TEEs), proves to
others what runs there, and releases keys and data only to code that their owner
has approved.

A workload goes through four rooms on one machine:

  build    adyton enclave sign   measures an image and signs the measurement
  launch   adyton run            runs it only as signed, in a sandbox of its own
  attest   adyton broker         checks the quote that the TEE makes
  unlock   adyton data seal      keeps data closed to everything else

Without TEE hardware, "adyton softtee" makes a software TEE that speaks the same
formats. It protects nothing from the administrator of its machine, and no policy
trusts it unless the policy names it.

Exit codes: 0 success; 1 failure; 2 wrong usage; 3 refusal, with a stable reason as
the first word of the message; "adyton run" gives the application's own code, or 125
if it was not started.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Version:           version(),
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return ui.Usage("%w; see '%s --help'", err, cmd.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: groupWorkload, Title: "Build and run enclaves:"},
		&cobra.Group{ID: groupUnlock, Title: "Keys, data and policy:"},
		&cobra.Group{ID: groupMachine, Title: "This machine:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupWorkload, enclave.New(), run.New())
	add(groupUnlock, broker.New(), policy.New(), data.New(), audit.New())
	add(groupMachine, softtee.New())
	root.AddCommand(man.New())
	return root
}

// version is the module version, or the commit, that the binary was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = s.Value
		}
	}
	return v + " " + info.GoVersion
}

// oneLine joins the lines of an error, so that logs and scripts see one.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
