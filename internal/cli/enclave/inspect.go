package enclave

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/internal/build"
	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/internal/build/image"
	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

func newInspect() *cobra.Command {
	var in input
	var bundle, name string
	var output ui.Output
	cmd := &cobra.Command{
		Use:   "inspect IMAGE | --bundle FILE",
		Short: "Show the signed enclaves of an image",
		Long: `Show the signed enclaves of an image, or the one in a bundle file: what is measured,
and each field of the signature (SIGSTRUCT). Nothing is judged; see verify.`,
		Example: `  adyton enclave inspect oci:./image
  adyton enclave inspect --bundle app.enclave -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (bundle != "") {
				return ui.Usage("name an image or a --bundle, one of them")
			}
			var all []*build.Signed
			if bundle != "" {
				s, err := readBundle(bundle)
				if err != nil {
					return err
				}
				all = []*build.Signed{s}
			} else {
				img, err := image.Open(cmd.Context(), args[0], image.Options{Platform: in.platform})
				if err != nil {
					return err
				}
				if all, err = build.List(cmd.Context(), img); err != nil {
					return err
				}
			}
			list := []summary{}
			for _, s := range all {
				if name == "" || s.Descriptor.Name == name {
					list = append(list, summarize(s))
				}
			}
			if len(list) == 0 {
				return refusal.New(refusal.SignatureMissing, "there is no signed enclave here: sign one with `adyton enclave sign`")
			}
			return output.Print(cmd, list, func(w io.Writer) error {
				for i, s := range list {
					if i > 0 {
						fmt.Fprintln(w)
					}
					if err := s.print(w); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&bundle, "bundle", "", "show the enclave in this bundle file")
	cmd.Flags().StringVar(&name, "name", "", "show the enclave of this name only")
	in.addPlatform(cmd)
	output.AddFlag(cmd)
	return cmd
}

// summary is a signed enclave as -o json shows it.
type summary struct {
	Name       string                 `json:"name"`
	MRENCLAVE  sgx.Measurement        `json:"mrenclave"`
	MRSIGNER   sgx.Measurement        `json:"mrsigner"`
	ProductID  uint16                 `json:"productID"`
	SVN        uint16                 `json:"svn"`
	Debug      bool                   `json:"debug"`
	Date       string                 `json:"date"` // YYYYMMDD
	Attributes string                 `json:"attributes"`
	Signature  string                 `json:"signature"` // "valid", or why it is not
	Descriptor *descriptor.Descriptor `json:"descriptor"`

	sigStruct *sgx.SigStruct
}

func summarize(s *build.Signed) summary {
	signature := "valid"
	if err := s.Verify(); err != nil {
		signature = err.Error()
	}
	return summary{
		Name:       s.Descriptor.Name,
		MRENCLAVE:  s.SigStruct.EnclaveHash,
		MRSIGNER:   s.SigStruct.MRSIGNER(),
		ProductID:  s.SigStruct.ISVProdID,
		SVN:        s.SigStruct.ISVSVN,
		Debug:      s.Debug(),
		Date:       fmt.Sprintf("%08x", s.SigStruct.Date),
		Attributes: s.SigStruct.Attributes.Flags.String(),
		Signature:  signature,
		Descriptor: s.Descriptor,
		sigStruct:  s.SigStruct,
	}
}

// printIdentity prints what a release policy can name.
func (s summary) printIdentity(w io.Writer) {
	fmt.Fprintf(w, "MRENCLAVE\t%s\n", s.MRENCLAVE)
	fmt.Fprintf(w, "MRSIGNER\t%s\n", s.MRSIGNER)
	fmt.Fprintf(w, "product\t%d, SVN %d\n", s.ProductID, s.SVN)
	if s.Debug {
		fmt.Fprintf(w, "debug\tyes: the host can read the enclave\n")
	}
}

func (s summary) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "ENCLAVE\t%s\n", s.Name)
	if err := printParts(tw, s.Descriptor); err != nil {
		return err
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "SIGSTRUCT")
	return s.sigStruct.Explain(w)
}
