package attestfs

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// fsName is the source that /proc/mounts shows.
const fsName = "adyton-attestation"

func mountOptions() *fuse.MountOptions {
	root := os.Geteuid() == 0
	return &fuse.MountOptions{
		FsName: fsName, Name: "adyton",
		AllowOther:        root || userAllowOther(),
		DirectMountStrict: root, // no helper program needed
		DisableXAttrs:     true,
		Options:           []string{"noexec"}, // nosuid and nodev are the default
	}
}

// userAllowOther reports whether fusermount3 grants allow_other to users.
func userAllowOther() bool {
	f, err := os.Open("/etc/fuse.conf")
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.TrimSpace(lines.Text()) == "user_allow_other" {
			return true
		}
	}
	return false
}

// fuseDevice is how a server speaks with the kernel.
const fuseDevice = "/dev/fuse"

// checkFUSE says what to do where FUSE cannot work. For users, the helper program
// opens the device, but with their permissions.
func checkFUSE(device string, root bool) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err == nil {
		err = f.Close()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("this machine has no FUSE (%s): run `modprobe fuse`; inside a container, start it with --device /dev/fuse --cap-add SYS_ADMIN", device)
	case err != nil:
		return fmt.Errorf("FUSE is not usable: %w: run as root of the machine, or let this user open it (chmod 666 %s)", err, device)
	}
	if _, err := fusermount(); err != nil && !root {
		return errors.New("mounting as a user needs fusermount3: install the package fuse3, or run as root")
	}
	return nil
}

// explain says what to do about the usual failures to mount.
func explain(err error) error {
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: %s is not the FUSE device (character device 10, 229), or the kernel is older than 4.20", err, fuseDevice)
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: mounting needs CAP_SYS_ADMIN; inside a container, start it with --device /dev/fuse --cap-add SYS_ADMIN", err)
	}
	return err
}

// clearStale unmounts what a killed server has left, and refuses a live mount: it
// would be hidden and never unmounted.
func clearStale(dir string) error {
	for range maxStale {
		var st unix.Stat_t
		err := unix.Stat(dir, &st)
		if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) {
			if err := detach(dir); err != nil {
				return fmt.Errorf("remove the mount that a killed process left: %w", err)
			}
			continue
		}
		switch {
		case errors.Is(err, unix.ENOENT):
			return errors.New("the directory does not exist")
		case err != nil:
			return err
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return errors.New("not a directory")
		}
		var fsInfo unix.Statfs_t
		if err := unix.Statfs(dir, &fsInfo); err != nil {
			return err
		}
		var parent unix.Stat_t
		if err := unix.Stat(dir+"/..", &parent); err != nil {
			return err
		}
		if fsInfo.Type == unix.FUSE_SUPER_MAGIC && parent.Dev != st.Dev {
			return errors.New("another server's files are mounted there: close it first, or use another directory")
		}
		return nil
	}
	return fmt.Errorf("more than %d dead mounts lie on it", maxStale)
}

// maxStale bounds how many dead mounts, one on another, are cleared.
const maxStale = 16

// detach unmounts lazily: the mount leaves the directory at once, also if busy.
func detach(dir string) error {
	if os.Geteuid() == 0 {
		return unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	helper, err := fusermount()
	if err != nil {
		return err
	}
	if out, err := exec.Command(helper, "-u", "-z", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func fusermount() (string, error) {
	if path, err := exec.LookPath("fusermount3"); err == nil {
		return path, nil
	}
	return exec.LookPath("fusermount")
}
