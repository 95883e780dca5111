// Package server speaks HTTP for the broker: the KBS protocol of Confidential
// Containers under /kbs/v0, administration under /adyton/v1, and health and
// metrics. It keeps sessions and rate limits, both bounded, and turns errors into
// status codes; every decision is the broker's. It imports the broker and its
// wire messages; a new endpoint is a handler and a line in routes.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/net/netutil"

	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker"
)

// Config configures a Server.
type Config struct {
	Broker *broker.Broker
	Limits Limits
	// TLS is the certificate that is served; nil: plain HTTP.
	TLS     *tls.Certificate
	Metrics *Metrics
	Log     *slog.Logger
	// Now is the clock of sessions; time.Now if nil.
	Now func() time.Time
}

// Server answers requests for one broker.
type Server struct {
	broker   *broker.Broker
	sessions *sessions
	limiter  *limiter
	metrics  *Metrics
	log      *slog.Logger
	tls      *tls.Certificate
	// audience is what owners' tokens must be for.
	audience    string
	connections int
}

// challengeLifetime is how long a nonce is good for.
const challengeLifetime = 2 * time.Minute

// New makes a server; Serve runs it.
func New(c Config) (*Server, error) {
	l, err := newLimiter(c.Limits)
	if err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Server{
		broker: c.Broker, limiter: l, metrics: c.Metrics, log: c.Log, tls: c.TLS, audience: "loopback",
		sessions:    newSessions(c.Now, challengeLifetime, c.Limits.Pending, c.Limits.Attested),
		connections: c.Limits.Connections,
	}
	if c.TLS != nil {
		s.audience = kbs.Pin(c.TLS.Leaf)
	}
	s.metrics.watch(s)
	return s, nil
}

// handler is an http.Handler that returns its error.
type handler func(w http.ResponseWriter, r *http.Request) error

// Handler gives everything that the server answers.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range s.routes() {
		mux.Handle(pattern, s.limited(h))
	}
	mux.Handle("GET /healthz", s.unlimited(func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = w.Write([]byte("ok\n"))
		return nil
	}))
	mux.Handle("GET /readyz", s.unlimited(func(w http.ResponseWriter, r *http.Request) error {
		if err := s.broker.Ready(r.Context()); err != nil {
			return &requestError{http.StatusServiceUnavailable, "Unavailable", err}
		}
		_, _ = w.Write([]byte("ok\n"))
		return nil
	}))
	mux.Handle("GET /metrics", s.metrics.handler())
	return s.metrics.measure(mux)
}

func (s *Server) routes() map[string]handler {
	const resource = "/{repository}/{type}/{tag}"
	return map[string]handler{
		"POST /kbs/v0/auth":               s.auth,
		"POST /kbs/v0/attest":             s.attest,
		"GET /kbs/v0/resource" + resource: s.release,
		"GET /.well-known/jwks.json":      s.jwks,

		"POST /kbs/v0/resource" + resource:   s.admin(s.postResource),
		"DELETE /kbs/v0/resource" + resource: s.admin(s.deleteResource),
		"POST /kbs/v0/resource-policy":       s.admin(s.postBrokerPolicy),
		"GET /kbs/v0/resource-policy":        s.admin(s.getPolicy),
		"/kbs/v0/attestation-policy":         s.notImplemented,
		"/kbs/v0/reference-value":            s.notImplemented,

		"PUT /adyton/v1/resource" + resource:     s.admin(s.putResource),
		"GET /adyton/v1/resource" + resource:     s.admin(s.metadata),
		"GET /adyton/v1/resources":               s.admin(s.resources),
		"PUT /adyton/v1/policy":                  s.admin(s.putPolicy),
		"GET /adyton/v1/policy":                  s.admin(s.getPolicy),
		"DELETE /adyton/v1/policy":               s.admin(s.deletePolicy),
		"PUT /adyton/v1/policy/{repository}":     s.admin(s.putPolicy),
		"GET /adyton/v1/policy/{repository}":     s.admin(s.getPolicy),
		"DELETE /adyton/v1/policy/{repository}":  s.admin(s.deletePolicy),
		"PUT /adyton/v1/policy" + resource:       s.admin(s.putPolicy),
		"GET /adyton/v1/policy" + resource:       s.admin(s.getPolicy),
		"DELETE /adyton/v1/policy" + resource:    s.admin(s.deletePolicy),
		"GET /adyton/v1/owners":                  s.admin(s.owners),
		"PUT /adyton/v1/owners/{name}":           s.admin(s.putOwner),
		"DELETE /adyton/v1/owners/{name}":        s.admin(s.deleteOwner),
		"GET /adyton/v1/audit/checkpoint":        s.checkpoint,
		"GET /adyton/v1/audit/records":           s.admin(s.records),
		"GET /adyton/v1/audit/proof/inclusion":   s.inclusion,
		"GET /adyton/v1/audit/proof/consistency": s.consistency,

		"/": func(http.ResponseWriter, *http.Request) error {
			return &requestError{http.StatusNotFound, "NotFound", errors.New("there is no such endpoint")}
		},
	}
}

func (s *Server) notImplemented(http.ResponseWriter, *http.Request) error {
	return &requestError{http.StatusNotImplemented, "NotImplemented",
		errors.New("evidence is appraised by the trust policy that the broker was started with (--trust-policy)")}
}

// limited refuses requests that come too often. Such a refusal is counted and not
// recorded, because else anyone could fill the audit log.
func (s *Server) limited(h handler) http.Handler {
	return s.unlimited(func(w http.ResponseWriter, r *http.Request) error {
		if err := s.limiter.allow(client(r)); err != nil {
			return err
		}
		return h(w, r)
	})
}

func (s *Server) unlimited(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := h(w, r); err != nil {
			s.problem(w, r, err)
		}
	})
}

// client gives the IP address that a request came from. Forwarding headers are
// not believed.
func client(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// Timeouts. A graceful stop takes at most stopTimeout.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	stopTimeout   = 10 * time.Second
	maxHeader     = 64 << 10
	maxStreams    = 16 // of one HTTP/2 connection
)

// Serve answers on listener until ctx ends, then finishes what is under way. If
// readyFile is not empty, the server's URL is written there once it answers, and
// the file is removed at the end.
func (s *Server) Serve(ctx context.Context, listener net.Listener, readyFile string) error {
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
		// Each request under way holds its body: streams count as connections do.
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	url := "http://" + listener.Addr().String()
	listener = netutil.LimitListener(listener, s.connections)
	if s.tls != nil {
		url = "https://" + listener.Addr().String()
		server.TLSConfig = &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*s.tls},
			NextProtos: []string{"h2", "http/1.1"},
		}
		listener = tls.NewListener(listener, server.TLSConfig)
	}
	// The kernel takes connections from here on; none is refused.
	if readyFile != "" {
		if err := renameio.WriteFile(readyFile, []byte(url), 0o644); err != nil {
			return errors.Join(fmt.Errorf("ready file: %w", err), listener.Close())
		}
		defer func() { _ = os.Remove(readyFile) }()
	}
	s.log.InfoContext(ctx, "broker answers", "url", url)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		stop, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancelStop()
		stopped <- server.Shutdown(stop)
	}()
	err := server.Serve(listener)
	cancel()
	stopErr := <-stopped
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	if stopErr != nil {
		return fmt.Errorf("stop: %w", stopErr)
	}
	return nil
}
