package ratls_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/ratls"
	"github.com/adyton-dev/adyton/refusal"
)

func TestMutualConnection(t *testing.T) {
	t.Parallel()
	server := endpoint(t, fake("server"), welcome("client"))
	client := endpoint(t, fake("client"), func(c *ratls.Config) {
		welcome("server")(c)
		c.InitData = []byte("client's init-data")
	})
	serverSaw, clientSaw, err := connect(t, server, client)
	if err != nil {
		t.Fatal(err)
	}
	if serverSaw.SGX.MRENCLAVE != "client" || clientSaw.SGX.MRENCLAVE != "server" {
		t.Errorf("server saw %+v, client saw %+v", serverSaw.SGX, clientSaw.SGX)
	}
	if serverSaw.InitData["document"] != "client's init-data" || clientSaw.InitData["document"] != "" {
		t.Errorf("init-data: server saw %v, client saw %v", serverSaw.InitData, clientSaw.InitData)
	}
}

func TestEvidenceThatFailsEndsTheHandshake(t *testing.T) {
	t.Parallel()
	appraisal := refusal.New(refusal.TCBOutOfDate, "old")
	tests := []struct {
		name           string
		server, client []func(*ratls.Config)
		want           refusal.Reason // at the side that refuses
	}{
		{"the server's evidence is bound to other data", []func(*ratls.Config){func(c *ratls.Config) { c.Attester = fakeAttester{name: "server", lie: true} }}, nil, refusal.ReportDataMismatch},
		{"the client's evidence is bound to other data", nil, []func(*ratls.Config){func(c *ratls.Config) { c.Attester = fakeAttester{name: "client", lie: true} }}, refusal.ReportDataMismatch},
		{"the server's platform is refused", nil, []func(*ratls.Config){func(c *ratls.Config) { c.Appraiser = fakeAppraiser{err: appraisal} }}, refusal.TCBOutOfDate},
		{"the client's platform is refused", []func(*ratls.Config){func(c *ratls.Config) { c.Appraiser = fakeAppraiser{err: appraisal} }}, nil, refusal.TCBOutOfDate},
		{"the server is another enclave", nil, []func(*ratls.Config){welcome("other")}, refusal.IdentityMismatch},
		{"the client is another enclave", []func(*ratls.Config){welcome("other")}, nil, refusal.IdentityMismatch},
		{"the server's certificate has expired", nil, []func(*ratls.Config){func(c *ratls.Config) { c.Now = func() time.Time { return time.Now().Add(25 * time.Hour) } }}, refusal.CertificateInvalid},
		{"the client's certificate is of the future", nil, []func(*ratls.Config){func(c *ratls.Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } }}, refusal.CertificateInvalid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := endpoint(t, append([]func(*ratls.Config){fake("server"), welcome("client")}, test.server...)...)
			client := endpoint(t, append([]func(*ratls.Config){fake("client"), welcome("server")}, test.client...)...)
			if _, _, err := connect(t, server, client); refusal.Of(err) != test.want {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
}

func TestPeerWithoutEvidenceIsRefused(t *testing.T) {
	t.Parallel()
	client := endpoint(t, fake("client"), welcome("server"))
	key, certificate := selfSigned(t)
	inner, outer := net.Pipe()
	defer inner.Close()
	defer outer.Close()
	var group sync.WaitGroup
	group.Go(func() {
		tls.Server(outer, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}}}).HandshakeContext(t.Context())
	})
	if _, err := client.Client(t.Context(), inner); refusal.Of(err) != refusal.EvidenceMalformed {
		t.Errorf("plain server: %v", err)
	}
	inner.Close()
	group.Wait()
}

func TestAnonymousClientIsRefused(t *testing.T) {
	t.Parallel()
	server := endpoint(t, fake("server"), welcome("client"))
	client := endpoint(t, welcome("server"))
	if _, _, err := connect(t, server, client); err == nil {
		t.Error("a client without evidence was accepted")
	}
	open := endpoint(t, fake("server"), func(c *ratls.Config) { c.Appraiser, c.Authorize = nil, nil })
	if saw, _, err := connect(t, open, client); err != nil || saw != nil {
		t.Errorf("a server that demands no evidence: %v, %v", saw, err)
	}
}

// TestAnotherKeyCannotShowTheEvidence: a certificate's extension copied into a
// certificate of another key.
func TestAnotherKeyCannotShowTheEvidence(t *testing.T) {
	t.Parallel()
	victim := peerCertificate(t, endpoint(t, fake("server"), welcome("client")))
	for _, extension := range victim.Extensions {
		if extension.Id.Equal(asn1.ObjectIdentifier{2, 23, 133, 5, 4, 9}) {
			_, thief := selfSigned(t, extension)
			if _, _, err := ratls.Parse(thief); refusal.Of(err) != refusal.ReportDataMismatch {
				t.Errorf("Parse: %v", err)
			}
			return
		}
	}
	t.Error("the certificate has no extension 2.23.133.5.4.9")
}

