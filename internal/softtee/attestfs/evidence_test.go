package attestfs_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee"
	"github.com/adyton-dev/adyton/internal/softtee/attestfs"
)

// TestEvidenceVerifies goes the way of an application: evidence by package attest
// out of the files, verified by package dcap.
func TestEvidenceVerifies(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	inst, err := softtee.Create(filepath.Join(t.TempDir(), "tee"))
	if err != nil {
		t.Fatal(err)
	}
	platform, err := inst.Platform(softtee.DefaultPlatform)
	if err != nil {
		t.Fatal(err)
	}
	e := launch(t, platform.CPU(), 1)
	dir := t.TempDir()
	server, err := attestfs.Mount(dir, e, platform, attestfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	attester, err := attest.NewGramine(dir)
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := attester.Evidence(t.Context(), [64]byte{1, 63: 2})
	if err != nil {
		t.Fatal(err)
	}
	documents, err := inst.Collateral(softtee.DefaultPlatform, dcap.SGX)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := dcap.NewVerifier(dcap.VerifierOptions{Roots: []dcap.Root{inst.TrustRoot("test")}})
	if err != nil {
		t.Fatal(err)
	}
	result, err := verifier.Verify(evidence.Quote, documents, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	want := e.Identity()
	want.ReportData = [64]byte{1, 63: 2}
	if *result.Quote.SGX != want || result.Status != dcap.UpToDate {
		t.Errorf("%s: %+v, want %+v", result.Status, *result.Quote.SGX, want)
	}
}
