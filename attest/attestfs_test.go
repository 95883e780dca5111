package attest_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/appraise/appraisetest"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/internal/softtee/attestfs"
)

// TestGramineFiles attests through real files, served as Gramine would, and has
// the evidence appraised.
func TestGramineFiles(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("no FUSE:", err)
	}
	lab := appraisetest.New(t)
	platform, enclave := lab.Launch(appraisetest.Enclave{Code: "code", ISVSVN: 3})
	dir := filepath.Join(t.TempDir(), "attestation")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	server, err := attestfs.Mount(dir, enclave, platform, attestfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	attester, err := attest.Detect(attest.Paths{Gramine: dir})
	if err != nil {
		t.Fatal(err)
	}
	appraiser := lab.Appraiser(lab.Policy())
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			reportData := [64]byte{byte(i), 63: 1}
			evidence, err := attester.Evidence(t.Context(), reportData)
			if err != nil {
				t.Error(err)
				return
			}
			claims, err := appraiser.Appraise(t.Context(), evidence, appraise.Expect{ReportData: reportData})
			if err != nil || claims.SGX.ISVSVN != 3 {
				t.Errorf("%+v, %v", claims, err)
			}
		})
	}
	group.Wait()

	keys := map[[attest.SealingKeySize]byte]bool{}
	for _, name := range []string{attest.KeyMRENCLAVE, attest.KeyMRSIGNER, attest.KeyMRENCLAVE} {
		key, err := attester.(*attest.Gramine).SealingKey(name)
		if err != nil || key == [attest.SealingKeySize]byte{} {
			t.Fatal(err)
		}
		keys[key] = true
	}
	if len(keys) != 2 {
		t.Errorf("%d different sealing keys by MRENCLAVE and MRSIGNER, want 2", len(keys))
	}
}
