package sandbox_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/adyton-dev/adyton/internal/launch/ocispec"
	"github.com/adyton-dev/adyton/internal/sandbox"
)

// kinds are the engines under test.
func kinds() []sandbox.Kind { return []sandbox.Kind{sandbox.GVisor, sandbox.None} }

// container is a bundle of the probe program and an engine for it.
type container struct {
	t      *testing.T
	id     string
	engine *sandbox.Engine
	bundle string
}

func newContainer(t *testing.T, kind sandbox.Kind, edit func(*ocispec.Config), args ...string) *container {
	t.Helper()
	needEngine(t, kind)
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(root, "probe"), "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the probe: %v\n%s", err, out)
	}
	id := "test-" + strings.ToLower(rand.Text())
	config := ocispec.Config{
		Cgroup: cgroup(id),
		Root:   root, Args: append([]string{"/probe"}, args...), Hostname: "probe",
		Seccomp: kind == sandbox.None, MaxFiles: 1024,
	}
	if edit != nil {
		edit(&config)
	}
	spec, err := ocispec.New(config)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	engine, err := sandbox.New(sandbox.Options{Kind: kind, Network: sandbox.NetworkNone, StateDir: t.TempDir(), Cgroups: sandbox.CgroupsUsable()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Delete(context.Background(), id); err != nil {
			t.Error(err)
		}
	})
	return &container{t, id, engine, dir}
}

// cgroup gives every container one of its own, or none where there are none.
func cgroup(id string) string {
	if !sandbox.CgroupsUsable() {
		return ""
	}
	return path.Join(sandbox.CgroupParent, id)
}

// needEngine ends the test if the engine cannot run here.
func needEngine(t *testing.T, kind sandbox.Kind) {
	t.Helper()
	tool := sandbox.Runsc()
	if kind == sandbox.None {
		tool = sandbox.Runc()
	}
	_, err := tool.Find()
	if err == nil && os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs root (user is %d) and %s: %v", os.Geteuid(), tool.Name, err)
	}
	t.Skipf("needs root and %s", tool.Name)
}

// run runs the container without input and gives what it printed.
func (c *container) run() (code int, out, errs string) {
	c.t.Helper()
	var stdout, stderr bytes.Buffer
	code, err := c.engine.Run(c.t.Context(), c.id, c.bundle, sandbox.Streams{Out: &stdout, Err: &stderr}, nil)
	if err != nil {
		c.t.Fatalf("run: %v\n%s", err, &stderr)
	}
	return code, stdout.String(), stderr.String()
}

func onEveryEngine(t *testing.T, test func(t *testing.T, kind sandbox.Kind)) {
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

func TestExitCodeIsTheWorkloads(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want int
	}{
		{"success", []string{"exit", "0"}, 0},
		{"failure", []string{"exit", "7"}, 7},
		{"one as of the engines' own failures", []string{"exit", "1"}, 1},
		{"gVisor's own code", []string{"exit", "128"}, 128},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEveryEngine(t, func(t *testing.T, kind sandbox.Kind) {
				if code, _, errs := newContainer(t, kind, nil, tc.args...).run(); code != tc.want {
					t.Errorf("exit code %d, want %d\n%s", code, tc.want, errs)
				}
			})
		})
	}
}

func TestFailureOfTheEngineIsAnErrorAndNoExitCode(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, kind sandbox.Kind) {
		c := newContainer(t, kind, func(c *ocispec.Config) {
			c.Mounts = []ocispec.Mount{{Destination: "/x", Source: "/does/not/exist"}}
		})
		code, err := c.engine.Run(t.Context(), c.id, c.bundle, sandbox.Streams{Out: io.Discard, Err: io.Discard}, nil)
		if err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
			t.Errorf("Run = %d, %v; want an error that names the missing path", code, err)
		}
	})
}

func TestStandardInputReachesTheWorkloadAndEnds(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, kind sandbox.Kind) {
		c := newContainer(t, kind, nil, "cat")
		input := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
		var out bytes.Buffer
		code, err := c.engine.Run(t.Context(), c.id, c.bundle, sandbox.Streams{In: strings.NewReader(input), Out: &out, Err: io.Discard}, nil)
		if err != nil || code != 0 || out.String() != input {
			t.Errorf("code %d, %v, %d bytes of %d came back", code, err, out.Len(), len(input))
		}
	})
}

// readyWriter closes ready when the workload has printed "ready".
type readyWriter struct {
	text  bytes.Buffer
	ready chan struct{}
	told  bool
}

func (w *readyWriter) Write(p []byte) (int, error) {
	n, err := w.text.Write(p)
	if !w.told && strings.Contains(w.text.String(), "ready\n") {
		w.told = true
		close(w.ready)
	}
	return n, err
}

// wait waits for the workload to be ready, or for the end of the test.
func (w *readyWriter) wait(t *testing.T) {
	select {
	case <-w.ready:
	case <-t.Context().Done():
	}
}

