package data_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/data"
	"github.com/adyton-dev/adyton/refusal"
)

func withKey(*data.Header) ([]byte, error) { return testKey(), nil }

// tree makes a directory to seal.
func tree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	for name, mode := range map[string]fs.FileMode{"empty": 0o755, "a/b": 0o750} {
		if err := os.MkdirAll(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, f := range map[string]struct {
		mode    fs.FileMode
		content []byte
	}{
		"top.txt":                              {0o644, []byte("top")},
		"a/b/large":                            {0o600, content(3 << 20)},
		"a/run.sh":                             {0o755, []byte("#!/bin/sh\n")},
		"a/" + strings.Repeat("long", 50):      {0o400, nil},
		"a/name with spaces, ümlauts \n lines": {0o644, []byte("x")},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), f.content, f.mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// list gives names, modes and contents below dir.
func list(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		if !d.IsDir() {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			text += string(b)
		}
		rel, err := filepath.Rel(dir, name)
		out[rel] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sealPath(t *testing.T, src, dst string) {
	t.Helper()
	s, err := data.Seal(t.Context(), src, dst, testKey(), data.Header{Key: keyURI, SegmentSize: data.SmallSegment}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(); err != nil {
		t.Fatal(err)
	}
}

// names gives what is in a directory, also temporary files.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestDirectoryComesBackAsItWas(t *testing.T) {
	t.Parallel()
	src, dir := tree(t), t.TempDir()
	sealed, opened := filepath.Join(dir, "sealed"), filepath.Join(dir, "opened")
	sealPath(t, src, sealed)
	var done int
	err := data.Open(t.Context(), sealed, opened+"/", func(h *data.Header) ([]byte, error) {
		if h.Content != data.Directory || h.Key != keyURI {
			t.Errorf("header %+v", h)
		}
		return testKey(), nil
	}, data.OpenOptions{Owner: &data.Owner{UID: os.Getuid(), GID: os.Getgid()}, Progress: func(n int) { done += n }})
	if err != nil {
		t.Fatal(err)
	}
	want, got := list(t, src), list(t, opened)
	if len(got) != len(want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%q differs: %.10s, want %.10s", name, got[name], want[name])
		}
	}
	if info, err := os.Stat(opened); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v", info.Mode(), err)
	}
	if done < 3<<20 {
		t.Errorf("progress of %d bytes", done)
	}
	if got := names(t, dir); got != "opened sealed" {
		t.Errorf("left behind: %s", got)
	}
}

func TestOneTreeGivesOneArchive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var archives [][]byte
	for _, name := range []string{"1", "2"} {
		sealPath(t, tree(t), filepath.Join(dir, name))
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		plain, err := open(b)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, plain)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of one tree differ")
	}
}

func TestFileComesBackAsItWas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := content(1 << 20)
	src, sealed, opened := filepath.Join(dir, "src"), filepath.Join(dir, "sealed"), filepath.Join(dir, "opened")
	if err := os.WriteFile(src, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	sealPath(t, src, sealed)
	if err := data.Open(t.Context(), sealed, opened, withKey, data.OpenOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(opened)
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("content differs, %v", err)
	}
	if info, err := os.Stat(opened); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestNothingIsLeftOfARefusedOpen(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*testing.T) string{
		"directory": tree,
		"file": func(t *testing.T) string {
			f := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(f, content(20_000), 0o600); err != nil {
				t.Fatal(err)
			}
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			sealed, opened := filepath.Join(dir, "sealed"), filepath.Join(dir, "opened")
			sealPath(t, make(t), sealed)
			b, err := os.ReadFile(sealed)
			if err != nil {
				t.Fatal(err)
			}
			for _, cut := range []int{len(b) - 1, len(b) / 2, data.SmallSegment, 100, 10} {
				if err := os.WriteFile(sealed, b[:cut], 0o600); err != nil {
					t.Fatal(err)
				}
				err := data.Open(t.Context(), sealed, opened, withKey, data.OpenOptions{})
				if refusal.Of(err) != refusal.DataCorrupt {
					t.Errorf("cut to %d: %v", cut, err)
				}
				if got := names(t, dir); got != "sealed" {
					t.Fatalf("cut to %d: left behind: %s", cut, got)
				}
			}
			if err := os.WriteFile(sealed, b, 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			err = data.Open(ctx, sealed, opened, withKey, data.OpenOptions{Progress: func(int) { cancel() }})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
			if got := names(t, dir); got != "sealed" {
				t.Errorf("cancelled: left behind: %s", got)
			}
		})
	}
}

