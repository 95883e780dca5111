package enclave

import (
	"crypto/rand"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/sgx"
)

func newKeygen() *cobra.Command {
	var output ui.Output
	cmd := &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a key to sign enclaves with",
		Long: `Make a key to sign enclaves with: RSA-3072 with exponent 3, as SGX wants it, in PEM
(PKCS #8), not encrypted, readable by its owner only. A file that exists is not
overwritten.

MRSIGNER, which is printed, is what a release policy names. Keep the key offline: who
has it can sign an enclave that every policy for MRSIGNER accepts.`,
		Example: `  adyton enclave keygen key.pem`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := sgx.GenerateKey(rand.Reader)
			if err != nil {
				return fmt.Errorf("make a signing key: %w", err)
			}
			// A trial signature shows that the key works, and has its MRSIGNER.
			var trial sgx.SigStruct
			if err := trial.Sign(key); err != nil {
				return fmt.Errorf("try the signing key: %w", err)
			}
			mrsigner := trial.MRSIGNER()
			text, err := sgx.MarshalKeyPEM(key)
			if err != nil {
				return err
			}
			if err := writeNew(args[0], text, 0o600); err != nil {
				return err
			}
			return output.Print(cmd, map[string]any{"file": args[0], "mrsigner": mrsigner}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "wrote %s\nMRSIGNER %s\n", args[0], mrsigner)
				return err
			})
		},
	}
	output.AddFlag(cmd)
	return cmd
}
