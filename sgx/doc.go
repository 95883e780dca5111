// Package sgx is the Intel SGX architecture as bytes and structs: control
// structures, reports, key requests, the measurement of an enclave (MRENCLAVE)
// and its signature (SIGSTRUCT).
//
// All multi-byte integers in SGX structures are little-endian. Offsets and names
// are those of the Intel 64 and IA-32 Architectures Software Developer's Manual
// (SDM), volume 3D, chapters "Enclave Access Control and Data Structures" and
// "SGX Instruction References". Each structure has a Parse function, which checks
// the length and that reserved bytes are zero, and a Bytes method; parsing what
// Bytes gave yields an equal value.
//
// The package imports only the standard library and holds no state. To add a
// structure, add a file with its struct, its Parse function and its Bytes method,
// and a fuzz target.
package sgx

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// PageSize is the size of an enclave page in bytes.
const PageSize = 4096

// Measurement is a SHA-256 digest that identifies code or its signer: MRENCLAVE
// or MRSIGNER.
type Measurement [32]byte

// String gives the digest as lower-case hexadecimal.
func (m Measurement) String() string { return hex.EncodeToString(m[:]) }

// MarshalText gives the digest as lower-case hexadecimal.
func (m Measurement) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads 64 hexadecimal digits of either case.
func (m *Measurement) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(m)) {
		return fmt.Errorf("measurement has %d characters, want %d hexadecimal digits", len(text), hex.EncodedLen(len(m)))
	}
	var d Measurement
	if _, err := hex.Decode(d[:], text); err != nil {
		return fmt.Errorf("measurement is not hexadecimal: %w", err)
	}
	*m = d
	return nil
}

// ReportData is REPORTDATA: 64 bytes that an enclave binds into its report.
type ReportData [64]byte

// CPUSVN is the security version of the CPU and its microcode. Its 16 bytes are
// opaque to software, except that DCAP's TCB components are derived from them.
type CPUSVN [16]byte

// Key128 is a key that EGETKEY gives.
type Key128 [16]byte

// checkSize reports an error unless b is exactly size bytes long.
func checkSize(name string, b []byte, size int) error {
	if len(b) != size {
		return fmt.Errorf("%s is %d bytes long, want %d", name, len(b), size)
	}
	return nil
}

// checkZero reports an error unless b, which begins at offset in the named
// structure, is all zero.
func checkZero(name string, b []byte, offset int) error {
	var set uint64
	rest := b
	for ; len(rest) >= 8; rest = rest[8:] { // by words: SGX streams have much to check
		set |= le.Uint64(rest)
	}
	for _, v := range rest {
		set |= uint64(v)
	}
	if set == 0 {
		return nil
	}
	first := slices.IndexFunc(b, func(v byte) bool { return v != 0 })
	return fmt.Errorf("%s has a reserved byte that is not zero at offset %d", name, offset+first)
}

// checkReserved reports an error unless each [from, to) range of b is all zero.
func checkReserved(name string, b []byte, ranges ...[2]int) error {
	for _, r := range ranges {
		if err := checkZero(name, b[r[0]:r[1]], r[0]); err != nil {
			return err
		}
	}
	return nil
}

var le = binary.LittleEndian
