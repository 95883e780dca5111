package sgx

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"text/tabwriter"
	"time"
)

// SigStructSize is the size of SIGSTRUCT in bytes.
const SigStructSize = 1808

const (
	sigStructKeySize = 384  // bytes of the RSA-3072 numbers
	sigStructBody    = 900  // where the second signed part begins
	sigStructBodyEnd = 1028 // where it ends
)

// The two constants that every SIGSTRUCT has (SDM "SIGSTRUCT": HEADER, HEADER2).
const (
	sigStructHeader1 = "\x06\x00\x00\x00\xe1\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00"
	sigStructHeader2 = "\x01\x01\x00\x00\x60\x00\x00\x00\x60\x00\x00\x00\x01\x00\x00\x00"
)

// VendorIntel is the VENDOR field of enclaves that Intel signs; others have 0.
const VendorIntel uint32 = 0x8086

// SigStruct is SIGSTRUCT, the enclave's signature: what its author says of the
// enclave, signed with RSA-3072 and exponent 3 (SDM "Enclave Signature
// Structure"). The RSA numbers are 384 bytes, little-endian.
type SigStruct struct {
	Vendor            uint32
	Date              uint32 // 0xYYYYMMDD in BCD
	SWDefined         uint32
	Modulus           [sigStructKeySize]byte
	Exponent          uint32
	Signature         [sigStructKeySize]byte
	MiscSelect        uint32
	MiscMask          uint32
	CETAttributes     byte
	CETAttributesMask byte
	ISVFamilyID       [16]byte
	Attributes        Attributes
	AttributeMask     Attributes
	EnclaveHash       Measurement // MRENCLAVE
	ISVExtProdID      [16]byte
	ISVProdID         uint16
	ISVSVN            uint16
	Q1, Q2            [sigStructKeySize]byte
}

// ParseSigStruct reads the 1,808 bytes of SIGSTRUCT. It checks the constant
// headers and that reserved bytes are zero, as EINIT does, but no signature: see
// Verify.
func ParseSigStruct(b []byte) (*SigStruct, error) {
	if err := checkSize("SIGSTRUCT", b, SigStructSize); err != nil {
		return nil, err
	}
	if string(b[0:16]) != sigStructHeader1 || string(b[24:40]) != sigStructHeader2 {
		return nil, errors.New("SIGSTRUCT has a wrong header")
	}
	if err := checkReserved("SIGSTRUCT", b, [2]int{44, 128}, [2]int{910, 912}, [2]int{992, 1008}, [2]int{1028, 1040}); err != nil {
		return nil, err
	}
	return &SigStruct{
		Vendor:            le.Uint32(b[16:]),
		Date:              le.Uint32(b[20:]),
		SWDefined:         le.Uint32(b[40:]),
		Modulus:           [sigStructKeySize]byte(b[128:512]),
		Exponent:          le.Uint32(b[512:]),
		Signature:         [sigStructKeySize]byte(b[516:900]),
		MiscSelect:        le.Uint32(b[900:]),
		MiscMask:          le.Uint32(b[904:]),
		CETAttributes:     b[908],
		CETAttributesMask: b[909],
		ISVFamilyID:       [16]byte(b[912:928]),
		Attributes:        attributesAt(b, 928),
		AttributeMask:     attributesAt(b, 944),
		EnclaveHash:       Measurement(b[960:992]),
		ISVExtProdID:      [16]byte(b[1008:1024]),
		ISVProdID:         le.Uint16(b[1024:]),
		ISVSVN:            le.Uint16(b[1026:]),
		Q1:                [sigStructKeySize]byte(b[1040:1424]),
		Q2:                [sigStructKeySize]byte(b[1424:1808]),
	}, nil
}