func TestSignalsReachTheWorkload(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGUSR1} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			onEveryEngine(t, func(t *testing.T, kind sandbox.Kind) {
				c := newContainer(t, kind, nil, "wait-signal")
				out := &readyWriter{ready: make(chan struct{})}
				signals := make(chan os.Signal, 1)
				go func() {
					out.wait(t)
					signals <- sig
				}()
				code, err := c.engine.Run(t.Context(), c.id, c.bundle, sandbox.Streams{Out: out, Err: io.Discard}, signals)
				if want := "ready\n" + sig.String() + "\n"; err != nil || code != 42 || out.text.String() != want {
					t.Errorf("code %d, %v, output %q; want 42 and %q", code, err, &out.text, want)
				}
			})
		})
	}
}

func TestKillFromOutsideIs137(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, kind sandbox.Kind) {
		c := newContainer(t, kind, nil, "sleep")
		out := &readyWriter{ready: make(chan struct{})}
		deleted := make(chan error, 1)
		go func() {
			out.wait(t)
			deleted <- c.engine.Delete(context.Background(), c.id)
		}()
		code, err := c.engine.Run(t.Context(), c.id, c.bundle, sandbox.Streams{Out: out, Err: io.Discard}, nil)
		if err != nil || code != 128+9 {
			t.Fatalf("code %d, %v; want 137", code, err)
		}
		if err := <-deleted; err != nil {
			t.Error(err)
		}
	})
}

func TestEndOfContextEndsTheWorkload(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, kind sandbox.Kind) {
		c := newContainer(t, kind, nil, "sleep")
		out := &readyWriter{ready: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			out.wait(t)
			cancel()
		}()
		start := time.Now()
		if _, err := c.engine.Run(ctx, c.id, c.bundle, sandbox.Streams{Out: out, Err: io.Discard}, nil); err != nil {
			t.Logf("Run: %v", err)
		}
		if waited := time.Since(start); waited > 20*time.Second {
			t.Errorf("Run took %s after the end of its context", waited)
		}
	})
}

func TestGVisorHasAKernelOfItsOwn(t *testing.T) {
	t.Parallel()
	_, out, _ := newContainer(t, sandbox.GVisor, nil, "cat", "/proc/version").run()
	if !strings.Contains(out, "gvisor") {
		t.Errorf("/proc/version is %q", out)
	}
}

func TestReadOnlyRootCannotBeWritten(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, kind sandbox.Kind) {
		code, _, errs := newContainer(t, kind, func(c *ocispec.Config) { c.ReadOnlyRoot = true }, "write", "/x", "y").run()
		if code != 9 || !strings.Contains(errs, "read-only") {
			t.Errorf("code %d, %q; want a refusal as read-only", code, errs)
		}
	})
}

func TestWorkloadHasNoNewPrivilegesAndNoOtherCapabilities(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, kind sandbox.Kind) {
		_, out, _ := newContainer(t, kind, nil, "cat", "/proc/self/status").run()
		// CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_SETGID, CAP_SETUID, CAP_SETPCAP: bits 0, 1, 6, 7, 8.
		for _, want := range []string{"CapInh:\t0000000000000000", "CapEff:\t00000000000001c3", "CapBnd:\t00000000000001c3"} {
			if !strings.Contains(out, want) {
				t.Errorf("status lacks %q", want)
			}
		}
		if !strings.Contains(out, "NoNewPrivs:\t1") && kind == sandbox.None {
			t.Error("no_new_privs is not set")
		}
		if kind == sandbox.None && !strings.Contains(out, "Seccomp:\t2") {
			t.Error("no seccomp filter")
		}
	})
}

func TestMemoryLimitEndsTheWorkload(t *testing.T) {
	if !sandbox.CgroupsUsable() {
		t.Skip("no control groups here")
	}
	onEveryEngine(t, func(t *testing.T, kind sandbox.Kind) {
		c := newContainer(t, kind, func(c *ocispec.Config) {
			c.Limits = ocispec.Limits{Memory: 128 << 20}
			c.Mounts = []ocispec.Mount{{Destination: "/memory"}}
		}, "fill", "/memory/x")
		code, err := c.engine.Run(t.Context(), c.id, c.bundle, sandbox.Streams{Out: io.Discard, Err: io.Discard}, nil)
		if err == nil && (code == 0 || code == 9) {
			t.Errorf("code %d; want the workload killed at its memory limit", code)
		}
	})
}

func TestFullFileSystemIsAnErrorToTheWorkload(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, kind sandbox.Kind) {
		code, _, errs := newContainer(t, kind, func(c *ocispec.Config) {
			c.Mounts = []ocispec.Mount{{Destination: "/small", Size: 4 << 20}}
		}, "fill", "/small/x").run()
		if code != 9 || !strings.Contains(errs, "no space left") {
			t.Errorf("code %d, %q; want no space left", code, errs)
		}
	})
}

func TestVersionsAreThoseThatTheToolModulesPin(t *testing.T) {
	t.Parallel()
	for _, tool := range []sandbox.Tool{sandbox.Runsc(), sandbox.Runc()} {
		mod, err := os.ReadFile(filepath.Join("../../tools", tool.Folder, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if want := tool.Module + " " + tool.Version; !strings.Contains(string(mod), want) {
			t.Errorf("tools/%s/go.mod does not require %s", tool.Folder, want)
		}
	}
}
