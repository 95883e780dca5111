package pcs_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/dcap/pcs"
	"github.com/adyton-dev/adyton/internal/vectors"
	"github.com/adyton-dev/adyton/refusal"
)

type run struct {
	Quote, TEE   string
	Time         time.Time
	TCBInfo      string `json:"tcb_info"`
	TCBInfoChain string `json:"tcb_info_issuer_chain"`
	QEIdentity   string `json:"qe_identity"`
	QEIDChain    string `json:"qe_identity_issuer_chain"`
	PCKCRL       string `json:"pck_crl"`
	PCKCRLChain  string `json:"pck_crl_issuer_chain"`
	RootCACRL    string `json:"root_ca_crl"`
}

// service answers as a PCCS with the documents of one run of the vectors.
type service struct {
	t        *testing.T
	dir      string
	run      run
	requests sync.Map // path?query → *atomic.Int32
	pckChain []byte   // served by /pckcert
	delay    chan struct{}
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	count, _ := s.requests.LoadOrStore(r.URL.RequestURI(), new(atomic.Int32))
	count.(*atomic.Int32).Add(1)
	if s.delay != nil {
		<-s.delay
	}
	chain := func(header, file string) { w.Header().Set(header, url.PathEscape(string(s.file(file)))) }
	prefix := "/sgx/certification/"
	if strings.HasPrefix(r.URL.Path, "/tdx/") {
		prefix = "/tdx/certification/"
	}
	path := strings.TrimPrefix(r.URL.Path, prefix)
	version, path, _ := strings.Cut(path, "/")
	switch path {
	case "tcb":
		header := "TCB-Info-Issuer-Chain"
		if version == "v3" {
			header = "SGX-TCB-Info-Issuer-Chain"
		}
		chain(header, s.run.TCBInfoChain)
		_, _ = w.Write(s.file(s.run.TCBInfo))
	case "qe/identity":
		chain("SGX-Enclave-Identity-Issuer-Chain", s.run.QEIDChain)
		_, _ = w.Write(s.file(s.run.QEIdentity))
	case "pckcrl":
		chain("SGX-PCK-CRL-Issuer-Chain", s.run.PCKCRLChain)
		_, _ = w.Write(s.file(s.run.PCKCRL))
	case "rootcacrl":
		_, _ = w.Write([]byte(hex.EncodeToString(s.file(s.run.RootCACRL))))
	case "pckcert":
		leaf, rest, _ := strings.Cut(string(s.pckChain), "-----END CERTIFICATE-----\n")
		w.Header().Set("SGX-PCK-Certificate-Issuer-Chain", url.PathEscape(strings.TrimRight(rest, "\x00")))
		_, _ = w.Write([]byte(leaf + "-----END CERTIFICATE-----\n"))
	default:
		http.NotFound(w, r)
	}
}

func (s *service) file(name string) []byte {
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Error(err)
	}
	return b
}

// vectorsDir gives the directory of the quotes and their collateral.
func vectorsDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(vectors.Dir(t), "dcap")
}

// newService serves the first run of a TEE whose verification time is the
// document's; the cache of the client is by the real clock.
func newService(t *testing.T, tee string) (*service, *httptest.Server, *dcap.Quote) {
	t.Helper()
	dir := vectorsDir(t)
	text, err := os.ReadFile(filepath.Join(dir, "runs.json"))
	if err != nil {
		t.Fatal(err)
	}
	var runs []run
	if err := json.Unmarshal(text, &runs); err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		if r.TEE != tee {
			continue
		}
		s := &service{t: t, dir: dir, run: r}
		quote, err := dcap.ParseQuote(s.file(r.Quote))
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(s)
		t.Cleanup(server.Close)
		return s, server, quote
	}
	t.Fatalf("no run for %s", tee)
	return nil, nil, nil
}

func (s *service) verify(t *testing.T, c *dcap.Collateral) {
	t.Helper()
	v, err := dcap.NewVerifier(dcap.VerifierOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(s.file(s.run.Quote), c, s.run.Time); err != nil {
		t.Error(err)
	}
}

func TestCollateralOfEveryAPIVerifies(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ tee, suffix, wantPath string }{
		{"SGX", "", "/sgx/certification/v4/tcb"},
		{"SGX", "/sgx/certification/v3/", "/sgx/certification/v3/tcb"},
		{"SGX", "/sgx/certification/v4", "/sgx/certification/v4/tcb"},
		{"TDX", "", "/tdx/certification/v4/tcb"},
		{"TDX1.5", "/sgx/certification/v3", "/tdx/certification/v4/tcb"},
	} {
		t.Run(row.tee+row.suffix, func(t *testing.T) {
			t.Parallel()
			s, server, quote := newService(t, row.tee)
			client, err := pcs.New(server.URL+row.suffix, pcs.Options{Update: pcs.Early})
			if err != nil {
				t.Fatal(err)
			}
			c, err := client.Collateral(t.Context(), quote)
			if err != nil {
				t.Fatal(err)
			}
			s.verify(t, c)
			asked := false
			s.requests.Range(func(uri, _ any) bool {
				path, query, _ := strings.Cut(uri.(string), "?")
				asked = asked || path == row.wantPath && strings.Contains(query, "update=early")
				return true
			})
			if !asked {
				t.Errorf("no request for %s with update=early", row.wantPath)
			}
		})
	}
}

