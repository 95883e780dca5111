package enclave

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/sgx"
)

func newMeasure() *cobra.Command {
	var in input
	var output ui.Output
	cmd := &cobra.Command{
		Use:   "measure",
		Short: "Print MRENCLAVE and the parts that it measures",
		Long: `Print MRENCLAVE and the parts that it measures, without signing anything.

Two people who measure the same enclave.yaml, image and adyton-init get the same
MRENCLAVE on any machine.`,
		Example: `  adyton enclave measure
  adyton enclave measure -f app.yaml --image ghcr.io/example/app:1.2 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, _, d, err := in.describe(cmd.Context())
			if err != nil {
				return err
			}
			mrenclave, err := d.Measure()
			if err != nil {
				return err
			}
			result := measured{MRENCLAVE: mrenclave, Descriptor: d}
			return output.Print(cmd, result, result.print)
		},
	}
	in.addFlags(cmd)
	output.AddFlag(cmd)
	return cmd
}

// measured is what `measure -o json` prints.
type measured struct {
	MRENCLAVE  sgx.Measurement        `json:"mrenclave"`
	Descriptor *descriptor.Descriptor `json:"descriptor"`
}

func (m measured) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "MRENCLAVE\t%s\n", m.MRENCLAVE)
	if err := printParts(tw, m.Descriptor); err != nil {
		return err
	}
	return tw.Flush()
}

// printParts prints the measured parts, one a line.
func printParts(w io.Writer, d *descriptor.Descriptor) error {
	parts, err := d.Parts()
	if err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := fmt.Fprintf(w, "%s\t%s\n", p.Name, p.Content); err != nil {
			return err
		}
	}
	return nil
}
