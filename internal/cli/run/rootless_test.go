package run_test

import (
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/internal/launch/launchtest"
	"github.com/adyton-dev/adyton/internal/sandbox"
	"github.com/adyton-dev/adyton/internal/softtee"
)

// asUser runs a command as nobody, where /dev/fuse is open to all as it is on
// most machines. What it changes is in a mount name space of its own.
const asUser = `
mount --make-rprivate / && mknod "$0/fuse" c 10 229 && chmod 666 "$0/fuse" && mount --bind "$0/fuse" /dev/fuse &&
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"`

const nobody = 65534

func TestRunsWithoutRoot(t *testing.T) {
	for _, kind := range []sandbox.Kind{sandbox.GVisor, sandbox.None} {
		launchtest.NeedEngine(t, kind)
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // of all directories of this test
		t.Fatal(err)
	}
	program := filepath.Join(dir, "adyton")
	copyTo(t, program, os.Args[0])
	copyTo(t, filepath.Join(dir, "adyton-init"), lab.Init)
	for _, tool := range []sandbox.Tool{sandbox.Runsc(), sandbox.Runc()} {
		found, err := tool.Find()
		if err != nil {
			t.Fatal(err)
		}
		copyTo(t, filepath.Join(dir, "cache", "tools", tool.Name+"-"+tool.Version, tool.Name), found)
	}
	if _, err := softtee.Create(filepath.Join(dir, "softtee")); err != nil {
		t.Fatal(err)
	}
	rootUser := lab.Sign(t, "args: [id]\nuser: '0:0'")
	imageUser := lab.Sign(t, "args: [id]")
	giveTo(t, nobody, dir, strings.TrimPrefix(rootUser, "oci:"), strings.TrimPrefix(imageUser, "oci:"))

	for _, tc := range []struct {
		name, engine, image string
		code                int
		out, message        string
	}{
		{"gVisor, root inside", "gvisor", rootUser, 0, "0 0\n", "memory is not limited"},
		{"gVisor, another user inside", "gvisor", imageUser, 0, "1234 1234\n", ""},
		{"runc, root inside", "none", rootUser, 0, "0 0\n", "memory is not limited"},
		{"runc, another user inside, but none to map", "none", imageUser, 125, "", "/etc/subuid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			work := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-"))
			if err := os.Mkdir(work, 0o755); err != nil {
				t.Fatal(err)
			}
			base := filepath.Join(dir, "run")
			cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", asUser, work,
				program, "--softtee", filepath.Join(dir, "softtee"), "--run-dir", base, "--sandbox", tc.engine, tc.image)
			cmd.Env = []string{
				"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=" + dir, asCommand + "=1",
				"ADYTON_CACHE=" + filepath.Join(dir, "cache"), "ADYTON_INIT=" + filepath.Join(dir, "adyton-init"),
			}
			got := finish(t, cmd)
			if got.code != tc.code || got.out != tc.out || !strings.Contains(got.err, tc.message) {
				t.Errorf("got %v, want code %d, %q and %q", got, tc.code, tc.out, tc.message)
			}
			wantEmpty(t, base)
		})
	}
}

func copyTo(t *testing.T, to, from string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	source, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if _, err := io.Copy(target, source); err != nil {
		t.Fatal(err)
	}
}

// giveTo makes a user the owner of directories and all below.
func giveTo(t *testing.T, user int, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Chown(path, user, user)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