func TestPCKChainIsFetchedForQuotesWithoutOne(t *testing.T) {
	t.Parallel()
	for certType, size := range map[dcap.CertificationDataType]int{dcap.PPIDClear: 36, dcap.PPIDRSA2048: 276, dcap.PPIDRSA3072: 404, dcap.PCKCertificate: 0} {
		s, server, quote := newService(t, "SGX")
		s.pckChain = quote.CertificationData.Data
		quote.CertificationData.Type = certType
		if size > 0 {
			data := make([]byte, size)
			data[size-4] = 0x0d // PCESVN 13
			quote.CertificationData.Data = data
		}
		client, err := pcs.New(server.URL, pcs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.Collateral(t.Context(), quote)
		if err != nil {
			t.Fatalf("type %d: %v", certType, err)
		}
		s.verify(t, c)
		if certs := strings.Count(string(c.PCKCertChain), "BEGIN CERTIFICATE"); certs != 3 {
			t.Errorf("type %d: chain of %d certificates", certType, certs)
		}
		s.requests.Range(func(uri, _ any) bool {
			if u := uri.(string); strings.Contains(u, "/pckcert?") && !strings.Contains(u, "pcesvn=0d00") {
				t.Errorf("type %d: PCESVN is not little-endian in %s", certType, u)
			}
			return true
		})
	}
}

func TestIdenticalRequestsAreSentOnce(t *testing.T) {
	t.Parallel()
	s, server, quote := newService(t, "TDX")
	s.delay = make(chan struct{})
	client, err := pcs.New(server.URL, pcs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if _, err := client.Collateral(t.Context(), quote); err != nil {
				t.Error(err)
			}
		})
	}
	close(s.delay)
	wait.Wait()
	total := 0
	s.requests.Range(func(_, count any) bool { total += int(count.(*atomic.Int32).Load()); return true })
	// The vectors' documents have expired by now, so that only those that came
	// together are shared; still far fewer than 20 × 4.
	if total > 60 {
		t.Errorf("%d requests were sent", total)
	}
}

func TestFailuresNameTheURL(t *testing.T) {
	t.Parallel()
	s, server, quote := newService(t, "SGX")
	for name, handler := range map[string]http.HandlerFunc{
		"404":            func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"no chain":       func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) },
		"endless":        func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 2<<20)) },
		"broken headers": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("TCB-Info-Issuer-Chain", "%zz") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/tcb") {
					handler(w, r)
					return
				}
				s.ServeHTTP(w, r)
			}))
			defer bad.Close()
			client, err := pcs.New(bad.URL, pcs.Options{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Collateral(t.Context(), quote)
			if refusal.Of(err) != refusal.CollateralMissing || !strings.Contains(err.Error(), bad.URL+"/sgx/certification/v4/tcb?fmspc=") {
				t.Errorf("error = %v, want CollateralMissing with the URL", err)
			}
		})
	}
	client, err := pcs.New(server.URL, pcs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Collateral(canceled, quote); refusal.Of(err) != refusal.CollateralMissing {
		t.Errorf("a cancelled context gives %v", err)
	}
}

// Evidence that is not verified yet chooses the FMSPC, so that a flood of made-up
// ones must not become a flood at the service.
func TestRequestsToTheServiceAreBounded(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	_, _, quote := newService(t, "SGX")
	client, err := pcs.New(server.URL, pcs.Options{Rate: 0.001})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := client.Collateral(t.Context(), quote); refusal.Of(err) != refusal.CollateralMissing {
			t.Fatalf("error %v, want CollateralMissing", err)
		}
	}
	if n := asked.Load(); n > 1 {
		t.Errorf("%d requests reached the service, want at most 1", n)
	}
}

func TestBaseURLMustBeOfAService(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "pccs:8081", "ftp://pccs", "https://", "https://pccs\x00"} {
		if _, err := pcs.New(bad, pcs.Options{}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
