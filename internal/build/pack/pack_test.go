package pack_test

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/adyton-dev/adyton/internal/build/pack"
)

// source makes a directory with a program and a file.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"app": 0o755, "etc/a.yaml": 0o600} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func spec(dir string) pack.Spec {
	return pack.Spec{
		Add:         []pack.Source{{From: filepath.Join(dir, "app"), To: "/usr/bin/app"}, {From: filepath.Join(dir, "etc"), To: "/etc"}},
		Directories: []string{"/data/in"},
		Entrypoint:  []string{"/usr/bin/app"},
		User:        "65532:65532",
		Platform:    v1.Platform{OS: "linux", Architecture: "amd64"},
	}
}

func TestImageHasTheFilesAndNothingOfThisMachine(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "image")
	if _, err := pack.Write(dir, spec(source(t))); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	r := mutate.Extract(img)
	defer r.Close()
	got := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() != 0 {
			t.Errorf("%s has owner %d:%d and time %v", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		got[h.Name] = h.FileInfo().Mode().String() + " " + string(content)
	}
	want := map[string]string{
		"data": "drwxr-xr-x ", "data/in": "drwxr-xr-x ", "etc": "drwxr-xr-x ", "etc/a.yaml": "-rw-r--r-- etc/a.yaml",
		"usr": "drwxr-xr-x ", "usr/bin": "drwxr-xr-x ", "usr/bin/app": "-rwxr-xr-x app",
	}
	trimmed := map[string]string{}
	for name, v := range got {
		trimmed[strings.TrimSuffix(name, "/")] = v
	}
	if diff := cmp.Diff(want, trimmed); diff != "" {
		t.Error(diff)
	}
}

func TestSameContentGivesTheSameDigest(t *testing.T) {
	t.Parallel()
	digest := func() v1.Hash {
		h, err := pack.Write(filepath.Join(t.TempDir(), "image"), spec(source(t)))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if a, b := digest(), digest(); a != b {
		t.Errorf("%v and %v", a, b)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := source(t)
	for name, change := range map[string]func(*pack.Spec){
		"missing file":    func(s *pack.Spec) { s.Add[0].From += "-missing" },
		"relative target": func(s *pack.Spec) { s.Add[0].To = "app" },
		"twice":           func(s *pack.Spec) { s.Add = append(s.Add, s.Add[0]) },
		"root":            func(s *pack.Spec) { s.Directories = []string{"/"} },
		"nothing":         func(s *pack.Spec) { s.Add, s.Directories = nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent, s := t.TempDir(), spec(dir)
			change(&s)
			if _, err := pack.Write(filepath.Join(parent, "image"), s); err == nil {
				t.Error("no error")
			}
			left, err := os.ReadDir(parent)
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	if _, err := pack.Write(dir, spec(dir)); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an existing directory: %v", err)
	}
}
