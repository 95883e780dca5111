package kbs

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/adyton-dev/adyton/refusal"
)

const pinPrefix = "sha256:"

// Pin gives "sha256:" and the lower-case hex SHA-256 of a certificate's DER
// SubjectPublicKeyInfo: what [Options].SPKI takes and an enclave.yaml names.
func Pin(certificate *x509.Certificate) string {
	digest := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return pinPrefix + hex.EncodeToString(digest[:])
}

// ParsePin reads what [Pin] gives.
func ParsePin(pin string) (digest [sha256.Size]byte, err error) {
	text, ok := strings.CutPrefix(pin, pinPrefix)
	raw, err := hex.DecodeString(text)
	if !ok || err != nil || len(raw) != len(digest) {
		return digest, fmt.Errorf("pin %.80q: want sha256: and 64 hex digits", pin)
	}
	return [sha256.Size]byte(raw), nil
}

// checkURL gives the URL without a slash at its end.
func checkURL(raw string, allowHTTP bool) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("broker URL: %w", err)
	}
	if u.Scheme == "http" && !allowHTTP {
		return "", refusal.New(refusal.BrokerNotTrusted, "broker URL %s: http proves no identity, use https", u.Redacted())
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("broker URL %q: want https://host:port", u.Redacted())
	}
	return strings.TrimSuffix(raw, "/"), nil
}

func newTransport(opts Options) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: opts.RootCAs}
	if opts.SPKI != "" {
		pin, err := ParsePin(opts.SPKI)
		if err != nil {
			return nil, fmt.Errorf("kbs client: %w", err)
		}
		// The pin is the identity: names, dates and issuers say nothing more. The
		// handshake proves possession of the key.
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(state tls.ConnectionState) error {
			got := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
			if subtle.ConstantTimeCompare(got[:], pin[:]) != 1 {
				return refusal.New(refusal.BrokerNotTrusted, "the broker's key is sha256:%x, pinned is sha256:%x", got, pin)
			}
			return nil
		}
	}
	dial := opts.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	return &http.Transport{
		DialContext:            dial,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		IdleConnTimeout:        time.Minute,
	}, nil
}

// unreachableError marks the errors that are worth another attempt.
type unreachableError struct{ err error }

func (e *unreachableError) Error() string { return e.err.Error() }
func (e *unreachableError) Unwrap() error { return e.err }

// connectError turns an error of the HTTP client into a refusal.
func connectError(ctx context.Context, err error) error {
	// The URL is in the caller's text already.
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	if refusal.Of(err) != "" {
		return err
	}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return refusal.New(refusal.BrokerNotTrusted, "the broker's certificate: %w", certificate.Err)
	}
	if ctx.Err() != nil {
		return refusal.New(refusal.BrokerUnreachable, "no answer in time: %w", ctx.Err())
	}
	return &unreachableError{refusal.New(refusal.BrokerUnreachable, "%w", err)}
}

// answerError turns the broker's error body into a refusal.
func answerError(status int, body []byte) error {
	var info ErrorInformation
	if err := json.Unmarshal(body, &info); err != nil {
		info = ErrorInformation{}
	}
	detail := printable(info.Detail)
	if detail == "" {
		detail = printable(strings.TrimPrefix(info.Type, ErrorTypePrefix))
	}
	reason := info.Reason
	if !isWord(string(reason)) {
		reason = reasonOf(status)
	}
	if reason == "" {
		return fmt.Errorf("the broker answered %d %s: %s", status, http.StatusText(status), detail)
	}
	if detail == "" {
		detail = fmt.Sprintf("the broker answered %d %s", status, http.StatusText(status))
	}
	return refusal.New(reason, "%s", detail)
}

// reasonOf is for brokers that send no reason.
func reasonOf(status int) refusal.Reason {
	switch status {
	case http.StatusUnauthorized:
		return refusal.Unauthorized
	case http.StatusForbidden:
		return refusal.Forbidden
	case http.StatusNotFound:
		return refusal.ResourceNotFound
	case http.StatusTooManyRequests:
		return refusal.RateLimited
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return refusal.BrokerUnreachable
	}
	return ""
}

// isWord says whether s has the form of a reason: a release policy may add words
// of its own.
func isWord(s string) bool {
	if s == "" || len(s) > 64 || !unicode.IsUpper(rune(s[0])) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

// printable makes text from outside fit for a terminal and a log line.
func printable(s string) string {
	const limit = 1024
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return strings.TrimSpace(s)
}