func TestCertificateIsRenewedWithANewKey(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	start := time.Now()
	now := func() time.Time { return start.Add(time.Duration(clock.Load())) }
	failing := new(atomic.Bool)
	server := endpoint(t, func(c *ratls.Config) {
		c.Attester = fakeAttester{name: "server", failing: failing}
		c.Lifetime, c.Now = 3*time.Hour, now
	}, welcome("client"))

	first := peerCertificate(t, server)
	clock.Store(int64(time.Hour))
	if again := peerCertificate(t, server); !bytes.Equal(first.Raw, again.Raw) {
		t.Error("a new certificate after a third of its life")
	}
	clock.Store(int64(2*time.Hour + time.Minute))
	failing.Store(true)
	if again := peerCertificate(t, server); !bytes.Equal(first.Raw, again.Raw) {
		t.Error("the certificate changed although no evidence could be had")
	}
	failing.Store(false)
	renewed := peerCertificate(t, server)
	if bytes.Equal(first.RawSubjectPublicKeyInfo, renewed.RawSubjectPublicKeyInfo) {
		t.Error("the renewed certificate has the old key")
	}
	failing.Store(true)
	clock.Store(int64(9 * time.Hour))
	if _, err := serverCertificate(t, server); err == nil {
		t.Error("an expired certificate was shown")
	}
}

func TestNewNeedsAnIdentityAndAnAuthorizer(t *testing.T) {
	t.Parallel()
	deny := func(*appraise.Claims) error { return errors.New("no") }
	for name, config := range map[string]ratls.Config{
		"nothing":              {},
		"nobody authorizes":    {Attester: fakeAttester{}, Appraiser: fakeAppraiser{}},
		"nobody appraises":     {Attester: fakeAttester{}, Authorize: deny},
		"the attester fails":   {Attester: fakeAttester{failing: failingNow()}},
		"SEV-SNP has no form":  {Attester: fakeAttester{tee: attest.SNP}},
		"only an unused check": {Authorize: deny},
	} {
		if _, err := ratls.New(t.Context(), config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	onlyShows := endpoint(t, fake("x"), func(c *ratls.Config) { c.Appraiser, c.Authorize = nil, nil })
	if _, err := onlyShows.Dial(t.Context(), "tcp", "127.0.0.1:1"); err == nil {
		t.Error("dialled without an appraiser")
	}
	if _, err := endpoint(t, welcome("x")).Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("listened without an attester")
	}
}

func TestHTTPServer(t *testing.T) {
	t.Parallel()
	server := endpoint(t, fake("server"), welcome("client"))
	client := endpoint(t, fake("client"), welcome("server"))
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config, err := server.ServerConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }), ReadHeaderTimeout: time.Minute}
	var group sync.WaitGroup
	group.Go(func() { web.Serve(tls.NewListener(inner, config)) })
	clientConfig, err := client.ClientConfig(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: clientConfig}
	response, err := (&http.Client{Transport: transport}).Get("https://" + inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || string(body) != "hello" || response.TLS.Version != tls.VersionTLS13 {
		t.Errorf("%q, %v, TLS %x", body, err, response.TLS.Version)
	}
	transport.CloseIdleConnections()
	web.Close()
	group.Wait()
}

