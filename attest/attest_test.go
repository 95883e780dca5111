package attest_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/refusal"
)

func TestDetectSaysWhatItLookedFor(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "attestation")
	_, err := attest.Detect(attest.Paths{Gramine: dir})
	if _, statErr := os.Stat("/sys/kernel/config/tsm/report"); statErr == nil {
		return // this machine is a TD or an SNP guest
	}
	if refusal.Of(err) != refusal.EvidenceUnsupported || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "/sys/kernel/config/tsm/report") {
		t.Errorf("Detect: %v", err)
	}
}

func TestDetectPrefersGramine(t *testing.T) {
	t.Parallel()
	dir := gramineDir(t, "dcap")
	attester, err := attest.Detect(attest.Paths{Gramine: dir, TSM: tsm("tdx_guest")})
	if err != nil || attester.TEE() != attest.SGX {
		t.Errorf("Detect = %v, %v", attester, err)
	}
}

func TestEnclaveWithoutAttestationIsNamed(t *testing.T) {
	t.Parallel()
	_, err := attest.Detect(attest.Paths{Gramine: gramineDir(t, "none"), TSM: tsm("tdx_guest")})
	if refusal.Of(err) != refusal.EvidenceUnsupported || !strings.Contains(err.Error(), "sgx.remote_attestation") {
		t.Errorf("Detect: %v", err)
	}
}

func TestQuoteWithOtherReportDataIsRefused(t *testing.T) {
	t.Parallel()
	dir := gramineDir(t, "dcap")
	// A plain directory does not make quotes: this one always carries zeros.
	if err := os.WriteFile(filepath.Join(dir, "quote"), make([]byte, 600), 0o600); err != nil {
		t.Fatal(err)
	}
	gramine, err := attest.NewGramine(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gramine.Evidence(t.Context(), [64]byte{}); err != nil {
		t.Errorf("the same report data: %v", err)
	}
	if _, err := gramine.Evidence(t.Context(), [64]byte{1}); refusal.Of(err) != refusal.ReportDataMismatch {
		t.Errorf("other report data: %v", err)
	}
	written, err := os.ReadFile(filepath.Join(dir, "user_report_data"))
	if err != nil || !bytes.Equal(written, append([]byte{1}, make([]byte, 63)...)) {
		t.Errorf("user_report_data = %x, %v", written, err)
	}
}

func TestShortAndLongQuotesAreRefused(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 431, 1 << 20} {
		dir := gramineDir(t, "dcap")
		if err := os.WriteFile(filepath.Join(dir, "quote"), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		gramine, err := attest.NewGramine(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := gramine.Evidence(t.Context(), [64]byte{}); err == nil {
			t.Errorf("a quote of %d bytes was accepted", size)
		}
	}
}

func TestEvidenceHonoursTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	gramine, err := attest.NewGramine(gramineDir(t, "dcap"))
	if err != nil {
		t.Fatal(err)
	}
	guest, err := attest.NewTSM(tsm("sev_guest"))
	if err != nil {
		t.Fatal(err)
	}
	for _, attester := range []attest.Attester{gramine, guest} {
		if _, err := attester.Evidence(ctx, [64]byte{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%T: %v", attester, err)
		}
	}
}

func TestSealingKey(t *testing.T) {
	t.Parallel()
	dir := gramineDir(t, "dcap")
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := [16]byte{1, 2, 3, 15: 16}
	for name, data := range map[string][]byte{attest.KeyMRENCLAVE: want[:], attest.KeyMRSIGNER: want[:15], "own": want[:]} {
		if err := os.WriteFile(filepath.Join(dir, "keys", name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gramine, err := attest.NewGramine(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := gramine.SealingKey(attest.KeyMRENCLAVE); err != nil || got != want {
		t.Errorf("SealingKey = %x, %v", got, err)
	}
	for _, name := range []string{attest.KeyMRSIGNER, "own", "../quote", ""} {
		if _, err := gramine.SealingKey(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestTSM(t *testing.T) {
	t.Parallel()
	tests := []struct {
		provider, tee string
		aux           string
	}{
		{"tdx_guest\n", attest.TDX, ""},
		{"sev_guest\n", attest.SNP, "auxblob"},
	}
	for _, test := range tests {
		attester, err := attest.Detect(attest.Paths{Gramine: t.TempDir() + "/none", TSM: tsm(test.provider)})
		if err != nil {
			t.Fatal(err)
		}
		evidence, err := attester.Evidence(t.Context(), [64]byte{0xab})
		if err != nil {
			t.Fatal(err)
		}
		if evidence.TEE != test.tee || string(evidence.Aux) != test.aux || !strings.Contains(string(evidence.Quote), "inblob: ab00") {
			t.Errorf("%s: %s %q %q", test.provider, evidence.TEE, evidence.Quote, evidence.Aux)
		}
	}
}

func TestUnknownTSMProviderIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := attest.NewTSM(tsm("arm_cca_guest")); refusal.Of(err) != refusal.EvidenceUnsupported {
		t.Errorf("NewTSM: %v", err)
	}
}

// TestGenerationIsCheckedAgain: a writer that gets between our write and our read
// is noticed, and the report is asked for again.
func TestGenerationIsCheckedAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		interferences int
		ok            bool
	}{{1, true}, {1000, false}} {
		subsystem := fakeReports("tdx_guest")
		left := test.interferences
		read := subsystem.ReadAttr
		subsystem.ReadAttr = func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
			data, err := read(e, attr)
			if attr == "outblob" && left > 0 {
				left--
				e.WriteGeneration++
			}
			return data, err
		}
		guest, err := attest.NewTSM(&faketsm.Client{Subsystems: map[string]configfsi.Client{"report": subsystem}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := guest.Evidence(t.Context(), [64]byte{1}); (err == nil) != test.ok {
			t.Errorf("%d interferences: %v", test.interferences, err)
		}
		if len(subsystem.Entries) != 0 {
			t.Errorf("%d report entries were left behind", len(subsystem.Entries))
		}
	}
}

func TestConcurrentReportsDoNotMix(t *testing.T) {
	t.Parallel()
	guest, err := attest.NewTSM(tsm("tdx_guest"))
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			evidence, err := guest.Evidence(t.Context(), [64]byte{byte(i + 16)})
			if err != nil {
				t.Error(err)
				return
			}
			if want := "inblob: " + string("0123456789abcdef"[(i+16)>>4]) + string("0123456789abcdef"[(i+16)&15]) + "00"; !strings.Contains(string(evidence.Quote), want) {
				t.Errorf("%q does not hold %q", evidence.Quote, want)
			}
		})
	}
	group.Wait()
}

// gramineDir makes plain files in place of Gramine's.
func gramineDir(t *testing.T, kind string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"attestation_type": kind, "user_report_data": "", "quote": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func tsm(provider string) configfsi.Client {
	return &faketsm.Client{Subsystems: map[string]configfsi.Client{"report": fakeReports(provider)}}
}

func fakeReports(provider string) *faketsm.ReportSubsystem {
	subsystem := faketsm.Report611(0)
	read := subsystem.ReadAttr
	subsystem.ReadAttr = func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
		if attr == "provider" {
			return []byte(provider), nil
		}
		return read(e, attr)
	}
	return subsystem
}
