package pcs_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/dcap"
	client "github.com/adyton-dev/adyton/dcap/pcs"
	"github.com/adyton-dev/adyton/internal/softtee"
	"github.com/adyton-dev/adyton/sgx"
)

// service serves the installation that all tests share.
func service(t *testing.T) (*softtee.Installation, *httptest.Server) {
	t.Helper()
	inst, err := installation()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(inst.PCS())
	t.Cleanup(server.Close)
	return inst, server
}

// defaultPlatform gives the one that every installation has.
func defaultPlatform(t *testing.T, inst *softtee.Installation) softtee.PlatformInfo {
	t.Helper()
	platforms, err := inst.Platforms()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range platforms {
		if p.Name == softtee.DefaultPlatform {
			return p
		}
	}
	t.Fatal("no default platform")
	return softtee.PlatformInfo{}
}

// get gives an answer without error.
func get(t *testing.T, target string) (*http.Response, []byte) {
	t.Helper()
	response, err := http.Get(target)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, body
}

var enclaveKey = sync.OnceValues(func() (key signer, err error) { return sgx.GenerateKey(rand.Reader) })

func sgxQuote(t *testing.T, p *softtee.Platform) []byte {
	t.Helper()
	key, err := enclaveKey()
	if err != nil {
		t.Fatal(err)
	}
	secs := &sgx.SECS{Size: 8192, SSAFrameSize: 1, Attributes: sgx.Attributes{Flags: sgx.AttributeMode64Bit, XFRM: 3}}
	sig := &sgx.SigStruct{Date: 0x20260901, Attributes: secs.Attributes}
	if err := sig.Sign(key); err != nil {
		t.Fatal(err)
	}
	e, err := p.CPU().EINIT(secs, sig.EnclaveHash, sig)
	if err != nil {
		t.Fatal(err)
	}
	quote, err := p.Quote(e.EREPORT(p.QETargetInfo(), sgx.ReportData{1}))
	if err != nil {
		t.Fatal(err)
	}
	return quote
}

