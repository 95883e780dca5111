// Package data is `adyton data`: it seals files and directories so that only
// approved enclaves open them. It imports package data, the broker's client and
// policy compiler for owners, and the client for enclaves.
package data

import (
	"github.com/spf13/cobra"
)

// New makes the command group.
func New() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data",
		Short: "Seal files and directories so that only approved enclaves open them",
		Long: `Sealing encrypts a file or a directory of any size under a key that a broker keeps.
The broker gives the key only to a TEE that satisfies the release policy that you
attach. The sealed file can then be stored and copied anywhere: who has it can neither
read it nor change it unnoticed.`,
		Example: `  # a hospital seals its cohort: the key goes to the broker with its policy
  adyton data seal --broker https://broker:8443 --broker-spki sha256:… \
      --owner-key hospital-a.key --resource kbs:///hospital-a/key/cohort \
      --policy release.yaml cohort/ cohort.sealed

  # without a broker, under a key file
  adyton data keygen backup.key
  adyton data seal --key-file backup.key cohort/ cohort.sealed
  adyton data open --key-file backup.key cohort.sealed cohort-again/`,
	}
	cmd.AddCommand(newSeal(), newOpen(), newInfo(), newKeygen())
	return cmd
}
