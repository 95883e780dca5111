package server

import (
	"bytes"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/gowebpki/jcs"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/audit"
	"github.com/adyton-dev/adyton/refusal"
)

// Bounds of the protocol's requests, in bytes.
const (
	maxRequest     = 16 << 10
	maxAttestation = 512 << 10
)

// versionPattern are the protocol versions that are served: 0.1 to 0.4, whatever
// the patch. 0.4 wraps the evidence (primary_evidence, additional_evidence); what
// came before sends it bare, which decodeAttestation tells by its shape.
var versionPattern = regexp.MustCompile(`^0\.[1-4]\.(0|[1-9][0-9]{0,3})$`)

// auth answers a request with a challenge: POST /kbs/v0/auth.
func (s *Server) auth(w http.ResponseWriter, r *http.Request) error {
	var req kbs.Request
	if err := decodeJSON(w, r, maxRequest, &req); err != nil {
		return err
	}
	extra, err := negotiate(&req)
	if err != nil {
		return s.broker.Refused(r.Context(), audit.Record{Event: audit.EventAuth, Client: client(r)}, err)
	}
	session := s.sessions.open(req.TEE)
	s.setCookie(w, r, session.id)
	writeJSON(w, http.StatusOK, kbs.Challenge{Nonce: session.nonce, ExtraParams: extra})
	return nil
}

// negotiate checks what the client speaks and gives the challenge's extra-params.
func negotiate(req *kbs.Request) (json.RawMessage, error) {
	if !versionPattern.MatchString(req.Version) {
		return nil, &requestError{http.StatusBadRequest, "ProtocolVersion", refusal.New(refusal.EvidenceUnsupported,
			"protocol version %.32q; this broker speaks 0.1 to 0.4", req.Version)}
	}
	if !slices.Contains([]string{attest.SGX, attest.TDX, attest.SNP}, req.TEE) {
		return nil, refusal.New(refusal.EvidenceUnsupported, "TEE %.32q; this broker appraises sgx, tdx and snp", req.TEE)
	}
	var extra kbs.ExtraParams
	// Older clients send a string: they have nothing to negotiate.
	if !bytes.HasPrefix(bytes.TrimSpace(req.ExtraParams), []byte("{")) {
		return json.RawMessage(`""`), nil
	}
	if err := json.Unmarshal(req.ExtraParams, &extra); err != nil {
		return nil, badRequest("extra-params: %w", err)
	}
	if extra.SupportedHashAlgorithms == nil {
		return json.RawMessage(`""`), nil
	}
	if !slices.Contains(extra.SupportedHashAlgorithms, kbs.HashAlgorithm) {
		return nil, refusal.New(refusal.EvidenceUnsupported, "the client supports none of the hash algorithms %s", kbs.HashAlgorithm)
	}
	return json.Marshal(kbs.ExtraParams{SelectedHashAlgorithm: kbs.HashAlgorithm})
}

// attest appraises evidence: POST /kbs/v0/attest. The session's nonce is used up
// whatever comes of it.
func (s *Server) attest(w http.ResponseWriter, r *http.Request) error {
	cookie, err := r.Cookie(kbs.Cookie)
	if err != nil {
		return refusal.New(refusal.SessionInvalid, "there is no cookie %s; ask for a challenge first", kbs.Cookie)
	}
	body, err := readBody(w, r, maxAttestation)
	if err != nil {
		return err
	}
	session, err := s.sessions.take(cookie.Value)
	if err != nil {
		return err
	}
	record := audit.Record{Event: audit.EventAttest, Client: client(r), Session: sessionName(session.id)}
	attestation, err := decodeAttestation(session, body)
	if refusal.Of(err) != "" {
		return s.broker.Refused(r.Context(), record, err)
	}
	if err != nil {
		return err
	}
	attestation.Session, attestation.Client = record.Session, record.Client
	token, attested, err := s.broker.Attest(r.Context(), *attestation)
	if err != nil {
		return err
	}
	s.sessions.confirm(session, attested)
	s.setCookie(w, r, session.id)
	writeJSON(w, http.StatusOK, kbs.AttestationResult{Token: token})
	return nil
}

