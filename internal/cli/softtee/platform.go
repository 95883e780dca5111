package softtee

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/internal/softtee"
)

func newPlatform() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "platform",
		Short: "Make and list software platforms",
		Long: `A platform is a software machine with a CPU of its own. What verifiers say of it is
chosen when it is made, to try out policies: see "adyton softtee platform create".`,
		Example: `  adyton softtee platform create --tcb out-of-date stale
  adyton softtee platform list`,
	}
	cmd.AddCommand(newPlatformCreate(), newPlatformList())
	return cmd
}

func newPlatformCreate() *cobra.Command {
	var dir directory
	var spec softtee.PlatformSpec
	var tcb, qe, module status
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a platform",
		Long: `Makes a platform whose certificate and collateral lead verifiers to the verdict that
the flags describe. Statuses are Intel's words, also in the form out-of-date.

--tcb takes: ` + strings.Join(words(softtee.TCBStatuses()), ", ") + `.
--qe and --tdx-module take: ` + strings.Join(words(partStatuses()), ", ") + `.
--tcb-info takes: ` + joinFaults() + `.`,
		Example: `  adyton softtee platform create --tcb out-of-date stale
  adyton softtee platform create --tcb sw-hardening-needed --advisory INTEL-SA-00615 hardened
  adyton softtee platform create --tcb-info expired forgotten
  adyton softtee platform create --revoked-pck stolen`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			inst, err := dir.open()
			if err != nil {
				return err
			}
			spec.TCB, spec.QE, spec.TDXModule = tcb.value, qe.value, module.value
			if err := inst.CreatePlatform(args[0], spec); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Platform %s: %s\n", args[0], verdict(spec))
			return err
		},
	}
	dir.addFlag(cmd)
	tcb.known, qe.known, module.known = softtee.TCBStatuses(), partStatuses(), partStatuses()
	flags := cmd.Flags()
	flags.Var(&tcb, "tcb", "TCB status of the platform (default up-to-date)")
	flags.Var(&qe, "qe", "status of the quoting enclaves (default up-to-date)")
	flags.Var(&module, "tdx-module", "status of the TDX module (default up-to-date)")
	flags.StringSliceVar(&spec.Advisories, "advisory", nil, "advisory id of the platform's TCB level, instead of the level's own; may be repeated")
	flags.Uint32Var(&spec.EvaluationNumber, "evaluation-number", 0, fmt.Sprintf("tcbEvaluationDataNumber of the platform's TCB info (default %d)", softtee.EvaluationNumber))
	flags.StringVar((*string)(&spec.CA), "ca", string(dcap.PlatformCA), "CA that certifies the platform: platform or processor")
	flags.StringVar((*string)(&spec.TCBInfo), "tcb-info", "", "what is wrong with the platform's TCB info")
	flags.BoolVar(&spec.RevokedPCK, "revoked-pck", false, "revoke the platform's certificate")
	flags.BoolVar(&spec.RevokedCA, "revoked-ca", false, "revoke the CA, and so all platforms that it certifies")
	flags.BoolVar(&spec.RevokedTCBSigner, "revoked-tcb-signer", false, "revoke the TCB signing certificate, and so all collateral")
	for name, s := range map[string]*status{"tcb": &tcb, "qe": &qe, "tdx-module": &module} {
		// The errors here are for flags that do not exist; these were just made.
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words(s.known), cobra.ShellCompDirectiveNoFileComp))
	}
	_ = cmd.RegisterFlagCompletionFunc("tcb-info", cobra.FixedCompletions(strings.Split(joinFaults(), ", "), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("ca", cobra.FixedCompletions([]string{"platform", "processor"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newPlatformList() *cobra.Command {
	var dir directory
	var out ui.Output
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the platforms",
		Example: `  adyton softtee platform list -o json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			inst, err := dir.open()
			if err != nil {
				return err
			}
			platforms, err := inst.Platforms()
			if err != nil {
				return err
			}
			return out.Print(cmd, platforms, func(w io.Writer) error {
				table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "NAME\tFMSPC\tVERDICT")
				for _, p := range platforms {
					fmt.Fprintf(table, "%s\t%s\t%s\n", p.Name, p.FMSPC, verdict(p.Spec))
				}
				return table.Flush()
			})
		},
	}
	dir.addFlag(cmd)
	out.AddFlag(cmd)
	return cmd
}

// verdict sums up what is wrong with a platform.
func verdict(spec softtee.PlatformSpec) string {
	tcb := spec.TCB
	if tcb == "" {
		tcb = dcap.UpToDate
	}
	parts := []string{"TCB " + string(tcb)}
	for _, part := range []struct {
		says  bool
		words string
	}{
		{spec.QE != "", "quoting enclaves " + string(spec.QE)},
		{spec.TDXModule != "", "TDX module " + string(spec.TDXModule)},
		{len(spec.Advisories) > 0, "open to " + strings.Join(spec.Advisories, " ")},
		{spec.EvaluationNumber != 0, fmt.Sprintf("evaluation number %d", spec.EvaluationNumber)},
		{spec.TCBInfo != softtee.NoFault, "TCB info " + string(spec.TCBInfo)},
		{spec.RevokedPCK, "certificate revoked"},
		{spec.RevokedCA, "CA revoked"},
		{spec.RevokedTCBSigner, "TCB signer revoked"},
	} {
		if part.says {
			parts = append(parts, part.words)
		}
	}
	return strings.Join(parts, ", ")
}

// partStatuses are those of quoting enclaves and TDX modules.
func partStatuses() []dcap.Status {
	return []dcap.Status{dcap.UpToDate, dcap.OutOfDate, dcap.Revoked, dcap.NotSupported}
}

func joinFaults() string {
	var all []string
	for _, fault := range softtee.Faults() {
		all = append(all, string(fault))
	}
	return strings.Join(all, ", ")
}

// status is a flag value: a TCB status as Intel writes it, or in lower case with
// dashes.
type status struct {
	value dcap.Status
	known []dcap.Status
}

func (s *status) String() string { return string(s.value) }
func (s *status) Type() string   { return "status" }

func (s *status) Set(text string) error {
	for _, known := range s.known {
		if strings.EqualFold(strings.ReplaceAll(text, "-", ""), string(known)) {
			s.value = known
			return nil
		}
	}
	return fmt.Errorf("must be one of %s", strings.Join(words(s.known), ", "))
}

// words gives statuses in lower case with dashes.
func words(statuses []dcap.Status) []string {
	out := make([]string, len(statuses))
	for i, s := range statuses {
		out[i] = word(string(s))
	}
	return out
}

// word puts a dash before each capital that begins a word: SWHardeningNeeded is
// sw-hardening-needed.
func word(camel string) string {
	isUpper := func(i int) bool { return i < len(camel) && camel[i] >= 'A' && camel[i] <= 'Z' }
	var b strings.Builder
	for i := range len(camel) {
		if i > 0 && isUpper(i) && (!isUpper(i-1) || i+1 < len(camel) && !isUpper(i+1)) {
			b.WriteByte('-')
		}
		b.WriteByte(camel[i])
	}
	return strings.ToLower(b.String())
}
