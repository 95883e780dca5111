package dcap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// seed adds the first files that match in the vectors, where they are, and testdata.
func seed(f *testing.F, pattern string) {
	f.Helper()
	roots := []string{os.Getenv("ADYTON_VECTORS"), "../../shared/vectors"}
	for _, root := range roots {
		files, _ := filepath.Glob(filepath.Join(root, "dcap", pattern))
		for i := 0; i < len(files); i += max(1, len(files)/6) {
			if b, err := os.ReadFile(files[i]); err == nil {
				f.Add(b)
			}
		}
	}
}

func FuzzParseQuote(f *testing.F) {
	seed(f, "quotes/*.bin")
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ParseQuote(b)
		if err != nil {
			return
		}
		if (q.SGX == nil) == (q.TD == nil) || q.QEReport == nil || len(q.signed) < headerSize+reportBodySize {
			t.Errorf("an accepted quote is incomplete: %+v", q)
		}
		q.Debug()
		q.ReportData()
		_, _ = q.CertificationData.PlatformID()
		_, _ = decodeChain(q.CertificationData.Data, 3)
	})
}

func FuzzTCBInfo(f *testing.F) {
	seed(f, "collateral/tcb_info-*.json")
	f.Add([]byte(`{"tcbInfo":{"id":"TDX","version":3},"signature":"00"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		signed, err := parseSigned(b, "tcbInfo")
		if err != nil {
			return
		}
		info, err := parseTCBInfo(signed.body)
		if err != nil {
			return
		}
		var pck PCK
		svn := [16]byte{5, 1}
		info.platform(&pck, nil)
		_, _, _ = info.td(&pck, &svn)
		_ = info.checkModule(&TDReport{TEETCBSVN: svn})
	})
}

func FuzzQEIdentity(f *testing.F) {
	seed(f, "collateral/qe_identity-*.json")
	f.Add([]byte(`{"enclaveIdentity":{"id":"QE","version":2},"signature":"00"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		signed, err := parseSigned(b, "enclaveIdentity")
		if err != nil {
			return
		}
		if identity, err := parseQEIdentity(signed.body); err == nil {
			stateOf(identity.levels, 0)
		}
	})
}

func FuzzPCKExtension(f *testing.F) {
	quotes, _ := filepath.Glob("../../shared/vectors/dcap/quotes/*.bin")
	for i := 0; i < len(quotes); i += 9 {
		b, err := os.ReadFile(quotes[i])
		if err != nil {
			f.Fatal(err)
		}
		q, err := ParseQuote(b)
		if err != nil {
			continue
		}
		blocks, err := decodeChain(q.CertificationData.Data, 3)
		if err != nil {
			continue
		}
		cert, err := x509.ParseCertificate(blocks[0])
		if err != nil {
			continue
		}
		for _, extension := range cert.Extensions {
			if extension.Id.Equal(oidSGX) {
				f.Add(extension.Value)
			}
		}
	}
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(t *testing.T, der []byte) {
		for _, ca := range []PCKCA{ProcessorCA, PlatformCA} {
			p := &PCK{CA: ca}
			if p.parseExtension(der) == nil && ca == ProcessorCA && p.Configuration != (PCKConfiguration{}) {
				t.Errorf("a %s CA has certified a configuration", ca)
			}
		}
	})
}

func FuzzCRL(f *testing.F) {
	seed(f, "collateral/*_crl-*.der")
	issuer := fuzzIssuer(f)
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, err := parseCRL(der, issuer); err == nil {
			t.Error("a list that the issuer has not signed is accepted")
		}
	})
}

// fuzzIssuer has Intel's Platform CA's name, so that inputs get past the name check.
func fuzzIssuer(f *testing.F) *x509.Certificate {
	f.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{
			CommonName: "Intel SGX PCK Platform CA", Organization: []string{"Intel Corporation"},
			Locality: []string{"Santa Clara"}, Province: []string{"CA"}, Country: []string{"US"},
		},
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		f.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	return cert
}
