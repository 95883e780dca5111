package data

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/data"
)

func newKeygen() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a key file for sealing without a broker",
		Long: `Makes a key of 32 random bytes and writes it to FILE, which must not exist, for its
owner only. Without FILE nothing sealed under it can be opened again.`,
		Example: "  adyton data keygen backup.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := writeKey(args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "wrote %s; keep a copy in a safe place\n", args[0])
			return err
		},
	}
}

// writeKey never replaces a file: it might be the only copy of a key.
func writeKey(name string) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make key file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make key file: %w", err), os.Remove(name))
		}
	}()
	kek := make([]byte, data.KeySize)
	defer clear(kek)
	_, _ = rand.Read(kek) // never fails
	_, err = f.Write(kek)
	return errors.Join(err, f.Sync(), f.Close())
}

// readKey reads a key file, which others must not be able to read.
func readKey(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s can be read by others; run chmod 600 %s", name, name)
	}
	kek, err := readBounded(name, data.KeySize)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if len(kek) != data.KeySize {
		clear(kek)
		return nil, fmt.Errorf("key file %s has %d bytes, not %d; make one with `adyton data keygen`", name, len(kek), data.KeySize)
	}
	return kek, nil
}

// readBounded reads a whole file of at most limit bytes.
func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return text, nil
}
