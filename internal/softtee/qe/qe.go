// Package qe is the software quoting enclave: it turns REPORTs of enclaves on the
// same software CPU, and reports of software TDs, into ECDSA quotes in Intel's
// formats.
//
// It is itself an enclave on that CPU, launched from a SIGSTRUCT, so that reports
// are aimed at it and its own report is in the quote as on hardware. What
// hardware leaves to the provisioning certification enclave, signing the QE's
// report with the PCK key, is done here too.
//
// The package may import sgx, dcap, softtee/cpu and softtee/pki. To add a quote
// version, add a method beside [Enclave.Quote].
//
// Source: Intel "SGX ECDSA Quote Library API", appendix A.4 (v3), and "TDX DCAP
// Quoting Library API", appendix A.3 (v4, v5).
package qe

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/internal/softtee/pki"
	"github.com/adyton-dev/adyton/sgx"
)

// ISVPRODIDs as Intel numbers its quoting enclaves.
const (
	ProdIDSGX uint16 = 1 // QE
	ProdIDTDX uint16 = 2 // TD_QE
)

// Options are what makes a quoting enclave.
type Options struct {
	TEE    dcap.TEE
	CPU    *cpu.CPU
	Signer crypto.Signer // of its SIGSTRUCT: RSA-3072, exponent 3
	ISVSVN uint16
	PCESVN uint16
	// ID tells quoting enclaves of different platforms apart (QE_ID).
	ID [16]byte
	// AttestationKey signs quotes; PCKKey certifies it; both P-256.
	AttestationKey, PCKKey *ecdsa.PrivateKey
	// PCKChain is PEM: PCK certificate, its CA, the root.
	PCKChain []byte
}

// Enclave is a launched quoting enclave. It is safe for concurrent use.
type Enclave struct {
	options       Options
	enclave       *cpu.Enclave
	certification []byte // QE report, its signature, auth data, PCK chain
	public        [64]byte
}

// Launch launches the quoting enclave and certifies its attestation key.
func Launch(options Options) (*Enclave, error) {
	enclave, err := launch(options)
	if err != nil {
		return nil, fmt.Errorf("launch quoting enclave: %w", err)
	}
	e := &Enclave{options: options, enclave: enclave}
	public, err := options.AttestationKey.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("launch quoting enclave: %w", err)
	}
	copy(e.public[:], public[1:]) // without the 04 of an uncompressed point
	if e.certification, err = e.certify(); err != nil {
		return nil, fmt.Errorf("certify quoting enclave: %w", err)
	}
	return e, nil
}

// TargetInfo is what a report must be aimed at to be quoted.
func (e *Enclave) TargetInfo() *sgx.TargetInfo { return e.enclave.TargetInfo() }

// ID gives QE_ID.
func (e *Enclave) ID() [16]byte { return e.options.ID }

// Quote gives a quote v3 with certification data of type 5. The report must be
// aimed at this quoting enclave and made on the same CPU, else it is an error.
func (e *Enclave) Quote(report *sgx.Report) ([]byte, error) {
	if err := e.verify(report); err != nil {
		return nil, err
	}
	return e.sign(append(e.header(3), report.Body.Bytes()...), e.certification)
}

// QuoteV5 is Quote in version 5, with certification data of type 6 around type 5.
func (e *Enclave) QuoteV5(report *sgx.Report) ([]byte, error) {
	if err := e.verify(report); err != nil {
		return nil, err
	}
	return e.signV5(dcap.BodySGX, report.Body.Bytes())
}

// TDQuote gives a quote of a TD, with certification data of type 6 around type 5:
// v4 for a TD 1.0 body, v5 for TD 1.5 and TD 1.5 Ex, which needs td.Extended.
func (e *Enclave) TDQuote(td *dcap.TDReport, body dcap.BodyType) ([]byte, error) {
	switch body {
	case dcap.BodyTD10:
		return e.sign(append(e.header(4), td10(td)...), e.wrapped())
	case dcap.BodyTD15:
		return e.signV5(body, td15(td))
	case dcap.BodyTD15Ex:
		if td.Extended == nil {
			return nil, errors.New("quote: a TD 1.5 Ex body needs its extended fields")
		}
		return e.signV5(body, append(td15(td), extended(td.Extended)...))
	}
	return nil, fmt.Errorf("quote: body type %d is not a TD's", body)
}

func (e *Enclave) verify(report *sgx.Report) error {
	if err := e.enclave.VerifyReport(report); err != nil {
		return fmt.Errorf("quote: the report is not for this quoting enclave: %w", err)
	}
	return nil
}

