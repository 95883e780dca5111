package enclave

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/internal/build/image"
	"github.com/adyton-dev/adyton/internal/cli/ui"
)

//go:embed enclave.yaml.tmpl
var fileTemplate string

func newInit() *cobra.Command {
	var in input
	var name string
	cmd := &cobra.Command{
		Use:   "init --image IMAGE",
		Short: "Write a commented enclave.yaml for an image",
		Long: `Write a commented enclave.yaml for an image, to be edited and then signed.

The image's own command, user and environment are shown as comments. A file that
exists is not overwritten.`,
		Example: `  adyton enclave init --image oci:./image
  adyton enclave init --image ghcr.io/example/app:1.2 --name app -f app.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if in.image == "" {
				return ui.Usage("name the image to build from by --image, for example --image oci:./image")
			}
			img, err := image.Open(cmd.Context(), in.image, image.Options{Platform: in.platform})
			if err != nil {
				return err
			}
			text, err := renderFile(in.file, name, img)
			if err != nil {
				return err
			}
			if err := writeNew(in.file, text, 0o644); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "wrote %s: edit it, then run `adyton enclave sign --key key.pem -f %s`\n", in.file, in.file)
			return nil
		},
	}
	cmd.Flags().StringVarP(&in.file, "file", "f", "enclave.yaml", "the file to write")
	cmd.Flags().StringVar(&in.image, "image", "", "the image to build from")
	cmd.Flags().StringVar(&name, "name", "", "the enclave's name (default: from the directory)")
	in.addPlatform(cmd)
	return cmd
}

// renderFile fills the template with what the image says.
func renderFile(file, name string, img *image.Image) ([]byte, error) {
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = label(filepath.Base(dir))
	}
	if err := descriptor.CheckName(name); err != nil {
		return nil, err
	}
	reference, err := relativeTo(dir, img.Reference())
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	t, err := template.New("enclave.yaml").Parse(fileTemplate)
	if err != nil {
		return nil, err
	}
	config := img.Config()
	err = t.Execute(&text, map[string]string{
		"APIVersion": descriptor.Version,
		"Name":       name,
		"Image":      reference,
		"Entrypoint": fmt.Sprintf("%q", config.Entrypoint),
		"Cmd":        fmt.Sprintf("%q", config.Cmd),
		"Env":        fmt.Sprintf("%q", config.Env),
		"User":       fmt.Sprintf("%q", config.User),
		"WorkingDir": fmt.Sprintf("%q", config.WorkingDir),
	})
	return []byte(text.String()), err
}

var notLabel = regexp.MustCompile(`[^a-z0-9]+`)

// label makes a name of a directory's.
func label(text string) string {
	text = strings.Trim(notLabel.ReplaceAllString(strings.ToLower(text), "-"), "-")
	if text == "" {
		return "enclave"
	}
	return text[:min(len(text), 40)]
}

// relativeTo makes a path that the user gave from the working directory one from
// the directory of enclave.yaml.
func relativeTo(dir, reference string) (string, error) {
	for _, scheme := range []string{"oci:", "docker-archive:"} {
		path, ok := strings.CutPrefix(reference, scheme)
		if !ok || filepath.IsAbs(path) {
			continue
		}
		absolute, err := filepath.Abs(path)
		if err != nil {
			return "", err
		}
		if path, err = filepath.Rel(dir, absolute); err != nil {
			return "", err
		}
		return scheme + "./" + path, nil
	}
	return reference, nil
}

// writeNew writes a file that must not exist, whole or not at all.
func writeNew(file string, content []byte, mode fs.FileMode) error {
	temp, err := renameio.TempFile("", file)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer temp.Cleanup()
	if err := errors.Join(temp.Chmod(mode), write(temp.File, content), temp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	// A link, unlike a rename, does not replace a file.
	if err := os.Link(temp.Name(), file); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already: remove it or name another file", file)
	} else if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

func write(f *os.File, content []byte) error {
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}
