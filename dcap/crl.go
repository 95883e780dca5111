package dcap

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/adyton-dev/adyton/refusal"
)

// maxCRLSize bounds a CRL. Intel's PCK CRLs have a few KB.
const maxCRLSize = 1 << 20

// crl is a revocation list whose signature has been verified.
type crl struct {
	period  period
	revoked map[string]struct{} // serial numbers as bytes
}

// verifiedCRL gives the list that issuer signed.
func (v *Verifier) verifiedCRL(name string, der []byte, issuer *x509.Certificate) (*crl, error) {
	if list, ok := v.crls.get(der, issuer.Raw); ok {
		return list, nil
	}
	list, err := parseCRL(der, issuer)
	if err != nil {
		return nil, refusal.New(refusal.CollateralInvalid, "%s: %w", name, err)
	}
	v.crls.put(der, issuer.Raw, list)
	return list, nil
}

// parseCRL parses a DER CRL. Its issuer must have issuer's raw name, and its
// signature must verify under issuer's key.
func parseCRL(der []byte, issuer *x509.Certificate) (*crl, error) {
	if len(der) > maxCRLSize {
		return nil, fmt.Errorf("has %d bytes, more than %d", len(der), maxCRLSize)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if len(list.Raw) != len(der) {
		return nil, fmt.Errorf("%d bytes follow the list", len(der)-len(list.Raw))
	}
	if !bytes.Equal(list.RawIssuer, issuer.RawSubject) {
		return nil, fmt.Errorf("is of %q, must be of %q", list.Issuer.CommonName, issuer.Subject.CommonName)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return nil, err
	}
	if list.ThisUpdate.IsZero() || list.NextUpdate.IsZero() || list.NextUpdate.Before(list.ThisUpdate) {
		return nil, errors.New("thisUpdate and nextUpdate are not both given in order")
	}
	// A critical extension would say that this list covers less than it seems.
	for _, extension := range list.Extensions {
		if extension.Critical {
			return nil, fmt.Errorf("unknown critical extension %s", extension.Id)
		}
	}
	parsed := &crl{period{list.ThisUpdate, list.NextUpdate}, make(map[string]struct{}, len(list.RevokedCertificateEntries))}
	for i := range list.RevokedCertificateEntries {
		parsed.revoked[string(list.RevokedCertificateEntries[i].SerialNumber.Bytes())] = struct{}{}
	}
	return parsed, nil
}

// check refuses certificate i of a chain if it is on the list.
func (l *crl) check(c *chain, i int) error {
	if _, revoked := l.revoked[c.serials[i]]; revoked {
		return refusal.New(refusal.CertificateRevoked, "%q with serial %x is revoked", c.certs[i].Subject.CommonName, c.serials[i])
	}
	return nil
}
