package dcap

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/adyton-dev/adyton/sgx"
)

// FMSPC is the family, model, stepping, platform type and SKU of a platform: the
// key under which Intel publishes TCB info.
type FMSPC [6]byte

// String gives 12 lower-case hex digits.
func (f FMSPC) String() string { return hex.EncodeToString(f[:]) }

// PCEID names the provisioning certification enclave.
type PCEID [2]byte

// String gives 4 lower-case hex digits in the order of the certificate's bytes.
func (p PCEID) String() string { return hex.EncodeToString(p[:]) }

// SGXType is how the platform protects enclave memory.
type SGXType uint8

// The SGX types of a PCK certificate.
const (
	SGXStandard              SGXType = 0
	SGXScalable              SGXType = 1
	SGXScalableWithIntegrity SGXType = 2
)

// PCKCA is the kind of CA that issued a PCK certificate, as the ca parameter of
// /pckcrl spells it.
type PCKCA string

// The PCK CAs.
const (
	ProcessorCA PCKCA = "processor"
	PlatformCA  PCKCA = "platform"
)

// PCK is what a PCK certificate says about its platform (Intel SGX PCK
// Certificate and CRL Profile, 1.3.5).
type PCK struct {
	CA PCKCA
	// Serial is the certificate's serial number in lower-case hex.
	Serial string
	PPID   [16]byte
	// Components are the 16 SGX TCB component SVNs and PCESVN, which TCB levels are compared with.
	Components [16]uint8
	PCESVN     uint16
	CPUSVN     sgx.CPUSVN
	PCEID      PCEID
	FMSPC      FMSPC
	SGXType    SGXType
	// PlatformInstanceID and Configuration come from the Platform CA only; else zero.
	PlatformInstanceID [16]byte
	Configuration      PCKConfiguration
}

// PCKConfiguration says how a multi-package platform is set up.
type PCKConfiguration struct {
	DynamicPlatform, CachedKeys, SMTEnabled Setting
}

// Setting is a flag that a certificate may leave out.
type Setting uint8

// The settings.
const (
	Unknown Setting = iota
	Off
	On
)

// PCKOf reads Intel's extension of a PCK certificate. It checks the form, not the
// signature.
func PCKOf(cert *x509.Certificate) (*PCK, error) {
	p := &PCK{Serial: hex.EncodeToString(cert.SerialNumber.Bytes())}
	switch issuer := cert.Issuer.CommonName; {
	case strings.Contains(issuer, "SGX PCK Processor CA"):
		p.CA = ProcessorCA
	case strings.Contains(issuer, "SGX PCK Platform CA"):
		p.CA = PlatformCA
	default:
		return nil, fmt.Errorf("PCK certificate: issuer %q is neither a PCK Processor CA nor a PCK Platform CA", issuer)
	}
	for _, extension := range cert.Extensions {
		if extension.Id.Equal(oidSGX) {
			if err := p.parseExtension(extension.Value); err != nil {
				return nil, fmt.Errorf("PCK certificate: SGX extension: %w", err)
			}
			return p, nil
		}
	}
	return nil, errors.New("PCK certificate: no SGX extension (1.2.840.113741.1.13.1)")
}

var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

// sgxOIDPrefix is the DER body of oidSGX. The fields are numbered below it.
const sgxOIDPrefix = "\x2a\x86\x48\x86\xf8\x4d\x01\x0d\x01"

// parseExtension reads SEQUENCE OF SEQUENCE { OID, value }. The fields come in
// their numbered order: 1 PPID, 2 TCB, 3 PCEID, 4 FMSPC, 5 SGX type, and from the
// Platform CA 6 platform instance id, 7 configuration.
func (p *PCK) parseExtension(der []byte) error {
	fields, err := sequence(der)
	if err != nil {
		return err
	}
	read := []func(cryptobyte.String) error{
		func(v cryptobyte.String) error { return octets(v, p.PPID[:]) },
		p.parseTCB,
		func(v cryptobyte.String) error { return octets(v, p.PCEID[:]) },
		func(v cryptobyte.String) error { return octets(v, p.FMSPC[:]) },
		p.parseType,
		func(v cryptobyte.String) error { return octets(v, p.PlatformInstanceID[:]) },
		p.parseConfiguration,
	}
	if p.CA == ProcessorCA {
		read = read[:5]
	}
	for i, read := range read {
		value, err := field(&fields, sgxOIDPrefix, i+1)
		if err == nil {
			err = read(value)
		}
		if err != nil {
			return fmt.Errorf("field %d: %w", i+1, err)
		}
	}
	if !fields.Empty() {
		return fmt.Errorf("more fields than a %s CA certifies", p.CA)
	}
	return nil
}

