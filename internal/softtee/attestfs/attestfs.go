// Package attestfs serves Gramine's /dev/attestation for one enclave by FUSE, so
// that software written for Gramine attests on a software TEE without a change.
//
//	attestation_type   r   "dcap", or "none" without a quoter
//	user_report_data   rw  64 bytes, REPORTDATA of report and quote
//	target_info        rw  512 bytes, TARGETINFO for report
//	my_target_info     r   512 bytes, TARGETINFO of this enclave
//	report             r   432 bytes, EREPORT of the two files above
//	quote              r   DCAP quote over user_report_data
//	keys/<name>        rw  16 bytes; a write of another length is EACCES
//	keys/_sgx_mrenclave, keys/_sgx_mrsigner
//	                   r   16 bytes, seal keys
//
// As in Gramine, a short write is padded with zeros, a long one truncated, a write
// takes effect at once, and whatever fails gives EACCES. A write at offset 0 sets
// the whole value; a write further on, as dd with a small block size makes, adds
// to it. A read at offset 0 makes the content anew, so that a file that is kept
// open, as gVisor keeps it, never shows an old quote.
//
// # Whose state
//
// user_report_data and target_info belong to a process, as in Gramine: two that
// attest at the same time do not disturb each other, and a child does not see what
// its parent wrote. The process is the one that the kernel names as the caller.
// Under gVisor that is the sandbox's own process for all of them: programs of one
// container that attest at the same time then share the two values, and must
// either take turns or check that the quote has their report data, as package
// attest does. Keys belong to the enclave.
//
// # Who may read
//
// The kernel lets all users in where it can ("allow_other": always for root, else
// where /etc/fuse.conf says user_allow_other), because a container's user is not
// the server's. So the directory that holds the mount point should have mode 0700;
// a bind mount into the container does not go through it.
//
// The package may import sgx and go-fuse, and no other package of the project. To
// add a file, add it to [Server.files].
//
// Source: Gramine's documentation, "Attestation and Secret Provisioning".
package attestfs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/adyton-dev/adyton/sgx"
)

// Enclave is the enclave whose files these are. *cpu.Enclave is one.
type Enclave interface {
	Identity() sgx.ReportBody
	TargetInfo() *sgx.TargetInfo
	EREPORT(target *sgx.TargetInfo, data sgx.ReportData) *sgx.Report
	EGETKEY(request *sgx.KeyRequest) (sgx.Key128, error)
}

// Quoter turns the enclave's reports into quotes. *softtee.Platform is one.
type Quoter interface {
	QETargetInfo() *sgx.TargetInfo
	Quote(report *sgx.Report) ([]byte, error)
}

// Options change a mount.
type Options struct {
	// Logger hears why a read or write was refused; nil: nobody does. Keys and
	// report data are never logged.
	Logger *slog.Logger
}

// Server serves one mount.
type Server struct {
	dir     string
	enclave Enclave
	quoter  Quoter
	log     *slog.Logger
	fuse    *fuse.Server
	done    chan struct{} // closed when the kernel has let go of the mount

	quoteSize int // all quotes of a platform have one size

	mu        sync.Mutex
	closed    bool
	processes *processes
	keys      map[string]*[keySize]byte // nil: there, but not set
}

// Mount serves the files of an enclave in dir, an existing directory. A nil quoter
// means that there is no remote attestation. A mount that a killed server has left
// in dir is cleaned up first; one that is alive is an error.
func Mount(dir string, enclave Enclave, quoter Quoter, options Options) (*Server, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("mount attestation files: %w", err)
	}
	s := &Server{
		dir: dir, enclave: enclave, quoter: quoter, log: options.Logger,
		done:      make(chan struct{}),
		processes: newProcesses(),
		keys:      map[string]*[keySize]byte{defaultKey: nil},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if quoter != nil {
		quote, err := s.quote(sgx.ReportData{}) // fails now rather than inside the enclave
		if err != nil {
			return nil, fmt.Errorf("mount attestation files: %w", err)
		}
		s.quoteSize = len(quote)
	}
	if err := checkFUSE(fuseDevice, os.Geteuid() == 0); err != nil {
		return nil, fmt.Errorf("mount attestation files: %w", err)
	}
	if err := clearStale(dir); err != nil {
		return nil, fmt.Errorf("mount attestation files on %s: %w", dir, err)
	}
	if err := s.mount(); err != nil {
		return nil, fmt.Errorf("mount attestation files on %s: %w", dir, err)
	}
	return s, nil
}

// Dir gives the mount point.
func (s *Server) Dir() string { return s.dir }

// Done is closed when the kernel has let go of the mount and serving has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Close refuses everything from now on, forgets the keys and unmounts. If files
// are still open, the mount disappears from the directory at once and serving ends
// when the last one is closed: see [Server.Done]. It may be called twice.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, key := range s.keys {
		if key != nil {
			clear(key[:])
		}
	}
	clear(s.keys)
	s.processes = newProcesses()
	s.mu.Unlock()

	select {
	case <-s.done: // somebody else has unmounted it
		return nil
	default:
	}
	if err := s.fuse.Unmount(); err != nil {
		if lazy := detach(s.dir); lazy != nil {
			return fmt.Errorf("unmount attestation files from %s: %w", s.dir, errors.Join(err, lazy))
		}
		return nil
	}
	<-s.done
	return nil
}

// mount mounts and begins to serve.
func (s *Server) mount() error {
	var noCache time.Duration
	root := &directory{server: s, files: s.files()}
	server, err := fuse.NewServer(gofs.NewNodeFS(root, &gofs.Options{
		EntryTimeout: &noCache, AttrTimeout: &noCache, NegativeTimeout: &noCache,
		UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()),
	}), s.dir, mountOptions())
	if err != nil {
		return explain(err)
	}
	s.fuse = server
	go func() {
		defer close(s.done)
		server.Serve()
	}()
	if err := server.WaitMount(); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}
