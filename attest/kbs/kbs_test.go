package kbs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/refusal"
)

const secret = "0123456789abcdef0123456789abcdef"

func TestSession(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{kbs.ECDH, kbs.RSAOAEP} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			broker := newBroker(t)
			client := newClient(t, broker, func(o *kbs.Options) {
				o.KeyAlgorithm = algorithm
				o.InitData = []byte("version = \"0.1.0\"\n")
			})
			token, err := client.Attest(t.Context())
			if err != nil || token != "a.b.c" {
				t.Fatalf("Attest = %q, %v", token, err)
			}
			got, err := client.Resource(t.Context(), "kbs:///hospital-a/key/cohort")
			if err != nil || string(got) != secret {
				t.Errorf("Resource = %q, %v", got, err)
			}
			if n := broker.auths.Load(); n != 1 {
				t.Errorf("%d sessions for one client, want 1", n)
			}
			if broker.initData.Format != "toml" || broker.initData.Body != "version = \"0.1.0\"\n" {
				t.Errorf("init-data = %+v", broker.initData)
			}
		})
	}
}

func TestResourceAttestsWhenNeeded(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	client := newClient(t, broker, nil)
	if _, err := client.Resource(t.Context(), "hospital-a/key/cohort"); err != nil {
		t.Fatal(err)
	}
	broker.forget()
	if _, err := client.Resource(t.Context(), "hospital-a/key/cohort"); err != nil {
		t.Errorf("after the broker forgot the session: %v", err)
	}
	if n := broker.auths.Load(); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
}

func TestRefusalReasonsPassThrough(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		body   string
		want   refusal.Reason
		text   string
	}{
		{"Adyton's reason", 403, `{"type":"https://github.com/confidential-containers/kbs/errors/PolicyDeny","detail":"svn 1, want 2","reason":"SVNTooLow"}`, refusal.SVNTooLow, "svn 1, want 2"},
		{"a policy's own reason", 403, `{"type":"x","detail":"closed","reason":"OfficeHours"}`, "OfficeHours", "closed"},
		{"no word as a reason", 403, `{"type":"x","detail":"d","reason":"a b\nc"}`, refusal.Forbidden, "d"},
		{"other KBS 401", 401, `{"type":"https://github.com/confidential-containers/kbs/errors/TokenNotFound","detail":""}`, refusal.Unauthorized, "TokenNotFound"},
		{"other KBS 403", 403, `{"type":"x","detail":"no"}`, refusal.Forbidden, "no"},
		{"other KBS 404", 404, `{"type":"x","detail":"no"}`, refusal.ResourceNotFound, "no"},
		{"rate limit", 429, ``, refusal.RateLimited, "429"},
		{"proxy", 502, `<html>`, refusal.BrokerUnreachable, "502"},
		{"control characters", 404, `{"type":"x","detail":"a\u001b[31mb\nc"}`, refusal.ResourceNotFound, "a [31mb c"},
		{"server error", 500, `{"type":"x","detail":"disk"}`, "", "500 Internal Server Error: disk"},
		{"redirect", 302, ``, "", "302 Found"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			broker := newBroker(t)
			broker.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasPrefix(r.URL.Path, kbs.ResourcePath) {
					return false
				}
				w.Header().Set("Location", "https://elsewhere.example/")
				w.WriteHeader(test.status)
				w.Write([]byte(test.body))
				return true
			}
			_, err := newClient(t, broker, nil).Resource(t.Context(), "kbs:///r/t/n")
			if err == nil || refusal.Of(err) != test.want || !strings.Contains(err.Error(), test.text) || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("reason %q, error %q; want %q with %q", refusal.Of(err), err, test.want, test.text)
			}
		})
	}
}

func TestUnauthorizedIsTriedOnceMoreOnly(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	client := newClient(t, broker, nil)
	if _, err := client.Attest(t.Context()); err != nil {
		t.Fatal(err)
	}
	broker.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, kbs.ResourcePath) {
			return false
		}
		w.WriteHeader(401)
		return true
	}
	if _, err := client.Resource(t.Context(), "kbs:///r/t/n"); refusal.Of(err) != refusal.Unauthorized {
		t.Errorf("Resource: %v", err)
	}
	if n := broker.auths.Load(); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
}