// TestOurClientVerifiesByIt goes the whole way: quote, collateral over HTTP by both
// versions of the API, verdict.
func TestOurClientVerifiesByIt(t *testing.T) {
	t.Parallel()
	inst, server := service(t)
	if err := inst.CreatePlatform("stale", softtee.PlatformSpec{TCB: dcap.OutOfDate, CA: dcap.ProcessorCA}); err != nil {
		t.Fatal(err)
	}
	p, err := inst.Platform("stale")
	if err != nil {
		t.Fatal(err)
	}
	sgxV3 := sgxQuote(t, p)
	tdV4, err := p.TDQuote(softtee.TD{}, [64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := dcap.NewVerifier(dcap.VerifierOptions{Roots: []dcap.Root{inst.TrustRoot("test")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, base string
		quote      []byte
	}{
		{"SGX by v4", "", sgxV3},
		{"SGX by v3", "/sgx/certification/v3", sgxV3},
		{"TDX", "", tdV4},
		{"SGX without a chain in the quote", "", withoutChain(t, sgxV3)},
	} {
		c, err := client.New(server.URL+test.base, client.Options{Update: client.Early})
		if err != nil {
			t.Fatal(err)
		}
		quote, err := dcap.ParseQuote(test.quote)
		if err != nil {
			t.Fatal(err)
		}
		collateral, err := c.Collateral(t.Context(), quote)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		result, err := verifier.Verify(test.quote, collateral, time.Now())
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if result.Status != dcap.OutOfDate || result.PCK.CA != dcap.ProcessorCA {
			t.Errorf("%s: status %s, CA %s; want OutOfDate, processor", test.name, result.Status, result.PCK.CA)
		}
	}
}

// withoutChain replaces the certification data of a quote v3 by type 1, the
// platform's id, so that the PCK certificate must be asked for.
func withoutChain(t *testing.T, raw []byte) []byte {
	t.Helper()
	quote, err := dcap.ParseQuote(raw)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(firstPEM(t, quote.CertificationData.Data))
	if err != nil {
		t.Fatal(err)
	}
	pck, err := dcap.PCKOf(leaf)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	id := append(pck.PPID[:], pck.CPUSVN[:]...)
	id = le.AppendUint16(id, pck.PCESVN)
	id = le.AppendUint16(id, 0) // PCEID
	const headerAndBody = 48 + 384
	end := len(raw) - len(quote.CertificationData.Data) - 6
	out := bytes.Clone(raw[:end])
	out = le.AppendUint16(out, uint16(dcap.PPIDClear))
	out = le.AppendUint32(out, uint32(len(id)))
	out = append(out, id...)
	le.PutUint32(out[headerAndBody:], uint32(len(out)-headerAndBody-4))
	return out
}

func TestPathsHeadersAndForms(t *testing.T) {
	t.Parallel()
	inst, server := service(t)
	p := defaultPlatform(t, inst)
	pckcert := "/pckcert?" + url.Values{"qeid": {p.QEID}, "cpusvn": {p.CPUSVN}, "pcesvn": {"0d00"}, "pceid": {"0000"}}.Encode()
	type test struct {
		path, contentType, chain string
		json                     string // the signed member
	}
	tests := []test{
		{path: "/sgx/certification/v3/tcb?fmspc=" + p.FMSPC, chain: "SGX-TCB-Info-Issuer-Chain", json: "tcbInfo"},
		{path: "/sgx/certification/v4/tcb?fmspc=" + strings.ToUpper(p.FMSPC) + "&update=early", chain: "TCB-Info-Issuer-Chain", json: "tcbInfo"},
		{path: "/tdx/certification/v4/tcb?fmspc=" + p.FMSPC, chain: "TCB-Info-Issuer-Chain", json: "tcbInfo"},
		{path: "/tdx/certification/v4/qe/identity", chain: "SGX-Enclave-Identity-Issuer-Chain", json: "enclaveIdentity"},
		{path: "/sgx/certification/v4/tcbevaluationdatanumbers", chain: "TCB-Evaluation-Data-Numbers-Issuer-Chain", json: "tcbEvaluationDataNumbers"},
		{path: "/AdytonSoftwareTEERootCA.der", contentType: "application/pkix-crl"},
		{path: "/sgx/certification/v4/crl?uri=" + url.QueryEscape("http://localhost:8081/AdytonSoftwareTEERootCA.der"), contentType: "application/pkix-crl"},
	}
	for _, v := range []string{"/sgx/certification/v3", "/sgx/certification/v4"} {
		tests = append(tests,
			test{path: v + "/qe/identity", chain: "SGX-Enclave-Identity-Issuer-Chain", json: "enclaveIdentity"},
			test{path: v + "/pckcrl?ca=platform&encoding=der", contentType: "application/pkix-crl", chain: "SGX-PCK-CRL-Issuer-Chain"},
			test{path: v + "/pckcrl?ca=processor", contentType: "text/plain", chain: "SGX-PCK-CRL-Issuer-Chain"},
			test{path: v + "/rootcacrl", contentType: "text/plain"},
			test{path: v + pckcert, contentType: "application/x-pem-file", chain: "SGX-PCK-Certificate-Issuer-Chain"},
		)
	}
	for _, test := range tests {
		response, body := get(t, server.URL+test.path)
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s: %s", test.path, response.Status, body)
			continue
		}
		if len(response.Header.Get("Request-ID")) != 32 {
			t.Errorf("%s: Request-ID %q", test.path, response.Header.Get("Request-ID"))
		}
		if test.json != "" {
			test.contentType = "application/json"
			var document map[string]json.RawMessage
			if err := json.Unmarshal(body, &document); err != nil || document[test.json] == nil || len(document["signature"]) != 130 {
				t.Errorf("%s: not a signed %s (%v)", test.path, test.json, err)
			}
		}
		if got := response.Header.Get("Content-Type"); !strings.HasPrefix(got, test.contentType) {
			t.Errorf("%s: content type %q, want %q", test.path, got, test.contentType)
		}
		if test.chain != "" {
			chain, err := url.PathUnescape(response.Header.Get(test.chain))
			if err != nil || strings.Count(chain, "-----BEGIN CERTIFICATE-----") != 2 {
				t.Errorf("%s: header %s is no chain of two", test.path, test.chain)
			}
		}
		var der []byte
		switch test.contentType {
		case "application/pkix-crl":
			der = body
		case "text/plain":
			var err error
			if der, err = hex.DecodeString(string(body)); err != nil {
				t.Errorf("%s: not hex: %v", test.path, err)
			}
		default:
			continue
		}
		if _, err := x509.ParseRevocationList(der); err != nil {
			t.Errorf("%s: %v", test.path, err)
		}
	}
	response, _ := get(t, server.URL+"/sgx/certification/v4"+pckcert)
	for name, want := range map[string]string{
		"SGX-FMSPC": strings.ToUpper(p.FMSPC), "SGX-PCK-Certificate-CA-Type": "platform", "SGX-TCBm": strings.ToUpper(p.CPUSVN) + "0D00",
	} {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestBadRequestsAreToldApart(t *testing.T) {
	t.Parallel()
	inst, server := service(t)
	p := defaultPlatform(t, inst)
	low := url.Values{"qeid": {p.QEID}, "cpusvn": {strings.Repeat("0", 32)}, "pcesvn": {"0d00"}, "pceid": {"0000"}}.Encode()
	for path, want := range map[string]int{
		"/sgx/certification/v4/tcb":                                              400,
		"/sgx/certification/v4/tcb?fmspc=zz":                                     400,
		"/sgx/certification/v4/tcb?fmspc=000000000000":                           404,
		"/sgx/certification/v4/tcb?fmspc=" + p.FMSPC + "&update=late":            400,
		"/sgx/certification/v4/pckcrl":                                           400,
		"/sgx/certification/v4/pckcrl?ca=root":                                   400,
		"/sgx/certification/v4/pckcrl?ca=platform&encoding=pem":                  400,
		"/sgx/certification/v4/pckcert?qeid=00":                                  400,
		"/sgx/certification/v4/pckcert?" + low:                                   404, // below the certificate's TCB
		"/sgx/certification/v4/crl?uri=http://elsewhere/x.crl":                   404,
		"/sgx/certification/v4/crl":                                              400,
		"/sgx/certification/v4/qve/identity":                                     404,
		"/sgx/certification/v2/tcb?fmspc=" + p.FMSPC:                             404,
		"/sgx/certification/v4/qe/identity?update=%zz":                           400,
		"/sgx/certification/v4/tcb?fmspc=" + url.QueryEscape("../../etc/passwd"): 400,
	} {
		response, body := get(t, server.URL+path)
		if response.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", path, response.StatusCode, body, want)
		}
		if response.Header.Get("Request-ID") == "" {
			t.Errorf("%s: no Request-ID", path)
		}
	}
	response, err := http.Post(server.URL+"/sgx/certification/v4/qe/identity", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s, want 405", response.Status)
	}
}

func TestPlatformsMadeLaterAreServed(t *testing.T) {
	t.Parallel()
	inst, server := service(t)
	if err := inst.CreatePlatform("late", softtee.PlatformSpec{}); err != nil {
		t.Fatal(err)
	}
	_, body := get(t, server.URL+"/sgx/certification/v4/fmspcs")
	var families []struct{ FMSPC, Platform string }
	if err := json.Unmarshal(body, &families); err != nil || len(families) < 2 {
		t.Fatalf("fmspcs = %s (%v), want two or more", body, err)
	}
	for _, f := range families {
		if response, _ := get(t, server.URL+"/sgx/certification/v4/tcb?fmspc="+f.FMSPC); response.StatusCode != http.StatusOK {
			t.Errorf("TCB info of %s: %s", f.FMSPC, response.Status)
		}
	}
}

// FuzzRequest sends any path and query: an answer, bounded, never a panic.
func FuzzRequest(f *testing.F) {
	inst, err := installation()
	if err != nil {
		f.Fatal(err)
	}
	handler := inst.PCS()
	for _, seed := range []string{
		"/sgx/certification/v4/tcb?fmspc=00906ED50000", "/sgx/certification/v3/pckcrl?ca=platform&encoding=der",
		"/sgx/certification/v4/pckcert?qeid=00&cpusvn=0&pcesvn=0&pceid=0", "/sgx/certification/v4/crl?uri=%2F", "/tdx/certification/v4/qe/identity",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Scheme != "" {
			t.Skip()
		}
		request := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}, RequestURI: target}).WithContext(context.Background())
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		if recorder.Code >= 500 || recorder.Body.Len() > 1<<20 {
			t.Errorf("%q: %d, %d bytes", target, recorder.Code, recorder.Body.Len())
		}
	})
}
