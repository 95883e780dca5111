package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/adyton-dev/adyton/refusal"
)

// maxChainSize bounds a PEM chain. Intel's PCK chains have about 3.7 KB.
const maxChainSize = 32 << 10

// Root is a root of trust, pinned by its public key: Intel has issued two root
// certificates for one key. As in RFC 5280, 6.1.1 (d), the anchor is name and key;
// the root certificate's own dates and signature say nothing and are not looked at.
type Root struct {
	// Name is how policies name the root.
	Name      string
	PublicKey *ecdsa.PublicKey
	// Software says that the root is of a software TEE, which protects nothing
	// from its host. A Policy must name such a root to accept it.
	Software bool
}

// IntelRootName is the name of Intel's root in policies and results.
const IntelRootName = "intel"

// IntelRoot gives the key of "Intel SGX Root CA".
func IntelRoot() Root {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), []byte(intelRootKey))
	if err != nil {
		panic("dcap: Intel's root key is not a point: " + err.Error()) // a constant, checked by the tests
	}
	return Root{Name: IntelRootName, PublicKey: key}
}

// chain is a certificate chain whose signatures have been verified up to a root.
// Its dates and revocation have not: these depend on the moment.
type chain struct {
	certs   []*x509.Certificate // leaf first, root last
	serials []string            // of certs, as bytes
	root    *Root
	key     *ecdsa.PublicKey // of the leaf
	pck     *PCK             // of the leaf, in a PCK chain
}

// Subject names of Intel's certificates, leaf first. Software roots use the same
// within their own names.
var (
	pckChainNames    = []string{"SGX PCK Certificate", "SGX PCK P", "SGX Root CA"}
	signerChainNames = []string{"SGX TCB Signing", "SGX Root CA"}
)

// pckChain gives the verified chain PCK certificate, CA, root.
func (v *Verifier) pckChain(text []byte) (*chain, error) {
	if c, ok := v.pckChains.get(text, nil); ok {
		return c, nil
	}
	c, err := v.verifyChain(text, pckChainNames)
	if err != nil {
		return nil, fmt.Errorf("PCK certificate chain: %w", err)
	}
	if c.pck, err = PCKOf(c.certs[0]); err != nil {
		return nil, refusal.New(refusal.CertificateInvalid, "%w", err)
	}
	v.pckChains.put(text, nil, c)
	return c, nil
}

// signerChain gives the verified chain TCB signing certificate, root.
func (v *Verifier) signerChain(text []byte) (*chain, error) {
	if c, ok := v.signerChains.get(text, nil); ok {
		return c, nil
	}
	c, err := v.verifyChain(text, signerChainNames)
	if err != nil {
		return nil, fmt.Errorf("TCB signing chain: %w", err)
	}
	v.signerChains.put(text, nil, c)
	return c, nil
}

// verifyChain checks everything of a chain that does not depend on time: its exact
// length, names, raw issuer names, key types, CA flags, signatures, and that it
// ends in the key of a known root. crypto/x509's own path building is not used: it
// may take any path, and ties signatures to dates.
func (v *Verifier) verifyChain(text []byte, names []string) (*chain, error) {
	blocks, err := decodeChain(text, len(names))
	if err != nil {
		return nil, refusal.New(refusal.CertificateInvalid, "%w", err)
	}
	c := &chain{certs: make([]*x509.Certificate, len(blocks)), serials: make([]string, len(blocks))}
	for i, der := range blocks {
		cert, err := parseCertificate(der)
		if err != nil {
			return nil, refusal.New(refusal.CertificateInvalid, "certificate %d: %w", i+1, err)
		}
		if !strings.Contains(cert.Subject.CommonName, names[i]) {
			return nil, refusal.New(refusal.CertificateInvalid, "certificate %d is of %q, must be of an %q", i+1, cert.Subject.CommonName, names[i])
		}
		if isCA := i > 0; isCA != cert.IsCA {
			return nil, refusal.New(refusal.CertificateInvalid, "certificate %d: CA flag is %t", i+1, cert.IsCA)
		}
		c.certs[i], c.serials[i] = cert, string(cert.SerialNumber.Bytes())
	}
	last := c.certs[len(c.certs)-1]
	if c.root = v.rootOf(last); c.root == nil {
		return nil, refusal.New(refusal.RootNotTrusted, "the chain ends in a root with an unknown key (%q)", last.Subject.CommonName)
	}
	for i, cert := range c.certs[:len(c.certs)-1] {
		issuer := c.certs[i+1]
		if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
			return nil, refusal.New(refusal.CertificateInvalid, "certificate %d is not issued by the next, %q", i+1, issuer.Subject.CommonName)
		}
		if err := cert.CheckSignatureFrom(issuer); err != nil {
			return nil, refusal.New(refusal.CertificateInvalid, "certificate %d: %w", i+1, err)
		}
	}
	c.key = c.certs[0].PublicKey.(*ecdsa.PublicKey)
	return c, nil
}

// parseCertificate parses a certificate with a P-256 key.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("its key is not P-256")
	}
	if cert.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return nil, fmt.Errorf("it is signed with %s, must be ECDSA-SHA256", cert.SignatureAlgorithm)
	}
	if len(cert.UnhandledCriticalExtensions) != 0 {
		return nil, fmt.Errorf("unknown critical extension %s", cert.UnhandledCriticalExtensions[0])
	}
	return cert, nil
}

func (v *Verifier) rootOf(cert *x509.Certificate) *Root {
	for i := range v.roots {
		if v.roots[i].PublicKey.Equal(cert.PublicKey) {
			return &v.roots[i]
		}
	}
	return nil
}

// decodeChain gives the DER of exactly n PEM certificates with nothing but white
// space and NULs between and after them.
func decodeChain(text []byte, n int) ([][]byte, error) {
	if len(text) > maxChainSize {
		return nil, fmt.Errorf("chain has %d bytes, more than %d", len(text), maxChainSize)
	}
	const space = " \t\r\n\x00"
	blocks := make([][]byte, 0, n)
	for text = bytes.Trim(text, space); len(text) > 0; text = bytes.TrimLeft(text, space) {
		if len(blocks) == n {
			return nil, fmt.Errorf("chain has more than %d certificates", n)
		}
		if !bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----")) {
			return nil, fmt.Errorf("certificate %d: no PEM certificate begins here", len(blocks)+1)
		}
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("certificate %d: broken PEM", len(blocks)+1)
		}
		blocks, text = append(blocks, block.Bytes), rest
	}
	if len(blocks) != n {
		return nil, fmt.Errorf("chain has %d certificates, must have %d", len(blocks), n)
	}
	return blocks, nil
}

// intelRootKey is 04 ‖ x ‖ y of Intel SGX Root CA.
const intelRootKey = "\x04" +
	"\x0b\xa9\xc4\xc0\xc0\xc8\x61\x93\xa3\xfe\x23\xd6\xb0\x2c\xda\x10\xa8\xbb\xd4\xe8\x8e\x48\xb4\x45\x85\x61\xa3\x6e\x70\x55\x25\xf5" +
	"\x67\x91\x8e\x2e\xdc\x88\xe4\x0d\x86\x0b\xd0\xcc\x4e\xe2\x6a\xac\xc9\x88\xe5\x05\xa9\x53\x55\x8c\x45\x3f\x6b\x09\x04\xae\x73\x94"
