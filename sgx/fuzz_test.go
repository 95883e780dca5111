package sgx_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"testing"

	"github.com/adyton-dev/adyton/sgx"
)

// fuzzStructure checks that what parses re-encodes to the same bytes. The input
// is also tried filled up with zeros: a fuzzer hardly ever meets a size by chance,
// and is slow with inputs of a whole page.
func fuzzStructure(f *testing.F, name string) {
	for _, s := range structures() {
		if s.name != name {
			continue
		}
		f.Add(bytes.TrimRight(counted(s), "\x00"))
		f.Add([]byte{})
		f.Fuzz(func(t *testing.T, raw []byte) {
			for _, raw := range [][]byte{raw, filled(raw, s.size)} {
				parsed, err := s.parse(raw)
				if err == nil && !bytes.Equal(parsed.Bytes(), raw) {
					t.Error("re-encoding gives other bytes")
				}
			}
		})
		return
	}
	f.Fatalf("no structure %q", name)
}

func filled(raw []byte, size int) []byte {
	b := make([]byte, size)
	copy(b, raw)
	return b
}

func FuzzSECS(f *testing.F)       { fuzzStructure(f, "SECS") }
func FuzzTCS(f *testing.F)        { fuzzStructure(f, "TCS") }
func FuzzTargetInfo(f *testing.F) { fuzzStructure(f, "TARGETINFO") }
func FuzzReport(f *testing.F)     { fuzzStructure(f, "REPORT") }
func FuzzKeyRequest(f *testing.F) { fuzzStructure(f, "KEYREQUEST") }

func FuzzSigStruct(f *testing.F) {
	f.Add(bytes.TrimRight(exampleSigStruct().Bytes(), "\x00"))
	f.Add(bytes.TrimRight((&sgx.SigStruct{}).Bytes(), "\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, raw := range [][]byte{raw, filled(raw, sgx.SigStructSize)} {
			s, err := sgx.ParseSigStruct(raw)
			if err != nil {
				continue
			}
			if !bytes.Equal(s.Bytes(), raw) {
				t.Error("re-encoding gives other bytes")
			}
			if err := s.Explain(io.Discard); err != nil {
				t.Error(err)
			}
		}
	})
}

// The fuzzer has the numbers alone: a modulus and a signature must never make
// Verify panic or take long, and of such numbers none is a valid signature.
func FuzzVerifySigStruct(f *testing.F) {
	s := exampleSigStruct()
	f.Add(s.Modulus[:], s.Signature[:], []byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 384), []byte{1}, []byte{})
	f.Add(append([]byte{1}, append(make([]byte, 382), 0x80)...), []byte{2}, []byte{1})
	f.Fuzz(func(t *testing.T, modulus, signature, q []byte) {
		s := exampleSigStruct()
		s.Exponent = 3
		copy(s.Modulus[:], modulus)
		copy(s.Signature[:], signature)
		copy(s.Q1[:], q)
		if s.Verify() == nil {
			t.Error("the fuzzer forged a signature")
		}
	})
}

// A stream that is measured and has no skipped content is its own preimage.
func FuzzSGXS(f *testing.F) {
	f.Add(smallStream().Bytes())
	f.Add(new(stream).create("ECREATE", 1, 0x2000).block("EADD", 0, uint64(dataPage)).
		chunk("UNMEASRD", 0, make([]byte, 256)).Bytes())
	f.Add(new(stream).create("UNSIZED", 1, 0x1000).Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := sgx.MeasureSGXS(bytes.NewReader(raw))
		if err != nil || bytes.Contains(raw, []byte("UNMEASRD")) {
			return
		}
		if m != sha256.Sum256(raw) {
			t.Error("the measurement is not the stream's hash")
		}
	})
}

func FuzzSigningKey(f *testing.F) {
	text, err := sgx.MarshalKeyPEM(key(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nAA==\n-----END RSA PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if k, err := sgx.ParseKeyPEM(text); err == nil && k == nil {
			t.Error("neither a key nor an error")
		}
	})
}
