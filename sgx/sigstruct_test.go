package sgx_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/internal/vectors"
	"github.com/adyton-dev/adyton/sgx"
)

// signingKey is one key for all tests, as making one takes a second.
var signingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return sgx.GenerateKey(rand.Reader) })

func key(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// exampleSigStruct has another value in every field that an author sets.
func exampleSigStruct() *sgx.SigStruct {
	return &sgx.SigStruct{
		Vendor:            sgx.VendorIntel,
		Date:              sgx.DateBCD(time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)),
		SWDefined:         0x01020304,
		MiscSelect:        sgx.MiscSelectEXINFO,
		MiscMask:          ^uint32(0),
		CETAttributes:     0x05,
		CETAttributesMask: 0x0f,
		ISVFamilyID:       [16]byte{0xfa},
		Attributes:        sgx.Attributes{Flags: sgx.AttributeMode64Bit | sgx.AttributeKSS, XFRM: 7},
		AttributeMask:     sgx.Attributes{Flags: ^sgx.AttributeDebug, XFRM: ^uint64(0)},
		EnclaveHash:       sgx.Measurement{1, 2, 3},
		ISVExtProdID:      [16]byte{0xe1},
		ISVProdID:         7,
		ISVSVN:            2,
	}
}

func signed(t testing.TB) *sgx.SigStruct {
	t.Helper()
	s := exampleSigStruct()
	if err := s.Sign(key(t)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignedSigStructVerifiesAfterEncoding(t *testing.T) {
	t.Parallel()
	raw := signed(t).Bytes()
	s, err := sgx.ParseSigStruct(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
	if *s != *signed(t) {
		t.Error("decoding or signing again gives another SIGSTRUCT")
	}
}

func TestMRSIGNERIsTheHashOfTheLittleEndianModulus(t *testing.T) {
	t.Parallel()
	modulus := key(t).N.FillBytes(make([]byte, 384))
	for i, j := 0, len(modulus)-1; i < j; i, j = i+1, j-1 {
		modulus[i], modulus[j] = modulus[j], modulus[i]
	}
	if got := signed(t).MRSIGNER(); got != sha256.Sum256(modulus) {
		t.Errorf("got %s", got)
	}
}

// A change of any byte is found: the reserved ones and headers when parsed, all
// others by the signature, Q1 and Q2.
func TestAnyChangedByteOfASigStructIsRefused(t *testing.T) {
	t.Parallel()
	raw := signed(t).Bytes()
	for offset := range raw {
		changed := bytes.Clone(raw)
		changed[offset] ^= 0x10
		s, err := sgx.ParseSigStruct(changed)
		if err == nil {
			err = s.Verify()
		}
		if err == nil {
			t.Errorf("byte %d may be changed", offset)
		}
	}
}

func TestVerifyRefusesADegenerateModulus(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*sgx.SigStruct){
		"zero":            func(s *sgx.SigStruct) { s.Modulus = [384]byte{} },
		"even":            func(s *sgx.SigStruct) { s.Modulus[0] &^= 1 },
		"short":           func(s *sgx.SigStruct) { s.Modulus[383] = 0 },
		"below signature": func(s *sgx.SigStruct) { s.Signature = s.Modulus },
		"exponent 65537":  func(s *sgx.SigStruct) { s.Exponent = 65537 },
	} {
		s := signed(t)
		change(s)
		if s.Verify() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// hardware is a signer that shows nothing but its public key, as an HSM does.
type hardware struct {
	public crypto.PublicKey
	sign   func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (h hardware) Public() crypto.PublicKey { return h.public }

func (h hardware) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return h.sign(digest, opts)
}

func TestAHardwareModuleCanSign(t *testing.T) {
	t.Parallel()
	k := key(t)
	module := hardware{public: &k.PublicKey, sign: func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
		return rsa.SignPKCS1v15(nil, k, opts.HashFunc(), digest)
	}}
	s := exampleSigStruct()
	if err := s.Sign(module); err != nil {
		t.Fatal(err)
	}
	if *s != *signed(t) {
		t.Error("the module's signature differs from the local key's")
	}
}

func TestSignRefusesAWrongSignerAndKeepsTheSigStruct(t *testing.T) {
	t.Parallel()
	other, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := &key(t).PublicKey
	offline := errors.New("the module is offline")
	for name, signer := range map[string]crypto.Signer{
		"exponent 65537": other,
		"not RSA":        ec,
		"fails": hardware{public, func([]byte, crypto.SignerOpts) ([]byte, error) {
			return nil, offline
		}},
		"short signature": hardware{public, func([]byte, crypto.SignerOpts) ([]byte, error) {
			return make([]byte, 256), nil
		}},
		"signature above the modulus": hardware{public, func([]byte, crypto.SignerOpts) ([]byte, error) {
			return bytes.Repeat([]byte{0xff}, 384), nil
		}},
		"signature of something else": hardware{public, func([]byte, crypto.SignerOpts) ([]byte, error) {
			digest := sha256.Sum256(nil)
			return rsa.SignPKCS1v15(nil, key(t), crypto.SHA256, digest[:])
		}},
	} {
		s := exampleSigStruct()
		err := s.Sign(signer)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if name == "fails" && !errors.Is(err, offline) {
			t.Errorf("got %v, want %v", err, offline)
		}
		if *s != *exampleSigStruct() {
			t.Errorf("%s: the SIGSTRUCT was changed", name)
		}
	}
}

// EINIT compares ATTRIBUTES under the mask, so a bit that the mask leaves out is
// the launcher's to choose.
func TestDebugIsAllowedAsEINITDecides(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name             string
		attributes, mask sgx.AttributeFlags
		want             bool
	}{
		{"required", sgx.AttributeDebug, ^sgx.AttributeFlags(0), true},
		{"forbidden", 0, ^sgx.AttributeFlags(0), false},
		{"left to the launcher", 0, ^sgx.AttributeDebug, true},
	} {
		s := sgx.SigStruct{Attributes: sgx.Attributes{Flags: test.attributes}, AttributeMask: sgx.Attributes{Flags: test.mask}}
		if got := s.DebugAllowed(); got != test.want {
			t.Errorf("%s: got %t", test.name, got)
		}
	}
}

func TestExplainGolden(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(vectors.Dir(t), "sigstruct", "linux-sgx-f850380d.sigstruct"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := sgx.ParseSigStruct(raw)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := s.Explain(&text); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "explain.golden"))
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", &text, want)
	}
	s.ISVSVN++
	text.Reset()
	if err := s.Explain(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "signature does not verify") {
		t.Errorf("a wrong signature is not told:\n%s", &text)
	}
}

