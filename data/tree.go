package data

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/adyton-dev/adyton/refusal"
)

// writeTree writes the archive of the directory dir to w.
func writeTree(w io.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	archive := tar.NewWriter(w)
	// WalkDir goes in lexical order, each directory before what is in it.
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		return writeEntry(archive, root, name, d)
	})
	if err != nil {
		return err
	}
	return archive.Close()
}

func writeEntry(archive *tar.Writer, root *os.Root, name string, d fs.DirEntry) error {
	if d.IsDir() {
		info, err := d.Info()
		if err != nil {
			return err
		}
		return archive.WriteHeader(&tar.Header{
			Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(info.Mode().Perm()), Format: tar.FormatPAX,
		})
	}
	if !d.Type().IsRegular() {
		return fmt.Errorf("%s is neither a regular file nor a directory; a sealed directory has no links and devices", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	err = archive.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: int64(info.Mode().Perm()), Size: info.Size(), Format: tar.FormatPAX,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	n, err := io.Copy(archive, f)
	if errors.Is(err, tar.ErrWriteTooLong) || err == nil && n != info.Size() {
		return fmt.Errorf("%s changed while it was sealed", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// maxEntries bounds the files and directories of a sealed directory.
const maxEntries = 1 << 20

// sparse reports whether an entry is larger than what the archive holds of it:
// writeTree makes none, and a few bytes of one could fill a disk.
func sparse(entry *tar.Header) bool {
	for name := range entry.PAXRecords {
		if strings.HasPrefix(name, "GNU.sparse.") {
			return true
		}
	}
	return entry.Typeflag == tar.TypeGNUSparse
}

// readTree unpacks the archive r into the existing directory dir and reads r to
// its end, so that it is wholly authenticated. Nothing is written outside dir.
func readTree(r io.Reader, dir string, owner *Owner) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	type directory struct {
		name string
		mode fs.FileMode
	}
	var directories []directory
	entries := 0
	for archive := tar.NewReader(r); ; entries++ {
		entry, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return archiveError(err)
		}
		if entries == maxEntries {
			return refusal.New(refusal.DataCorrupt, "sealed directory: more than %d entries", maxEntries)
		}
		if sparse(entry) {
			return refusal.New(refusal.DataCorrupt, "sealed directory: %q is sparse", entry.Name)
		}
		name, mode := path.Clean(entry.Name), fs.FileMode(entry.Mode)&fs.ModePerm
		if !filepath.IsLocal(name) || name == "." {
			return refusal.New(refusal.DataCorrupt, "sealed directory: %q is not a name inside it", entry.Name)
		}
		switch entry.Typeflag {
		case tar.TypeDir:
			err = root.Mkdir(name, 0o700)
			directories = append(directories, directory{name, mode})
		case tar.TypeReg:
			err = readEntry(archive, root, name, mode, owner)
		default:
			return refusal.New(refusal.DataCorrupt, "sealed directory: %q is neither a file nor a directory", entry.Name)
		}
		if err != nil {
			return err
		}
	}
	rest, err := io.Copy(io.Discard, r)
	if err != nil {
		return err
	}
	if rest != 0 {
		return refusal.New(refusal.DataCorrupt, "sealed directory: %d bytes behind its end", rest)
	}
	// Last, and the inner ones first: a directory may not be writable.
	for _, d := range slices.Backward(directories) {
		// First the mode: without CAP_FOWNER it is only the owner's to change.
		if err := root.Chmod(d.name, d.mode); err != nil {
			return err
		}
		if owner != nil {
			if err := root.Chown(d.name, owner.UID, owner.GID); err != nil {
				return err
			}
		}
	}
	if owner != nil {
		return os.Chown(dir, owner.UID, owner.GID)
	}
	return nil
}

func readEntry(r io.Reader, root *os.Root, name string, mode fs.FileMode, owner *Owner) (err error) {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, r); err != nil {
		return archiveError(err)
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if owner != nil {
		return f.Chown(owner.UID, owner.GID)
	}
	return nil
}

// archiveError tells a broken archive, which whoever sealed it made, from the
// errors of reading and writing it.
func archiveError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return refusal.New(refusal.DataCorrupt, "sealed directory: %w", err)
	}
	return err
}
