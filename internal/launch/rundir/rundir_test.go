package rundir

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNameOfALivingLauncherIsTaken(t *testing.T) {
	t.Parallel()
	base := filepath.Join(t.TempDir(), "run")
	d, err := Create(base, "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(base, "a"); !errors.Is(err, ErrExists) {
		t.Fatalf("second Create: %v, want ErrExists", err)
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	d, err = Create(base, "a")
	if err != nil {
		t.Fatalf("Create after Remove: %v", err)
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
}

func TestNamesThatLeaveTheBaseAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", ".", "..", "../x", "a/b", "-a", string(make([]byte, 64))} {
		if d, err := Create(t.TempDir(), name); err == nil {
			t.Errorf("Create(%q) = %s, want an error", name, d.Path())
		}
	}
}

// holdBase makes this binary the launcher that a test kills.
const holdBase = "RUNDIR_TEST_HOLD"

func TestMain(m *testing.M) {
	if base := os.Getenv(holdBase); base != "" {
		if _, err := Create(base, "killed"); err != nil {
			panic(err)
		}
		os.Stdout.WriteString("held\n")
		select {}
	}
	os.Exit(m.Run())
}

func TestStaleFindsOnlyDirectoriesOfDeadLaunchers(t *testing.T) {
	t.Parallel()
	base := filepath.Join(t.TempDir(), "run")
	if stale, err := Stale(base); err != nil || len(stale) != 0 {
		t.Fatalf("Stale without a base: %v, %v", stale, err)
	}
	alive, err := Create(base, "alive")
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), holdBase+"="+base)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	if stale, err := Stale(base); err != nil || len(stale) != 0 {
		t.Fatalf("Stale while both live: %v, %v", stale, err)
	}
	if err := child.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	stale, err := Stale(base)
	if err != nil || len(stale) != 1 || stale[0].Name() != "killed" {
		t.Fatalf("Stale = %v, %v; want the killed one", stale, err)
	}
	if err := stale[0].Remove(); err != nil {
		t.Fatal(err)
	}
	if err := alive.Remove(); err != nil {
		t.Fatal(err)
	}
}

func TestRemoveUnmountsAndSparesWhatWasMounted(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root to mount")
	}
	source := t.TempDir()
	file := filepath.Join(source, "precious")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Create(filepath.Join(t.TempDir(), "run with space"), "a")
	if err != nil {
		t.Fatal(err)
	}
	target := d.Join("mounted")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("what was mounted is gone: %v", err)
	}
	if _, err := os.Stat(d.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory after Remove: %v", err)
	}
}

// What another user left in the directory would be run as this user.
func TestADirectoryThatOthersCanWriteIsRefused(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	if err := os.Chmod(base, 0o777); err != nil {
		t.Fatal(err)
	}
	if d, err := Create(base, "a"); err == nil {
		t.Errorf("Create gave %s", d.Path())
	}
	if _, err := Stale(base); err == nil {
		t.Error("Stale looked into it")
	}
}
