// Package cli_test runs the adyton binary as a clumsy or hostile user would, and
// holds it to what every command promises of bad input: one line on standard
// error that begins with "adyton: " and says what to do, the documented exit
// code, and nothing written.
//
// To add a case, add a row to the table of the command group's test. A row's
// arguments may hold $NAME, which names a file of the fixture (see newFixture) or
// one that the row's own setup made in $DIR, the test's working directory.
package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The documented exit codes.
const (
	failure = 1
	usage   = 2
	refused = 3
	notRun  = 125
)

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "adyton-cli-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		// Other users run it as well.
		if err := os.Chmod(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		build := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "../../cmd/adyton", "../../cmd/adyton-init")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build adyton: %v\n%s", err, out)
			return 1
		}
		program = filepath.Join(dir, "adyton")
		return m.Run()
	}())
}

// TestCommands runs the tests that use the fixture. None of them changes it.
func TestCommands(t *testing.T) {
	t.Parallel()
	names := newFixture(t)
	for name, test := range map[string]func(*testing.T, map[string]string){
		"bad input":                       badInput,
		"JSON output is JSON":             jsonOutputIsJSON,
		"standard output that is full":    standardOutputThatCannotBeWritten,
		"closed streams":                  closedStreams,
		"full disk leaves nothing":        fullDiskLeavesNothing,
		"read-only directory":             readOnlyDirectory,
		"interrupted data leaves nothing": interruptedDataCommandsLeaveNothing,
		"unprivileged user":               unprivilegedUser,
		"host without FUSE":               hostWithoutFUSE,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, names)
		})
	}
}

// bad is a command line that must fail.
type bad struct {
	name  string
	setup func(t *testing.T, dir string) // makes what is wrong
	args  string                         // split at spaces, then $NAMEs are replaced
	stdin string
	env   []string
	code  int
	want  string // pattern in the message
	// change is what the command may leave in the working directory.
	change string
}

// runBad runs each row in a directory of its own.
func runBad(t *testing.T, names map[string]string, rows []bad) {
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if row.setup != nil {
				row.setup(t, dir)
			}
			before := list(t, dir)
			result := adyton(t, invocation{dir: dir, args: expand(row.args, names, dir), stdin: row.stdin, env: row.env})
			result.mustFail(t, row.code, row.want)
			for path, content := range list(t, dir) {
				if old, ok := before[path]; !ok && path != row.change {
					t.Errorf("left %s behind", path)
				} else if ok && old != content {
					t.Errorf("changed %s", path)
				}
			}
		})
	}
}

// expand splits args and replaces $NAME; $DIR is the working directory.
func expand(args string, names map[string]string, dir string) []string {
	names = maps.Clone(names)
	if names == nil {
		names = map[string]string{}
	}
	names["DIR"], names["EMPTY"] = dir, ""
	fields := strings.Fields(args)
	for i := range fields {
		fields[i] = os.Expand(fields[i], func(name string) string {
			value, ok := names[name]
			if !ok {
				panic("no fixture $" + name)
			}
			return value
		})
	}
	return fields
}

// list gives the content of every file below dir, and "dir" for directories.
func list(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case d.IsDir():
			files[name] = "dir"
		case d.Type().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files[name] = string(content)
		default:
			files[name] = d.Type().String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// invocation is one run of the program.
type invocation struct {
	dir, stdin string
	args       []string
	env        []string // added
	prepare    func(*exec.Cmd)
}

type result struct {
	args           []string
	code           int
	stdout, stderr string
}

// timeout is far above what any command here takes: one that hangs is a fault.
const timeout = 60 * time.Second

func adyton(t *testing.T, in invocation) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, in.args...)
	cmd.Dir = in.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + in.dir, "TMPDIR=" + os.TempDir()}, in.env...)
	cmd.Stdin = strings.NewReader(in.stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if in.prepare != nil {
		in.prepare(cmd)
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("adyton %q: %v", in.args, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("adyton %q hangs; standard error: %s", in.args, &stderr)
	}
	return result{args: in.args, code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// mustRun runs a command that must succeed and gives its standard output.
func mustRun(t *testing.T, in invocation) string {
	t.Helper()
	r := adyton(t, in)
	if r.code != 0 {
		t.Fatalf("adyton %q: exit code %d: %s", r.args, r.code, r.stderr)
	}
	return r.stdout
}

// leak is what belongs to programmers, not into messages.
var leak = regexp.MustCompile(`panic|goroutine|\.go:\d|Go struct|Go value|\*[a-z]+\.[A-Z]|%!|<nil>|0x[0-9a-f]{8}|unmarshal`)

// mustFail checks the promises of bad input.
func (r result) mustFail(t *testing.T, code int, want string) {
	t.Helper()
	message := strings.TrimSuffix(r.stderr, "\n")
	if testing.Verbose() {
		t.Logf("adyton %s\n%d %s", strings.Join(r.args, " "), r.code, message)
	}
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	if !strings.HasPrefix(message, "adyton: ") || strings.Contains(message, "\n") || message == r.stderr {
		t.Errorf("standard error is not one line of adyton:\n%s", r.stderr)
	}
	if found := leak.FindString(message); found != "" {
		t.Errorf("the message shows %q: %s", found, message)
	}
	if !regexp.MustCompile(want).MatchString(message) {
		t.Errorf("message %q, want /%s/", message, want)
	}
	if r.stdout != "" {
		t.Errorf("it failed, and standard output has %q", r.stdout)
	}
}

func write(name, content string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func mkdir(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func all(setups ...func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		for _, setup := range setups {
			setup(t, dir)
		}
	}
}
