package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/refusal"
)

// requestError is a request that cannot be understood.
type requestError struct {
	code    int
	variant string
	err     error
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

func badRequest(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, "InvalidRequest", fmt.Errorf(format, args...)}
}

// problem writes err as its status code and problem document. What the client
// cannot mend is logged and not told.
func (s *Server) problem(w http.ResponseWriter, r *http.Request, err error) {
	code, variant := classify(err)
	p := kbs.ErrorInformation{Type: kbs.ErrorTypePrefix + variant, Detail: err.Error(), Reason: refusal.Of(err)}
	var refused *refusal.Error
	if errors.As(err, &refused) {
		p.Detail = refused.Detail
	}
	switch code {
	case http.StatusInternalServerError, http.StatusServiceUnavailable:
		s.log.ErrorContext(r.Context(), "request failed", "route", r.Pattern, "error", err)
		if p.Reason == "" {
			p.Detail = "the broker could not answer; its log says why"
		}
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, code, p)
}

// classify gives the status code and the KBS error variant of an error. Refused
// evidence is 401: it is the client's credential.
func classify(err error) (int, string) {
	var request *requestError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &request):
		return request.code, request.variant
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, "RequestTooLarge"
	case errors.Is(err, broker.ErrExists):
		return http.StatusPreconditionFailed, "ResourceExists"
	case errors.Is(err, broker.ErrConflict):
		return http.StatusConflict, "Conflict"
	case errors.Is(err, broker.ErrInvalid):
		return http.StatusBadRequest, "InvalidRequest"
	case errors.Is(err, audit.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, "Unavailable"
	}
	switch refusal.Of(err) {
	case "":
		return http.StatusInternalServerError, "Internal"
	case refusal.Unauthorized:
		return http.StatusUnauthorized, "Unauthorized"
	case refusal.SessionInvalid:
		return http.StatusUnauthorized, "InvalidSession"
	case refusal.Forbidden:
		return http.StatusForbidden, "Forbidden"
	case refusal.ResourceNotFound:
		return http.StatusNotFound, "ResourceNotFound"
	case refusal.RateLimited:
		return http.StatusTooManyRequests, "RateLimited"
	case refusal.EvidenceMalformed, refusal.EvidenceUnsupported:
		return http.StatusBadRequest, "InvalidEvidence"
	case refusal.PolicyInvalid:
		return http.StatusBadRequest, "InvalidPolicy"
	case refusal.CollateralMissing:
		return http.StatusServiceUnavailable, "CollateralUnavailable"
	default:
		return http.StatusUnauthorized, "AttestationFailed"
	}
}

// denied marks a refusal of a release: 403, or 404 for what does not exist.
func denied(err error) error {
	if refusal.Of(err) == "" || refusal.Of(err) == refusal.ResourceNotFound {
		return err
	}
	return &requestError{http.StatusForbidden, "PolicyDeny", err}
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "cannot encode the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// The client may have gone; nothing is to be done then.
	_, _ = w.Write(append(body, '\n'))
}
