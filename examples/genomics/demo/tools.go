package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// adyton calls the adyton program as a person would.
type adyton struct {
	binary string
	dir    string
}

// result is what a command left behind.
type result struct {
	stdout []byte
	stderr string
	code   int
}

// try runs one command to its end. Its error is for a command that could not be run.
func (a *adyton) try(ctx context.Context, args ...string) (result, error) {
	cmd := exec.CommandContext(ctx, a.binary, args...)
	cmd.Dir = a.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result{}, fmt.Errorf("run adyton %s: %w", args[0], err)
	}
	return result{stdout: stdout.Bytes(), stderr: strings.TrimSpace(stderr.String()), code: cmd.ProcessState.ExitCode()}, nil
}

// run runs one command that must succeed and gives its standard output.
func (a *adyton) run(ctx context.Context, args ...string) ([]byte, error) {
	r, err := a.try(ctx, args...)
	if err != nil {
		return nil, err
	}
	if r.code != 0 {
		return nil, fmt.Errorf("adyton %s: exit code %d: %s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout, nil
}

// server is a background adyton command.
type server struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	log  string
	// url is what the server wrote into its ready file.
	url string
}

// serve starts a background command and waits until it answers: until it has
// written its URL into the file ready.
func (a *adyton) serve(ctx context.Context, name, ready string, args ...string) (*server, error) {
	logFile := filepath.Join(a.dir, name+".log")
	log, err := os.Create(logFile)
	if err != nil {
		return nil, fmt.Errorf("make the log of %s: %w", name, err)
	}
	defer log.Close()
	cmd := exec.Command(a.binary, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = a.dir, log, log
	// A process group of its own: Ctrl-C reaches the demo, which stops its servers in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s := &server{cmd: cmd, done: make(chan struct{}), log: logFile}
	go func() {
		defer close(s.done)
		_ = cmd.Wait() // what it has to say is in its log
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return nil, fmt.Errorf("%s ended before it was ready: %s", name, lastLine(logFile))
		case <-ctx.Done():
			s.stop()
			return nil, ctx.Err()
		case <-tick.C:
			if url, err := os.ReadFile(ready); err == nil {
				s.url = strings.TrimSpace(string(url))
				return s, nil
			}
		}
	}
}

// stop ends the server and waits for it.
func (s *server) stop() {
	// The process may have ended by itself; then there is nobody to signal.
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

func lastLine(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
