// Package rundir keeps one directory for each running enclave and finds those
// whose launcher died without cleaning up. It imports only the standard library
// and golang.org/x/sys.
//
// A launcher holds an advisory lock (flock) on its directory while it lives. The
// kernel drops the lock when the launcher ends, however it ends, so a directory
// whose lock is free is stale.
package rundir

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrExists says that an enclave of the same name runs.
var ErrExists = errors.New("an enclave of this name is running")

// Dir is a run directory whose lock this process holds.
type Dir struct {
	path string
	lock *os.File
}

// DefaultBase is where run directories are made: /var/lib/adyton/run for root,
// else $XDG_STATE_HOME/adyton/run or ~/.local/state/adyton/run. It is on a disk,
// since images are unpacked there.
func DefaultBase() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/adyton/run", nil
	}
	if state := os.Getenv("XDG_STATE_HOME"); state != "" {
		return filepath.Join(state, "adyton", "run"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a directory for running enclaves (set HOME): %w", err)
	}
	return filepath.Join(home, ".local", "state", "adyton", "run"), nil
}

// ValidName reports whether name can name an enclave: 1 to 63 of the characters
// that host names and file names share.
func ValidName(name string) bool {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`).MatchString(name)
}

// Create makes base/name, readable by this user only, and locks it. The error is
// [ErrExists] if there is one whose launcher lives.
func Create(base, name string) (*Dir, error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("name %q: want up to 63 letters, digits, '_', '.' and '-', and a letter or digit first", name)
	}
	base, err := filepath.Abs(base)
	if err != nil {
		return nil, fmt.Errorf("find the directory of running enclaves: %w", err)
	}
	if err := os.MkdirAll(base, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of running enclaves: %w", err)
	}
	guard, err := guardBase(base)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	path := filepath.Join(base, name)
	if err := os.Mkdir(path, 0o700); errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%s: %w", name, ErrExists)
	} else if err != nil {
		return nil, fmt.Errorf("make the run directory: %w", err)
	}
	d, err := lock(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return d, nil
}

// Stale locks and returns the directories below base whose launcher is dead. A
// base that does not exist has none.
func Stale(base string) ([]*Dir, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return nil, fmt.Errorf("find the directory of running enclaves: %w", err)
	}
	guard, err := guardBase(base)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil, fmt.Errorf("list running enclaves: %w", err)
	}
	var stale []*Dir
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		// Any error means that someone else has it, or just removed it.
		if d, err := lock(filepath.Join(base, entry.Name())); err == nil {
			stale = append(stale, d)
		}
	}
	return stale, nil
}

// onlyOurs refuses a directory that another user could have put things into: what
// a dead launcher left there is handed to the engine, which runs its hooks.
func onlyOurs(base *os.File) error {
	var info unix.Stat_t
	if err := unix.Fstat(int(base.Fd()), &info); err != nil {
		return fmt.Errorf("look at %s: %w", base.Name(), err)
	}
	if int(info.Uid) != os.Geteuid() || info.Mode&0o022 != 0 {
		return fmt.Errorf("%s belongs to another user or can be written by others: run chmod 700 %s, or choose another --run-dir", base.Name(), base.Name())
	}
	return nil
}

// guardBase keeps others from looking at base while a directory in it exists
// that is not locked yet. Closing the file ends it.
func guardBase(base string) (*os.File, error) {
	f, err := os.Open(base)
	if err != nil {
		return nil, fmt.Errorf("open the directory of running enclaves: %w", err)
	}
	if err := onlyOurs(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", base, err), f.Close())
	}
	return f, nil
}

func lock(path string) (*Dir, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the run directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the run directory %s: %w", path, err), f.Close())
	}
	return &Dir{path: path, lock: f}, nil
}

// Path is the directory's absolute path.
func (d *Dir) Path() string { return d.path }

// Name is the name that the directory was created with.
func (d *Dir) Name() string { return filepath.Base(d.path) }

// Join gives the path of a file in the directory.
func (d *Dir) Join(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// Remove unmounts what is mounted below the directory, removes it and drops the
// lock. If something cannot be unmounted, nothing is removed: it could be the
// content of what is mounted that goes.
func (d *Dir) Remove() error {
	defer d.lock.Close()
	mounts, err := mountsBelow(d.path)
	if err != nil {
		return err
	}
	for i := len(mounts) - 1; i >= 0; i-- { // the last mounted first
		if err := unmount(mounts[i]); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(d.path); err != nil {
		return fmt.Errorf("remove the run directory: %w", err)
	}
	return nil
}

// Release drops the lock and leaves the directory as it is, for a later Stale.
func (d *Dir) Release() error { return d.lock.Close() }

// unmount detaches a mount, also one whose FUSE server is dead. Without root
// only FUSE mounts are there, and fusermount3 is who may unmount them.
func unmount(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EPERM) {
		err = exec.Command("fusermount3", "-u", "-z", "--", path).Run()
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}

// mountsBelow lists the mount points below dir, in the order of mounting, from
// /proc/self/mountinfo (proc(5): the fifth field, with octal escapes).
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var found []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if point := unescape.Replace(fields[4]); strings.HasPrefix(point, dir+"/") {
			found = append(found, point)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return found, nil
}
