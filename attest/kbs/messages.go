package kbs

import (
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/gowebpki/jcs"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/refusal"
)

// Version is the protocol version that the client sends. A server should accept
// every 0.x version that shares its messages; the Confidential Containers server
// accepts only its own.
const Version = "0.4.0"

// The paths of the protocol and the name of its session cookie.
const (
	AuthPath     = "/kbs/v0/auth"
	AttestPath   = "/kbs/v0/attest"
	ResourcePath = "/kbs/v0/resource/" // + repository/type/tag
	Cookie       = "kbs-session-id"
)

// MaxBody bounds every message of the protocol, in bytes. A resource is as large
// as fits: about 3 MiB.
const MaxBody = 4 << 20

// Request opens a session: POST [AuthPath].
type Request struct {
	Version string `json:"version"`
	// TEE is attest.SGX, attest.TDX or attest.SNP (or a kind that Adyton does not appraise).
	TEE string `json:"tee"`
	// ExtraParams is [ExtraParams], or an empty string from older clients.
	ExtraParams json.RawMessage `json:"extra-params"`
}

// ExtraParams are the members of Request and Challenge's extra-params that
// Adyton reads and writes.
type ExtraParams struct {
	// SupportedHashAlgorithms is the client's list for REPORTDATA.
	SupportedHashAlgorithms []string `json:"supported-hash-algorithms,omitempty"`
	// SelectedHashAlgorithm is the server's choice; sha384 if absent.
	SelectedHashAlgorithm string `json:"selected-hash-algorithm,omitempty"`
}

// HashAlgorithm is the only hash that Adyton binds evidence to a session with.
const HashAlgorithm = "sha384"

// Challenge answers Request, together with the session cookie.
type Challenge struct {
	// Nonce is standard base64 of 32 random bytes; it is compared and hashed as text.
	Nonce       string          `json:"nonce"`
	ExtraParams json.RawMessage `json:"extra-params"`
}

// Attestation is the evidence: POST [AttestPath].
type Attestation struct {
	InitData    *InitData   `json:"init-data,omitempty"`
	RuntimeData RuntimeData `json:"runtime-data"`
	TEEEvidence TEEEvidence `json:"tee-evidence"`
}

// InitData is the document whose digest the host gave the TEE at launch.
type InitData struct {
	// Format is "toml" (or "json").
	Format string `json:"format"`
	// Body is the document; its exact bytes are digested.
	Body string `json:"body"`
}

// RuntimeData is what the evidence's report data binds.
type RuntimeData struct {
	Nonce string `json:"nonce"`
	// TEEPubKey is a [PublicKey]. It stays raw, because what is hashed is the
	// canonical form of what was sent, with members that PublicKey does not know.
	TEEPubKey json.RawMessage `json:"tee-pubkey"`
}

// TEEEvidence carries the evidence of the primary TEE and of further devices.
type TEEEvidence struct {
	// Primary depends on the TEE: see [MarshalEvidence].
	Primary json.RawMessage `json:"primary_evidence"`
	// Additional is JSON in a string: a map from device to evidence, or "".
	Additional string `json:"additional_evidence"`
}

// AttestationResult answers Attestation.
type AttestationResult struct {
	// Token is a JWT signed by the broker.
	Token string `json:"token"`
}

// ErrorInformation is the body of every answer that is not 2xx.
type ErrorInformation struct {
	// Type is [ErrorTypePrefix] and a variant's name.
	Type   string `json:"type"`
	Detail string `json:"detail"`
	// Reason is Adyton's stable word; other servers do not send it.
	Reason refusal.Reason `json:"reason,omitempty"`
}

// ErrorTypePrefix begins [ErrorInformation].Type.
const ErrorTypePrefix = "https://github.com/confidential-containers/kbs/errors/"

// ReportData is the report data that evidence of a session must carry:
// SHA-384 of the canonical JSON (RFC 8785) of
//
//	{"additional-evidence": …, "nonce": …, "tee-pubkey": …}
//
// followed by 16 zero bytes. Client and broker both compute it.
func ReportData(nonce string, teePubKey json.RawMessage, additionalEvidence string) ([attest.ReportDataSize]byte, error) {
	var reportData [attest.ReportDataSize]byte
	raw, err := json.Marshal(struct {
		Additional string          `json:"additional-evidence"`
		Nonce      string          `json:"nonce"`
		TEEPubKey  json.RawMessage `json:"tee-pubkey"`
	}{additionalEvidence, nonce, teePubKey})
	if err != nil {
		return reportData, refusal.New(refusal.EvidenceMalformed, "encode runtime data: %w", err)
	}
	canonical, err := jcs.Transform(raw)
	if err != nil {
		return reportData, refusal.New(refusal.EvidenceMalformed, "canonicalize runtime data: %w", err)
	}
	digest := sha512.Sum384(canonical)
	copy(reportData[:], digest[:])
	return reportData, nil
}

// ResourceURI names a resource: kbs:///repository/type/tag.
type ResourceURI struct {
	Repository, Type, Tag string
}

// String gives kbs:///repository/type/tag.
func (u ResourceURI) String() string { return "kbs:///" + u.Path() }

// Path gives repository/type/tag.
func (u ResourceURI) Path() string { return u.Repository + "/" + u.Type + "/" + u.Tag }

// maxSegment bounds each part of a resource's name.
const maxSegment = 255

var segment = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*$`)

// ParseResourceURI reads kbs:///repository/type/tag, or repository/type/tag
// alone. Each part matches [A-Za-z0-9_-]+[A-Za-z0-9_.-]*, so that none is a path
// of its own.
func ParseResourceURI(s string) (ResourceURI, error) {
	parts := strings.Split(strings.TrimPrefix(s, "kbs:///"), "/")
	if len(parts) != 3 {
		return ResourceURI{}, fmt.Errorf("resource %q: want kbs:///repository/type/tag", s)
	}
	for _, part := range parts {
		if len(part) > maxSegment || !segment.MatchString(part) {
			return ResourceURI{}, fmt.Errorf("resource %q: %q is not a name of letters, digits, '_', '-' and (not first) '.'", s, part)
		}
	}
	return ResourceURI{Repository: parts[0], Type: parts[1], Tag: parts[2]}, nil
}