// decodeAttestation reads the evidence of a session and what it must be bound to.
func decodeAttestation(s *session, body []byte) (*broker.Attestation, error) {
	var m struct {
		InitData    *kbs.InitData   `json:"init-data"`
		RuntimeData kbs.RuntimeData `json:"runtime-data"`
		Evidence    json.RawMessage `json:"tee-evidence"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, badRequest("attestation: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(m.RuntimeData.Nonce), []byte(s.nonce)) != 1 {
		return nil, refusal.New(refusal.SessionInvalid, "the nonce is not the session's; ask for a new challenge")
	}
	if err := kbs.CheckPublicKey(m.RuntimeData.TEEPubKey); err != nil {
		return nil, badRequest("tee-pubkey: %w", err)
	}
	a := &broker.Attestation{TEEPubKey: m.RuntimeData.TEEPubKey}
	var wrapped kbs.TEEEvidence
	// Evidence of before 0.4 may be any JSON; it then has no primary_evidence.
	_ = json.Unmarshal(m.Evidence, &wrapped)
	var err error
	switch {
	case wrapped.Additional != "" && wrapped.Additional != "{}":
		return nil, refusal.New(refusal.EvidenceUnsupported, "evidence of additional devices is not supported")
	case wrapped.Primary != nil:
		a.Expect.ReportData, err = kbs.ReportData(m.RuntimeData.Nonce, m.RuntimeData.TEEPubKey, wrapped.Additional)
	default:
		wrapped.Primary = m.Evidence
		a.Expect.ReportData, err = bareReportData(m.RuntimeData)
	}
	if err != nil {
		return nil, err
	}
	if a.Evidence, err = kbs.UnmarshalEvidence(s.tee, wrapped.Primary); err != nil {
		return nil, err
	}
	if m.InitData != nil {
		if m.InitData.Format != "toml" || len(m.InitData.Body) > appraise.MaxInitData {
			return nil, refusal.New(refusal.EvidenceUnsupported, "init-data: want toml of at most %d bytes", appraise.MaxInitData)
		}
		a.Expect.InitData = []byte(m.InitData.Body)
	}
	return a, nil
}

// bareReportData is kbs.ReportData of before protocol version 0.4: SHA-384 of the
// canonical JSON of {nonce, tee-pubkey}, followed by 16 zero bytes.
func bareReportData(d kbs.RuntimeData) (reportData [attest.ReportDataSize]byte, err error) {
	raw, err := json.Marshal(d)
	if err == nil {
		raw, err = jcs.Transform(raw)
	}
	if err != nil {
		return reportData, refusal.New(refusal.EvidenceMalformed, "runtime-data: %w", err)
	}
	digest := sha512.Sum384(raw)
	copy(reportData[:], digest[:])
	return reportData, nil
}

// release gives a resource to who attested: GET /kbs/v0/resource/….
func (s *Server) release(w http.ResponseWriter, r *http.Request) error {
	uri, err := resource(r)
	if err != nil {
		return err
	}
	attested, err := s.attested(r)
	if err != nil {
		return err
	}
	sealed, err := s.broker.Release(r.Context(), attested, uri, client(r))
	if err != nil {
		return denied(err)
	}
	writeJSON(w, http.StatusOK, sealed)
	return nil
}

// attested finds the attestation of a request, by its token or its cookie.
func (s *Server) attested(r *http.Request) (*broker.Attested, error) {
	if token, ok := bearer(r); ok {
		return s.broker.ParseToken(token)
	}
	cookie, err := r.Cookie(kbs.Cookie)
	if err != nil {
		return nil, refusal.New(refusal.SessionInvalid, "there is neither a token nor a cookie %s; attest first", kbs.Cookie)
	}
	return s.sessions.find(cookie.Value)
}

func (s *Server) jwks(w http.ResponseWriter, _ *http.Request) error {
	keys, err := s.broker.JWKS()
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, keys)
	return nil
}

func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, id string) {
	http.SetCookie(w, &http.Cookie{
		Name: kbs.Cookie, Value: id, Path: "/", MaxAge: int(broker.TokenLifetime.Seconds()),
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
}

// sessionName names a session in the audit log: the beginning of its id, which
// alone opens nothing.
func sessionName(id string) string { return id[:12] }

func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, ok && strings.EqualFold(scheme, "Bearer")
}

func resource(r *http.Request) (kbs.ResourceURI, error) {
	uri, err := kbs.ParseResourceURI(r.PathValue("repository") + "/" + r.PathValue("type") + "/" + r.PathValue("tag"))
	if err != nil {
		return uri, badRequest("%w", err)
	}
	return uri, nil
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return nil, badBody(err)
	}
	return body, nil
}

// badBody keeps the error of a body that is too large apart from others.
func badBody(err error) error {
	if code, _ := classify(err); code == http.StatusRequestEntityTooLarge {
		return err
	}
	return badRequest("read request: %w", err)
}

func decodeJSON(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	body, err := readBody(w, r, limit)
	if err != nil {
		return err
	}
	return unmarshal(body, v)
}

func unmarshal(body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return badRequest("request body: %w", err)
	}
	return nil
}
