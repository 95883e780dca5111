package pki

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/adyton-dev/adyton/dcap"
)

// Identity is what a PCK certificate says about its platform.
type Identity struct {
	CA         dcap.PCKCA
	PPID       [16]byte
	Components [16]uint8
	PCESVN     uint16
	CPUSVN     [16]byte
	PCEID      dcap.PCEID
	FMSPC      dcap.FMSPC
	SGXType    dcap.SGXType
	// InstanceID is certified by the Platform CA only.
	InstanceID [16]byte
}

var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

// extension gives the value of Intel's extension: SEQUENCE OF SEQUENCE { OID, value },
// in the numbered order of the fields (1.3.5 of the profile).
func (id *Identity) extension() ([]byte, error) {
	if id.CA != dcap.PlatformCA && id.CA != dcap.ProcessorCA {
		return nil, fmt.Errorf("unknown PCK CA %q", id.CA)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		octets(b, field(1), id.PPID[:])
		pair(b, field(2), id.addTCB)
		octets(b, field(3), id.PCEID[:])
		octets(b, field(4), id.FMSPC[:])
		pair(b, field(5), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(id.SGXType)) })
		if id.CA == dcap.PlatformCA {
			octets(b, field(6), id.InstanceID[:])
			pair(b, field(7), addConfiguration)
		}
	})
	return b.Bytes()
}

// addTCB adds the 16 component SVNs, PCESVN and CPUSVN.
func (id *Identity) addTCB(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for i, svn := range id.Components {
			integer(b, field(2, i+1), uint64(svn))
		}
		integer(b, field(2, 17), uint64(id.PCESVN))
		octets(b, field(2, 18), id.CPUSVN[:])
	})
}

// addConfiguration says: not a dynamic platform, no cached keys, no SMT.
func addConfiguration(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for flag := 1; flag <= 3; flag++ {
			pair(b, field(7, flag), func(b *cryptobyte.Builder) { b.AddASN1Boolean(false) })
		}
	})
}

func field(numbers ...int) asn1.ObjectIdentifier {
	return append(oidSGX[:len(oidSGX):len(oidSGX)], numbers...)
}

func pair(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, value cryptobyte.BuilderContinuation) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		value(b)
	})
}

func octets(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, value []byte) {
	pair(b, oid, func(b *cryptobyte.Builder) { b.AddASN1OctetString(value) })
}

func integer(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, value uint64) {
	pair(b, oid, func(b *cryptobyte.Builder) { b.AddASN1Uint64(value) })
}

// rawSignature turns SEQUENCE { r, s } into r ‖ s.
func rawSignature(der []byte) (raw [64]byte, err error) {
	outer, inner := cryptobyte.String(der), cryptobyte.String(nil)
	r, s := new(big.Int), new(big.Int)
	if !outer.ReadASN1(&inner, cbasn1.SEQUENCE) || !inner.ReadASN1Integer(r) || !inner.ReadASN1Integer(s) {
		return raw, errors.New("the signature is not a pair of integers")
	}
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return raw, nil
}
