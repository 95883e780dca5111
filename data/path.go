package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Progress is told of each part of the content that has been done, in bytes. It
// may be nil.
type Progress func(n int)

// Sealed is a complete sealed file that does not have its name yet. The caller
// first makes the key durable, then calls Commit: so there is never a sealed
// file without its key.
type Sealed struct{ file *renameio.PendingFile }

// Seal seals the file or directory at src into a temporary file beside dst,
// written through to the disk. The caller ends with Commit or Discard.
// h.Content is set by what src is.
//
// A directory may hold regular files and directories; anything else in it, such
// as a symbolic link, is an error.
func Seal(ctx context.Context, src, dst string, kek []byte, h Header, progress Progress) (_ *Sealed, err error) {
	dst = filepath.Clean(dst) // DIR/ is beside DIR
	info, err := os.Stat(src)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	write := writeFile
	switch {
	case info.IsDir():
		h.Content, write = Directory, writeTree
	case info.Mode().IsRegular():
		h.Content = File
	default:
		return nil, fmt.Errorf("seal %s: neither a regular file nor a directory", src)
	}
	file, err := renameio.NewPendingFile(dst, renameio.WithTempDir(filepath.Dir(dst)), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return nil, fmt.Errorf("seal to %s: %w", dst, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Cleanup())
		}
	}()
	w, err := NewWriter(file, kek, h)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", src, err)
	}
	if err := write(&observed{ctx: ctx, w: w, progress: progress}, src); err != nil {
		return nil, fmt.Errorf("seal %s: %w", src, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal to %s: %w", dst, err)
	}
	if err := file.Sync(); err != nil {
		return nil, fmt.Errorf("seal to %s: %w", dst, err)
	}
	return &Sealed{file}, nil
}

// Commit gives the file its name, in one step. It replaces a file of that name.
func (s *Sealed) Commit() error {
	if err := s.file.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("name sealed file: %w", err)
	}
	return nil
}

// Discard removes the file. After Commit it does nothing.
func (s *Sealed) Discard() error {
	if err := s.file.Cleanup(); err != nil {
		return fmt.Errorf("remove temporary file: %w", err)
	}
	return nil
}

func writeFile(w io.Writer, src string) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// Owner is the user that opened files are given to.
type Owner struct{ UID, GID int }

// OpenOptions refines [Open]. The zero value is right outside an init program.
type OpenOptions struct {
	// Owner gets the opened files; nil: who calls.
	Owner *Owner
	// Progress is told of the content.
	Progress Progress
}

// Open opens the sealed file src into dst: a file of mode 0600, or a directory
// of mode 0700 that must not exist before. dst appears in one step, complete and
// authenticated, or not at all. key gives the KEK for a header, which is not
// authenticated yet: whoever expects a certain key or kind of content must
// check it there.
func Open(ctx context.Context, src, dst string, key func(*Header) ([]byte, error), opts OpenOptions) error {
	dst = filepath.Clean(dst) // DIR/ is beside DIR
	f, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("open sealed data: %w", err)
	}
	defer f.Close()
	h, err := ReadHeader(f)
	if err != nil {
		return fmt.Errorf("open %s: %w", src, err)
	}
	kek, err := key(h)
	if err != nil {
		return fmt.Errorf("open %s: %w", src, err)
	}
	defer clear(kek)
	r, err := h.NewReader(f, kek)
	if err != nil {
		return fmt.Errorf("open %s: %w", src, err)
	}
	read := openFile
	if h.Content == Directory {
		read = openTree
	}
	if err := read(&observed{ctx: ctx, r: r, progress: opts.Progress}, dst, opts.Owner); err != nil {
		return fmt.Errorf("open %s to %s: %w", src, dst, err)
	}
	return nil
}

func openFile(r io.Reader, dst string, owner *Owner) (err error) {
	file, err := renameio.NewPendingFile(dst, renameio.WithTempDir(filepath.Dir(dst)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Cleanup()) }()
	if _, err := io.Copy(file, r); err != nil {
		return err
	}
	if owner != nil {
		if err := file.Chown(owner.UID, owner.GID); err != nil {
			return err
		}
	}
	return file.CloseAtomicallyReplace()
}

func openTree(r io.Reader, dst string, owner *Owner) (err error) {
	if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s: %w", dst, fs.ErrExist), err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dst), "."+filepath.Base(dst)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if err := readTree(r, tmp, owner); err != nil {
		return err
	}
	return os.Rename(tmp, dst)
}

// observed is a reader or writer that ends with its context and tells of its
// progress.
type observed struct {
	ctx      context.Context
	r        io.Reader
	w        io.Writer
	progress Progress
}

func (o *observed) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := o.r.Read(p)
	if o.progress != nil {
		o.progress(n)
	}
	return n, err
}

func (o *observed) Write(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := o.w.Write(p)
	if o.progress != nil {
		o.progress(n)
	}
	return n, err
}
