package data

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/data"
	"github.com/adyton-dev/adyton/internal/cli/ui"
)

// facts is what a sealed file tells without its key.
type facts struct {
	Format      string       `json:"format"`
	Key         string       `json:"key"`
	Content     data.Content `json:"content"`
	SegmentSize int          `json:"segmentSize"`
	Size        int64        `json:"size"`
	PlainSize   int64        `json:"plainSize"`
}

func newInfo() *cobra.Command {
	var out ui.Output
	cmd := &cobra.Command{
		Use:   "info FILE",
		Short: "Show what a sealed file says of itself",
		Long: `Shows the header of a sealed file: which key opens it, what is inside and how large it
is. The header is not secret, and it is proven only when the file is opened.`,
		Example: "  adyton data info cohort.sealed\n  adyton data info -o json cohort.sealed",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := read(args[0])
			if err != nil {
				return err
			}
			return out.Print(cmd, f, f.print)
		},
	}
	out.AddFlag(cmd)
	return cmd
}

func read(name string) (*facts, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read sealed data: %w", err)
	}
	defer file.Close()
	h, err := data.ReadHeader(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read sealed data: %w", err)
	}
	plain, err := h.PlainSize(info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &facts{
		Format: "adyton.dev/data/v1", Key: h.Key, Content: h.Content,
		SegmentSize: h.SegmentSize, Size: info.Size(), PlainSize: plain,
	}, nil
}

func (f *facts) print(w io.Writer) error {
	key := f.Key
	if key == "" {
		key = "a key file"
	}
	_, err := fmt.Fprintf(w, "format   %s (AES-256-GCM, segments of %d bytes)\nkey      %s\ncontent  %s, %d bytes\nsize     %d bytes\n",
		f.Format, f.SegmentSize, key, f.Content, f.PlainSize, f.Size)
	return err
}