// Bytes gives the 1,808 bytes of SIGSTRUCT.
func (s *SigStruct) Bytes() []byte {
	b := make([]byte, SigStructSize)
	copy(b, sigStructHeader1)
	le.PutUint32(b[16:], s.Vendor)
	le.PutUint32(b[20:], s.Date)
	copy(b[24:], sigStructHeader2)
	le.PutUint32(b[40:], s.SWDefined)
	copy(b[128:], s.Modulus[:])
	le.PutUint32(b[512:], s.Exponent)
	copy(b[516:], s.Signature[:])
	le.PutUint32(b[900:], s.MiscSelect)
	le.PutUint32(b[904:], s.MiscMask)
	b[908], b[909] = s.CETAttributes, s.CETAttributesMask
	copy(b[912:], s.ISVFamilyID[:])
	s.Attributes.put(b, 928)
	s.AttributeMask.put(b, 944)
	copy(b[960:], s.EnclaveHash[:])
	copy(b[1008:], s.ISVExtProdID[:])
	le.PutUint16(b[1024:], s.ISVProdID)
	le.PutUint16(b[1026:], s.ISVSVN)
	copy(b[1040:], s.Q1[:])
	copy(b[1424:], s.Q2[:])
	return b
}

// MRSIGNER is the SHA-256 of the modulus in its 384 little-endian bytes.
func (s *SigStruct) MRSIGNER() Measurement { return sha256.Sum256(s.Modulus[:]) }

// digest is the SHA-256 of the two signed parts: bytes 0 to 127 and 900 to 1027.
func (s *SigStruct) digest() [32]byte {
	b := s.Bytes()
	return sha256.Sum256(slices.Concat(b[:128], b[sigStructBody:sigStructBodyEnd]))
}

// Sign signs with an RSA-3072 key of exponent 3 and sets Modulus, Exponent,
// Signature, Q1 and Q2. The signer may be a local key or a hardware module.
func (s *SigStruct) Sign(signer crypto.Signer) error {
	public, ok := signer.Public().(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("sign SIGSTRUCT: the key is %T, want RSA", signer.Public())
	}
	if public.E != 3 || public.N.BitLen() != 8*sigStructKeySize {
		return fmt.Errorf("sign SIGSTRUCT: the key has %d bits and exponent %d, want 3072 bits and exponent 3", public.N.BitLen(), public.E)
	}
	signed := *s
	signed.Exponent = 3
	putLittleEndian(&signed.Modulus, public.N)
	digest := signed.digest()
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("sign SIGSTRUCT: %w", err)
	}
	if len(signature) != sigStructKeySize {
		return fmt.Errorf("sign SIGSTRUCT: the signer gave %d bytes, want %d", len(signature), sigStructKeySize)
	}
	value := new(big.Int).SetBytes(signature)
	if value.Cmp(public.N) >= 0 {
		return errors.New("sign SIGSTRUCT: the signer gave a number that is not below the modulus")
	}
	putLittleEndian(&signed.Signature, value)
	q1, q2 := quotients(value, public.N)
	putLittleEndian(&signed.Q1, q1)
	putLittleEndian(&signed.Q2, q2)
	if err := signed.Verify(); err != nil {
		return fmt.Errorf("sign SIGSTRUCT: the signer's signature is wrong: %w", err)
	}
	*s = signed
	return nil
}

// Verify checks the exponent, the RSA signature (PKCS #1 v1.5, SHA-256) and the
// quotients Q1 and Q2, with which EINIT computes signature³ mod modulus.
func (s *SigStruct) Verify() error {
	if s.Exponent != 3 {
		return fmt.Errorf("SIGSTRUCT: exponent is %d, want 3", s.Exponent)
	}
	modulus, signature := littleEndian(&s.Modulus), littleEndian(&s.Signature)
	if modulus.BitLen() != 8*sigStructKeySize || modulus.Bit(0) == 0 {
		return fmt.Errorf("SIGSTRUCT: modulus is not an odd number of %d bits", 8*sigStructKeySize)
	}
	if signature.Cmp(modulus) >= 0 {
		return errors.New("SIGSTRUCT: signature is not below the modulus")
	}
	digest := s.digest()
	public := &rsa.PublicKey{N: modulus, E: 3}
	if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature.FillBytes(make([]byte, sigStructKeySize))); err != nil {
		return fmt.Errorf("SIGSTRUCT: signature does not verify: %w", err)
	}
	q1, q2 := quotients(signature, modulus)
	var want1, want2 [sigStructKeySize]byte
	putLittleEndian(&want1, q1)
	putLittleEndian(&want2, q2)
	if subtle.ConstantTimeCompare(want1[:], s.Q1[:])&subtle.ConstantTimeCompare(want2[:], s.Q2[:]) != 1 {
		return errors.New("SIGSTRUCT: Q1 or Q2 is wrong")
	}
	return nil
}

