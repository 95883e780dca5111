package sandbox_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/internal/sandbox"
)

func TestForbiddenUserNamespacesNameTheSwitch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, value, want string }{
		"allowed":             {"user/max_user_namespaces", "96365\n", ""},
		"none allowed":        {"user/max_user_namespaces", "0\n", "user.max_user_namespaces=15000"},
		"Debian's switch":     {"kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone=1"},
		"Ubuntu's switch":     {"kernel/apparmor_restrict_unprivileged_userns", "1\n", "kernel.apparmor_restrict_unprivileged_userns=0"},
		"Ubuntu's switch off": {"kernel/apparmor_restrict_unprivileged_userns", "0\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proc := t.TempDir()
			file := filepath.Join(proc, "sys", c.file)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(c.value), 0o600); err != nil {
				t.Fatal(err)
			}
			err := sandbox.CheckUserNamespaces(proc)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}
