package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user that owns nothing.
const nobody = 65534

// unprivilegedUser does the work of all groups but run as a user who is not root.
func unprivilegedUser(t *testing.T, names map[string]string) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user; all other tests ran without root")
	}
	// Below /tmp, because t.TempDir is closed to other users.
	dir, err := os.MkdirTemp("", "adyton-cli-test-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	write("app", "#!/bin/sh\n")(t, dir)
	if err := os.Chmod(filepath.Join(dir, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "app")} {
		if err := os.Chown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	as := func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	for _, args := range []string{
		"softtee init", "softtee show", "softtee platform create --tcb out-of-date stale", "softtee platform list",
		"broker init --dir broker", "broker keygen owner", "broker pin --dir broker",
		"broker owner add --dir broker owner --public-key owner.pub --repository hospital", "broker owner list --dir broker",
		"audit verify --dir broker",
		"enclave pack --to image app=/app", "enclave init --image oci:image --name app", "enclave keygen key.pem",
		"enclave sign --key key.pem", "enclave verify oci:image",
		"data keygen data.key", "data seal --key-file data.key app app.sealed", "data open --key-file data.key app.sealed opened",
	} {
		mustRun(t, invocation{dir: dir, args: expand(args, nil, dir), prepare: as})
	}
	for _, row := range []struct {
		args, want string
		code       int
	}{
		{"softtee init --dir /var/lib/adyton-cli-test", "permission denied", failure},
		{"softtee show --dir " + names["TEE"], "permission denied", failure},
		{"broker init --dir /var/lib/adyton-cli-test", "permission denied", failure},
		{"enclave sign --key " + names["KEY"], "permission denied", failure},
		{"data open --key-file " + names["DATAKEY"] + " app.sealed again", "permission denied", failure},
	} {
		adyton(t, invocation{dir: dir, args: strings.Fields(row.args), prepare: as}).mustFail(t, row.code, row.want)
	}
}

// hostWithoutFUSE runs in a mount namespace whose /dev/fuse is another device.
func hostWithoutFUSE(t *testing.T, names map[string]string) {
	if os.Getuid() != 0 {
		t.Skip("hiding /dev/fuse needs root")
	}
	dir := t.TempDir()
	args := expand("run --softtee $TEE --run-dir $DIR/run $IMAGE", names, dir)
	cmd := exec.Command("unshare", append([]string{"-m", "/bin/sh", "-c", `mount --bind /dev/null /dev/fuse && exec "$0" "$@"`, program}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the exit code is looked at below
	result{args: args, code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}.mustFail(t, notRun, "/dev/fuse is not the FUSE device")
	if left := list(t, filepath.Join(dir, "run")); len(left) > 1 {
		t.Errorf("left %v", left)
	}
}
