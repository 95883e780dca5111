package pki_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee/pki"
	"github.com/adyton-dev/adyton/internal/vectors"
)

var now = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// chain makes root, CA and PCK certificate.
func chain(t *testing.T, id *pki.Identity) (root, ca, pck *pki.Authority) {
	t.Helper()
	var err error
	if root, err = pki.NewRoot("0badcafe", now); err != nil {
		t.Fatal(err)
	}
	if ca, err = root.NewPCKCA(id.CA, now); err != nil {
		t.Fatal(err)
	}
	if pck, err = ca.NewPCK(id, now); err != nil {
		t.Fatal(err)
	}
	return root, ca, pck
}

func identity(ca dcap.PCKCA) *pki.Identity {
	id := &pki.Identity{
		CA: ca, PPID: [16]byte{1, 15: 2}, PCESVN: 0x1234, CPUSVN: [16]byte{3, 4}, PCEID: dcap.PCEID{5, 6},
		FMSPC: dcap.FMSPC{7, 8, 9, 10, 11, 12}, SGXType: dcap.SGXScalable, InstanceID: [16]byte{13},
	}
	for i := range id.Components {
		id.Components[i] = uint8(17 * i) // up to 255: DER integers with a leading zero
	}
	return id
}

func TestPCKCertificateSaysWhatWasAsked(t *testing.T) {
	t.Parallel()
	for _, ca := range []dcap.PCKCA{dcap.PlatformCA, dcap.ProcessorCA} {
		id := identity(ca)
		_, _, pck := chain(t, id)
		got, err := dcap.PCKOf(pck.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		instance := id.InstanceID
		if ca == dcap.ProcessorCA {
			instance = [16]byte{}
		}
		if got.CA != ca || got.PPID != id.PPID || got.Components != id.Components || got.PCESVN != id.PCESVN || got.CPUSVN != id.CPUSVN ||
			got.PCEID != id.PCEID || got.FMSPC != id.FMSPC || got.SGXType != id.SGXType || got.PlatformInstanceID != instance {
			t.Errorf("%s CA: %+v, want %+v", ca, got, id)
		}
	}
}

// TestCertificatesHaveWhatVerifiersLookFor: Intel's QVL wants these five extensions
// and these words in the common names.
func TestCertificatesHaveWhatVerifiersLookFor(t *testing.T) {
	t.Parallel()
	root, ca, pck := chain(t, identity(dcap.PlatformCA))
	signer, err := root.NewTCBSigner(now)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		certificate, issuer *x509.Certificate
		name                string
	}{
		{root.Certificate, root.Certificate, "SGX Root CA"},
		{ca.Certificate, root.Certificate, "Intel SGX PCK Platform CA"},
		{pck.Certificate, ca.Certificate, "Intel SGX PCK Certificate"},
		{signer.Certificate, root.Certificate, "Intel SGX TCB Signing"},
	} {
		c := test.certificate
		if !strings.Contains(c.Subject.CommonName, test.name) || !slices.Equal(c.Subject.Organization, []string{pki.Organization}) {
			t.Errorf("subject %q, want %q of %q", c.Subject, test.name, pki.Organization)
		}
		if err := c.CheckSignatureFrom(test.issuer); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		var have []string
		for _, e := range c.Extensions {
			have = append(have, e.Id.String())
		}
		for _, want := range []string{"2.5.29.35", "2.5.29.31", "2.5.29.14", "2.5.29.15", "2.5.29.19"} {
			if !slices.Contains(have, want) {
				t.Errorf("%s lacks extension %s", test.name, want)
			}
		}
		if !bytes.Equal(c.AuthorityKeyId, test.issuer.SubjectKeyId) || new(big.Int).SetBytes(c.SubjectKeyId).Cmp(c.SerialNumber) != 0 {
			t.Errorf("%s: key identifiers or serial number are not as Intel's", test.name)
		}
		if c.NotBefore.After(now) || c.NotAfter.Before(now.AddDate(5, 0, 0)) {
			t.Errorf("%s is valid from %s to %s", test.name, c.NotBefore, c.NotAfter)
		}
	}
}

// TestExtensionHasTheFieldsOfIntels compares the tree of OIDs with that of PCK
// certificates from Intel.
func TestExtensionHasTheFieldsOfIntels(t *testing.T) {
	t.Parallel()
	quotes, err := filepath.Glob(filepath.Join(vectors.Dir(t), "dcap", "quotes", "*.bin"))
	if err != nil {
		t.Fatal(err)
	}
	compared := map[dcap.PCKCA]int{}
	for _, path := range quotes {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		quote, err := dcap.ParseQuote(raw)
		if err != nil || quote.CertificationData.Type != dcap.PCKChain {
			continue
		}
		block, _ := pem.Decode(quote.CertificationData.Data)
		if block == nil {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		real, err := dcap.PCKOf(certificate)
		if err != nil || !slices.Equal(certificate.Issuer.Organization, []string{"Intel Corporation"}) {
			continue
		}
		_, _, ours := chain(t, identity(real.CA))
		if got, want := fields(t, ours.Certificate), fields(t, certificate); got != want {
			t.Errorf("%s: our extension has the fields\n%s\nIntel's has\n%s", filepath.Base(path), got, want)
		}
		compared[real.CA]++
	}
	if compared[dcap.PlatformCA] == 0 || compared[dcap.ProcessorCA] == 0 {
		t.Errorf("compared with %v certificates, want some of both CAs", compared)
	}
}

// fields lists the OIDs of the SGX extension with the types of their values.
func fields(t *testing.T, certificate *x509.Certificate) string {
	t.Helper()
	for _, e := range certificate.Extensions {
		if e.Id.String() == "1.2.840.113741.1.13.1" {
			var out strings.Builder
			walk(t, e.Value, &out)
			return out.String()
		}
	}
	t.Fatal("no SGX extension")
	return ""
}

func walk(t *testing.T, der []byte, out *strings.Builder) {
	t.Helper()
	for len(der) > 0 {
		var value asn1.RawValue
		rest, err := asn1.Unmarshal(der, &value)
		if err != nil {
			t.Fatal(err)
		}
		der = rest
		switch {
		case value.IsCompound:
			out.WriteString("{")
			walk(t, value.Bytes, out)
			out.WriteString("}")
		case value.Tag == asn1.TagOID:
			var oid asn1.ObjectIdentifier
			if _, err := asn1.Unmarshal(value.FullBytes, &oid); err != nil {
				t.Fatal(err)
			}
			out.WriteString(oid.String() + " ")
		default:
			out.WriteString(map[int]string{asn1.TagOctetString: "octets", asn1.TagInteger: "integer", asn1.TagEnum: "enum", asn1.TagBoolean: "boolean"}[value.Tag])
		}
	}
}

func TestCRLListsTheRevoked(t *testing.T) {
	t.Parallel()
	_, ca, pck := chain(t, identity(dcap.PlatformCA))
	until := now.Add(30 * 24 * time.Hour)
	der, err := ca.CRL([]*big.Int{pck.Certificate.SerialNumber}, now, until)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ca.CRL([]*big.Int{pck.Certificate.SerialNumber}, now, until)
	if err != nil || !bytes.Equal(der, again) {
		t.Errorf("the same list is other bytes (%v)", err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(ca.Certificate); err != nil {
		t.Error(err)
	}
	if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(pck.Certificate.SerialNumber) != 0 ||
		!list.ThisUpdate.Equal(now) || !list.NextUpdate.Equal(until) {
		t.Errorf("list = %+v", list)
	}
}
