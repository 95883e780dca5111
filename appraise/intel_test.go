package appraise_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/vectors"
	"github.com/adyton-dev/adyton/refusal"
)

var update = flag.Bool("update", false, "write golden files")

// The quotes that the rules are shown on, all of genuine hardware.
const (
	sgxUpToDate  = "quotes/libsignal-9aab09b4.bin"
	sgxOutOfDate = "quotes/interoperable-ra-tls-b8a62c5b.bin" // a debug enclave
	tdxUpToDate  = "quotes/dstack-cbdb5b2f.bin"
)

func TestClaimsOfGenuineQuotes(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"sgx": sgxUpToDate, "tdx": tdxUpToDate} {
		v := findVector(t, file)
		claims, err := v.appraise(t, appraise.DefaultTrustPolicy())
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		golden(t, name+"-claims.json", claims)
	}
}

func TestTrustPolicyRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		quote  string
		change func(*appraise.TrustPolicy)
		want   refusal.Reason
	}{
		{"up to date", sgxUpToDate, nil, ""},
		{"debug is refused by default", sgxOutOfDate, nil, refusal.DebugNotAllowed},
		{"out of date is refused by default", sgxOutOfDate, func(p *appraise.TrustPolicy) { p.AllowDebug = true }, refusal.TCBOutOfDate},
		{"an accepted status and accepted advisories", sgxOutOfDate, func(p *appraise.TrustPolicy) {
			p.AllowDebug = true
			p.TCB.AcceptedStatuses = []dcap.Status{dcap.OutOfDate}
			p.TCB.AcceptedAdvisories = []string{"*"}
		}, ""},
		{"evaluation number below the floor", tdxUpToDate, func(p *appraise.TrustPolicy) { p.TCB.MinimumEvaluationNumber = 1000 }, refusal.CollateralRollback},
		{"Intel's root is not named", tdxUpToDate, func(p *appraise.TrustPolicy) { p.Roots = []appraise.Root{{Name: appraise.RootAMD}} }, refusal.RootNotTrusted},
		{"a TEE that is not listed", tdxUpToDate, func(p *appraise.TrustPolicy) { p.TEEs = []string{attest.SGX} }, refusal.EvidenceUnsupported},
		{"a TEE that is listed", tdxUpToDate, func(p *appraise.TrustPolicy) { p.TEEs = []string{attest.TDX} }, ""},
		{"a sandbox is required and none is shown", sgxUpToDate, func(p *appraise.TrustPolicy) { p.RequireSandbox = true }, refusal.SandboxRequired},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			policy := appraise.DefaultTrustPolicy()
			if test.change != nil {
				test.change(policy)
			}
			claims, err := findVector(t, test.quote).appraise(t, policy)
			if refusal.Of(err) != test.want || (err == nil) != (claims != nil) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestExpiredCollateralNeedsGrace(t *testing.T) {
	t.Parallel()
	v := findVector(t, tdxUpToDate)
	v.time = v.time.Add(60 * 24 * time.Hour)
	policy := appraise.DefaultTrustPolicy()
	if _, err := v.appraise(t, policy); refusal.Of(err) != refusal.CollateralExpired {
		t.Errorf("without grace: %v", err)
	}
	policy.TCB.CollateralGrace = 60 * 24 * time.Hour
	claims, err := v.appraise(t, policy)
	if err != nil || !claims.TCB.CollateralExpired {
		t.Errorf("with grace: %+v, %v", claims, err)
	}
}

func TestReportDataIsBound(t *testing.T) {
	t.Parallel()
	for _, file := range []string{sgxUpToDate, tdxUpToDate} {
		v := findVector(t, file)
		v.want.ReportData[63] ^= 1
		if _, err := v.appraise(t, appraise.DefaultTrustPolicy()); refusal.Of(err) != refusal.ReportDataMismatch {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestInitDataIsBound(t *testing.T) {
	t.Parallel()
	for _, file := range []string{sgxUpToDate, tdxUpToDate} {
		v := findVector(t, file)
		v.want.InitData = []byte(initDataDocument)
		if _, err := v.appraise(t, appraise.DefaultTrustPolicy()); refusal.Of(err) != refusal.InitDataMismatch {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// Parsing 128 KiB of TOML takes a third of a second: not for evidence that anyone
// can make up.
func TestInitDataIsNotParsedForEvidenceThatIsNotGenuine(t *testing.T) {
	t.Parallel()
	v := findVector(t, sgxUpToDate)
	v.want.InitData = []byte("version =")
	v.want.ReportData[0] ^= 1
	if _, err := v.appraise(t, appraise.DefaultTrustPolicy()); refusal.Of(err) != refusal.ReportDataMismatch {
		t.Errorf("not bound to the session: %v", err)
	}
	v.evidence.Quote[48+64] ^= 1 // MRENCLAVE
	if _, err := v.appraise(t, appraise.DefaultTrustPolicy()); refusal.Of(err) != refusal.QuoteSignatureInvalid {
		t.Errorf("changed: %v", err)
	}
}

func TestKindOfEvidenceMustMatch(t *testing.T) {
	t.Parallel()
	v := findVector(t, sgxUpToDate)
	for tee, want := range map[string]refusal.Reason{attest.TDX: refusal.EvidenceMalformed, attest.SNP: refusal.RootNotTrusted, "cca": refusal.EvidenceUnsupported, "": refusal.EvidenceUnsupported} {
		v.evidence.TEE = tee
		if _, err := v.appraise(t, appraise.DefaultTrustPolicy()); refusal.Of(err) != want {
			t.Errorf("%q: %v, want %s", tee, err, want)
		}
	}
}

func TestChangedQuoteIsRefused(t *testing.T) {
	t.Parallel()
	v := findVector(t, sgxUpToDate)
	v.evidence.Quote[48+64] ^= 1 // MRENCLAVE
	if _, err := v.appraise(t, appraise.DefaultTrustPolicy()); refusal.Of(err) != refusal.QuoteSignatureInvalid {
		t.Errorf("changed: %v", err)
	}
	v.evidence.Quote = v.evidence.Quote[:100]
	if _, err := v.appraise(t, appraise.DefaultTrustPolicy()); refusal.Of(err) != refusal.EvidenceMalformed {
		t.Errorf("cut: %v", err)
	}
}

func TestCollateralFailuresAreRefusals(t *testing.T) {
	t.Parallel()
	v := findVector(t, sgxUpToDate)
	down := errors.New("connection refused")
	tests := []struct {
		name   string
		source appraise.CollateralSource
		want   refusal.Reason
	}{
		{"no service", nil, refusal.CollateralMissing},
		{"service is down", source{err: down}, refusal.CollateralMissing},
		{"service refuses", source{err: refusal.New(refusal.CollateralInvalid, "bad")}, refusal.CollateralInvalid},
		{"empty collateral", source{collateral: &dcap.Collateral{}}, refusal.CollateralMissing},
	}
	for _, test := range tests {
		v.source = test.source
		if _, err := v.appraise(t, appraise.DefaultTrustPolicy()); refusal.Of(err) != test.want {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
}

// TestOlderCollateralIsRefusedAfterNewer: one appraiser remembers the evaluation
// number.
func TestOlderCollateralIsRefusedAfterNewer(t *testing.T) {
	t.Parallel()
	const file = "quotes/dcap-qvl-f1c85033.bin"
	var runs []vector
	for _, v := range allVectors(t) {
		if v.file == file && v.status == "UpToDate" {
			runs = append(runs, v)
		}
	}
	if len(runs) != 2 || !runs[0].time.Before(runs[1].time) {
		t.Fatalf("want an older and a newer run of %s", file)
	}
	served := &source{}
	var now time.Time
	appraiser, err := appraise.New(appraise.DefaultTrustPolicy(), served, appraise.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	appraiseRun := func(v vector) error {
		served.collateral, now = v.source.(source).collateral, v.time
		_, err := appraiser.Appraise(t.Context(), &v.evidence, v.want)
		return err
	}
	for _, v := range runs {
		if err := appraiseRun(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := appraiseRun(runs[0]); refusal.Of(err) != refusal.CollateralRollback {
		t.Errorf("older collateral: %v", err)
	}
}

// vector is a run of Intel's verifier on public evidence.
type vector struct {
	file, status string
	evidence     attest.Evidence
	want         appraise.Expect
	source       appraise.CollateralSource
	time         time.Time
}

func (v *vector) appraise(t *testing.T, policy *appraise.TrustPolicy) (*appraise.Claims, error) {
	t.Helper()
	appraiser, err := appraise.New(policy, v.source, appraise.Options{Now: func() time.Time { return v.time }})
	if err != nil {
		t.Fatal(err)
	}
	return appraiser.Appraise(t.Context(), &v.evidence, v.want)
}

// source serves one collateral.
type source struct {
	collateral *dcap.Collateral
	err        error
}

func (s source) Collateral(context.Context, *dcap.Quote) (*dcap.Collateral, error) {
	return s.collateral, s.err
}

// findVector gives the first run of a quote for which its platform was up to
// date, or else the first.
func findVector(t *testing.T, file string) *vector {
	t.Helper()
	var found *vector
	for _, v := range allVectors(t) {
		if v.file == file && (found == nil || v.status == "UpToDate" && found.status != "UpToDate") {
			found = &v
		}
	}
	if found == nil {
		t.Fatalf("no vector %s", file)
	}
	return found
}

func allVectors(t *testing.T) []vector {
	t.Helper()
	dir := vectorsDir(t)
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var runs []struct {
		Expected struct{ LaunchStatus string }
		Quote    string
		Time     time.Time
		TCBInfo  string `json:"tcb_info"`
		TCBChain string `json:"tcb_info_issuer_chain"`
		QE       string `json:"qe_identity"`
		QEChain  string `json:"qe_identity_issuer_chain"`
		PCKCRL   string `json:"pck_crl"`
		PCKChain string `json:"pck_crl_issuer_chain"`
		RootCRL  string `json:"root_ca_crl"`
	}
	if err := json.Unmarshal(read("runs.json"), &runs); err != nil {
		t.Fatal(err)
	}
	all := make([]vector, 0, len(runs))
	for _, run := range runs {
		quote := read(run.Quote)
		parsed, err := dcap.ParseQuote(quote)
		if err != nil {
			t.Fatalf("%s: %v", run.Quote, err)
		}
		all = append(all, vector{
			file:     run.Quote,
			status:   run.Expected.LaunchStatus,
			evidence: attest.Evidence{TEE: strings.ToLower(parsed.TEE.String()), Quote: quote},
			want:     appraise.Expect{ReportData: parsed.ReportData()},
			time:     run.Time,
			source: source{collateral: &dcap.Collateral{
				TCBInfo: read(run.TCBInfo), TCBInfoIssuerChain: read(run.TCBChain),
				QEIdentity: read(run.QE), QEIdentityIssuerChain: read(run.QEChain),
				PCKCRL: read(run.PCKCRL), PCKCRLIssuerChain: read(run.PCKChain), RootCACRL: read(run.RootCRL),
			}},
		})
	}
	return all
}

// vectorsDir gives the directory of the quotes and their collateral.
func vectorsDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(vectors.Dir(t), "dcap")
}

func golden(t *testing.T, name string, value any) {
	t.Helper()
	got, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(got)+"\n" {
		t.Errorf("%s: got\n%s", path, got)
	}
}
