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

func newVerify() *cobra.Command {
	var in input
	var bundle, name, signer string
	var output ui.Output
	cmd := &cobra.Command{
		Use:   "verify IMAGE",
		Short: "Check an enclave's signature and measurement against its image",
		Long: `Check an enclave's signature and measurement against its image.

It checks that the signature verifies and is for what is measured, that the image and
adyton-init are the measured ones, and every byte of every layer; with --signer also
who signed, and with --file that the enclave is what this enclave.yaml says. Exit code
3 and the reason if any of it is not so.`,
		Example: `  adyton enclave verify oci:./image
  adyton enclave verify ghcr.io/example/app:1.2 --signer 8c5f… --file enclave.yaml
  adyton enclave verify docker-archive:app.tar --bundle app.enclave`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var wanted sgx.Measurement
			if signer != "" {
				if err := wanted.UnmarshalText([]byte(signer)); err != nil {
					return ui.Usage("--signer: %w", err)
				}
			}
			img, err := image.Open(ctx, args[0], image.Options{Platform: in.platform})
			if err != nil {
				return err
			}
			s, err := signed(ctx, img, bundle, build.Query{Name: name})
			if err != nil {
				return err
			}
			if got := s.SigStruct.MRSIGNER(); signer != "" && got != wanted {
				return refusal.New(refusal.SignerNotApproved, "enclave %q is signed by %s, want %s", s.Descriptor.Name, got, wanted)
			}
			in.image = args[0]
			actual, err := in.actual(cmd, img, s)
			if err != nil {
				return err
			}
			if err := s.Check(actual); err != nil {
				return err
			}
			if err := img.Verify(ctx, nil); err != nil {
				return err
			}
			result := summarize(s)
			return output.Print(cmd, result, func(w io.Writer) error {
				tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintf(tw, "verified\t%s in %s\n", s.Descriptor.Name, args[0])
				result.printIdentity(tw)
				return tw.Flush()
			})
		},
	}
	cmd.Flags().StringVarP(&in.file, "file", "f", "", "also compare with this enclave.yaml")
	cmd.Flags().StringVar(&bundle, "bundle", "", "the signature is in this file")
	cmd.Flags().StringVar(&name, "name", "", "the enclave's name, if the image has several")
	cmd.Flags().StringVar(&signer, "signer", "", "the MRSIGNER that must have signed, 64 hexadecimal digits")
	in.addInit(cmd)
	in.addPlatform(cmd)
	output.AddFlag(cmd)
	return cmd
}

// actual describes what is here: by the enclave.yaml if there is one, else the
// signed description with the image and the init that are here.
func (in *input) actual(cmd *cobra.Command, img *image.Image, s *build.Signed) (*descriptor.Descriptor, error) {
	if in.file != "" {
		_, _, d, err := in.describe(cmd.Context())
		return d, err
	}
	digest, err := in.initDigest()
	if err != nil {
		return nil, err
	}
	d := s.Descriptor.Clone()
	d.Image = descriptor.Image{Digest: img.Digest(), Platform: img.Platform()}
	d.Init = digest
	return d, nil
}
