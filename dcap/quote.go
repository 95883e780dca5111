package dcap

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

// MaxQuoteSize bounds the bytes that ParseQuote looks at, trailing bytes included.
const MaxQuoteSize = 64 << 10

// TEE is the kind of trusted execution environment, as a quote's header names it.
type TEE uint32

// The TEE types of a quote header.
const (
	SGX TEE = 0x00
	TDX TEE = 0x81
)

// String gives "SGX" or "TDX", as the id field of TCB info spells it.
func (t TEE) String() string {
	switch t {
	case SGX:
		return "SGX"
	case TDX:
		return "TDX"
	}
	return fmt.Sprintf("TEE(%#x)", uint32(t))
}

// BodyType says which report a quote carries. Quote v5 states it; for v3 and v4 it
// follows from the TEE.
type BodyType uint16

// The body types of quote v5.
const (
	BodySGX    BodyType = 1 // 384 bytes, sgx.ReportBody
	BodyTD10   BodyType = 2 // 584 bytes
	BodyTD15   BodyType = 3 // 648 bytes: with TEE_TCB_SVN_2 and MRSERVICETD
	BodyTD15Ex BodyType = 4 // 885 bytes: with the TD's migration history
)

// CertificationDataType says how a quote names the key that certifies its quoting enclave.
type CertificationDataType uint16

// The certification data types.
const (
	PPIDClear      CertificationDataType = 1 // PPID in clear, CPUSVN, PCESVN, PCEID
	PPIDRSA2048    CertificationDataType = 2 // PPID encrypted with RSA-2048-OAEP, CPUSVN, PCESVN, PCEID
	PPIDRSA3072    CertificationDataType = 3 // PPID encrypted with RSA-3072-OAEP, CPUSVN, PCESVN, PCEID
	PCKCertificate CertificationDataType = 4 // the PCK certificate alone, PEM
	PCKChain       CertificationDataType = 5 // PCK certificate, its CA, the root; PEM, often NUL-terminated
	QEReport       CertificationDataType = 6 // outer type of v4 and v5: QE report and one of the types 1–5
)

