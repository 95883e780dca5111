// Package owner is how the owners of resources prove to the broker who they are:
// an Ed25519 key pair each, and short-lived tokens (JWT, EdDSA) that are bound to
// one request to one broker. It imports go-jose and the refusal reasons only, and
// is shared by the broker's server and its clients.
package owner

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/adyton-dev/adyton/refusal"
)

// TokenLifetime is how long a token made by Sign is valid; MaxLifetime is the
// longest that Verify accepts; Leeway is the clock difference that it forgives.
const (
	TokenLifetime = time.Minute
	MaxLifetime   = 5 * time.Minute
	Leeway        = 30 * time.Second
)

// maxToken bounds a token in bytes.
const maxToken = 4096

// KeyID names a public key: "sha256:" and the lower-case hex SHA-256 of its
// SubjectPublicKeyInfo.
func KeyID(key ed25519.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("owner key: %w", err)
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// Admin is the name of the administrator, who is not an owner.
const Admin = "admin"

// CheckName reports whether name may name an owner: a DNS label (RFC 1123).
func CheckName(name string) error {
	if name == Admin {
		return fmt.Errorf("owner name %q is the administrator's", name)
	}
	if !regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`).MatchString(name) {
		return fmt.Errorf("owner name %q: use lower-case letters, digits and '-', at most 63", name)
	}
	return nil
}

// Request is what a token is bound to.
type Request struct {
	// Audience is the broker: "sha256:" and the lower-case hex SHA-256 of the
	// SubjectPublicKeyInfo of its TLS certificate, or, without TLS, "loopback".
	Audience string
	// Method and Path are those of the HTTP request; Path is as sent, escaped,
	// with the query if there is one.
	Method, Path string
	// Body is the request's body.
	Body []byte
}

// claims is the token's payload. Method and body are bound as in DPoP (RFC 9449)
// "htm" and "htu", and "bh" is the base64url SHA-256 of the body.
type claims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	IssuedAt int64  `json:"iat"`
	Expiry   int64  `json:"exp"`
	Method   string `json:"htm"`
	Path     string `json:"htu"`
	BodyHash string `json:"bh"`
}

// Sign makes a token by which the holder of key makes one request.
func Sign(key ed25519.PrivateKey, r Request, now time.Time) (string, error) {
	id, err := KeyID(key.Public().(ed25519.PublicKey))
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.EdDSA, Key: key},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", id))
	if err != nil {
		return "", fmt.Errorf("sign owner token: %w", err)
	}
	payload, err := json.Marshal(claims{
		Issuer: id, Audience: r.Audience, Method: r.Method, Path: r.Path, BodyHash: bodyHash(r.Body),
		IssuedAt: now.Unix(), Expiry: now.Add(TokenLifetime).Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("sign owner token: %w", err)
	}
	sig, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign owner token: %w", err)
	}
	return sig.CompactSerialize()
}

// Verify checks a token. lookup gives the public key that is registered under a
// key id; its error is returned as it is. A bad token is a refusal of reason
// Unauthorized.
func Verify(token string, r Request, now time.Time, lookup func(keyID string) (ed25519.PublicKey, error)) error {
	if len(token) > maxToken {
		return refusal.New(refusal.Unauthorized, "owner token of %d bytes; the limit is %d", len(token), maxToken)
	}
	sig, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return refusal.New(refusal.Unauthorized, "owner token: %w", err)
	}
	id := sig.Signatures[0].Protected.KeyID
	key, err := lookup(id)
	if err != nil {
		return err
	}
	payload, err := sig.Verify(key)
	if err != nil {
		return refusal.New(refusal.Unauthorized, "owner token is not signed by the key that it names")
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return refusal.New(refusal.Unauthorized, "owner token: %w", err)
	}
	if err := c.check(id, r, now); err != nil {
		return refusal.New(refusal.Unauthorized, "owner token: %w", err)
	}
	return nil
}

func (c *claims) check(keyID string, r Request, now time.Time) error {
	iat, exp := time.Unix(c.IssuedAt, 0), time.Unix(c.Expiry, 0)
	switch {
	case c.Issuer != keyID:
		return errors.New("iss is not the kid")
	case c.Audience != r.Audience:
		return errors.New("it is for another broker (aud)")
	case now.Before(iat.Add(-Leeway)):
		return errors.New("it is issued in the future; check the clocks")
	case now.After(exp.Add(Leeway)):
		return errors.New("it has expired; check the clocks")
	case exp.Sub(iat) > MaxLifetime:
		return fmt.Errorf("it lives longer than %v", MaxLifetime)
	case c.Method != r.Method || c.Path != r.Path:
		return errors.New("it is for another request (htm, htu)")
	case c.BodyHash != bodyHash(r.Body):
		return errors.New("it is for another body (bh)")
	}
	return nil
}

func bodyHash(body []byte) string {
	sum := sha256.Sum256(body)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// MarshalPrivateKey gives key as a PEM block "PRIVATE KEY" (PKCS #8, RFC 8410).
func MarshalPrivateKey(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal owner key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// MarshalPublicKey gives key as a PEM block "PUBLIC KEY" (SubjectPublicKeyInfo).
func MarshalPublicKey(key ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal owner key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParsePublicKey reads what MarshalPublicKey wrote.
func ParsePublicKey(data []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("not a PEM public key; make one with `adyton broker keygen`")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse owner public key: %w", err)
	}
	ed, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("owner keys are Ed25519, this is %T", key)
	}
	return ed, nil
}

// LoadPrivateKey reads a private key file, which must not be readable by group
// or others.
func LoadPrivateKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("owner key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("owner key %s is readable by others; run chmod 600 %s", path, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("owner key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("owner key %s: not a PEM private key; make one with `adyton broker keygen`", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("owner key %s: %w", path, err)
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("owner key %s: owner keys are Ed25519, this is %T", path, key)
	}
	return ed, nil
}
