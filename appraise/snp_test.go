package appraise_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	sevtest "github.com/google/go-sev-guest/testing"
	"github.com/google/go-sev-guest/verify/testdata"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/refusal"
)

func TestSNPReportOfAGenuineMilan(t *testing.T) {
	t.Parallel()
	evidence := &attest.Evidence{TEE: attest.SNP, Quote: testdata.AttestationBytes[:abi.ReportSize]}
	report, err := abi.ReportToProto(evidence.Quote)
	if err != nil {
		t.Fatal(err)
	}
	kds := getter(func(string) ([]byte, error) { return testdata.VcekBytes, nil })
	now := time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC)
	appraiser, err := appraise.New(amdPolicy(func(p *appraise.TrustPolicy) { p.AllowDebug = true }), nil, appraise.Options{KDS: kds, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := appraiser.Appraise(t.Context(), evidence, appraise.Expect{ReportData: [64]byte(report.GetReportData())})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "snp-claims.json", claims)
}

func TestSNPRules(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	signer, err := sevtest.DefaultTestOnlyCertChain("Milan-B1", now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := sevtest.DefaultTestOnlyCertChain("Milan-B1", now.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	table, err := signer.CertTableBytes()
	if err != nil {
		t.Fatal(err)
	}
	roots := rootsOf(signer)
	initData, err := appraise.ParseInitData([]byte(initDataDocument))
	if err != nil {
		t.Fatal(err)
	}
	const (
		guestSVNAt = 0x04
		policyAt   = 0x08
		vmplAt     = 0x30
		hostDataAt = 0xC0
	)
	debug := func(r []byte) {
		binary.LittleEndian.PutUint64(r[policyAt:], abi.SnpPolicyToBytes(abi.SnpPolicy{Debug: true}))
	}
	bind := func(r []byte) { copy(r[hostDataAt:], initData.Bind(32)) }

	tests := []struct {
		name   string
		report func(r []byte) // before it is signed
		after  func(e *attest.Evidence)
		policy func(*appraise.TrustPolicy)
		opts   func(*appraise.Options)
		want   appraise.Expect
		reason refusal.Reason
	}{
		{name: "good"},
		{name: "amd is not named", policy: func(p *appraise.TrustPolicy) { p.Roots = []appraise.Root{{Name: appraise.RootIntel}} }, reason: refusal.RootNotTrusted},
		{name: "debug", report: debug, reason: refusal.DebugNotAllowed},
		{name: "debug is allowed", report: debug, policy: func(p *appraise.TrustPolicy) { p.AllowDebug = true }},
		{name: "VMPL 1", report: func(r []byte) { r[vmplAt] = 1 }, reason: refusal.EvidenceUnsupported},
		{name: "TCB below the least", policy: func(p *appraise.TrustPolicy) { p.MinimumSNPTCB.Microcode = 1 }, reason: refusal.TCBOutOfDate},
		{name: "other report data", want: appraise.Expect{ReportData: [64]byte{9}}, reason: refusal.ReportDataMismatch},
		{name: "init-data is bound", report: bind, want: appraise.Expect{InitData: []byte(initDataDocument)}},
		{name: "sandbox is shown", report: bind, want: appraise.Expect{InitData: []byte(initDataDocument)}, policy: func(p *appraise.TrustPolicy) { p.RequireSandbox = true }},
		{name: "other init-data", report: bind, want: appraise.Expect{InitData: []byte(initDataDocument + "\n")}, reason: refusal.InitDataMismatch},
		{name: "no certificate", after: func(e *attest.Evidence) { e.Aux = nil }, reason: refusal.CollateralMissing},
		{name: "certificate from the KDS", after: func(e *attest.Evidence) { e.Aux = nil }, opts: func(o *appraise.Options) {
			o.KDS = getter(func(string) ([]byte, error) { return signer.Vcek.Raw, nil })
		}},
		{name: "KDS is down", after: func(e *attest.Evidence) { e.Aux = nil }, opts: func(o *appraise.Options) {
			o.KDS = getter(func(string) ([]byte, error) { return nil, errors.New("down") })
		}, reason: refusal.CollateralMissing},
		{name: "broken certificate", after: func(e *attest.Evidence) { e.Aux = nil }, opts: func(o *appraise.Options) {
			o.KDS = getter(func(string) ([]byte, error) { return []byte("x"), nil })
		}, reason: refusal.CertificateInvalid},
		{name: "changed after signing", after: func(e *attest.Evidence) { e.Quote[guestSVNAt]++ }, reason: refusal.QuoteSignatureInvalid},
		{name: "cut", after: func(e *attest.Evidence) { e.Quote = e.Quote[:100] }, reason: refusal.EvidenceMalformed},
		{name: "broken table", after: func(e *attest.Evidence) { e.Aux = e.Aux[:30] }, reason: refusal.EvidenceMalformed},
		{name: "AMD's own roots did not sign it", opts: func(o *appraise.Options) { o.AMDRoots = nil }, reason: refusal.CertificateInvalid},
		{name: "certificates of the future", opts: func(o *appraise.Options) { o.Now = func() time.Time { return now.Add(-24 * time.Hour) } }, reason: refusal.CertificateInvalid},
		{name: "expired certificates", opts: func(o *appraise.Options) { o.Now = func() time.Time { return now.AddDate(30, 0, 0) } }, reason: refusal.CertificateInvalid},
		{name: "the table cannot name the root", opts: func(o *appraise.Options) {
			o.AMDRoots = map[string][]*trust.AMDRootCerts{"Genoa": rootsOf(other)["Milan"]}
		}, reason: refusal.CertificateInvalid},
	}
	for _, test := range tests {
		// Not parallel: the signer's source of randomness is not safe for that.
		t.Run(test.name, func(t *testing.T) {
			raw := sevtest.CreateRawReport(&sevtest.TestReportOptions{ReportData: make([]byte, 64)})
			report := raw[:abi.ReportSize]
			binary.LittleEndian.PutUint64(report[policyAt:], abi.SnpPolicyToBytes(abi.SnpPolicy{SMT: true}))
			if test.report != nil {
				test.report(report)
			}
			r, s, err := signer.Sign(abi.SignedComponent(report))
			if err != nil {
				t.Fatal(err)
			}
			if err := abi.SetSignature(r, s, report); err != nil {
				t.Fatal(err)
			}
			evidence := &attest.Evidence{TEE: attest.SNP, Quote: report, Aux: table}
			if test.after != nil {
				test.after(evidence)
			}
			opts := appraise.Options{AMDRoots: roots, Now: func() time.Time { return now.Add(time.Hour) }}
			if test.opts != nil {
				test.opts(&opts)
			}
			appraiser, err := appraise.New(amdPolicy(test.policy), nil, opts)
			if err != nil {
				t.Fatal(err)
			}
			claims, err := appraiser.Appraise(t.Context(), evidence, test.want)
			if refusal.Of(err) != test.reason || (err == nil) != (claims != nil) {
				t.Errorf("%v, want %q", err, test.reason)
			}
		})
	}
}

func TestKDSRemembersAndBounds(t *testing.T) {
	t.Parallel()
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		switch r.URL.Path {
		case "/vcek/v1/Milan/00":
			w.Write([]byte("certificate"))
		case "/long":
			w.Write(make([]byte, 1<<20))
		default:
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer server.Close()
	kds := appraise.NewKDS(server.URL + "/")
	for range 3 {
		if body, err := kds.Get(t.Context(), appraise.AMDKDS+"/vcek/v1/Milan/00?blSPL=1"); err != nil || string(body) != "certificate" {
			t.Fatalf("%q, %v", body, err)
		}
	}
	if requests != 1 {
		t.Errorf("%d requests, want 1", requests)
	}
	for _, url := range []string{appraise.AMDKDS + "/long", appraise.AMDKDS + "/busy", "https://elsewhere.example/"} {
		if _, err := kds.Get(t.Context(), url); err == nil {
			t.Errorf("%s was fetched", url)
		}
	}
}

type getter func(url string) ([]byte, error)

func (g getter) Get(_ context.Context, url string) ([]byte, error) { return g(url) }

func amdPolicy(change func(*appraise.TrustPolicy)) *appraise.TrustPolicy {
	policy := &appraise.TrustPolicy{Roots: []appraise.Root{{Name: appraise.RootAMD}}}
	if change != nil {
		change(policy)
	}
	return policy
}

func rootsOf(signer *sevtest.AmdSigner) map[string][]*trust.AMDRootCerts {
	root := trust.AMDRootCertsProduct("Milan")
	root.ProductCerts = &trust.ProductCerts{Ark: signer.Ark, Ask: signer.Ask, Asvk: signer.Asvk}
	return map[string][]*trust.AMDRootCerts{"Milan": {root}}
}