func TestFormsOfEvidence(t *testing.T) {
	t.Parallel()
	spki := func(c *x509.Certificate) []byte { return c.RawSubjectPublicKeyInfo }
	sgx, tdx, other := quoteOf(3, 0), quoteOf(4, 0x81), quoteOf(4, 0x99)
	sum := sha256.Sum256
	hash := func(algorithm int, digest []byte) []byte { return encode(t, []any{algorithm, digest}) }
	claims := func(hash []byte) []byte { return encode(t, map[string]any{"pubkey-hash": hash, "nonce": []byte{1}}) }
	tagged := func(tag uint64, quote, claims []byte) []byte {
		return encode(t, cbor.Tag{Number: tag, Content: []any{quote, claims}})
	}
	interoperable, gramine := asn1.ObjectIdentifier{2, 23, 133, 5, 4, 9}, asn1.ObjectIdentifier{1, 2, 840, 113741, 1337, 6}
	tests := []struct {
		name string
		oid  asn1.ObjectIdentifier
		make func(c *x509.Certificate) []byte
		tee  string
		want refusal.Reason
	}{
		{"SHA-256", interoperable, func(c *x509.Certificate) []byte {
			d := sum(spki(c))
			return tagged(60000, sgx, claims(hash(1, d[:])))
		}, attest.SGX, ""},
		{"SHA-384, TDX", interoperable, func(c *x509.Certificate) []byte {
			d := sha512.Sum384(spki(c))
			return tagged(60000, tdx, claims(hash(7, d[:])))
		}, attest.TDX, ""},
		{"SHA-512", interoperable, func(c *x509.Certificate) []byte {
			d := sha512.Sum512(spki(c))
			return tagged(60000, sgx, claims(hash(8, d[:])))
		}, attest.SGX, ""},
		{"Gramine's", gramine, func(*x509.Certificate) []byte { return sgx }, attest.SGX, ""},
		{"Gramine's, short", gramine, func(*x509.Certificate) []byte { return sgx[:47] }, "", refusal.EvidenceMalformed},
		{"unknown hash", interoperable, func(*x509.Certificate) []byte { return tagged(60000, sgx, claims(hash(2, nil))) }, "", refusal.EvidenceUnsupported},
		{"another key", interoperable, func(*x509.Certificate) []byte { return tagged(60000, sgx, claims(hash(1, make([]byte, 32)))) }, "", refusal.ReportDataMismatch},
		{"no key", interoperable, func(*x509.Certificate) []byte { return tagged(60000, sgx, encode(t, map[string]any{})) }, "", refusal.EvidenceMalformed},
		{"unknown tag", interoperable, func(*x509.Certificate) []byte { return tagged(60001, sgx, nil) }, "", refusal.EvidenceUnsupported},
		{"unknown TEE", interoperable, func(c *x509.Certificate) []byte {
			d := sum(spki(c))
			return tagged(60000, other, claims(hash(1, d[:])))
		}, "", refusal.EvidenceUnsupported},
		{"trailing bytes", interoperable, func(c *x509.Certificate) []byte {
			d := sum(spki(c))
			return append(tagged(60000, sgx, claims(hash(1, d[:]))), 0)
		}, "", refusal.EvidenceMalformed},
		{"duplicate claims", interoperable, func(*x509.Certificate) []byte {
			return tagged(60000, sgx, []byte{0xa2, 0x61, 'a', 0x01, 0x61, 'a', 0x02})
		}, "", refusal.EvidenceMalformed},
		{"no CBOR", interoperable, func(*x509.Certificate) []byte { return []byte{0xff} }, "", refusal.EvidenceMalformed},
		{"empty", interoperable, func(*x509.Certificate) []byte { return nil }, "", refusal.EvidenceMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			bare := sign(t, key)
			certificate := sign(t, key, pkix.Extension{Id: test.oid, Value: test.make(bare)})
			evidence, want, err := ratls.Parse(certificate)
			if refusal.Of(err) != test.want || (err == nil) != (evidence != nil) {
				t.Fatalf("%v, want %q", err, test.want)
			}
			if err == nil && (evidence.TEE != test.tee || want.ReportData == [64]byte{} || !bytes.Equal(want.ReportData[32:], make([]byte, 32))) {
				t.Errorf("%s, %x", evidence.TEE, want.ReportData)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		f.Fatal(err)
	}
	digest := sha256.Sum256(spki)
	hash, err := cbor.Marshal([]any{1, digest[:]})
	if err != nil {
		f.Fatal(err)
	}
	claims, err := cbor.Marshal(map[string]any{"pubkey-hash": hash, "init-data": []byte("x")})
	if err != nil {
		f.Fatal(err)
	}
	good, err := cbor.Marshal(cbor.Tag{Number: 60000, Content: []any{quoteOf(3, 0), claims}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(true, good)
	f.Add(false, quoteOf(4, 0x81))
	f.Add(true, []byte{0xd9, 0xea, 0x60, 0x82, 0x40, 0x40})
	f.Fuzz(func(t *testing.T, interoperable bool, value []byte) {
		oid := asn1.ObjectIdentifier{2, 23, 133, 5, 4, 9}
		if !interoperable {
			oid = asn1.ObjectIdentifier{1, 2, 840, 113741, 1337, 6}
		}
		evidence, _, err := ratls.Parse(&x509.Certificate{RawSubjectPublicKeyInfo: spki, Extensions: []pkix.Extension{{Id: oid, Value: value}}})
		if (err == nil) != (evidence != nil) || err != nil && refusal.Of(err) == "" {
			t.Errorf("%v, %v", evidence, err)
		}
	})
}

// fakeAttester makes quotes that hold their report data and a name in clear.
type fakeAttester struct {
	name, tee string
	lie       bool
	failing   *atomic.Bool
}

func (f fakeAttester) TEE() string { return attest.SGX }

func (f fakeAttester) Evidence(_ context.Context, reportData [64]byte) (*attest.Evidence, error) {
	if f.failing != nil && f.failing.Load() {
		return nil, errors.New("no evidence now")
	}
	if f.lie {
		reportData[0] ^= 1
	}
	tee := attest.SGX
	if f.tee != "" {
		tee = f.tee
	}
	return &attest.Evidence{TEE: tee, Quote: append(append(quoteOf(3, 0), reportData[:]...), f.name...)}, nil
}

func failingNow() *atomic.Bool {
	failing := new(atomic.Bool)
	failing.Store(true)
	return failing
}

// fakeAppraiser believes fakeAttester, whose name becomes MRENCLAVE.
type fakeAppraiser struct{ err error }

func (f fakeAppraiser) Appraise(_ context.Context, e *attest.Evidence, want appraise.Expect) (*appraise.Claims, error) {
	if f.err != nil {
		return nil, f.err
	}
	if len(e.Quote) < 112 || !bytes.Equal(e.Quote[48:112], want.ReportData[:]) {
		return nil, refusal.New(refusal.ReportDataMismatch, "bound to other data")
	}
	return &appraise.Claims{
		TEE:      attest.SGX,
		SGX:      &appraise.SGXClaims{MRENCLAVE: string(e.Quote[112:])},
		InitData: map[string]any{"document": string(want.InitData)},
	}, nil
}

func endpoint(t *testing.T, changes ...func(*ratls.Config)) *ratls.Endpoint {
	t.Helper()
	config := ratls.Config{HandshakeTimeout: 10 * time.Second}
	for _, change := range changes {
		change(&config)
	}
	e, err := ratls.New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func fake(name string) func(*ratls.Config) {
	return func(c *ratls.Config) { c.Attester = fakeAttester{name: name} }
}

// welcome accepts only the peer of that name.
func welcome(name string) func(*ratls.Config) {
	return func(c *ratls.Config) {
		c.Appraiser = fakeAppraiser{}
		c.Authorize = func(peer *appraise.Claims) error {
			if peer.SGX.MRENCLAVE != name {
				return refusal.New(refusal.IdentityMismatch, "%s is not %s", peer.SGX.MRENCLAVE, name)
			}
			return nil
		}
	}
}

// connect joins two endpoints and exchanges a word each way. The error is of the
// side that refused.
func connect(t *testing.T, server, client *ratls.Endpoint) (serverSaw, clientSaw *appraise.Claims, err error) {
	t.Helper()
	listener, err := server.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var serverErr error
	var group sync.WaitGroup
	group.Go(func() {
		raw, err := listener.Accept()
		if err != nil {
			serverErr = err
			return
		}
		defer raw.Close()
		conn := raw.(*ratls.Conn)
		if serverSaw, serverErr = conn.Peer(t.Context()); serverErr == nil {
			_, serverErr = io.Copy(conn, io.LimitReader(conn, 5))
		}
	})
	clientErr := func() error {
		conn, err := client.Dial(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			return err
		}
		defer conn.Close()
		if clientSaw, err = conn.Peer(t.Context()); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, "hello"); err != nil {
			return err
		}
		echo := make([]byte, 5)
		_, err = io.ReadFull(conn, echo)
		return err
	}()
	listener.Close()
	group.Wait()
	if refusal.Of(serverErr) != "" {
		return serverSaw, clientSaw, serverErr
	}
	return serverSaw, clientSaw, clientErr
}

func peerCertificate(t *testing.T, server *ratls.Endpoint) *x509.Certificate {
	t.Helper()
	certificate, err := serverCertificate(t, server)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// serverCertificate asks a server's configuration what it would show.
func serverCertificate(t *testing.T, server *ratls.Endpoint) (*x509.Certificate, error) {
	t.Helper()
	config, err := server.ServerConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	inner, outer := net.Pipe()
	defer inner.Close()
	var group sync.WaitGroup
	group.Go(func() {
		tls.Server(outer, config).HandshakeContext(t.Context())
		outer.Close()
	})
	defer group.Wait()
	var shown *x509.Certificate
	client := tls.Client(inner, &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) error {
		shown = state.PeerCertificates[0]
		return errors.New("seen enough")
	}})
	err = client.HandshakeContext(t.Context())
	inner.Close()
	if shown != nil {
		return shown, nil
	}
	if err != nil && strings.Contains(err.Error(), "seen enough") {
		t.Error(err)
	}
	return nil, err
}

func selfSigned(t *testing.T, extensions ...pkix.Extension) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key, sign(t, key, extensions...)
}

func sign(t *testing.T, key *ecdsa.PrivateKey, extensions ...pkix.Extension) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), ExtraExtensions: extensions}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// quoteOf is the header of a quote.
func quoteOf(version, tee byte) []byte {
	return append([]byte{version, 0, 2, 0, tee}, make([]byte, 43)...)
}

func encode(t *testing.T, value any) []byte {
	t.Helper()
	data, err := cbor.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
