package ratls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/refusal"
)

// clockSkew is how far apart the clocks of two enclaves may be.
const clockSkew = 5 * time.Minute

// current gives the certificate to show, made anew when it is time. If that
// fails, the old one serves until it expires.
func (e *Endpoint) current(ctx context.Context) (*tls.Certificate, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.config.Now()
	if e.certificate != nil && now.Before(e.renewAt) {
		return e.certificate, nil
	}
	certificate, err := e.newCertificate(ctx, now)
	if err != nil {
		if e.certificate != nil && now.Before(e.certificate.Leaf.NotAfter) {
			return e.certificate, nil
		}
		return nil, fmt.Errorf("ratls: make a certificate: %w", err)
	}
	e.certificate = certificate
	e.renewAt = now.Add(e.config.Lifetime * 2 / 3)
	return certificate, nil
}

// newCertificate makes a key, evidence that binds it, and a certificate that
// carries the evidence.
func (e *Endpoint) newCertificate(ctx context.Context, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	claims, err := encodeClaims(spki, e.config.InitData)
	if err != nil {
		return nil, err
	}
	evidence, err := e.config.Attester.Evidence(ctx, reportDataOf(claims))
	if err != nil {
		return nil, err
	}
	extension, err := encodeExtension(evidence, claims)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:    serial,
		Subject:         pkix.Name{CommonName: "RA-TLS"},
		NotBefore:       now.Add(-clockSkew),
		NotAfter:        now.Add(e.config.Lifetime),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		ExtraExtensions: []pkix.Extension{extension},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// verify decides on a peer's certificate. TLS has proved, or will prove before
// the handshake ends, that the peer holds its key.
func (e *Endpoint) verify(ctx context.Context, chain []*x509.Certificate) (*appraise.Claims, error) {
	if len(chain) != 1 {
		return nil, refusal.New(refusal.CertificateInvalid, "ratls: the peer showed %d certificates, want 1", len(chain))
	}
	certificate := chain[0]
	// The evidence binds the key; the key binds the dates.
	if err := certificate.CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature); err != nil {
		return nil, refusal.New(refusal.CertificateInvalid, "ratls: the peer's certificate is not signed by its own key: %w", err)
	}
	now := e.config.Now()
	if now.Add(clockSkew).Before(certificate.NotBefore) || now.After(certificate.NotAfter) {
		return nil, refusal.New(refusal.CertificateInvalid, "ratls: the peer's certificate is valid from %s to %s",
			certificate.NotBefore.UTC().Format(time.RFC3339), certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	evidence, want, err := Parse(certificate)
	if err != nil {
		return nil, fmt.Errorf("ratls: the peer's certificate: %w", err)
	}
	claims, err := e.config.Appraiser.Appraise(ctx, evidence, want)
	if err != nil {
		return nil, fmt.Errorf("ratls: the peer: %w", err)
	}
	if err := e.config.Authorize(claims); err != nil {
		return nil, fmt.Errorf("ratls: the peer is not welcome: %w", err)
	}
	return claims, nil
}

// Parse gives the evidence of a certificate and what it must be bound to. It
// checks that the certificate's key is the one that the evidence's claims name.
// The evidence is not verified. Refusals are EvidenceMalformed,
// EvidenceUnsupported and ReportDataMismatch.
func Parse(certificate *x509.Certificate) (*attest.Evidence, appraise.Expect, error) {
	for _, extension := range certificate.Extensions {
		switch {
		case extension.Id.Equal(oidInteroperable()):
			return parseInteroperable(extension.Value, certificate.RawSubjectPublicKeyInfo)
		case extension.Id.Equal(oidGramine()):
			return parseGramine(extension.Value, certificate.RawSubjectPublicKeyInfo)
		}
	}
	return nil, appraise.Expect{}, refusal.New(refusal.EvidenceMalformed, "it carries no evidence")
}
