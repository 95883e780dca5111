// Package attest gets evidence: what code inside a TEE shows to prove what it is.
//
// [Detect] finds the TEE that the process runs in and gives an [Attester] for it:
//
//   - [Gramine]: the files of /dev/attestation (SGX, and so the software TEE);
//   - [TSM]: Linux's configfs-tsm (TDX and SEV-SNP guests).
//
// The package is linked into the measured init program of every enclave, so its
// imports stay few: the standard library, refusal and go-configfs-tsm. Nothing
// here verifies evidence: that is package appraise. To add a TEE, add a type
// with the methods of [Attester] in a file of its own and try it in Detect.
package attest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"

	"github.com/adyton-dev/adyton/refusal"
)

// The kinds of TEE, named as the Confidential Containers KBS protocol names them.
const (
	SGX = "sgx"
	TDX = "tdx"
	SNP = "snp"
)

// ReportDataSize is the length of the caller's data in every kind of evidence:
// REPORTDATA of SGX and TDX, REPORT_DATA of SEV-SNP.
const ReportDataSize = 64

// Evidence is a signed statement by the hardware about the code that asked for it.
type Evidence struct {
	// TEE is SGX, TDX or SNP.
	TEE string
	// Quote is the DCAP quote (SGX, TDX), or the attestation report of 1184
	// bytes (SNP), exactly as the platform gave it.
	Quote []byte
	// Aux is what helps to verify Quote and is not itself trusted: for SNP the
	// certificate table of the extended guest request (GHCB specification,
	// SNP_EXT_GUEST_REQUEST); nil for the others.
	Aux []byte
}

// Attester gets evidence from the TEE that the process runs in. It may be used
// by several goroutines.
type Attester interface {
	// TEE says of which kind the evidence will be.
	TEE() string
	// Evidence gets evidence that carries reportData.
	Evidence(ctx context.Context, reportData [ReportDataSize]byte) (*Evidence, error)
}

// Paths says where [Detect] looks. The zero value is right outside tests.
type Paths struct {
	// Gramine is the directory of Gramine's files; empty: [GramineDir].
	Gramine string
	// TSM is a configfs-tsm; nil: the kernel's, /sys/kernel/config/tsm.
	TSM configfsi.Client
}

// Detect gives the attester of the TEE that the process runs in. Without a TEE
// it gives an EvidenceUnsupported refusal that says what was looked for.
func Detect(paths Paths) (Attester, error) {
	if paths.Gramine == "" {
		paths.Gramine = GramineDir
	}
	gramine, err := NewGramine(paths.Gramine)
	if err == nil {
		return gramine, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if paths.TSM == nil {
		client, err := linuxtsm.MakeClient()
		if errors.Is(err, os.ErrNotExist) {
			return nil, refusal.New(refusal.EvidenceUnsupported,
				"not inside a TEE: neither %s (SGX) nor %s/report (TDX, SEV-SNP) exists", paths.Gramine, configfsi.TsmPrefix)
		}
		if err != nil {
			return nil, fmt.Errorf("open configfs-tsm: %w", err)
		}
		paths.TSM = client
	}
	return NewTSM(paths.TSM)
}
