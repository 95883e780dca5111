package enclave

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/internal/build"
	"github.com/adyton-dev/adyton/internal/build/image"
	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/sgx"
)

func newSign() *cobra.Command {
	var in input
	var keyFile, bundle string
	var output ui.Output
	cmd := &cobra.Command{
		Use:   "sign --key FILE",
		Short: "Measure an enclave, sign it, and keep the signature with the image",
		Long: `Measure an enclave, sign it, and keep the signature with the image.

All layers of the image are read and verified first. The signature goes to the image's
registry or layout directory; with --bundle it goes to a file instead, as it must for a
docker archive. Signing an enclave of the same name again replaces it; a registry keeps
the old ones too, and the latest date and then the highest SVN counts.

The signature has the date of $SOURCE_DATE_EPOCH if that is set, and then signing the
same enclave with the same key gives the same bytes.`,
		Example: `  adyton enclave sign --key key.pem
  adyton enclave sign --key key.pem -f app.yaml --image docker-archive:app.tar --bundle app.enclave`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if keyFile == "" {
				return ui.Usage("name the signing key by --key: make one with `adyton enclave keygen key.pem`")
			}
			date, err := now()
			if err != nil {
				return err
			}
			signer, err := readKey(keyFile)
			if err != nil {
				return err
			}
			config, img, d, err := in.describe(ctx)
			if err != nil {
				return err
			}
			if bundle == "" && !img.CarriesArtifacts() {
				return ui.Usage("a docker archive cannot carry a signature: name a file for it by --bundle")
			}
			if err := img.Verify(ctx, nil); err != nil {
				return err
			}
			options := config.SignOptions()
			options.Date = date
			s, err := build.Sign(d, signer, options)
			if err != nil {
				return err
			}
			where := img.Reference()
			if bundle == "" {
				err = build.Attach(ctx, img, s, date)
			} else {
				where, err = bundle, writeBundle(bundle, s)
			}
			if err != nil {
				return err
			}
			if err := effective(cmd, img, bundle, s); err != nil {
				return err
			}
			result := summarize(s)
			return output.Print(cmd, result, func(w io.Writer) error {
				tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintf(tw, "signed\t%s in %s\n", s.Descriptor.Name, where)
				result.printIdentity(tw)
				return tw.Flush()
			})
		},
	}
	in.addFlags(cmd)
	cmd.Flags().StringVar(&keyFile, "key", "", "the signing key (PEM, RSA-3072 with exponent 3)")
	cmd.Flags().StringVar(&bundle, "bundle", "", "write the signature to this file, not to the image")
	output.AddFlag(cmd)
	return cmd
}

// maxKey bounds a key file in bytes.
const maxKey = 64 << 10

// readKey reads a signing key, which nobody but its owner may be able to read.
func readKey(file string) (*rsa.PrivateKey, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read signing key: %w: make one with `adyton enclave keygen %s`", err, file)
	}
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("signing key %s is readable by others; run chmod 600 %s", file, file)
	}
	pem, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	key, err := sgx.ParseKeyPEM(pem)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

func writeBundle(file string, s *build.Signed) error {
	text, err := s.Bundle()
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write enclave bundle: %w", err)
	}
	return nil
}

// effective checks that who looks for the enclave finds the one just signed, and
// not one that a registry kept.
func effective(cmd *cobra.Command, img *image.Image, bundle string, s *build.Signed) error {
	found, err := signed(cmd.Context(), img, bundle, build.Query{Name: s.Descriptor.Name})
	if err != nil {
		return fmt.Errorf("read back the signature: %w", err)
	}
	if *found.SigStruct != *s.SigStruct {
		return fmt.Errorf("the signature is stored, but another one counts before it (SVN %d, dated %x): raise svn above that, or delete it from the registry", found.SigStruct.ISVSVN, found.SigStruct.Date)
	}
	return nil
}
