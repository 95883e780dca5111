package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/dcap/pcs"
	core "github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/internal/broker/server"
	"github.com/adyton-dev/adyton/internal/cli/broker/connect"
	"github.com/adyton-dev/adyton/internal/cli/ui"
)

type serve struct {
	dir, listen, trustPolicy, collateralURL, readyFile string
	certFile, keyFile                                  string
	insecure                                           bool
	limits                                             server.Limits
	unlock                                             unlock
}

func newServe() *cobra.Command {
	s := serve{limits: server.DefaultLimits()}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker",
		Long: `Serves the key-broker protocol (/kbs/v0), administration (/adyton/v1), the token
keys (/.well-known/jwks.json), /healthz, /readyz and Prometheus /metrics until it is
told to stop (SIGTERM, Ctrl-C); requests under way are finished.

TLS 1.3 by the certificate made with the broker, unless --tls-cert names another.
Without --trust-policy, only up-to-date platforms under Intel's root are accepted; a
software TEE must be named in a trust policy.`,
		Example: `  adyton broker serve --dir broker --trust-policy trust.yaml \
      --collateral-url https://pccs.example:8081`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return s.run(ctx, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&s.dir, "dir", dirDefault, "the broker's directory")
	flags.StringVar(&s.listen, "listen", "127.0.0.1:8443", "address to listen on; port 0 takes a free one")
	flags.StringVar(&s.trustPolicy, "trust-policy", "", "file of kind TrustPolicy")
	flags.StringVar(&s.collateralURL, "collateral-url", "", "PCS or PCCS that serves collateral (default Intel's PCS)")
	flags.StringVar(&s.readyFile, "ready-file", "", "file to write the broker's URL to once it answers")
	flags.StringVar(&s.certFile, "tls-cert", "", "PEM certificate chain to serve instead of the broker's own")
	flags.StringVar(&s.keyFile, "tls-key", "", "PEM private key of --tls-cert")
	flags.BoolVar(&s.insecure, "insecure-http", false, "serve plain HTTP, on a loopback address only")
	flags.Float64Var(&s.limits.Rate, "rate", s.limits.Rate, "requests a second that are served")
	flags.Float64Var(&s.limits.ClientRate, "rate-per-client", s.limits.ClientRate, "requests a second that are served to one address")
	s.unlock.addFlags(cmd)
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	cmd.MarkFlagsMutuallyExclusive("tls-cert", "insecure-http")
	return cmd
}

func (s *serve) run(ctx context.Context, log *slog.Logger) (err error) {
	if err := connect.Exists(s.dir); err != nil {
		return err
	}
	if s.limits.Rate <= 0 || s.limits.ClientRate <= 0 {
		return ui.Usage("--rate and --rate-per-client must be above 0")
	}
	appraiser, err := s.appraiser(log)
	if err != nil {
		return err
	}
	listener, err := s.open()
	if err != nil {
		return err
	}
	// Serve closes it too; closing twice is harmless.
	defer func() { _ = listener.Close() }()
	metrics := server.NewMetrics()
	b, err := core.Open(ctx, s.dir, core.Options{
		Means: s.unlock.means(s.dir), Appraiser: appraiser,
		OnDecision: func(r audit.Record) {
			metrics.Decision(r)
			logDecision(log, r)
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	log.Info("root key opened", "protection", b.Protection(), "meaning", b.Protection().Describe())

	certificate, err := s.certificate(b)
	if err != nil {
		return err
	}
	srv, err := server.New(server.Config{Broker: b, Limits: s.limits, TLS: certificate, Metrics: metrics, Log: log})
	if err != nil {
		return err
	}
	here := connect.Serving{URL: "http://" + listener.Addr().String()}
	if certificate != nil {
		here = connect.Serving{URL: "https://" + listener.Addr().String(), SPKI: kbs.Pin(certificate.Leaf)}
		log.Info("TLS key", "spki", here.SPKI)
	}
	if err := b.Started(ctx); err != nil {
		return fmt.Errorf("record the start: %w", err)
	}
	withdraw, err := connect.Announce(s.dir, here)
	if err != nil {
		return err
	}
	defer withdraw()
	return srv.Serve(ctx, listener, s.readyFile)
}

func (s *serve) appraiser(log *slog.Logger) (core.Appraiser, error) {
	policy := appraise.DefaultTrustPolicy()
	if s.trustPolicy != "" {
		var err error
		if policy, err = appraise.LoadTrustPolicy(s.trustPolicy); err != nil {
			return nil, err
		}
	}
	url := s.collateralURL
	if url == "" {
		url = pcs.IntelURL
	}
	collateral, err := pcs.New(url, pcs.Options{})
	if err != nil {
		return nil, fmt.Errorf("--collateral-url: %w", err)
	}
	for _, root := range policy.Roots {
		if root.Software {
			log.Warn("the trust policy accepts a software TEE, which protects nothing from its host", "root", root.Name)
		}
	}
	return appraise.New(policy, collateral, appraise.Options{KDS: appraise.NewKDS("")})
}

// open listens, so that a port in use is told before anything is unlocked.
func (s *serve) open() (net.Listener, error) {
	if s.insecure {
		host, _, err := net.SplitHostPort(s.listen)
		if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, ui.Usage("--insecure-http serves a loopback address only, not %s", s.listen)
		}
	}
	listener, err := net.Listen("tcp", s.listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another program; choose another address with --listen", s.listen)
	}
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	return listener, nil
}

// certificate gives what is served, or nil for plain HTTP.
func (s *serve) certificate(b *core.Broker) (*tls.Certificate, error) {
	switch {
	case s.insecure:
		return nil, nil
	case s.certFile != "":
		c, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
		return &c, nil
	default:
		c := b.TLSCertificate()
		return &c, nil
	}
}

func logDecision(log *slog.Logger, r audit.Record) {
	level, outcome := slog.LevelInfo, "allowed"
	if !r.Allowed {
		level, outcome = slog.LevelWarn, "refused"
	}
	attrs := []slog.Attr{slog.String("outcome", outcome)}
	for _, a := range []slog.Attr{
		slog.String("reason", string(r.Reason)), slog.String("detail", r.Detail), slog.String("actor", r.Actor),
		slog.String("resource", r.Resource), slog.String("client", r.Client), slog.String("session", r.Session),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	log.LogAttrs(context.Background(), level, r.Event, attrs...)
}
