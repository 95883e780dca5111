// Package sandbox runs OCI bundles with an engine that keeps the workload away
// from the host: gVisor, which gives it a kernel of its own, or plain name
// spaces by runc. It starts the engines' programs and knows nothing of enclaves;
// package launch writes the bundles. It imports only the standard library,
// golang.org/x/sys and the OCI runtime specification.
//
// To add an engine, add its [Tool] and a case in [New]: all OCI runtimes share
// the commands that [Engine] uses.
package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Kind names an engine.
type Kind string

// The kinds, as the command line and init-data write them.
const (
	GVisor Kind = "gvisor" // a kernel of its own, in user space
	None   Kind = "none"   // name spaces and seccomp on the host's kernel
)

// Network says which network a sandbox sees.
type Network string

// The networks, as the command line and init-data write them.
const (
	NetworkNone Network = "none" // a loopback device only
	NetworkHost Network = "host" // the host's
)

// Overhead is the memory that an engine takes beside the workload's, in bytes: for
// gVisor 64 MiB and 2 % of the workload's, at most 512 MiB.
func Overhead(kind Kind, workload uint64) uint64 {
	if kind != GVisor {
		return 0
	}
	return min(64<<20+workload/50, 512<<20)
}

// Options are how an [Engine] is set up.
type Options struct {
	Kind    Kind
	Network Network
	// StateDir is a directory for the engine's own state of this one container.
	StateDir string
	// Rootless says that the caller is not root: the engine uses a user name space.
	Rootless bool
	// Cgroups says that the engine may make control groups.
	Cgroups bool
}

// Engine runs one container at a time. Make it with [New].
type Engine struct {
	program string
	options []string // before the command
	kind    Kind
	log     string
	failure int            // its exit code if it fails itself
	orphan  syscall.Signal // sent to the engine if the launcher dies
}

// New finds the program of the engine.
func New(o Options) (*Engine, error) {
	e := &Engine{kind: o.Kind, log: filepath.Join(o.StateDir, "errors.json")}
	e.options = []string{"--root", filepath.Join(o.StateDir, "engine"), "--log", e.log, "--log-format", "json"}
	var tool Tool
	switch o.Kind {
	case GVisor:
		tool = Runsc()
		e.failure = 128
		e.orphan = unix.SIGKILL // the sandbox dies with it
		e.options = append(e.options,
			"--platform", "systrap",
			"--network", string(o.Network),
			"--host-uds", "open", // for the broker's socket, the only one mounted
			"--overlay2", "root:memory", // what the workload writes never reaches a disk
			"--gofer-network-namespace", "new") // the default leaves a mount behind
		if o.Rootless {
			e.options = append(e.options, "--rootless")
		}
		if !o.Cgroups {
			e.options = append(e.options, "--ignore-cgroups")
		}
	case None:
		tool = Runc()
		e.failure = 1
		e.orphan = unix.SIGTERM // runc hands it to the workload
	default:
		return nil, fmt.Errorf("sandbox %q is not known: use %s or %s", o.Kind, GVisor, None)
	}
	var err error
	e.program, err = tool.Find()
	return e, err
}

// Streams are the workload's standard streams. With Terminal, In must be a
// terminal that is also this process's controlling terminal; the engine then
// sets its modes, hands on its size and its interrupt key.
type Streams struct {
	In       io.Reader // nil: empty
	Out, Err io.Writer
	Terminal bool
}

// Run runs the bundle under the given id to its end and gives the workload's
// exit code: 128+n if signal n ended it. Signals that arrive on signals go to
// the workload; when ctx ends it is killed. An error means that the engine could
// not run it. The caller must call [Engine.Delete] in the end.
func (e *Engine) Run(ctx context.Context, id, bundle string, s Streams, signals <-chan os.Signal) (int, error) {
	cmd := e.command(ctx, "run", "--bundle", bundle, id)
	cmd.Cancel = func() error {
		// The workload holds the streams, so it must end, or Wait would not.
		return errors.Join(e.Delete(context.WithoutCancel(ctx), id), cmd.Process.Kill())
	}
	cmd.Stdout, cmd.Stderr = e.output(s.Out), e.output(s.Err)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: e.orphan}
	if s.Terminal {
		cmd.Stdin = s.In
	} else {
		// In a process group of its own the engine does not get the terminal's
		// signals a second time; it may then not read a terminal itself either.
		cmd.SysProcAttr.Setpgid = true
		closeIn, err := e.connect(cmd, s.In)
		if err != nil {
			return 0, err
		}
		defer closeIn()
	}

	// The signal of Pdeathsig is sent when the thread that forks ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", e.program, err)
	}
	forward, stop := context.WithCancel(ctx)
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		e.forward(forward, id, s.Terminal, signals)
	}()
	err := cmd.Wait()
	stop()
	<-forwarded
	return e.outcome(cmd, err)
}