// parseTCB reads the 16 component SVNs, PCESVN and CPUSVN.
func (p *PCK) parseTCB(v cryptobyte.String) error {
	fields, err := sequence(v)
	if err != nil {
		return err
	}
	const prefix = sgxOIDPrefix + "\x02"
	for i := range p.Components {
		svn, err := field(&fields, prefix, i+1)
		if err != nil {
			return fmt.Errorf("component %d: %w", i+1, err)
		}
		if !svn.ReadASN1Integer(&p.Components[i]) || !svn.Empty() {
			return fmt.Errorf("component %d is not an integer from 0 to 255", i+1)
		}
	}
	pcesvn, err := field(&fields, prefix, 17)
	if err != nil || !pcesvn.ReadASN1Integer(&p.PCESVN) || !pcesvn.Empty() {
		return errors.New("PCESVN is not an integer from 0 to 65535")
	}
	cpusvn, err := field(&fields, prefix, 18)
	if err != nil {
		return fmt.Errorf("CPUSVN: %w", err)
	}
	if err := octets(cpusvn, p.CPUSVN[:]); err != nil {
		return fmt.Errorf("CPUSVN: %w", err)
	}
	if !fields.Empty() {
		return errors.New("more than 18 TCB fields")
	}
	return nil
}

func (p *PCK) parseType(v cryptobyte.String) error {
	var kind int
	if !v.ReadASN1Enum(&kind) || !v.Empty() || kind < int(SGXStandard) || kind > int(SGXScalableWithIntegrity) {
		return errors.New("SGX type is not 0, 1 or 2")
	}
	p.SGXType = SGXType(kind)
	return nil
}

// parseConfiguration reads three optional booleans in their numbered order.
func (p *PCK) parseConfiguration(v cryptobyte.String) error {
	fields, err := sequence(v)
	if err != nil {
		return err
	}
	flags := []*Setting{&p.Configuration.DynamicPlatform, &p.Configuration.CachedKeys, &p.Configuration.SMTEnabled}
	for i, flag := range flags {
		rest := fields
		value, err := field(&rest, sgxOIDPrefix+"\x07", i+1)
		if err != nil {
			continue
		}
		var set bool
		if !value.ReadASN1Boolean(&set) || !value.Empty() {
			return fmt.Errorf("flag %d is not a boolean", i+1)
		}
		if *flag, fields = Off, rest; set {
			*flag = On
		}
	}
	if !fields.Empty() {
		return errors.New("an unknown flag")
	}
	return nil
}

func sequence(der []byte) (cryptobyte.String, error) {
	outer, inner := cryptobyte.String(der), cryptobyte.String(nil)
	if !outer.ReadASN1(&inner, cbasn1.SEQUENCE) || !outer.Empty() {
		return nil, errors.New("not exactly one SEQUENCE")
	}
	return inner, nil
}

// field takes SEQUENCE { OID prefix.number, value } off the front and gives the
// value's element.
func field(fields *cryptobyte.String, prefix string, number int) (cryptobyte.String, error) {
	var pair, oid cryptobyte.String
	if !fields.ReadASN1(&pair, cbasn1.SEQUENCE) || !pair.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) {
		return nil, errors.New("missing")
	}
	n := len(oid) - 1
	if n != len(prefix) || string(oid[:n]) != prefix || int(oid[n]) != number {
		return nil, errors.New("another field is in its place")
	}
	return pair, nil
}

func octets(v cryptobyte.String, to []byte) error {
	var b cryptobyte.String
	if !v.ReadASN1(&b, cbasn1.OCTET_STRING) || !v.Empty() || len(b) != len(to) {
		return fmt.Errorf("not an OCTET STRING of %d bytes", len(to))
	}
	copy(to, b)
	return nil
}
