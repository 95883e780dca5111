package sgx_test

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/adyton-dev/adyton/sgx"
)

// The three benchmarks are of one enclave; the measurements are bounded by 256/320
// of the hash. See also bench/measure, which compares them in one run.
const benchmarkSize = 4 << 20

func BenchmarkSHA256(b *testing.B) {
	enclave := make([]byte, benchmarkSize)
	b.SetBytes(benchmarkSize)
	for b.Loop() {
		sha256.Sum256(enclave)
	}
}

func BenchmarkMeasurer(b *testing.B) {
	page := examplePage()
	b.SetBytes(benchmarkSize)
	for b.Loop() {
		m, err := sgx.NewMeasurer(1, benchmarkSize)
		if err != nil {
			b.Fatal(err)
		}
		for offset := uint64(0); offset < benchmarkSize; offset += sgx.PageSize {
			if err := m.AddPage(offset, codePage, page); err != nil {
				b.Fatal(err)
			}
		}
		m.Sum()
	}
}

func BenchmarkMeasureSGXS(b *testing.B) {
	s := new(stream).create("ECREATE", 1, benchmarkSize)
	for offset := uint64(0); offset < benchmarkSize; offset += sgx.PageSize {
		s.page(offset, codePage, examplePage())
	}
	b.SetBytes(benchmarkSize)
	for b.Loop() {
		if _, err := sgx.MeasureSGXS(bytes.NewReader(s.Bytes())); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifySigStruct(b *testing.B) {
	s := signed(b)
	for b.Loop() {
		if err := s.Verify(); err != nil {
			b.Fatal(err)
		}
	}
}