// forwardRetry is the pause while a workload cannot be signalled yet.
const forwardRetry = 20 * time.Millisecond

// forward hands signals to the workload until ctx ends. It does not send them to
// the engine's own process, which dies of those that come early.
func (e *Engine) forward(ctx context.Context, id string, terminal bool, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			number, ok := sig.(syscall.Signal)
			if !ok || terminal && fromTerminal(number) {
				continue
			}
			for ctx.Err() == nil && e.command(ctx, "kill", id, strconv.Itoa(int(number))).Run() != nil {
				select {
				case <-time.After(forwardRetry):
				case <-ctx.Done():
				}
			}
		}
	}
}

// fromTerminal says which signals a terminal sends to all of its foreground
// processes, so also to the engine.
func fromTerminal(sig syscall.Signal) bool {
	return sig == unix.SIGINT || sig == unix.SIGQUIT || sig == unix.SIGTSTP || sig == unix.SIGWINCH
}

// connect gives cmd its standard input. A terminal, and what the engine cannot
// share, is copied through a pipe.
func (e *Engine) connect(cmd *exec.Cmd, in io.Reader) (closeIn func(), err error) {
	file, isFile := in.(*os.File)
	if in == nil || isFile && !isTerminal(file) && !e.misreads(file) {
		cmd.Stdin = in
		return func() {}, nil
	}
	// Not cmd.Stdin: Wait would wait for a read that only the user can end. The
	// copier ends with the pipe or, blocked in such a read, with the program.
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("connect standard input: %w", err)
	}
	go func() {
		_, _ = io.Copy(pipe, in)
		_ = pipe.Close()
	}()
	return func() { _ = pipe.Close() }, nil
}

// output gives the writer to hand to the engine: the file itself, so that nothing
// is copied, or what makes package exec copy through a pipe.
func (e *Engine) output(w io.Writer) io.Writer {
	if file, ok := w.(*os.File); ok && e.misreads(file) {
		return struct{ io.Writer }{file}
	}
	return w
}

// misreads reports whether the engine would use the file at another place than
// the processes that it is shared with: gVisor keeps an offset of its own for a
// regular file, so that in `(adyton run …; echo) > file` the echo would overwrite.
func (e *Engine) misreads(file *os.File) bool {
	info, err := file.Stat()
	return e.kind == GVisor && err == nil && info.Mode().IsRegular()
}

func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// outcome tells the workload's exit code from a failure of the engine, which
// the engine notes in its log.
func (e *Engine) outcome(cmd *exec.Cmd, err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return cmd.ProcessState.ExitCode(), nil
	case !errors.As(err, &exit):
		return 0, fmt.Errorf("wait for %s: %w", filepath.Base(e.program), err)
	}
	if exit.ExitCode() == e.failure {
		if reason := e.loggedError(); reason != "" {
			return 0, fmt.Errorf("%s: %s", filepath.Base(e.program), reason)
		}
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// loggedError is the first entry of level error in the engine's log, or "". What
// follows it is mostly its consequence.
func (e *Engine) loggedError() string {
	log, err := os.Open(e.log)
	if err != nil {
		return ""
	}
	defer log.Close()
	entries := json.NewDecoder(io.LimitReader(log, 1<<20)) // runsc writes no line ends
	for {
		var entry struct{ Level, Msg string }
		if entries.Decode(&entry) != nil {
			return ""
		}
		if entry.Level == "error" || entry.Level == "fatal" {
			return strings.TrimSpace(entry.Msg)
		}
	}
}

// Delete kills the container, if it still runs, and removes what the engine
// made for it. It is no error if there is none.
func (e *Engine) Delete(ctx context.Context, id string) error {
	out, err := e.command(ctx, "delete", "--force", id).CombinedOutput()
	if err != nil && !bytes.Contains(out, []byte("does not exist")) {
		return fmt.Errorf("%s delete: %w: %s", filepath.Base(e.program), err, bytes.TrimSpace(out))
	}
	return nil
}

func (e *Engine) command(ctx context.Context, command string, args ...string) *exec.Cmd {
	all := append(append(append([]string{}, e.options...), command), args...)
	return exec.CommandContext(ctx, e.program, all...)
}
