package initd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/user"

	"github.com/adyton-dev/adyton/data"
	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

func me() *user.ExecUser { return &user.ExecUser{Uid: os.Getuid(), Gid: os.Getgid()} }

// memoryDir gives a directory in memory.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "initd-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// values are resources of a broker; each is given once and must come back zeroed.
type values struct{ given [][]byte }

func (v *values) Resource(_ context.Context, uri string) ([]byte, error) {
	if uri == "kbs:///a/b/absent" {
		return nil, errors.New("absent")
	}
	secret := []byte("secret of " + uri)
	if uri == "kbs:///a/key/k" {
		secret = slices.Repeat([]byte{7}, 32)
	}
	if uri == "kbs:///a/b/zero" {
		secret = []byte("a\x00b")
	}
	v.given = append(v.given, secret)
	return secret, nil
}

func (v *values) wantZeroed(t *testing.T) {
	t.Helper()
	for _, secret := range v.given {
		if slices.ContainsFunc(secret, func(b byte) bool { return b != 0 }) {
			t.Errorf("a copy of a secret is not zeroed: %q", secret)
		}
	}
}

func TestSecretGoesWhereItIsDeclaredAndItsCopyIsZeroed(t *testing.T) {
	t.Parallel()
	from, env := &values{}, map[string]string{}
	file := filepath.Join(memoryDir(t), "new", "secret")
	if err := unlock(t.Context(), from, descriptor.Unlock{Resource: "kbs:///a/b/f", File: file}, me(), env); err != nil {
		t.Fatal(err)
	}
	if err := unlock(t.Context(), from, descriptor.Unlock{Resource: "kbs:///a/b/e", Env: "S"}, me(), env); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil || string(content) != "secret of kbs:///a/b/f" {
		t.Errorf("file has %q, %v", content, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o400 {
		t.Errorf("file: %v, %v; want mode 0400", info, err)
	}
	if env["S"] != "secret of kbs:///a/b/e" {
		t.Errorf("environment has %q", env)
	}
	from.wantZeroed(t)
}

func TestSealedDataOpensOnlyWithTheKeyThatIsDeclared(t *testing.T) {
	t.Parallel()
	dir := memoryDir(t)
	seal := func(key string) string {
		plain := filepath.Join(t.TempDir(), "plain")
		if err := os.WriteFile(plain, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "sealed")
		sealed, err := data.Seal(t.Context(), plain, path, slices.Repeat([]byte{7}, 32), data.Header{Key: key}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := sealed.Commit(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	from := &values{}
	u := descriptor.Unlock{Resource: "kbs:///a/key/k", Open: &descriptor.Open{From: seal("kbs:///a/key/k"), To: filepath.Join(dir, "opened")}}
	if err := unlock(t.Context(), from, u, me(), nil); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(u.Open.To); err != nil || string(content) != "content" {
		t.Errorf("opened: %q, %v", content, err)
	}
	u.Open = &descriptor.Open{From: seal("kbs:///a/key/other"), To: filepath.Join(dir, "other")}
	if err := unlock(t.Context(), from, u, me(), nil); err == nil || !strings.Contains(err.Error(), "kbs:///a/key/other") {
		t.Errorf("data sealed for another key: %v", err)
	}
	if _, err := os.Stat(u.Open.To); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was opened: %v", err)
	}
	from.wantZeroed(t)
}

func TestUnlockFailsClosed(t *testing.T) {
	t.Parallel()
	memory := memoryDir(t)
	taken := filepath.Join(memory, "taken")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	onDisk := filepath.Join(t.TempDir(), "secret")
	for name, u := range map[string]descriptor.Unlock{
		"the broker refuses":                   {Resource: "kbs:///a/b/absent", Env: "S"},
		"a zero byte cannot be in environment": {Resource: "kbs:///a/b/zero", Env: "S"},
		"a file on a disk":                     {Resource: "kbs:///a/b/f", File: onDisk},
		"a file that exists":                   {Resource: "kbs:///a/b/f", File: taken},
		"data opened on a disk":                {Resource: "kbs:///a/key/k", Open: &descriptor.Open{From: taken, To: onDisk}},
	} {
		from, env := &values{}, map[string]string{}
		if err := unlock(t.Context(), from, u, me(), env); err == nil {
			t.Errorf("%s: unlocked", name)
		}
		if len(env) > 0 {
			t.Errorf("%s: environment has %q", name, env)
		}
		from.wantZeroed(t)
	}
	if _, err := os.Stat(onDisk); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a secret is on the disk: %v", err)
	}
}

func TestEnvironmentIsTheSignedOneAndWhatMayPass(t *testing.T) {
	t.Parallel()
	d := &descriptor.Descriptor{
		Environment:     map[string]string{"A": "signed", "B": "signed", "PATH": "/bin"},
		PassEnvironment: []string{"B", "C"},
	}
	env := environment(d, []string{"A=host", "B=host", "C=host", "LD_PRELOAD=host", "HOME=host"}, "/home/app")
	delete(env, "TERM") // on a terminal
	want := []string{"A=signed", "B=host", "C=host", "HOME=/home/app", "PATH=/bin"}
	if got := entries(env); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if env := environment(&descriptor.Descriptor{}, nil, ""); env["HOME"] != "/" || env["PATH"] != defaultPath {
		t.Errorf("defaults: %q", env)
	}
}

func TestProgramIsLookedUpAsAShellDoes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"first/plain": 0o644, "second/plain": 0o755, "second/program": 0o755, "first/denied": 0o644} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=" + filepath.Join(dir, "first") + ":" + filepath.Join(dir, "second")}
	for _, tc := range []struct {
		name, want string
		code       int
	}{
		{"program", filepath.Join(dir, "second/program"), 0},
		{"plain", filepath.Join(dir, "second/plain"), 0},
		{"denied", "", ExitNotExecutable},
		{"absent", "", ExitNotFound},
		{filepath.Join(dir, "second/program"), filepath.Join(dir, "second/program"), 0},
		{filepath.Join(dir, "first/denied"), "", ExitNotExecutable},
		{filepath.Join(dir, "absent"), "", ExitNotFound},
		{dir + "/first", "", ExitNotExecutable},
	} {
		got, err := lookPath(tc.name, env)
		if got != tc.want {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
		if err != nil && ExitCode(err) != tc.code {
			t.Errorf("%s: exit code %d, want %d", tc.name, ExitCode(err), tc.code)
		}
	}
}

// Whoever puts another descriptor there gets other arguments, another broker and
// other targets, but no keys: the enclave knows what it was measured as.
func TestDescriptorMustBeOfThisEnclave(t *testing.T) {
	t.Parallel()
	d := &descriptor.Descriptor{
		APIVersion: descriptor.Version, Name: "a", Image: descriptor.Image{Digest: "sha256:" + strings.Repeat("1", 64), Platform: "linux/amd64"},
		Init: "sha256:" + strings.Repeat("2", 64), Arguments: []string{"/app"}, WorkingDirectory: "/", User: "0:0",
		Memory: 64 << 20, Threads: 1,
	}
	measured, err := d.Measure()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	own := sgx.TargetInfo{MRENCLAVE: measured}
	if err := os.WriteFile(filepath.Join(dir, "my_target_info"), own.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkIdentity(d, dir); err != nil {
		t.Errorf("its own descriptor: %v", err)
	}
	d.Arguments = append(d.Arguments, "--more")
	if err := checkIdentity(d, dir); refusal.Of(err) != refusal.MeasurementMismatch {
		t.Errorf("another descriptor: %v, want MeasurementMismatch", err)
	}
	if err := checkIdentity(d, t.TempDir()); err == nil {
		t.Error("without attestation files: no error")
	}
}