func TestNothingIsLeftOfAFailedSeal(t *testing.T) {
	t.Parallel()
	withLink := tree(t)
	if err := os.Symlink("/etc/passwd", filepath.Join(withLink, "link")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	dst := filepath.Join(dir, "sealed")
	h := data.Header{Key: keyURI}
	if _, err := data.Seal(t.Context(), withLink, dst, testKey(), h, nil); err == nil || !strings.Contains(err.Error(), "link") {
		t.Errorf("symbolic link: %v", err)
	}
	if _, err := data.Seal(t.Context(), filepath.Join(dir, "missing"), dst, testKey(), h, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := data.Seal(t.Context(), "/dev/null", dst, testKey(), h, nil); err == nil {
		t.Error("a device was sealed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := data.Seal(ctx, tree(t), dst, testKey(), h, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	s, err := data.Seal(t.Context(), tree(t), dst, testKey(), h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(); err != nil {
		t.Error(err)
	}
	if got := names(t, dir); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

func TestOpenDoesNotReplaceADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sealed, opened := filepath.Join(dir, "sealed"), filepath.Join(dir, "opened")
	sealPath(t, tree(t), sealed)
	if err := os.Mkdir(opened, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := data.Open(t.Context(), sealed, opened, withKey, data.OpenOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v", err)
	}
}

// Whoever seals an archive of his own cannot write outside the directory.
func TestHostileArchivesAreRefused(t *testing.T) {
	t.Parallel()
	for name, entries := range map[string][]tar.Header{
		"parent":         {{Name: "../escaped", Typeflag: tar.TypeReg}},
		"deep parent":    {{Name: "a/../../escaped", Typeflag: tar.TypeReg}},
		"absolute":       {{Name: "/escaped", Typeflag: tar.TypeReg}},
		"itself":         {{Name: ".", Typeflag: tar.TypeDir}},
		"symbolic link":  {{Name: "l", Linkname: "/tmp", Typeflag: tar.TypeSymlink}},
		"hard link":      {{Name: "l", Linkname: "/etc/passwd", Typeflag: tar.TypeLink}},
		"device":         {{Name: "d", Typeflag: tar.TypeChar}},
		"pipe":           {{Name: "p", Typeflag: tar.TypeFifo}},
		"not an archive": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var archive bytes.Buffer
			w := tar.NewWriter(&archive)
			for _, e := range entries {
				if err := w.WriteHeader(&e); err != nil {
					t.Fatal(err)
				}
			}
			if entries == nil {
				if _, err := io.CopyN(&archive, rand.Reader, 2000); err != nil {
					t.Fatal(err)
				}
			} else if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			sealed := filepath.Join(dir, "sealed")
			h := data.Header{Content: data.Directory}
			if err := os.WriteFile(sealed, seal(t, archive.Bytes(), h), 0o600); err != nil {
				t.Fatal(err)
			}
			err := data.Open(t.Context(), sealed, filepath.Join(dir, "a", "b"), withKey, data.OpenOptions{})
			if err == nil {
				t.Fatal("opened without its parent directory")
			}
			err = data.Open(t.Context(), sealed, filepath.Join(dir, "out"), withKey, data.OpenOptions{})
			if refusal.Of(err) != refusal.DataCorrupt {
				t.Errorf("error %v, want DataCorrupt", err)
			}
			if got := names(t, dir); got != "sealed" {
				t.Errorf("left behind: %s", got)
			}
		})
	}
}

func TestBytesBehindTheArchiveAreRefused(t *testing.T) {
	t.Parallel()
	var archive bytes.Buffer
	if err := tar.NewWriter(&archive).Close(); err != nil {
		t.Fatal(err)
	}
	archive.WriteString("more")
	dir := t.TempDir()
	sealed := filepath.Join(dir, "sealed")
	if err := os.WriteFile(sealed, seal(t, archive.Bytes(), data.Header{Content: data.Directory}), 0o600); err != nil {
		t.Fatal(err)
	}
	err := data.Open(t.Context(), sealed, filepath.Join(dir, "out"), withKey, data.OpenOptions{})
	if refusal.Of(err) != refusal.DataCorrupt {
		t.Errorf("error %v, want DataCorrupt", err)
	}
}

// A few bytes of a sparse entry stand for a terabyte of zeros, which would fill
// the memory of an enclave that several owners share.
func TestSparseEntriesAreRefused(t *testing.T) {
	t.Parallel()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	// The writer refuses GNU.sparse records, so they are renamed below.
	err := w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Format: tar.FormatPAX, PAXRecords: map[string]string{
		"XYZ.sparse.size": "1099511627776", "XYZ.sparse.numblocks": "1", "XYZ.sparse.map": "1099511627776,0",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sealed := filepath.Join(t.TempDir(), "sealed")
	hostile := bytes.ReplaceAll(archive.Bytes(), []byte("XYZ.sparse"), []byte("GNU.sparse"))
	if err := os.WriteFile(sealed, seal(t, hostile, data.Header{Content: data.Directory}), 0o600); err != nil {
		t.Fatal(err)
	}
	err = data.Open(t.Context(), sealed, filepath.Join(t.TempDir(), "out"), withKey, data.OpenOptions{})
	if refusal.Of(err) != refusal.DataCorrupt || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("error %v, want DataCorrupt for a sparse entry", err)
	}
}
