package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// The whiteouts of a layer (OCI image specification, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// tree is a root file system in the making.
//
// Layers are applied here rather than by umoci's or containerd's unpacker: theirs
// bound neither the expanded size of sparse entries nor the number of files, make
// device nodes and keep set-user-ID bits. Nothing leaves the directory: a path's
// parent is resolved inside it as the container would (securejoin, for absolute
// symbolic links between layers), and the operation itself is done through
// os.Root, which refuses to follow any link out.
type tree struct {
	root *os.Root
	left int64 // bytes of content that may still be written
	// files counts entries of all layers.
	files int
	// dirs has the final mode and time of each directory, set at the end, so that
	// a directory that is read-only in one layer can be filled by the next.
	dirs map[string]dirMeta
	// made has what the current layer made and what that is in: the layer's own
	// whiteouts do not remove it.
	made map[string]bool
}

type dirMeta struct {
	mode fs.FileMode
	time time.Time
}

func newTree(dir string, maxBytes int64) (*tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	t := &tree{root: root, left: maxBytes, dirs: map[string]dirMeta{}}
	t.dirs["."] = dirMeta{mode: 0o755}
	return t, nil
}

func (t *tree) close() { t.root.Close() }

// apply applies one layer.
func (t *tree) apply(layer io.Reader) error {
	t.made = map[string]bool{}
	archive := tar.NewReader(layer)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if t.files++; t.files > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		if err := t.entry(h, archive); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

// finish sets what must be set after all layers.
func (t *tree) finish() error {
	// Children first: a directory may take away the right to reach them.
	names := slices.Sorted(maps.Keys(t.dirs))
	slices.Reverse(names)
	for _, name := range names {
		info, err := t.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			continue // removed by a later layer
		}
		if err != nil {
			return err
		}
		meta := t.dirs[name]
		if os.Geteuid() != 0 {
			meta.mode |= 0o700 // else its owner could not remove it
		}
		if !meta.time.IsZero() {
			if err := t.root.Chtimes(name, meta.time, meta.time); err != nil {
				return err
			}
		}
		if err := t.root.Chmod(name, meta.mode); err != nil {
			return err
		}
	}
	return nil
}

// entry applies one entry of a layer.
func (t *tree) entry(h *tar.Header, content io.Reader) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag == tar.TypeDir {
			return t.keepDir(".", h)
		}
		return nil
	}
	dir, err := t.parent(name)
	if err != nil {
		return err
	}
	base := path.Base(name)
	name = path.Join(dir, base)
	if base == whiteoutOpaque {
		return t.clear(dir)
	}
	if hidden, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		if hidden == "" || hidden == "." || hidden == ".." {
			return errors.New("a whiteout of no name")
		}
		return t.remove(path.Join(dir, hidden))
	}
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeGNUSparse:
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return nil
	default:
		return fmt.Errorf("an entry of the unknown type %q", h.Typeflag)
	}
	for p := name; p != "."; p = path.Dir(p) {
		t.made[p] = true
	}
	return t.create(name, h, content)
}

func (t *tree) create(name string, h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeDir {
		return t.makeDir(name, h)
	}
	var target string
	if h.Typeflag == tar.TypeLink {
		// Before the old entry goes: a link to itself must not lose the file.
		var err error
		if target, err = t.linkTarget(h.Linkname); err != nil {
			return err
		}
		if target == name {
			return nil
		}
	}
	if err := t.root.RemoveAll(name); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeLink:
		return t.root.Link(target, name)
	case tar.TypeSymlink:
		if err := t.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return t.own(name, h)
	default:
		return t.makeFile(name, h, content)
	}
}

func (t *tree) makeDir(name string, h *tar.Header) error {
	info, err := t.root.Lstat(name)
	if err == nil && !info.IsDir() {
		if err := t.root.RemoveAll(name); err != nil {
			return err
		}
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = t.root.Mkdir(name, 0o700)
	}
	if err != nil {
		return err
	}
	return t.keepDir(name, h)
}

func (t *tree) keepDir(name string, h *tar.Header) error {
	t.dirs[name] = dirMeta{mode: mode(h), time: h.ModTime}
	return t.own(name, h)
}

func (t *tree) makeFile(name string, h *tar.Header, content io.Reader) error {
	// A sparse entry of a few bytes can declare terabytes: the size is checked
	// before it is written.
	if h.Size > t.left {
		return errors.New("the image is larger unpacked than is allowed")
	}
	t.left -= h.Size
	f, err := t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := t.own(name, h); err != nil {
		return err
	}
	if err := t.root.Chmod(name, mode(h)); err != nil {
		return err
	}
	return t.root.Chtimes(name, h.ModTime, h.ModTime)
}

// linkTarget resolves the file that a hard link names.
func (t *tree) linkTarget(link string) (string, error) {
	name, err := cleanName(link)
	if err != nil {
		return "", fmt.Errorf("link: %w", err)
	}
	dir, err := t.resolve(path.Dir(name))
	if err != nil {
		return "", fmt.Errorf("link: %w", err)
	}
	target := path.Join(dir, path.Base(name))
	info, err := t.root.Lstat(target)
	if err != nil {
		return "", fmt.Errorf("link: %w", err)
	}
	if info.IsDir() {
		return "", fmt.Errorf("link: %q is a directory", link)
	}
	return target, nil
}

// own gives the entry to its owner; only root can.
func (t *tree) own(name string, h *tar.Header) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return t.root.Lchown(name, h.Uid, h.Gid)
}

// parent resolves and makes the directory that name is in.
func (t *tree) parent(name string) (string, error) {
	dir, err := t.resolve(path.Dir(name))
	if err != nil || dir == "." {
		return dir, err
	}
	if info, err := t.root.Lstat(dir); err == nil && !info.IsDir() {
		return "", fmt.Errorf("%s is not a directory", dir)
	} else if err == nil {
		return dir, nil
	}
	// Not in the archive: usual modes.
	made := ""
	for _, step := range strings.Split(dir, "/") {
		made = path.Join(made, step)
		if _, err := t.root.Lstat(made); err == nil {
			continue
		}
		if err := t.root.Mkdir(made, 0o700); err != nil {
			return "", err
		}
		t.dirs[made] = dirMeta{mode: 0o755}
	}
	return dir, nil
}

// resolve follows the symbolic links of a directory's path inside the tree.
func (t *tree) resolve(dir string) (string, error) {
	full, err := securejoin.SecureJoin(t.root.Name(), dir)
	if err != nil {
		return "", err
	}
	rel, err := filepath.Rel(t.root.Name(), full)
	if err != nil {
		return "", err
	}
	return filepath.ToSlash(rel), nil
}

// remove removes what a lower layer has at name.
func (t *tree) remove(name string) error {
	if t.made[name] {
		return t.clear(name)
	}
	return t.root.RemoveAll(name)
}

// clear removes what lower layers have in the directory.
func (t *tree) clear(dir string) error {
	info, err := t.root.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := t.root.Open(dir)
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, name := range names {
		if err := t.remove(path.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// cleanName gives the path of an entry relative to the root; one that climbs out
// is an error, as no honest tool writes it.
func cleanName(name string) (string, error) {
	name = path.Clean(strings.TrimLeft(name, "/"))
	if name == "." || name == "" {
		return ".", nil
	}
	if !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
		return "", errors.New("its path leaves the root file system")
	}
	return name, nil
}

// mode gives the permissions and the sticky bit.
func mode(h *tar.Header) fs.FileMode {
	return h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSticky)
}
