package enclave

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/internal/build/pack"
	"github.com/adyton-dev/adyton/internal/cli/ui"
)

func newPack() *cobra.Command {
	var (
		spec     pack.Spec
		dir      string
		platform string
		output   ui.Output
	)
	cmd := &cobra.Command{
		Use:   "pack --to DIR FILE=/PATH...",
		Short: "Make an image of a static program, without a container engine",
		Long: `Make an image of files: an OCI layout directory with one image, tagged latest.

Each FILE, or directory with all below it, goes to its absolute PATH in the image,
owned by root, executable if it is executable here. Times and owners of this machine
are left out, so the same contents give the same digest everywhere, and whoever is
asked to approve the enclave can make the image again and compare.

For a program that needs libraries or a base system, use any image builder and sign
what it makes; every OCI image can be an enclave.`,
		Example: `  go build -trimpath -o app . && adyton enclave pack --to image app=/app
  adyton enclave pack --to image app=/app config=/etc/app --user 65532:65532 --mkdir /data`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return ui.Usage("name the directory to make: --to DIR")
			}
			for _, arg := range args {
				from, to, found := strings.Cut(arg, "=")
				if !found || from == "" || !path.IsAbs(to) {
					return ui.Usage("%q is not FILE=/PATH", arg)
				}
				spec.Add = append(spec.Add, pack.Source{From: from, To: to})
			}
			if err := defaultEntrypoint(&spec); err != nil {
				return err
			}
			p, err := v1.ParsePlatform(platform)
			if err != nil {
				return ui.Usage("--platform: %w", err)
			}
			if p.OS == "" || p.Architecture == "" {
				return ui.Usage("--platform %q: write it as OS/ARCHITECTURE, for example linux/amd64", platform)
			}
			if spec.User != "" && !userPattern.MatchString(spec.User) {
				return ui.Usage("--user %q: write it as UID:GID, for example 65532:65532; a packed image has no user names", spec.User)
			}
			spec.Platform = *p
			digest, err := pack.Write(dir, spec)
			if err != nil {
				return err
			}
			return output.Print(cmd, map[string]string{"image": "oci:" + dir, "digest": digest.String()}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "wrote oci:%s\nimage %s\n", dir, digest)
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "to", "", "the OCI layout directory to make; it must not exist")
	f.StringArrayVar(&spec.Entrypoint, "entrypoint", nil, "program of the image, and its first arguments if repeated (default: the only FILE that is executable)")
	f.StringArrayVar(&spec.Directories, "mkdir", nil, "make an empty directory in the image; may be repeated")
	f.StringArrayVar(&spec.Env, "env", []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, "environment of the image, KEY=VALUE; may be repeated")
	f.StringVar(&spec.User, "user", "65532:65532", "user of the image, UID:GID")
	f.StringVar(&spec.WorkingDir, "working-dir", "/", "working directory of the image")
	f.StringVar(&platform, "platform", "linux/amd64", "platform of the image")
	output.AddFlag(cmd)
	return cmd
}

var userPattern = regexp.MustCompile(`^[0-9]{1,10}(:[0-9]{1,10})?$`)

// defaultEntrypoint takes the only executable file, unless one is named.
func defaultEntrypoint(spec *pack.Spec) error {
	if len(spec.Entrypoint) > 0 {
		return nil
	}
	for _, source := range spec.Add {
		info, err := os.Stat(source.From)
		if err != nil {
			return fmt.Errorf("pack image: %w", err)
		}
		if info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			spec.Entrypoint = append(spec.Entrypoint, source.To)
		}
	}
	if len(spec.Entrypoint) != 1 {
		spec.Entrypoint = nil
		return &ui.ExitError{Code: ui.ExitUsage, Err: errors.New("say which program the image starts: --entrypoint /PATH")}
	}
	return nil
}
