package tutorials

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/internal/sandbox"

	// What the pages execute: go test keeps a result only while these are unchanged.
	_ "github.com/adyton-dev/adyton/internal/cli"
	_ "github.com/adyton-dev/adyton/internal/initd"
)

// limit bounds one page, the building of programs included.
const limit = 10 * time.Minute

const repository = "../.."

// TestTutorials executes the pages one after another: all of them build into the
// repository's bin/.
func TestTutorials(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(repository, "docs", "tutorials", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("no tutorials found: %v", err)
	}
	need(t)
	for _, page := range pages {
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			steps, err := parse(string(text))
			if err != nil {
				t.Fatalf("%s: %v", page, err)
			}
			run(t, page, steps)
		})
	}
}

// need ends a test whose pages cannot run here: it fails under CI=true and is
// skipped elsewhere.
func need(t *testing.T) {
	t.Helper()
	var lacks []string
	if os.Geteuid() != 0 {
		lacks = append(lacks, "root, to mount attestation files and make sandboxes")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		lacks = append(lacks, "FUSE: "+err.Error())
	}
	if _, err := sandbox.Runsc().Find(); err != nil {
		lacks = append(lacks, err.Error())
	}
	for _, tool := range []string{"bash", "make", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			lacks = append(lacks, err.Error())
		}
	}
	switch {
	case len(lacks) == 0:
	case os.Getenv("CI") == "true":
		t.Fatalf("the tutorials need %s", strings.Join(lacks, "; "))
	default:
		t.Skipf("the tutorials need %s", strings.Join(lacks, "; "))
	}
}

// mark begins the line that the session prints behind each step.
const mark = "\x1e"

// run executes the steps of a page in one session and checks what they print.
func run(t *testing.T, page string, steps []step) {
	t.Helper()
	dir := t.TempDir()
	script, err := write(dir, steps)
	if err != nil {
		t.Fatal(err)
	}
	output, err := session(t.Context(), script, dir)
	printed := strings.Split(output, mark+"\n")
	for i, s := range steps {
		if i >= len(printed)-1 {
			t.Fatalf("%s:%d: the commands failed (%v)\n%s\n%s", page, s.line, err, s.commands, printed[len(printed)-1])
		}
		if line, lacks := missing(s.want, printed[i]); lacks {
			t.Errorf("%s:%d: the output has no line, or not in this place:\n%s\nit is:\n%s", page, s.line, line, printed[i])
		}
	}
	if err != nil {
		t.Errorf("%s: the session ended with %v", page, err)
	}
}

// write makes a script that sources each step, so that all share one shell, and
// gives its path.
func write(dir string, steps []step) (string, error) {
	var script strings.Builder
	script.WriteString("set -e\n")
	for i, s := range steps {
		file := filepath.Join(dir, fmt.Sprintf("step-%d.sh", i+1))
		if err := os.WriteFile(file, []byte(s.commands), 0o600); err != nil {
			return "", err
		}
		if s.exit == 0 {
			fmt.Fprintf(&script, ". %q\n", file)
		} else {
			fmt.Fprintf(&script, "code=0; . %q || code=$?\n", file)
			fmt.Fprintf(&script, `[ $code = %d ] || { echo "exit code $code, want %[1]d"; exit 1; }`+"\n", s.exit)
		}
		fmt.Fprintf(&script, "printf '%s\\n'\n", mark)
	}
	file := filepath.Join(dir, "session.sh")
	return file, os.WriteFile(file, []byte(script.String()), 0o600)
}

// session runs the script in the repository's folder and gives what it and the
// servers that it started printed. It ends what is still running.
func session(ctx context.Context, script, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, "bash", script)
	cmd.Dir = repository
	cmd.Env = environment(dir)
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Start()
	w.Close()
	if err != nil {
		return "", fmt.Errorf("start bash: %w", err)
	}
	var output bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		// The pipe's end, or its closing below, ends the reading.
		_, _ = io.Copy(&output, r)
	}()
	err = cmd.Wait()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	// The reading ends when nobody holds the pipe any more: no server is left. The
	// group may be gone already; then there is nobody to signal.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-read:
	case <-time.After(cmd.WaitDelay):
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		r.Close()
		<-read
	}
	return output.String(), err
}

// environment is a reader's: temporary directories below dir, and nothing of
// the make or the go test that runs this test.
func environment(dir string) []string {
	var env []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch name {
		case "CGO_ENABLED", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "TMPDIR":
		default:
			env = append(env, variable)
		}
	}
	return append(env, "TMPDIR="+dir)
}
