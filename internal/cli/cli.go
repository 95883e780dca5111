// Package cli is the adyton command line: the root command, and how errors
// become one line and an exit code.
//
// Each command group is a package below this one that exports New, which makes
// its cobra command; it may import the rooms of the product and package ui, and
// nothing imports it but this package. To add a group, write its package and
// list it in commands.
package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
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
	"github.com/adyton-dev/adyton/refusal"
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
	cmd, err := root.ExecuteContextC(ctx)
	if exit := (*ui.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		// Not from a command, see complete: cobra refused the command line.
		err = ui.Usage("%w; see '%s --help'", err, cmd.CommandPath())
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
		Example: `  adyton softtee init
  adyton enclave init --image oci:./image
  adyton enclave sign --key key.pem
  adyton run oci:./image`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Version:           version(),
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return ui.Usage("%s; see '%s --help'", parseFault.ReplaceAllString(err.Error(), ""), cmd.CommandPath())
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
	root.InitDefaultCompletionCmd()
	root.SetHelpCommand(newHelp())
	complete(root)
	return root
}

// parseFault is what strconv adds to a flag's error.
var parseFault = regexp.MustCompile(`strconv\.\w+: parsing "[^"]*": `)

// newHelp is cobra's help command, but it refuses what there is no help for.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		Example: `  adyton help run
  adyton help broker serve`,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = fmt.Errorf("unknown command %q for %q", rest[0], about.CommandPath())
			}
			if err != nil {
				return ui.Usage("%w; see '%s --help'", err, cmd.Root().CommandPath())
			}
			about.InitDefaultHelpFlag() // so that the help names --help
			return about.Help()
		},
	}
}

// complete gives cmd and all below it what cobra lacks: every error of a command
// that ran carries its exit code, which tells it from cobra's own; and a group
// refuses a sub-command that it does not have instead of printing its help.
func complete(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		complete(sub)
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return withExitCode(run(cmd, args)) }
		return
	}
	if cmd.HasParent() && cmd.HasSubCommands() {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return ui.Usage("unknown command %q for %q; see '%s --help'", args[0], cmd.CommandPath(), cmd.CommandPath())
		}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return withExitCode(cmd.Help()) }
	}
}

func withExitCode(err error) error {
	if exit := (*ui.ExitError)(nil); err == nil || errors.As(err, &exit) {
		return err
	}
	return &ui.ExitError{Code: ui.ExitCode(err), Err: err}
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

// oneLine is the text of an error as scripts and people want it: one line, the
// reason of a refusal first whatever was wrapped around it, and faults of JSON and
// interruptions in plain words.
func oneLine(err error) string {
	text := err.Error()
	if fault := (*json.UnmarshalTypeError)(nil); errors.As(err, &fault) {
		text = strings.Replace(text, fault.Error(), fmt.Sprintf("%s may not be a %s", cmp.Or(fault.Field, "the document"), fault.Value), 1)
	}
	if errors.Is(err, context.Canceled) {
		text = strings.Replace(text, context.Canceled.Error(), "interrupted", 1)
	}
	if reason := string(refusal.Of(err)); reason != "" && text != reason && !strings.HasPrefix(text, reason+": ") {
		text = reason + ": " + strings.Replace(text, reason+": ", "", 1)
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
