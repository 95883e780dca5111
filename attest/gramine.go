package attest

import (
	"context"
	"crypto/subtle"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/adyton-dev/adyton/refusal"
)

// GramineDir is where Gramine, and the software TEE, show their attestation files.
const GramineDir = "/dev/attestation"

// The names of the sealing keys that an SGX enclave can read (Gramine's
// documentation, "Attestation and Secret Provisioning").
const (
	// KeyMRENCLAVE is the key that only this very enclave gets.
	KeyMRENCLAVE = "_sgx_mrenclave"
	// KeyMRSIGNER is the key that any enclave of the same signer and product
	// gets, at the same or a later SVN.
	KeyMRSIGNER = "_sgx_mrsigner"
)

// SealingKeySize is the length of a sealing key: an SGX key of 128 bits.
const SealingKeySize = 16

const (
	maxQuoteSize = 128 << 10

	// REPORTDATA is the last field of the report body, which follows the
	// quote's header of 48 bytes (Intel SGX ECDSA Quote Library, appendix A.4).
	quoteReportDataOffset = 48 + 320

	// Another process of the enclave may write its own report data between our
	// write and our read. It is improbable, and each attempt is independent.
	gramineAttempts = 16
)

// Gramine gets evidence from the files of Gramine's /dev/attestation.
type Gramine struct {
	dir string

	// mu is held from the write of user_report_data to the end of the read of
	// quote: the two files share one state.
	mu sync.Mutex
}

// NewGramine opens the attestation files in dir. The error is fs.ErrNotExist if
// there are none, and an EvidenceUnsupported refusal if there are, but the
// enclave was started without DCAP attestation.
func NewGramine(dir string) (*Gramine, error) {
	kind, err := readSmall(filepath.Join(dir, "attestation_type"), 64)
	if err != nil {
		return nil, fmt.Errorf("read the kind of attestation: %w", err)
	}
	if kind := strings.TrimSpace(string(kind)); kind != "dcap" {
		return nil, refusal.New(refusal.EvidenceUnsupported,
			"%s offers %q attestation, not \"dcap\": set sgx.remote_attestation in the manifest", dir, kind)
	}
	return &Gramine{dir: dir}, nil
}

// TEE gives [SGX].
func (g *Gramine) TEE() string { return SGX }

// Evidence writes reportData, reads the quote and checks that it carries reportData.
func (g *Gramine) Evidence(ctx context.Context, reportData [ReportDataSize]byte) (*Evidence, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for range gramineAttempts {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("get a quote: %w", err)
		}
		quote, err := g.quote(reportData)
		if err != nil {
			return nil, fmt.Errorf("get a quote: %w", err)
		}
		end := quoteReportDataOffset + ReportDataSize
		if len(quote) < end {
			return nil, refusal.New(refusal.EvidenceMalformed, "the quote of %s has %d bytes, want more than %d", g.dir, len(quote), end)
		}
		if subtle.ConstantTimeCompare(quote[quoteReportDataOffset:end], reportData[:]) == 1 {
			return &Evidence{TEE: SGX, Quote: quote}, nil
		}
	}
	return nil, refusal.New(refusal.ReportDataMismatch,
		"%s gave %d quotes with report data other than written: does another process of this enclave attest without pause?", g.dir, gramineAttempts)
}

// SealingKey reads a key that the CPU derives from the enclave's identity: name
// is [KeyMRENCLAVE] or [KeyMRSIGNER]. The caller zeroes it after use.
func (g *Gramine) SealingKey(name string) (key [SealingKeySize]byte, err error) {
	if name != KeyMRENCLAVE && name != KeyMRSIGNER {
		return key, fmt.Errorf("read sealing key: %q is not a sealing key", name)
	}
	data, err := readSmall(filepath.Join(g.dir, "keys", name), SealingKeySize)
	if err != nil {
		return key, fmt.Errorf("read sealing key: %w", err)
	}
	defer clear(data)
	if len(data) != SealingKeySize {
		return key, fmt.Errorf("read sealing key: %s has %d bytes, want %d", name, len(data), SealingKeySize)
	}
	copy(key[:], data)
	return key, nil
}

func (g *Gramine) quote(reportData [ReportDataSize]byte) ([]byte, error) {
	// No O_TRUNC: these are not regular files, and a short write would leave
	// zeros, not an error. One write call carries all 64 bytes.
	f, err := os.OpenFile(filepath.Join(g.dir, "user_report_data"), os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(reportData[:])
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	return readSmall(filepath.Join(g.dir, "quote"), maxQuoteSize)
}

// readSmall reads a file of at most limit bytes. It does not ask the size: such
// files have none.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return data, nil
}
