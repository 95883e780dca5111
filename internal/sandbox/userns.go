package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// CheckUserNamespaces reports why this host lets nobody but root make user
// namespaces, which both engines need without root. The argument is where the
// host's proc file system is mounted. Switches that a kernel does not have do not
// forbid anything.
func CheckUserNamespaces(proc string) error {
	for _, s := range []struct{ file, forbids, fix string }{
		{"user/max_user_namespaces", "0", "user.max_user_namespaces=15000"},
		{"kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"},
	} {
		value, err := os.ReadFile(filepath.Join(proc, "sys", s.file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for user namespaces: %w", err)
		}
		if strings.TrimSpace(string(value)) == s.forbids {
			return fmt.Errorf("without root, user namespaces are needed and this host forbids them: set `sysctl %s`, or run as root", s.fix)
		}
	}
	return nil
}
