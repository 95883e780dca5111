package attestfs_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGVisor bind-mounts the files into a gVisor container, whose kernel reads them
// through one process and keeps files open.
func TestGVisor(t *testing.T) {
	t.Parallel()
	runsc := findRunsc(t)
	dir, _, _ := mounted(t)
	bundle := t.TempDir()
	root := filepath.Join(bundle, "rootfs")
	if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(root, "attester"), "./testdata/attester")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build attester: %v: %s", err, out)
	}
	spec, err := json.Marshal(map[string]any{
		"ociVersion": "1.0.0",
		"process":    map[string]any{"args": []string{"/attester"}, "cwd": "/", "user": map[string]int{"uid": 65532, "gid": 65532}},
		"root":       map[string]any{"path": "rootfs", "readonly": true},
		"mounts": []map[string]any{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
			{"destination": "/dev/attestation", "type": "bind", "source": dir, "options": []string{"bind", "rw"}},
		},
		"linux": map[string]any{"namespaces": []map[string]string{{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(bundle, "config.json"), spec)
	state := t.TempDir()
	t.Cleanup(func() {
		// runsc leaves a network namespace mounted there.
		_ = unix.Unmount(filepath.Join(state, "null-netns"), unix.MNT_DETACH)
	})
	cmd := exec.CommandContext(t.Context(), runsc, "--root", state, "--network", "none", "--ignore-cgroups", "run", "--bundle", bundle, "attestfs-test")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "attested\n") {
		t.Fatalf("runsc: %v: %s", err, out)
	}
}

// findRunsc looks on PATH and where the tools module builds it.
func findRunsc(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("this test runs gVisor as root")
	}
	if path, err := exec.LookPath("runsc"); err == nil {
		return path
	}
	cache := os.Getenv("ADYTON_CACHE")
	if cache == "" {
		if dir, err := os.UserCacheDir(); err == nil {
			cache = filepath.Join(dir, "adyton")
		}
	}
	// An error is for a malformed pattern only.
	if found, _ := filepath.Glob(filepath.Join(cache, "tools", "runsc-*", "runsc")); len(found) > 0 {
		return found[len(found)-1]
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI has no runsc: run `make tools`")
	}
	t.Skip("no runsc: run `make tools`")
	return ""
}
