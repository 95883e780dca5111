package attestfs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/adyton-dev/adyton/sgx"
)

// content is what a file does. Errors become EACCES; their text is logged.
type content struct {
	// size is at least the length of the content: gVisor reads no further.
	size int
	read func(ctx context.Context) ([]byte, error)
	// write is nil for read-only files.
	write func(ctx context.Context, data []byte, offset int64) error
}

// files gives the files of the root directory.
func (s *Server) files() map[string]content {
	files := map[string]content{
		"attestation_type": {size: len("dcap"), read: s.readType},
		"user_report_data": {
			size: len(sgx.ReportData{}),
			read: func(ctx context.Context) ([]byte, error) {
				return s.load(ctx, func(v *values) []byte { return v.reportData[:] })
			},
			write: func(ctx context.Context, data []byte, offset int64) error {
				return s.store(ctx, func(v *values) { put(v.reportData[:], data, offset) })
			},
		},
		"target_info": {
			size: sgx.TargetInfoSize,
			read: func(ctx context.Context) ([]byte, error) {
				return s.load(ctx, func(v *values) []byte { return v.targetInfo[:] })
			},
			write: func(ctx context.Context, data []byte, offset int64) error {
				return s.store(ctx, func(v *values) { put(v.targetInfo[:], data, offset) })
			},
		},
		"my_target_info": {
			size: sgx.TargetInfoSize,
			read: func(context.Context) ([]byte, error) { return s.enclave.TargetInfo().Bytes(), nil },
		},
		"report": {size: sgx.ReportSize, read: s.readReport},
		"quote":  {size: s.quoteSize, read: s.readQuote},
	}
	return files
}

func (s *Server) readType(context.Context) ([]byte, error) {
	if s.quoter == nil {
		return []byte("none"), nil
	}
	return []byte("dcap"), nil
}

func (s *Server) readReport(ctx context.Context) ([]byte, error) {
	v, err := s.valuesOf(ctx)
	if err != nil {
		return nil, err
	}
	target, err := sgx.ParseTargetInfo(v.targetInfo[:])
	if err != nil {
		return nil, err
	}
	return s.enclave.EREPORT(target, v.reportData).Bytes(), nil
}

func (s *Server) readQuote(ctx context.Context) ([]byte, error) {
	if s.quoter == nil {
		return nil, errors.New("there is no remote attestation")
	}
	v, err := s.valuesOf(ctx)
	if err != nil {
		return nil, err
	}
	return s.quote(v.reportData)
}

func (s *Server) quote(data sgx.ReportData) ([]byte, error) {
	return s.quoter.Quote(s.enclave.EREPORT(s.quoter.QETargetInfo(), data))
}

// load reads a value of the calling process.
func (s *Server) load(ctx context.Context, field func(*values) []byte) ([]byte, error) {
	v, err := s.valuesOf(ctx)
	if err != nil {
		return nil, err
	}
	return field(&v), nil
}

// store changes a value of the calling process.
func (s *Server) store(ctx context.Context, change func(*values)) error {
	id := callerOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	change(s.processes.of(id))
	return nil
}

// valuesOf copies the values of the calling process.
func (s *Server) valuesOf(ctx context.Context) (values, error) {
	id := callerOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return values{}, errClosed
	}
	return *s.processes.of(id), nil
}

var errClosed = errors.New("the enclave has ended")

// put writes data into a value of fixed size: at offset 0 it replaces all of it,
// padded with zeros; what goes beyond the end is dropped.
func put(value, data []byte, offset int64) {
	if offset == 0 {
		clear(value)
	}
	if offset < int64(len(value)) {
		copy(value[offset:], data)
	}
}

// The keys.
const (
	keySize      = 16
	defaultKey   = "default"
	keyMRENCLAVE = "_sgx_mrenclave"
	keyMRSIGNER  = "_sgx_mrsigner"
	// maxKeys bounds what an enclave can make this process remember.
	maxKeys = 256
)

// reserved names are Gramine's own.
func reserved(name string) bool { return strings.HasPrefix(name, "_") }

// key gives what the file keys/name does.
func (s *Server) key(name string) content {
	switch name {
	case keyMRENCLAVE:
		return content{size: keySize, read: func(context.Context) ([]byte, error) { return s.sealKey(sgx.KeyPolicyMRENCLAVE) }}
	case keyMRSIGNER:
		return content{size: keySize, read: func(context.Context) ([]byte, error) { return s.sealKey(sgx.KeyPolicyMRSIGNER) }}
	}
	return content{
		size: keySize,
		read: func(context.Context) ([]byte, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			key := s.keys[name]
			if key == nil {
				return nil, errors.New("the key is not set")
			}
			return append([]byte(nil), key[:]...), nil
		},
		write: func(_ context.Context, data []byte, offset int64) error {
			if offset != 0 || len(data) != keySize {
				return fmt.Errorf("a key is written as exactly %d bytes at once, not %d at offset %d", keySize, len(data), offset)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.closed {
				return errClosed
			}
			s.keys[name] = (*[keySize]byte)(append([]byte(nil), data...))
			return nil
		},
	}
}

// addKey makes keys/name known, not yet set.
func (s *Server) addKey(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch _, known := s.keys[name]; {
	case s.closed:
		return errClosed
	case reserved(name):
		return errors.New("names with a leading underscore are reserved")
	case known:
		return nil
	case len(s.keys) >= maxKeys:
		return fmt.Errorf("there are %d keys already", maxKeys)
	}
	s.keys[name] = nil
	return nil
}

// sealKey derives what Gramine derives (sgx_get_seal_key): the SEAL key of the
// enclave's present versions, with KEYID zero, so that every start of the enclave
// gets the same one. The masks are Gramine's: all attributes but those XFRM bits
// that differ between machines, and all of MISCSELECT.
func (s *Server) sealKey(policy sgx.KeyPolicy) ([]byte, error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	identity := s.enclave.Identity()
	key, err := s.enclave.EGETKEY(&sgx.KeyRequest{
		KeyName:       sgx.KeyNameSeal,
		KeyPolicy:     policy,
		ISVSVN:        identity.ISVSVN,
		ConfigSVN:     identity.ConfigSVN,
		CPUSVN:        identity.CPUSVN,
		AttributeMask: sgx.Attributes{Flags: ^sgx.AttributeFlags(0), XFRM: gramineXFRMMask},
		MiscMask:      ^uint32(0),
	})
	if err != nil {
		return nil, err
	}
	return key[:], nil
}

// gramineXFRMMask is Gramine's SGX_XFRM_MASK_CONST: all but AVX, AVX-512 and AMX.
const gramineXFRMMask = 0xfffffffffff9ff1b