// quotients gives Q1 = ⌊s²/n⌋ and Q2 = ⌊(s³ − Q1·s·n)/n⌋ (SDM "SIGSTRUCT").
func quotients(s, n *big.Int) (q1, q2 *big.Int) {
	q1, r := new(big.Int).DivMod(new(big.Int).Mul(s, s), n, new(big.Int))
	q2 = new(big.Int).Div(r.Mul(r, s), n)
	return q1, q2
}

// DateBCD gives the day of t, in its own time zone, as Date wants it: decimal
// digits YYYYMMDD in hexadecimal places, for example 0x20261124.
func DateBCD(t time.Time) uint32 {
	var bcd uint32
	digits := t.Year()*10000 + int(t.Month())*100 + t.Day()
	for shift := 0; shift < 32; shift += 4 {
		bcd |= uint32(digits%10) << shift
		digits /= 10
	}
	return bcd
}

// DebugAllowed reports whether the signature admits the enclave in debug mode:
// it says DEBUG itself, or its mask leaves the bit to the launcher.
func (s *SigStruct) DebugAllowed() bool {
	return s.Attributes.Flags&AttributeDebug != 0 || s.AttributeMask.Flags&AttributeDebug == 0
}

// Explain writes every field with its meaning, one a line, and whether the
// signature verifies.
func (s *SigStruct) Explain(w io.Writer) error {
	verdict := "valid"
	if err := s.Verify(); err != nil {
		verdict = err.Error()
	}
	vendor := "not Intel"
	if s.Vendor == VendorIntel {
		vendor = "Intel"
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range []struct {
		name  string
		value string
	}{
		{"MRENCLAVE", s.EnclaveHash.String()},
		{"MRSIGNER", s.MRSIGNER().String()},
		{"ISVPRODID", fmt.Sprint(s.ISVProdID)},
		{"ISVSVN", fmt.Sprint(s.ISVSVN)},
		{"ISVEXTPRODID", fmt.Sprintf("%x", s.ISVExtProdID)},
		{"ISVFAMILYID", fmt.Sprintf("%x", s.ISVFamilyID)},
		{"ATTRIBUTES", fmt.Sprintf("%v, mask %#016x", s.Attributes.Flags, uint64(s.AttributeMask.Flags))},
		{"XFRM", fmt.Sprintf("%#x, mask %#016x", s.Attributes.XFRM, s.AttributeMask.XFRM)},
		{"MISCSELECT", fmt.Sprintf("%#x, mask %#08x", s.MiscSelect, s.MiscMask)},
		{"CET", fmt.Sprintf("%#x, mask %#02x", s.CETAttributes, s.CETAttributesMask)},
		{"debug", fmt.Sprintf("allowed: %t", s.DebugAllowed())},
		{"vendor", fmt.Sprintf("%#x (%s)", s.Vendor, vendor)},
		{"date", fmt.Sprintf("%08x", s.Date)},
		{"SWDEFINED", fmt.Sprintf("%#x", s.SWDefined)},
		{"signature", verdict},
	} {
		if _, err := fmt.Fprintf(tw, "%s\t%s\n", f.name, f.value); err != nil {
			return fmt.Errorf("explain SIGSTRUCT: %w", err)
		}
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("explain SIGSTRUCT: %w", err)
	}
	return nil
}

func littleEndian(b *[sigStructKeySize]byte) *big.Int {
	reversed := slices.Clone(b[:])
	slices.Reverse(reversed)
	return new(big.Int).SetBytes(reversed)
}

func putLittleEndian(b *[sigStructKeySize]byte, v *big.Int) {
	v.FillBytes(b[:])
	slices.Reverse(b[:])
}
