package relay_test

import (
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/internal/launch/relay"
)

func TestRelayCarriesBothWaysAndTheEndOfEach(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	served := make(chan error, 1)
	go func() {
		c, err := server.Accept()
		if err != nil {
			served <- err
			return
		}
		defer c.Close()
		request, err := io.ReadAll(c) // ends only if the half close is carried
		if err == nil {
			_, err = c.Write([]byte(strings.ToUpper(string(request))))
		}
		served <- err
	}()
	path := filepath.Join(t.TempDir(), "s")
	r, err := relay.Listen(path, server.Addr().String(), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil || string(answer) != "HELLO" {
		t.Fatalf("answer %q, %v", answer, err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
}

func TestUnreachableTargetIsReportedAndTheConnectionClosed(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := gone.Addr().String()
	gone.Close()
	reported := make(chan error, 1)
	path := filepath.Join(t.TempDir(), "s")
	r, err := relay.Listen(path, target, func(err error) { reported <- err })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v, want EOF", err)
	}
	if err := <-reported; !strings.Contains(err.Error(), target) {
		t.Errorf("reported %v, want the address %s in it", err, target)
	}
}

func TestSocketPathMayBeLong(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := relay.Listen(filepath.Join(dir, "s"), "127.0.0.1:1", func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if info, err := os.Stat(filepath.Join(dir, "s")); err != nil || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("socket: %v, %v", info, err)
	}
}

func TestCloseEndsOpenConnections(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	path := filepath.Join(t.TempDir(), "s")
	r, err := relay.Listen(path, server.Addr().String(), func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	outside, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("connection is open after Close")
	}
}