func TestWrongPinIsBrokerNotTrusted(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	client := newClient(t, broker, func(o *kbs.Options) { o.SPKI = "sha256:" + strings.Repeat("0", 64) })
	start := time.Now()
	_, err := client.Attest(t.Context())
	if refusal.Of(err) != refusal.BrokerNotTrusted {
		t.Errorf("Attest: %v", err)
	}
	if broker.auths.Load() != 0 || time.Since(start) > 5*time.Second {
		t.Error("the client talked to, or retried, a broker that it does not trust")
	}
}

func TestUnknownIssuerIsBrokerNotTrusted(t *testing.T) {
	t.Parallel()
	client := newClient(t, newBroker(t), func(o *kbs.Options) { o.SPKI = "" })
	if _, err := client.Attest(t.Context()); refusal.Of(err) != refusal.BrokerNotTrusted {
		t.Errorf("Attest: %v", err)
	}
}

func TestRootCAs(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	client := newClient(t, broker, func(o *kbs.Options) {
		o.SPKI = ""
		o.RootCAs = broker.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	})
	if _, err := client.Attest(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPlainHTTPIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := kbs.New(kbs.Options{URL: "http://broker:8080", Attester: fakeAttester{}}); refusal.Of(err) != refusal.BrokerNotTrusted {
		t.Errorf("New: %v", err)
	}
}

func TestWrongOptionsAreNamed(t *testing.T) {
	t.Parallel()
	for _, opts := range []kbs.Options{
		{URL: "", Attester: fakeAttester{}},
		{URL: "ftp://x", Attester: fakeAttester{}},
		{URL: "https://user:password@x", Attester: fakeAttester{}},
		{URL: "https://x?y", Attester: fakeAttester{}},
		{URL: "https://x"},
		{URL: "https://x", Attester: fakeAttester{}, SPKI: "sha256:00"},
		{URL: "https://x", Attester: fakeAttester{}, KeyAlgorithm: "RSA1_5"},
	} {
		if _, err := kbs.New(opts); err == nil || strings.Contains(err.Error(), "password") {
			t.Errorf("New(%+v): %v", opts, err)
		}
	}
}

func TestBrokerThatIsDown(t *testing.T) {
	t.Parallel()
	var dials atomic.Int32
	client, err := kbs.New(kbs.Options{
		URL: "https://broker.invalid", Attester: fakeAttester{}, Attempts: 3, Backoff: time.Millisecond,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			dials.Add(1)
			return nil, errors.New("connection refused")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Attest(t.Context()); refusal.Of(err) != refusal.BrokerUnreachable {
		t.Errorf("Attest: %v", err)
	}
	if n := dials.Load(); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
}

func TestConnectionFailuresAreRetried(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	var dials atomic.Int32
	client := newClient(t, broker, func(o *kbs.Options) {
		o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials.Add(1) < 3 {
				return nil, errors.New("connection refused")
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	})
	if _, err := client.Attest(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestContextEndsRetries(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	client, err := kbs.New(kbs.Options{
		URL: "https://broker.invalid", Attester: fakeAttester{}, Attempts: 1000, Backoff: time.Hour,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			cancel()
			return nil, errors.New("connection refused")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Attest(ctx); refusal.Of(err) != refusal.BrokerUnreachable {
		t.Errorf("Attest: %v", err)
	}
}

// TestUnixSocketRelay is how an enclave without network reaches its broker.
func TestUnixSocketRelay(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			inner, err := listener.Accept()
			if err != nil {
				return
			}
			relays.Go(func() { relay(inner, broker.Listener.Addr().String()) })
		}
	})
	client := newClient(t, broker, func(o *kbs.Options) {
		o.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
	})
	if got, err := client.Resource(t.Context(), "kbs:///r/t/n"); err != nil || string(got) != secret {
		t.Errorf("Resource = %q, %v", got, err)
	}
	client.Close()
	listener.Close()
	relays.Wait()
}

func TestLongAnswersAreRefused(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	broker.answer = func(w http.ResponseWriter, r *http.Request) bool {
		w.Write([]byte(strings.Repeat(" ", kbs.MaxBody+1)))
		return true
	}
	if _, err := newClient(t, broker, nil).Attest(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("Attest: %v", err)
	}
	if n := broker.requests.Load(); n != 1 {
		t.Errorf("%d requests, want 1: an answer is never retried", n)
	}
}

func TestClosedClientFails(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	client := newClient(t, broker, nil)
	if _, err := client.Attest(t.Context()); err != nil {
		t.Fatal(err)
	}
	client.Close()
	client.Close()
	if _, err := client.Resource(t.Context(), "kbs:///r/t/n"); err == nil {
		t.Error("a closed client fetched a resource")
	}
	if _, err := client.Attest(t.Context()); err == nil {
		t.Error("a closed client attested")
	}
}

func TestAttesterErrorsAreKept(t *testing.T) {
	t.Parallel()
	want := errors.New("no quoting enclave")
	client := newClient(t, newBroker(t), func(o *kbs.Options) { o.Attester = fakeAttester{err: want} })
	if _, err := client.Attest(t.Context()); !errors.Is(err, want) {
		t.Errorf("Attest: %v", err)
	}
}

func TestReportDataIsSHA384OfCanonicalJSON(t *testing.T) {
	t.Parallel()
	got, err := kbs.ReportData("bm9uY2U=", json.RawMessage(` {"y":"B", "kty":"EC","x":"A","crv":"P-256","alg":"ECDH-ES+A256KW"} `), "")
	if err != nil {
		t.Fatal(err)
	}
	want := sha512.Sum384([]byte(`{"additional-evidence":"","nonce":"bm9uY2U=","tee-pubkey":{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"A","y":"B"}}`))
	if [48]byte(got[:48]) != want || [16]byte(got[48:]) != [16]byte{} {
		t.Errorf("ReportData = %x, want %x and zeros", got, want)
	}
	if _, err := kbs.ReportData("", json.RawMessage(`{`), ""); refusal.Of(err) != refusal.EvidenceMalformed {
		t.Errorf("broken key: %v", err)
	}
}

// TestJWEIsStandard decrypts with go-jose what Encrypt made by hand, and checks
// the header's canonical order that clients of Confidential Containers need.
func TestJWEIsStandard(t *testing.T) {
	t.Parallel()
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		algorithm jose.KeyAlgorithm
		public    any
		private   any
		header    string
	}{
		{jose.ECDH_ES_A256KW, ecKey.Public(), ecKey, `{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"crv":"P-256","kty":"EC","x":"`},
		{jose.RSA_OAEP_256, rsaKey.Public(), rsaKey, `{"alg":"RSA-OAEP-256","enc":"A256GCM"}`},
	}
	for _, test := range tests {
		public, err := json.Marshal(jose.JSONWebKey{Key: test.public, Algorithm: string(test.algorithm)})
		if err != nil {
			t.Fatal(err)
		}
		response, err := kbs.Encrypt(public, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		header, err := base64.RawURLEncoding.DecodeString(response.Protected)
		if err != nil || !strings.HasPrefix(string(header), test.header) {
			t.Errorf("header %s, %v", header, err)
		}
		flattened, err := json.Marshal(response)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := jose.ParseEncryptedJSON(string(flattened), []jose.KeyAlgorithm{test.algorithm}, []jose.ContentEncryption{jose.A256GCM})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parsed.Decrypt(test.private); err != nil || string(got) != secret {
			t.Errorf("%s: %q, %v", test.algorithm, got, err)
		}
	}
}

func TestEncryptRefusesWeakAndForeignKeys(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	marshal := func(jwk jose.JSONWebKey) json.RawMessage {
		raw, err := json.Marshal(jwk)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, key := range map[string]json.RawMessage{
		"empty":         nil,
		"no key":        json.RawMessage(`{}`),
		"symmetric":     marshal(jose.JSONWebKey{Key: []byte(secret), Algorithm: kbs.ECDH}),
		"P-384":         marshal(jose.JSONWebKey{Key: p384.Public(), Algorithm: kbs.ECDH}),
		"no alg":        marshal(jose.JSONWebKey{Key: p256.Public()}),
		"direct ECDH":   marshal(jose.JSONWebKey{Key: p256.Public(), Algorithm: "ECDH-ES"}),
		"PKCS #1 v1.5":  json.RawMessage(`{"kty":"RSA","alg":"RSA1_5","n":"` + strings.Repeat("A", 342) + `","e":"AQAB"}`),
		"RSA-1024":      json.RawMessage(`{"kty":"RSA","alg":"RSA-OAEP-256","n":"` + strings.Repeat("_", 171) + `","e":"AQAB"}`),
		"not the curve": json.RawMessage(`{"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`),
	} {
		if _, err := kbs.Encrypt(key, []byte(secret)); refusal.Of(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
		if err := kbs.CheckPublicKey(key); refusal.Of(err) == "" {
			t.Errorf("%s: CheckPublicKey: %v", name, err)
		}
	}
}

func TestEvidenceForms(t *testing.T) {
	t.Parallel()
	for _, want := range []attest.Evidence{
		{TEE: attest.SGX, Quote: []byte("quote")},
		{TEE: attest.TDX, Quote: []byte("quote")},
		{TEE: attest.TDX, Quote: []byte("quote"), Aux: []byte("event log")},
		{TEE: attest.SNP, Quote: []byte("report")},
		{TEE: attest.SNP, Quote: []byte("report"), Aux: []byte("certificates")},
	} {
		raw, err := kbs.MarshalEvidence(&want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := kbs.UnmarshalEvidence(want.TEE, raw)
		if err != nil || got.TEE != want.TEE || string(got.Quote) != string(want.Quote) || string(got.Aux) != string(want.Aux) {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
	}
	for _, test := range []struct {
		tee, raw string
		want     refusal.Reason
	}{
		{attest.SGX, `{"quote":""}`, refusal.EvidenceMalformed},
		{attest.SGX, `{"quote":"*"}`, refusal.EvidenceMalformed},
		{attest.SGX, `[]`, refusal.EvidenceMalformed},
		{attest.TDX, ``, refusal.EvidenceMalformed},
		{attest.SNP, `{}`, refusal.EvidenceMalformed},
		{attest.SNP, `{"attestation_report":{"version":2}}`, refusal.EvidenceUnsupported},
		{"sample", `{}`, refusal.EvidenceUnsupported},
	} {
		if _, err := kbs.UnmarshalEvidence(test.tee, json.RawMessage(test.raw)); refusal.Of(err) != test.want {
			t.Errorf("%s %s: %v, want %s", test.tee, test.raw, err, test.want)
		}
	}
	if _, err := kbs.MarshalEvidence(&attest.Evidence{TEE: "cca"}); refusal.Of(err) != refusal.EvidenceUnsupported {
		t.Errorf("cca: %v", err)
	}
}

func TestResourceURI(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"kbs:///a/b/c", "a/b/c", "kbs:///hospital-a/key/cohort.v1", "_/-/0"} {
		u, err := kbs.ParseResourceURI(ok)
		if err != nil || u.String() != "kbs:///"+strings.TrimPrefix(ok, "kbs:///") {
			t.Errorf("%s: %v, %v", ok, u, err)
		}
	}
	for _, bad := range []string{"", "a/b", "a/b/c/d", "kbs://host/a/b/c", "a/../c", "a/.b/c", "a//c", "a/b/c\n", "a/b/" + strings.Repeat("c", 256), "a/b/c?x", "a/b/ü"} {
		if u, err := kbs.ParseResourceURI(bad); err == nil {
			t.Errorf("%q gave %v", bad, u)
		}
	}
}

func FuzzUnmarshalEvidence(f *testing.F) {
	f.Add("sgx", []byte(`{"quote":"AAAA"}`))
	f.Add("tdx", []byte(`{"quote":"AAAA","cc_eventlog":"AA=="}`))
	f.Add("snp", []byte(`{"attestation_report":"AAAA","cert_table":""}`))
	f.Add("snp", []byte(`{"attestation_report":[1]}`))
	f.Fuzz(func(t *testing.T, tee string, raw []byte) {
		evidence, err := kbs.UnmarshalEvidence(tee, raw)
		if (err == nil) != (evidence != nil) || err != nil && refusal.Of(err) == "" {
			t.Errorf("%v, %v", evidence, err)
		}
	})
}

func FuzzTEEPublicKey(f *testing.F) {
	f.Add([]byte(`{"kty":"EC","crv":"P-256","alg":"ECDH-ES+A256KW","x":"AA","y":"AA"}`))
	f.Add([]byte(`{"kty":"RSA","alg":"RSA-OAEP-256","n":"AQAB","e":"AQAB"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := kbs.Encrypt(raw, []byte("x")); err == nil {
			if err := kbs.CheckPublicKey(raw); err != nil {
				t.Errorf("encrypted to a key that CheckPublicKey refuses: %v", err)
			}
		}
		kbs.ReportData("nonce", raw, "")
	})
}

// fakeAttester makes evidence that is the report data itself.
type fakeAttester struct{ err error }

func (fakeAttester) TEE() string { return attest.SGX }

func (f fakeAttester) Evidence(_ context.Context, reportData [64]byte) (*attest.Evidence, error) {
	return &attest.Evidence{TEE: attest.SGX, Quote: reportData[:]}, f.err
}

// fakeBroker follows the protocol with one secret for everyone who binds his
// evidence properly.
type fakeBroker struct {
	*httptest.Server
	t               *testing.T
	auths, requests atomic.Int32
	answer          func(http.ResponseWriter, *http.Request) bool // before the protocol, if set

	mu       sync.Mutex
	sessions map[string]json.RawMessage // cookie to key; null before attest
	initData kbs.InitData
}

func newBroker(t *testing.T) *fakeBroker {
	t.Helper()
	b := &fakeBroker{t: t, sessions: map[string]json.RawMessage{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+kbs.AuthPath, b.auth)
	mux.HandleFunc("POST "+kbs.AttestPath, b.attest)
	mux.HandleFunc("GET "+kbs.ResourcePath+"{r}/{t}/{n}", b.resource)
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.requests.Add(1)
		if b.answer == nil || !b.answer(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	b.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it hang up
	b.StartTLS()
	t.Cleanup(b.Server.Close)
	return b
}

func newClient(t *testing.T, b *fakeBroker, change func(*kbs.Options)) *kbs.Client {
	t.Helper()
	opts := kbs.Options{URL: b.URL, SPKI: kbs.Pin(b.Certificate()), Attester: fakeAttester{}, Backoff: time.Millisecond}
	if change != nil {
		change(&opts)
	}
	client, err := kbs.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func (b *fakeBroker) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.sessions)
}

func (b *fakeBroker) auth(w http.ResponseWriter, r *http.Request) {
	var request kbs.Request
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request.Version != "0.4.0" || request.TEE != "sgx" ||
		string(request.ExtraParams) != `{"supported-hash-algorithms":["sha384"]}` {
		b.t.Errorf("request %+v, %v", request, err)
	}
	id := rand.Text()
	b.auths.Add(1)
	b.mu.Lock()
	b.sessions[id] = nil
	b.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: kbs.Cookie, Value: id, Secure: true, HttpOnly: true, Path: "/"})
	json.NewEncoder(w).Encode(kbs.Challenge{Nonce: "nonce of " + id, ExtraParams: json.RawMessage(`""`)})
}

func (b *fakeBroker) attest(w http.ResponseWriter, r *http.Request) {
	var message kbs.Attestation
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		b.t.Error(err)
		return
	}
	id, _ := r.Cookie(kbs.Cookie)
	evidence, err := kbs.UnmarshalEvidence(attest.SGX, message.TEEEvidence.Primary)
	if err != nil {
		b.t.Error(err)
		return
	}
	want, err := kbs.ReportData("nonce of "+id.Value, message.RuntimeData.TEEPubKey, message.TEEEvidence.Additional)
	if err != nil || string(evidence.Quote) != string(want[:]) {
		b.t.Errorf("report data %x, want %x, %v", evidence.Quote, want, err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sessions[id.Value] = message.RuntimeData.TEEPubKey
	if message.InitData != nil {
		b.initData = *message.InitData
	}
	json.NewEncoder(w).Encode(kbs.AttestationResult{Token: "a.b.c"})
}

func (b *fakeBroker) resource(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id, err := r.Cookie(kbs.Cookie)
	if err != nil || b.sessions[id.Value] == nil {
		w.WriteHeader(http.StatusUnauthorized)
		json.NewEncoder(w).Encode(kbs.ErrorInformation{Type: kbs.ErrorTypePrefix + "SessionNotFound", Reason: refusal.SessionInvalid})
		return
	}
	response, err := kbs.Encrypt(b.sessions[id.Value], []byte(secret))
	if err != nil {
		b.t.Error(err)
		return
	}
	// As servers of Confidential Containers do: an aad member that repeats protected.
	json.NewEncoder(w).Encode(struct {
		*kbs.Response
		AAD string `json:"aad"`
	}{response, response.Protected})
}

func relay(inner net.Conn, addr string) {
	outer, err := net.Dial("tcp", addr)
	if err != nil {
		inner.Close()
		return
	}
	var group sync.WaitGroup
	group.Go(func() { copyAndClose(outer, inner) })
	copyAndClose(inner, outer)
	group.Wait()
}

func copyAndClose(to, from net.Conn) {
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	to.Close()
	from.Close()
}
