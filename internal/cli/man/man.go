// Package man is the command that writes the manual pages of all others.
package man

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// New makes `adyton man`.
func New() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages of all commands into a directory",
		Example: `  adyton man /usr/local/share/man/man1
  man adyton-run`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("make the directory for the manual pages: %w", err)
			}
			return write(cmd.Root(), args[0])
		},
	}
}

// write writes the page of cmd and those of all commands below it.
func write(cmd *cobra.Command, dir string) error {
	for _, sub := range cmd.Commands() {
		if !sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			continue
		}
		if err := write(sub, dir); err != nil {
			return err
		}
	}
	// A fixed date keeps the pages identical from build to build.
	date := time.Unix(0, 0).UTC()
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	header := &doc.GenManHeader{Title: strings.ToUpper(name), Section: "1", Source: "Adyton", Manual: "Adyton Manual", Date: &date}
	var page bytes.Buffer
	if err := doc.GenMan(cmd, header, &page); err != nil {
		return fmt.Errorf("make the manual page of %s: %w", name, err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, name+".1"), page.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write manual pages: %w", err)
	}
	return nil
}
