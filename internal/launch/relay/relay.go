// Package relay carries the bytes between an enclave and its broker, so that an
// enclave without a network can reach the broker and nothing else. It does not
// look into them: TLS runs from end to end. It imports only the standard library.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxConnections bounds how many connections the workload can hold open.
const maxConnections = 64

const dialTimeout = 10 * time.Second

// Relay is a Unix socket whose connections go to one TCP address.
type Relay struct {
	listener net.Listener
	target   string
	report   func(error)

	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	reported string // the last failure
}

// Listen makes the socket at path and serves it until Close. A connection that
// cannot be made to target ("host:port") is closed at once and given to report,
// since the workload sees no more than a closed connection. A failure like the one
// before is not reported again: workloads retry.
func Listen(path, target string, report func(error)) (*Relay, error) {
	listener, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("make the broker's socket: %w", err)
	}
	// Any user inside the sandbox may speak to the broker, which trusts none of
	// them; outside, the run directory keeps others away.
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("make the broker's socket: %w", err), listener.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Relay{listener: listener, target: target, report: report, cancel: cancel}
	r.done.Add(1)
	go r.serve(ctx)
	return r, nil
}

// listen listens at a path of any length. The kernel takes 107 bytes (unix(7)),
// which a run directory can exceed, so the path that it gets goes through an open
// directory.
func listen(path string) (*net.UnixListener, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// The short path means another directory once this one is closed.
	listener.SetUnlinkOnClose(false)
	return listener, nil
}

// Close closes the socket and all connections, and waits for them to end. The
// socket's file stays, and refuses connections.
func (r *Relay) Close() error {
	r.cancel()
	err := r.listener.Close()
	r.done.Wait()
	return err
}

func (r *Relay) serve(ctx context.Context) {
	defer r.done.Done()
	slots := make(chan struct{}, maxConnections)
	for {
		inside, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			inside.Close()
			return
		}
		r.done.Add(1)
		go func() {
			defer r.done.Done()
			defer func() { <-slots }()
			if err := r.carry(ctx, inside); err != nil {
				r.reportNew(err)
			}
		}()
	}
}

func (r *Relay) reportNew(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if text := err.Error(); text != r.reported {
		r.reported = text
		r.report(err)
	}
}

// carry copies both ways until both sides are finished or ctx ends.
func (r *Relay) carry(ctx context.Context, inside net.Conn) error {
	defer inside.Close()
	dialer := net.Dialer{Timeout: dialTimeout}
	outside, err := dialer.DialContext(ctx, "tcp", r.target)
	if err != nil {
		return fmt.Errorf("reach the broker: %w", err)
	}
	defer outside.Close()
	stop := context.AfterFunc(ctx, func() {
		inside.Close()
		outside.Close()
	})
	defer stop()

	sent := make(chan struct{})
	go func() {
		defer close(sent)
		copyHalf(outside, inside)
	}()
	copyHalf(inside, outside)
	<-sent
	return nil
}

// copyHalf copies until src ends and tells dst so. An error means that one side
// has gone, which the other side then sees.
func copyHalf(dst, src net.Conn) {
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		src.Close()
		return
	}
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
