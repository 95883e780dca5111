package release

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/adyton-dev/adyton/attest/kbs"
)

// What the server to compare with answers.
const (
	echoPath     = "/echo"     // the bytes of a release
	exchangePath = "/exchange" // the same, after the P-256 operations
)

// limitServer answers what the broker would, without being one.
type limitServer struct {
	server *httptest.Server
	roots  *x509.CertPool
	key    *ecdh.PrivateKey // of the clients
}

func startLimit(certificate tls.Certificate) (*limitServer, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	answer, err := releaseFor(key.PublicKey())
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc(echoPath, func(w http.ResponseWriter, _ *http.Request) { reply(w, answer) })
	mux.HandleFunc(exchangePath, func(w http.ResponseWriter, _ *http.Request) {
		if err := agree(key.PublicKey()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		reply(w, answer)
	})
	s := &limitServer{server: httptest.NewUnstartedServer(mux), roots: x509.NewCertPool(), key: key}
	s.roots.AddCert(certificate.Leaf)
	s.server.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}}
	s.server.StartTLS()
	return s, nil
}

func (s *limitServer) close() { s.server.Close() }

func reply(w http.ResponseWriter, answer []byte) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer) // the client sees a failure itself
}

// agree makes an ephemeral key and the secret that it shares with the client's:
// the server's part of ECDH-ES.
func agree(client *ecdh.PublicKey) error {
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	_, err = ephemeral.ECDH(client)
	return err
}

// releaseFor is the answer that the broker gives to a client with this key.
func releaseFor(key *ecdh.PublicKey) ([]byte, error) {
	point := key.Bytes() // 4, X, Y
	encode := base64.RawURLEncoding.EncodeToString
	jwk, err := json.Marshal(map[string]string{
		"kty": "EC", "crv": "P-256", "alg": kbs.ECDH, "x": encode(point[1:33]), "y": encode(point[33:]),
	})
	if err != nil {
		return nil, err
	}
	response, err := kbs.Encrypt(jwk, make([]byte, 32))
	if err != nil {
		return nil, err
	}
	return json.Marshal(response)
}

// clients each ask on a connection of their own. For exchangePath they also do the
// client's part of ECDH-ES.
func (s *limitServer) clients(path string) []func(context.Context) error {
	list := make([]func(context.Context) error, clients)
	for i := range list {
		c := s.client()
		list[i] = func(ctx context.Context) error { return s.ask(ctx, c, path) }
	}
	return list
}

// client is one with a connection of its own.
func (s *limitServer) client() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: s.roots,
	}}}
}

func (s *limitServer) ask(ctx context.Context, c *http.Client, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+path, http.NoBody)
	if err != nil {
		return err
	}
	request.AddCookie(&http.Cookie{Name: kbs.Cookie, Value: strings.Repeat("0", 43)})
	response, err := c.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	if path == exchangePath {
		_, err = s.key.ECDH(s.key.PublicKey())
	}
	return err
}

// unlock makes a connection and as many requests as an unlocking takes.
func (s *limitServer) unlock(ctx context.Context) error {
	c := s.client()
	defer c.CloseIdleConnections()
	for _, path := range []string{echoPath, echoPath, exchangePath} {
		if err := s.ask(ctx, c, path); err != nil {
			return err
		}
	}
	return nil
}
