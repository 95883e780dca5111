// Package pack makes an image of files: the way from a static program to an OCI
// layout without a container engine. The image's digest depends only on the
// files' contents, their executable bits and the specification, so that whoever
// is asked to approve an enclave can make it again and compare.
//
// It imports go-containerregistry and the standard library. What an image needs
// beyond files — packages, layers of a base — is for other tools; any OCI image
// can be signed.
package pack

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Spec says what is in the image and how it starts.
type Spec struct {
	// Add are files and directories of this machine and where they go.
	Add []Source
	// Directories are made empty, mode 0755.
	Directories []string
	Entrypoint  []string
	Env         []string // KEY=VALUE
	User        string   // UID:GID; "" is root
	WorkingDir  string   // "" is /
	Platform    v1.Platform
}

// Source is a file or a directory, with all below it, and its absolute path in
// the image.
type Source struct{ From, To string }

// epoch dates everything in the image.
var epoch = time.Unix(0, 0).UTC()

// Write makes the OCI layout directory dir, which must not exist, with the image
// tagged latest, and gives the digest of its configuration: the image that an
// enclave's measurement names. If it fails there is no dir.
func Write(dir string, spec Spec) (digest v1.Hash, err error) {
	dir = filepath.Clean(dir)
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return digest, cmp.Or(err, fmt.Errorf("%s exists", dir))
	}
	img, err := assemble(spec)
	if err != nil {
		return digest, fmt.Errorf("pack image: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*")
	if err != nil {
		return digest, fmt.Errorf("write layout: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	index, err := layout.Write(filepath.Join(tmp, "layout"), empty.Index)
	if err != nil {
		return digest, fmt.Errorf("write layout: %w", err)
	}
	if err := index.AppendImage(img, layout.WithPlatform(spec.Platform),
		layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"})); err != nil {
		return digest, fmt.Errorf("write layout: %w", err)
	}
	if err := os.Rename(filepath.Join(tmp, "layout"), dir); err != nil {
		return digest, fmt.Errorf("write layout: %w", err)
	}
	return img.ConfigName()
}

func assemble(spec Spec) (v1.Image, error) {
	files, err := collect(spec)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	if err := write(&archive, files); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(base, &v1.ConfigFile{
		Architecture: spec.Platform.Architecture,
		OS:           spec.Platform.OS,
		Created:      v1.Time{Time: epoch},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: spec.Entrypoint,
			Env:        spec.Env,
			User:       spec.User,
			WorkingDir: cmp.Or(spec.WorkingDir, "/"),
		},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "adyton enclave pack"}})
}

// file is an entry of the image; a directory has no source.
type file struct {
	name   string // without the leading slash
	mode   int64
	source string
}

// collect gives the entries in the order of their names, with all parents.
func collect(spec Spec) ([]file, error) {
	files := map[string]file{}
	parents := func(name string) {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := files[dir]; !ok {
				files[dir] = file{name: dir, mode: 0o755}
			}
		}
	}
	add := func(f file) error {
		if old, ok := files[f.name]; ok && (old.source != "" || f.source != "") {
			return fmt.Errorf("/%s is there twice", f.name)
		}
		files[f.name] = f
		parents(f.name)
		return nil
	}
	for _, dir := range spec.Directories {
		name, err := inImage(dir)
		if err != nil {
			return nil, err
		}
		if err := add(file{name: name, mode: 0o755}); err != nil {
			return nil, err
		}
	}
	for _, source := range spec.Add {
		to, err := inImage(source.To)
		if err != nil {
			return nil, err
		}
		err = filepath.WalkDir(source.From, func(from string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(source.From, from)
			if err != nil {
				return err
			}
			info, err := os.Stat(from)
			if err != nil {
				return err
			}
			f := file{name: path.Join(to, filepath.ToSlash(rel)), mode: 0o755}
			switch {
			case info.IsDir() && !entry.IsDir() && rel != ".":
				return fmt.Errorf("%s is a link to a directory; name the directory itself", from)
			case info.IsDir():
				return add(f)
			case !info.Mode().IsRegular():
				return fmt.Errorf("%s is neither a file nor a directory", from)
			}
			if info.Mode()&0o111 == 0 {
				f.mode = 0o644
			}
			f.source = from
			return add(f)
		})
		if err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, errors.New("nothing to put into the image")
	}
	sorted := make([]file, 0, len(files))
	for _, f := range files {
		sorted = append(sorted, f)
	}
	slices.SortFunc(sorted, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return sorted, nil
}

// inImage checks an absolute path of the image and gives it without the slash.
func inImage(name string) (string, error) {
	clean := path.Clean(name)
	if !path.IsAbs(name) || clean == "/" {
		return "", fmt.Errorf("%q is not an absolute path below /", name)
	}
	return clean[1:], nil
}

func write(out io.Writer, files []file) error {
	w := tar.NewWriter(out)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, ModTime: epoch, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if f.source == "" {
			header.Name, header.Typeflag = f.name+"/", tar.TypeDir
			if err := w.WriteHeader(header); err != nil {
				return err
			}
			continue
		}
		content, err := os.ReadFile(f.source)
		if err != nil {
			return err
		}
		header.Size = int64(len(content))
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
	return w.Close()
}
