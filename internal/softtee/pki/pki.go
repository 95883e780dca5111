// Package pki makes the certificates and CRLs of a software TEE's PKI in the
// forms of Intel's: a root, the two PCK CAs, the TCB signing certificate, and a
// PCK certificate for each platform.
//
// Verifiers of quotes look for Intel's common names below the root ("Intel SGX
// PCK Platform CA", …), so these are kept; the root's common name and the
// organization of every certificate say that it is software. Nothing here is
// stored or remembered: callers keep the keys.
//
// The package may import dcap (for the words) and the standard library. To add
// a field to the PCK certificate, add it to [Identity] and to extension.go.
//
// Source: Intel "SGX PCK Certificate and Certificate Revocation List Profile
// Specification", revision 1.5.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 5280 4.2.1.2 names it for key identifiers; nothing depends on its strength
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/adyton-dev/adyton/dcap"
)

// Organization is in the subject of every certificate, so that a person sees
// which root a chain ends in.
const Organization = "Adyton Software TEE (not Intel)"

// Where a collateral service gives the CRLs as DER, as the certificates'
// distribution points say; PCKCRLPath with ?ca=platform or processor.
const (
	RootCRLPath = "/AdytonSoftwareTEERootCA.der"
	PCKCRLPath  = "/sgx/certification/v4/pckcrl"
)

// serviceURL is the collateral service's default address. Verifiers take CRLs
// from their own collateral source; the extension must be there for Intel's.
const serviceURL = "http://localhost:8081"

// Intel's lifetimes.
const (
	caLifetime   = 15 * 365 * 24 * time.Hour
	leafLifetime = 7 * 365 * 24 * time.Hour
	// backdate lets a machine whose clock is a little late use what was just made.
	backdate = 2 * time.Hour
)

// Authority is a certificate and its key.
type Authority struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
}

// NewRoot makes the root CA of a software TEE. id tells installations apart.
func NewRoot(id string, now time.Time) (*Authority, error) {
	template := authority("Adyton Software TEE SGX Root CA "+id, now)
	template.MaxPathLen = 1
	template.NotAfter = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
	return create(template, nil)
}

// NewPCKCA makes the intermediate CA that certifies platforms.
func (root *Authority) NewPCKCA(kind dcap.PCKCA, now time.Time) (*Authority, error) {
	name := "Intel SGX PCK Platform CA"
	if kind == dcap.ProcessorCA {
		name = "Intel SGX PCK Processor CA"
	}
	template := authority(name, now)
	template.MaxPathLenZero = true
	template.NotAfter = template.NotBefore.Add(caLifetime)
	return create(template, root)
}

// NewTCBSigner makes the certificate whose key signs TCB info and identities.
func (root *Authority) NewTCBSigner(now time.Time) (*Authority, error) {
	return create(leaf("Intel SGX TCB Signing", now), root)
}

// NewPCK makes a platform's PCK certificate. ca must be of the kind id.CA.
func (ca *Authority) NewPCK(id *Identity, now time.Time) (*Authority, error) {
	extension, err := id.extension()
	if err != nil {
		return nil, fmt.Errorf("make PCK certificate: %w", err)
	}
	template := leaf("Intel SGX PCK Certificate", now)
	template.CRLDistributionPoints = []string{serviceURL + PCKCRLPath + "?ca=" + string(id.CA) + "&encoding=der"}
	template.ExtraExtensions = []pkix.Extension{{Id: oidSGX, Value: extension}}
	return create(template, ca)
}

// CRL gives a DER list of the revoked serial numbers, signed by the authority.
// The same arguments give the same bytes.
func (a *Authority) CRL(revoked []*big.Int, issued, nextUpdate time.Time) ([]byte, error) {
	template := &x509.RevocationList{
		Number:     big.NewInt(issued.Unix()),
		ThisUpdate: issued,
		NextUpdate: nextUpdate,
	}
	for _, serial := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: issued, ReasonCode: keyCompromise})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Certificate, reproducible{a.Key})
	if err != nil {
		return nil, fmt.Errorf("make CRL of %q: %w", a.Certificate.Subject.CommonName, err)
	}
	return der, nil
}

// Sign gives r ‖ s, each 32 bytes big-endian, over SHA-256 of message. The same
// message gives the same signature (RFC 6979).
func Sign(key *ecdsa.PrivateKey, message []byte) ([64]byte, error) {
	digest := sha256.Sum256(message)
	der, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return [64]byte{}, fmt.Errorf("sign: %w", err)
	}
	return rawSignature(der)
}

// PEM joins certificates, leaf first, as quotes and issuer-chain headers carry them.
func PEM(chain ...*x509.Certificate) []byte {
	var text []byte
	for _, certificate := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
	}
	return text
}

const keyCompromise = 1 // RFC 5280, 5.3.1

// reproducible signs without randomness, so that a document is the same bytes
// however often it is asked for.
type reproducible struct{ *ecdsa.PrivateKey }

// Sign ignores the reader: see [ecdsa.PrivateKey.Sign].
func (r reproducible) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return r.PrivateKey.Sign(nil, digest, opts)
}

func authority(name string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               subject(name),
		NotBefore:             now.Add(-backdate).UTC().Truncate(time.Second),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		CRLDistributionPoints: []string{serviceURL + RootCRLPath},
	}
}

func leaf(name string, now time.Time) *x509.Certificate {
	from := now.Add(-backdate).UTC().Truncate(time.Second)
	return &x509.Certificate{
		Subject:               subject(name),
		NotBefore:             from,
		NotAfter:              from.Add(leafLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		BasicConstraintsValid: true,
		CRLDistributionPoints: []string{serviceURL + RootCRLPath},
	}
}

func subject(name string) pkix.Name {
	return pkix.Name{CommonName: name, Organization: []string{Organization}}
}

// create makes a key and its certificate, issued by issuer or, if nil, by itself.
// As in Intel's certificates, all five standard extensions are there and the
// serial number is the key identifier.
func create(template *x509.Certificate, issuer *Authority) (*Authority, error) {
	name := template.Subject.CommonName
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of %q: %w", name, err)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("make key of %q: %w", name, err)
	}
	id := sha1.Sum(public) //nolint:gosec // see the import
	template.SubjectKeyId = id[:]
	template.AuthorityKeyId = id[:]
	id[0] = id[0]&0x7f | 0x40 // positive and of constant length
	template.SerialNumber = new(big.Int).SetBytes(id[:])
	if issuer == nil {
		issuer = &Authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Certificate, &key.PublicKey, issuer.Key)
	if err != nil {
		return nil, fmt.Errorf("make certificate of %q: %w", name, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make certificate of %q: %w", name, err)
	}
	return &Authority{certificate, key}, nil
}