func TestExplainReportsAWriteError(t *testing.T) {
	t.Parallel()
	full := errors.New("the disk is full")
	if err := signed(t).Explain(failingWriter{full}); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

func TestDateBCD(t *testing.T) {
	t.Parallel()
	for want, day := range map[uint32]time.Time{
		0x20260105: time.Date(2026, 1, 5, 23, 59, 0, 0, time.UTC),
		0x19991231: time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC),
	} {
		if got := sgx.DateBCD(day); got != want {
			t.Errorf("got %08x, want %08x", got, want)
		}
	}
}

func TestGeneratedKeyHas3072BitsAndExponent3(t *testing.T) {
	t.Parallel()
	k := key(t)
	if k.N.BitLen() != 3072 || k.E != 3 {
		t.Errorf("%d bits, exponent %d", k.N.BitLen(), k.E)
	}
	if err := k.Validate(); err != nil {
		t.Error(err)
	}
	for _, p := range k.Primes {
		if !p.ProbablyPrime(32) || p.BitLen() != 1536 {
			t.Error("a factor is not a 1536-bit prime")
		}
	}
}

func TestKeyPEM(t *testing.T) {
	t.Parallel()
	k := key(t)
	pkcs8, err := sgx.MarshalKeyPEM(k)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte, headers map[string]string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der, Headers: headers})
	}
	pkcs1 := x509.MarshalPKCS1PrivateKey(k)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		text []byte
		want string // of the error; empty: accepted
	}{
		"PKCS #8":           {pkcs8, ""},
		"PKCS #1":           {encode("RSA PRIVATE KEY", pkcs1, nil), ""},
		"not PEM":           {[]byte("key"), "not PEM"},
		"empty":             {nil, "not PEM"},
		"not a private key": {encode("PUBLIC KEY", pkcs1, nil), "PEM block"},
		"EC":                {encode("PRIVATE KEY", ecDER, nil), "want RSA"},
		"broken PKCS #1":    {encode("RSA PRIVATE KEY", pkcs1[:100], nil), "signing key"},
		"broken PKCS #8":    {encode("PRIVATE KEY", pkcs1, nil), "signing key"},
		"encrypted PKCS #8": {encode("ENCRYPTED PRIVATE KEY", pkcs1, nil), "encrypted"},
		"encrypted PKCS #1": {encode("RSA PRIVATE KEY", pkcs1, map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}), "encrypted"},
	} {
		got, err := sgx.ParseKeyPEM(test.text)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want == "" && !got.Equal(k):
			t.Errorf("%s: another key", name)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		}
	}
}
