package server

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/adyton-dev/adyton/internal/broker/audit"
)

// Metrics counts decisions and requests. No label comes from a request: not
// resources, not addresses.
type Metrics struct {
	registry  *prometheus.Registry
	decisions *prometheus.CounterVec
	requests  *prometheus.HistogramVec

	mu sync.Mutex
	// reasons are those seen; owners can invent them, so they are bounded.
	reasons map[string]bool
}

const maxReasons = 100

// NewMetrics makes metrics with a registry of their own.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "adyton_broker_decisions_total",
			Help: "Decisions recorded in the audit log, by event, outcome and refusal reason.",
		}, []string{"event", "outcome", "reason"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "adyton_broker_request_duration_seconds",
			Help:    "Time to answer a request, by route and status code.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"route", "code"}),
		reasons: make(map[string]bool),
	}
	m.registry.MustRegister(m.decisions, m.requests, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Decision counts a decision.
func (m *Metrics) Decision(r audit.Record) {
	outcome := "refused"
	if r.Allowed {
		outcome = "allowed"
	}
	m.decisions.WithLabelValues(r.Event, outcome, m.reason(string(r.Reason))).Inc()
}

func (m *Metrics) reason(reason string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.reasons[reason] && len(m.reasons) >= maxReasons {
		return "Other"
	}
	m.reasons[reason] = true
	return reason
}

// watch adds gauges of the server's state.
func (m *Metrics) watch(s *Server) {
	gauge := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("adyton_broker_sessions_pending", "Sessions that wait for evidence.", func() float64 {
		pending, _ := s.sessions.count()
		return float64(pending)
	})
	gauge("adyton_broker_sessions_attested", "Sessions that are attested.", func() float64 {
		_, attested := s.sessions.count()
		return float64(attested)
	})
	gauge("adyton_broker_audit_records", "Records in the audit log.", func() float64 {
		return float64(s.broker.Audit().Size())
	})
}

func (m *Metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// measure counts the requests that next answers. The route is the mux's pattern.
func (m *Metrics) measure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sw := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(sw, r)
		m.requests.WithLabelValues(r.Pattern, strconv.Itoa(sw.code)).Observe(time.Since(start).Seconds())
	})
}

type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}