// intelVendorID is the QE vendor id of Intel's quoting enclaves,
// 939a7233-f79c-4ca9-940a-0db3957f0607. No other vendor's are known.
var intelVendorID = [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// Quote is a parsed quote. Integers are little-endian on the wire. Nothing in it
// is trustworthy until a Verifier has verified it.
type Quote struct {
	// Version is 3, 4 or 5.
	Version uint16
	TEE     TEE
	// BodyType is stated by v5 and implied by v3 and v4.
	BodyType BodyType
	// QESVN and PCESVN are the header's security versions; zero in v4 and v5,
	// where the bytes are reserved. Appraisal does not use them.
	QESVN, PCESVN uint16
	// QEVendorID is the UUID of the quoting enclave's vendor, in its byte order on the wire.
	QEVendorID [16]byte
	// UserData is the header's 20 bytes; the first 16 are the QE id.
	UserData [20]byte

	// SGX is the enclave's report body; nil for a TD.
	SGX *sgx.ReportBody
	// TD is the TD's report; nil for an enclave.
	TD *TDReport

	// Signature is r ‖ s, each 32 bytes big-endian, over header ‖ [descriptor ‖] body.
	Signature [64]byte
	// AttestationKey is x ‖ y of the P-256 key that signed, each 32 bytes big-endian.
	AttestationKey [64]byte
	// QEReport is the quoting enclave's report body.
	QEReport *sgx.ReportBody
	// QEReportSignature is r ‖ s by the PCK key over the QE report body.
	QEReportSignature [64]byte
	// QEAuthData is hashed with the attestation key into the QE's report data. It may be empty.
	QEAuthData []byte
	// CertificationData is the inner certification data (types 1–5).
	CertificationData CertificationData

	signed           []byte // what Signature covers
	qeReportRaw      []byte // what QEReportSignature covers
	keyCertification []byte // from AttestationKey to the end of QEAuthData
}

// CertificationData names the PCK certificate or carries it.
type CertificationData struct {
	Type CertificationDataType
	Data []byte
}

// ReportData gives the 64 bytes that the enclave or TD put into its report.
func (q *Quote) ReportData() [64]byte {
	if q.TD != nil {
		return q.TD.ReportData
	}
	return q.SGX.ReportData
}

// Debug says whether the host can read the enclave or TD: SGX ATTRIBUTES.DEBUG,
// or any of the TUD bits 0–7 of TDATTRIBUTES.
func (q *Quote) Debug() bool {
	if q.TD != nil {
		return q.TD.Attributes.Debug()
	}
	return q.SGX.Attributes.Flags&sgx.AttributeDebug != 0
}

// ParseQuote parses an SGX quote v3 or an SGX or TDX quote v4 or v5. Bytes after
// the declared end are ignored: QGS and many agents pad. Everything inside must
// have exactly its declared length. The result does not share memory with b.
//
// The refusal is EvidenceMalformed, or EvidenceUnsupported for a version, key
// type, vendor or TEE that is not known.
func ParseQuote(b []byte) (*Quote, error) {
	if len(b) > MaxQuoteSize {
		return nil, refusal.New(refusal.EvidenceMalformed, "quote has %d bytes, more than %d", len(b), MaxQuoteSize)
	}
	q := new(Quote)
	raw := bytes.Clone(b)
	c := cursor{rest: raw}
	if err := q.parseHeader(&c); err != nil {
		return nil, err
	}
	if err := q.parseBody(&c); err != nil {
		return nil, err
	}
	q.signed = raw[:len(raw)-len(c.rest)]
	auth := cursor{rest: c.take(c.u32("signature data length"), "signature data")}
	if c.err != nil {
		return nil, c.refuse()
	}
	if err := q.parseSignatureData(&auth); err != nil {
		return nil, err
	}
	return q, nil
}

const headerSize = 48

func (q *Quote) parseHeader(c *cursor) error {
	h := c.take(headerSize, "header")
	if c.err != nil {
		return c.refuse()
	}
	q.Version = binary.LittleEndian.Uint16(h)
	q.TEE = TEE(binary.LittleEndian.Uint32(h[4:]))
	copy(q.QEVendorID[:], h[12:])
	copy(q.UserData[:], h[28:])
	switch {
	case q.Version < 3 || q.Version > 5:
		return refusal.New(refusal.EvidenceUnsupported, "quote version %d: only 3, 4 and 5 are known", q.Version)
	case q.TEE != SGX && q.TEE != TDX:
		return refusal.New(refusal.EvidenceUnsupported, "quote has TEE type %#x: only SGX (0) and TDX (0x81) are known", uint32(q.TEE))
	case q.Version == 3 && q.TEE != SGX:
		return refusal.New(refusal.EvidenceUnsupported, "quote v3 is for SGX only, this one is for %s", q.TEE)
	case binary.LittleEndian.Uint16(h[2:]) != 2:
		return refusal.New(refusal.EvidenceUnsupported, "attestation key type %d: only 2 (ECDSA P-256) is known", binary.LittleEndian.Uint16(h[2:]))
	case q.QEVendorID != intelVendorID:
		return refusal.New(refusal.EvidenceUnsupported, "QE vendor id %x is not Intel's", q.QEVendorID)
	}
	if q.Version == 3 {
		q.QESVN = binary.LittleEndian.Uint16(h[8:])
		q.PCESVN = binary.LittleEndian.Uint16(h[10:])
	}
	return nil
}

func (q *Quote) parseBody(c *cursor) error {
	switch {
	case q.Version == 5:
		q.BodyType = BodyType(c.u16("body type"))
		size := c.u32("body size")
		if c.err != nil {
			return c.refuse()
		}
		if q.BodyType < BodySGX || q.BodyType > BodyTD15Ex {
			return refusal.New(refusal.EvidenceUnsupported, "quote body type %d: only 1 to 4 are known", q.BodyType)
		}
		if size != q.BodyType.size() {
			return refusal.New(refusal.EvidenceMalformed, "quote body of type %d declares %d bytes, must be %d", q.BodyType, size, q.BodyType.size())
		}
		if (q.BodyType == BodySGX) != (q.TEE == SGX) {
			return refusal.New(refusal.EvidenceMalformed, "quote for %s has a body of type %d", q.TEE, q.BodyType)
		}
	case q.TEE == SGX:
		q.BodyType = BodySGX
	default:
		q.BodyType = BodyTD10
	}
	body := c.take(q.BodyType.size(), "body")
	if c.err != nil {
		return c.refuse()
	}
	if q.BodyType != BodySGX {
		q.TD = parseTDReport(body)
		return nil
	}
	report, err := sgx.ParseReportBody(body)
	if err != nil {
		return refusal.New(refusal.EvidenceMalformed, "enclave report: %w", err)
	}
	q.SGX = report
	return nil
}

func (t BodyType) size() uint32 {
	switch t {
	case BodySGX:
		return reportBodySize
	case BodyTD10:
		return td10Size
	case BodyTD15:
		return td15Size
	}
	return td15ExSize
}

const reportBodySize = 384

// parseSignatureData reads all of c: signature, key, and the QE's certification,
// which v4 and v5 wrap into certification data of type 6.
func (q *Quote) parseSignatureData(c *cursor) error {
	copy(q.Signature[:], c.take(64, "signature"))
	certification := c.rest
	copy(q.AttestationKey[:], c.take(64, "attestation key"))
	if q.Version > 3 {
		outer := CertificationDataType(c.u16("certification data type"))
		inner := c.take(c.u32("certification data length"), "certification data")
		if c.err != nil {
			return c.refuse()
		}
		if outer != QEReport {
			return refusal.New(refusal.EvidenceUnsupported, "quote v%d has certification data of type %d, must be 6", q.Version, outer)
		}
		if len(c.rest) != 0 {
			return refusal.New(refusal.EvidenceMalformed, "%d bytes follow the certification data", len(c.rest))
		}
		c = &cursor{rest: inner}
	}
	q.qeReportRaw = c.take(reportBodySize, "QE report")
	copy(q.QEReportSignature[:], c.take(64, "QE report signature"))
	q.QEAuthData = c.take(uint32(c.u16("QE authentication data length")), "QE authentication data")
	q.keyCertification = certification[:len(certification)-len(c.rest)]
	q.CertificationData.Type = CertificationDataType(c.u16("certification data type"))
	q.CertificationData.Data = c.take(c.u32("certification data length"), "certification data")
	if c.err != nil {
		return c.refuse()
	}
	if len(c.rest) != 0 {
		return refusal.New(refusal.EvidenceMalformed, "%d bytes follow the certification data", len(c.rest))
	}
	if t := q.CertificationData.Type; t < PPIDClear || t > PCKChain {
		return refusal.New(refusal.EvidenceUnsupported, "certification data of type %d: only 1 to 5 are known here", t)
	}
	report, err := sgx.ParseReportBody(q.qeReportRaw)
	if err != nil {
		return refusal.New(refusal.EvidenceMalformed, "QE report: %w", err)
	}
	q.QEReport = report
	return nil
}

// PlatformID is what certification data of types 1–3 says about the platform. A
// PCCS finds the PCK certificate by it (GET /pckcert).
type PlatformID struct {
	// PPID is 16 bytes in clear (type 1), or encrypted: 256 (type 2) or 384 bytes (type 3).
	PPID   []byte
	CPUSVN sgx.CPUSVN
	PCESVN uint16
	PCEID  uint16
}

// PlatformID parses certification data of the types 1–3. The refusal is EvidenceMalformed.
func (d CertificationData) PlatformID() (*PlatformID, error) {
	var ppidSize uint32
	switch d.Type {
	case PPIDClear:
		ppidSize = 16
	case PPIDRSA2048:
		ppidSize = 256
	case PPIDRSA3072:
		ppidSize = 384
	default:
		return nil, refusal.New(refusal.EvidenceMalformed, "certification data of type %d carries no platform id", d.Type)
	}
	var p PlatformID
	c := cursor{rest: d.Data}
	p.PPID = bytes.Clone(c.take(ppidSize, "PPID"))
	copy(p.CPUSVN[:], c.take(16, "CPUSVN"))
	p.PCESVN = c.u16("PCESVN")
	p.PCEID = c.u16("PCEID")
	if c.err != nil {
		return nil, c.refuse()
	}
	if len(c.rest) != 0 {
		return nil, refusal.New(refusal.EvidenceMalformed, "%d bytes follow the platform id", len(c.rest))
	}
	return &p, nil
}

// cursor takes fields off the front of bytes. After the first shortage every
// take gives nil and every integer 0; err says what was short.
type cursor struct {
	rest []byte
	err  error
}

func (c *cursor) take(n uint32, what string) []byte {
	if c.err != nil {
		return nil
	}
	if uint64(n) > uint64(len(c.rest)) {
		c.err = fmt.Errorf("%s needs %d bytes, %d are left", what, n, len(c.rest))
		return nil
	}
	field := c.rest[:n:n]
	c.rest = c.rest[n:]
	return field
}

func (c *cursor) u16(what string) uint16 {
	if b := c.take(2, what); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32(what string) uint32 {
	if b := c.take(4, what); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) refuse() error {
	return refusal.New(refusal.EvidenceMalformed, "quote is truncated: %w", c.err)
}