// signV5 puts the body's descriptor, type u16 and size u32, between header and body.
func (e *Enclave) signV5(kind dcap.BodyType, body []byte) ([]byte, error) {
	signed := binary.LittleEndian.AppendUint16(e.header(5), uint16(kind))
	signed = binary.LittleEndian.AppendUint32(signed, uint32(len(body)))
	return e.sign(append(signed, body...), e.wrapped())
}

// wrapped is the certification inside certification data of type 6.
func (e *Enclave) wrapped() []byte {
	out := binary.LittleEndian.AppendUint16(nil, uint16(dcap.QEReport))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(e.certification)))
	return append(out, e.certification...)
}

// vendorID is that of Intel's quoting enclaves: verifiers know no other. What is
// software is the root.
const vendorID = "\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07"

const keyTypeP256 = 2

// header gives the 48 bytes of a quote's header.
func (e *Enclave) header(version uint16) []byte {
	h := make([]byte, 48)
	le := binary.LittleEndian
	le.PutUint16(h, version)
	le.PutUint16(h[2:], keyTypeP256)
	le.PutUint32(h[4:], uint32(e.options.TEE))
	if version == 3 { // reserved in v4 and v5
		le.PutUint16(h[8:], e.options.ISVSVN)
		le.PutUint16(h[10:], e.options.PCESVN)
	}
	copy(h[12:], vendorID)
	copy(h[28:], e.options.ID[:])
	return h
}

// sign appends the signature data: length, signature, attestation key, certification.
func (e *Enclave) sign(signed, certification []byte) ([]byte, error) {
	signature, err := pki.Sign(e.options.AttestationKey, signed)
	if err != nil {
		return nil, fmt.Errorf("quote: %w", err)
	}
	size := len(signature) + len(e.public) + len(certification)
	quote := binary.LittleEndian.AppendUint32(signed, uint32(size))
	quote = append(quote, signature[:]...)
	quote = append(quote, e.public[:]...)
	return append(quote, certification...), nil
}

// certify binds the attestation key to the QE's report, which the PCK key signs.
func (e *Enclave) certify() ([]byte, error) {
	auth := authData()
	var data sgx.ReportData // the second half is zero
	hash := sha256.Sum256(append(e.public[:], auth...))
	copy(data[:], hash[:])
	report := e.enclave.EREPORT(e.enclave.TargetInfo(), data)
	body := report.Body.Bytes()
	signature, err := pki.Sign(e.options.PCKKey, body)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	out := append(body, signature[:]...)
	out = le.AppendUint16(out, uint16(len(auth)))
	out = append(out, auth...)
	out = le.AppendUint16(out, uint16(dcap.PCKChain))
	out = le.AppendUint32(out, uint32(len(e.options.PCKChain)))
	return append(out, e.options.PCKChain...), nil
}

// authData is the 32 bytes 00 01 … 1f, as Intel's quoting enclave uses.
func authData() []byte {
	auth := make([]byte, 32)
	for i := range auth {
		auth[i] = byte(i)
	}
	return auth
}

// td10 gives the 584 bytes of a TD 1.0 report body.
func td10(td *dcap.TDReport) []byte {
	le := binary.LittleEndian
	b := append([]byte(nil), td.TEETCBSVN[:]...)
	b = append(b, td.MRSEAM[:]...)
	b = append(b, td.MRSIGNERSEAM[:]...)
	b = append(b, td.SEAMAttributes[:]...)
	b = le.AppendUint64(b, uint64(td.Attributes))
	b = le.AppendUint64(b, td.XFAM)
	b = append(b, td.MRTD[:]...)
	b = append(b, td.MRCONFIGID[:]...)
	b = append(b, td.MROWNER[:]...)
	b = append(b, td.MROWNERCONFIG[:]...)
	for i := range td.RTMR {
		b = append(b, td.RTMR[i][:]...)
	}
	return append(b, td.ReportData[:]...)
}

// td15 gives the 648 bytes of a TD 1.5 report body.
func td15(td *dcap.TDReport) []byte {
	b := append(td10(td), td.TEETCBSVN2[:]...)
	return append(b, td.MRServiceTD[:]...)
}

// extended gives the 237 bytes that a TD 1.5 Ex body has after those of TD 1.5.
func extended(x *dcap.TDExtended) []byte {
	b := []byte{x.VMID}
	for _, field := range [][]byte{
		x.TDID[:], x.DeviceInfo[:], x.InitServiceTDHash[:], x.InitServiceTDAttr[:], x.InitCPUSVN[:],
		x.InitTEETCBSVN[:], x.InitTEEFMSPC[:], x.CurrentServiceTDHash[:], x.CurrentServiceTDAttrs[:],
	} {
		b = append(b, field...)
	}
	return b
}
