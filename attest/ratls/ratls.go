// Package ratls makes TLS 1.3 connections between TEEs in which each side proves
// what it is: RA-TLS.
//
// A side's certificate is self-signed over a key that exists only in its memory,
// and carries evidence whose report data binds that key (see extension.go for the
// forms on the wire). TLS proves possession of the key; an [Appraiser] verifies
// the evidence; Config.Authorize decides whether that enclave is a welcome peer.
// Whatever is missing or fails ends the handshake.
//
//	e, err := ratls.New(ratls.Config{Attester: attester, Appraiser: appraiser, Authorize: onlyMySigner})
//	listener, err := e.Listen("tcp", "127.0.0.1:0") // in one enclave
//	conn, err := e.Dial(ctx, "tcp", address)        // in the other
//
// Evidence is SGX's or TDX's: the interoperable certificate extension has no form
// for SEV-SNP. To add one, extend extension.go.
package ratls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
)

// Appraiser verifies evidence; [appraise.Appraiser] is one.
type Appraiser interface {
	Appraise(ctx context.Context, e *attest.Evidence, want appraise.Expect) (*appraise.Claims, error)
}

// Config says what an endpoint shows and what it demands.
type Config struct {
	// Attester gives this side's evidence. Nil: this side shows none; it can only
	// dial, and only listeners that demand none.
	Attester attest.Attester
	// InitData is this side's init-data document, shown with the evidence, or nil.
	InitData []byte

	// Appraiser verifies the peer's evidence. Nil: the peer need not show any;
	// such an endpoint can only listen.
	Appraiser Appraiser
	// Authorize decides on the verified claims of the peer, typically on MRSIGNER,
	// product id and SVN. It is mandatory with Appraiser: that evidence is genuine
	// does not say whose it is.
	Authorize func(peer *appraise.Claims) error

	// Lifetime is of a certificate; 0: 24 h. It is made anew, with a new key and
	// new evidence, after two thirds of it.
	Lifetime time.Duration
	// HandshakeTimeout bounds a handshake of [Endpoint.Listen]; 0: 30 s.
	HandshakeTimeout time.Duration
	// Now gives the time; nil: time.Now.
	Now func() time.Time
}

// Endpoint is one side of connections. It is safe for concurrent use.
type Endpoint struct {
	config Config

	mu          sync.Mutex
	certificate *tls.Certificate // nil before the first handshake
	renewAt     time.Time
}

// New makes an endpoint. With an attester it gets evidence at once, so that an
// enclave that cannot attest learns it here.
func New(ctx context.Context, config Config) (*Endpoint, error) {
	if config.Attester == nil && config.Appraiser == nil {
		return nil, errors.New("ratls: neither an attester nor an appraiser: that would be TLS without any identity")
	}
	if (config.Appraiser == nil) != (config.Authorize == nil) {
		return nil, errors.New("ratls: Appraiser and Authorize need each other")
	}
	if config.Lifetime == 0 {
		config.Lifetime = 24 * time.Hour
	}
	if config.HandshakeTimeout == 0 {
		config.HandshakeTimeout = 30 * time.Second
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	e := &Endpoint{config: config}
	if config.Attester != nil {
		if _, err := e.current(ctx); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Conn is an attested connection.
type Conn struct {
	*tls.Conn
	timeout time.Duration
	peer    *appraise.Claims // set by the handshake, read after it
}

// Peer completes the handshake and gives the peer's claims, nil if the endpoint
// demands none.
func (c *Conn) Peer(ctx context.Context) (*appraise.Claims, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return c.peer, nil
}

// Dial connects and completes the handshake: this side has accepted the peer. In
// TLS 1.3 the peer decides after that; its refusal is the error of the first Read.
func (e *Endpoint) Dial(ctx context.Context, network, address string) (*Conn, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("ratls: dial: %w", err)
	}
	conn, err := e.Client(ctx, raw)
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("ratls: dial %s: %w", address, err)
	}
	return conn, nil
}

// Client makes raw an attested connection, as the side that dialled, and
// completes the handshake. With an error the caller closes raw.
func (e *Endpoint) Client(ctx context.Context, raw net.Conn) (*Conn, error) {
	conn := &Conn{timeout: e.config.HandshakeTimeout}
	config, err := e.ClientConfig(ctx, func(peer *appraise.Claims) { conn.peer = peer })
	if err != nil {
		return nil, err
	}
	conn.Conn = tls.Client(raw, config)
	_, err = conn.Peer(ctx)
	return conn, err
}

// Listen listens. Accept gives a *Conn at once; its handshake is made by its
// first Read, Write or Peer, so that a slow peer holds up nobody else.
func (e *Endpoint) Listen(network, address string) (net.Listener, error) {
	inner, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("ratls: %w", err)
	}
	wrapped, err := e.NewListener(inner)
	if err != nil {
		inner.Close()
	}
	return wrapped, err
}

// NewListener makes the connections of inner attested.
func (e *Endpoint) NewListener(inner net.Listener) (net.Listener, error) {
	if e.config.Attester == nil {
		return nil, errors.New("ratls: an endpoint without attester cannot listen")
	}
	return &listener{Listener: inner, endpoint: e}, nil
}

type listener struct {
	net.Listener
	endpoint *Endpoint
}

func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &Conn{timeout: l.endpoint.config.HandshakeTimeout}
	config, err := l.endpoint.ServerConfig(func(peer *appraise.Claims) { conn.peer = peer })
	if err != nil {
		raw.Close()
		return nil, err
	}
	conn.Conn = tls.Server(raw, config)
	return conn, nil
}

// ServerConfig is for servers that take a *tls.Config, such as http.Server.
// accepted, which may be nil, is told the claims of each peer within the
// handshake.
func (e *Endpoint) ServerConfig(accepted func(*appraise.Claims)) (*tls.Config, error) {
	if e.config.Attester == nil {
		return nil, errors.New("ratls: an endpoint without attester cannot serve")
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS13,
		// A resumed session would skip the evidence.
		SessionTicketsDisabled: true,
	}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		certificate, err := e.current(hello.Context())
		if err != nil {
			return nil, err
		}
		own := config.Clone()
		own.GetConfigForClient = nil
		own.Certificates = []tls.Certificate{*certificate}
		if e.config.Appraiser != nil {
			own.ClientAuth = tls.RequireAnyClientCert
			own.VerifyConnection = e.verifier(hello.Context(), accepted)
		}
		return own, nil
	}
	return config, nil
}

// ClientConfig is for clients that take a *tls.Config, for one connection or for
// several: ctx bounds the verification of all of them.
func (e *Endpoint) ClientConfig(ctx context.Context, accepted func(*appraise.Claims)) (*tls.Config, error) {
	if e.config.Appraiser == nil {
		return nil, errors.New("ratls: an endpoint without appraiser cannot dial")
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Names and issuers say nothing here: VerifyConnection verifies evidence.
		InsecureSkipVerify:     true,
		SessionTicketsDisabled: true,
		VerifyConnection:       e.verifier(ctx, accepted),
	}
	if e.config.Attester != nil {
		config.GetClientCertificate = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return e.current(request.Context())
		}
	}
	return config, nil
}

// verifier gives the function that decides on the peer. It runs in every
// handshake before any data flows.
func (e *Endpoint) verifier(ctx context.Context, accepted func(*appraise.Claims)) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		ctx, cancel := context.WithTimeout(ctx, e.config.HandshakeTimeout)
		defer cancel()
		claims, err := e.verify(ctx, state.PeerCertificates)
		if err != nil {
			return err
		}
		if accepted != nil {
			accepted(claims)
		}
		return nil
	}
}
