package build

import (
	"crypto"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gowebpki/jcs"

	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

// Signed is an enclave as its owner signed it.
type Signed struct {
	Descriptor *descriptor.Descriptor
	SigStruct  *sgx.SigStruct
}

// SignOptions are what SIGSTRUCT says beside the measurement.
type SignOptions struct {
	ProductID    uint16
	SVN          uint16
	Debug        bool
	ExtProductID [16]byte  // ISVEXTPRODID
	FamilyID     [16]byte  // ISVFAMILYID
	Date         time.Time // only the day in UTC is kept
}

// Sign measures the descriptor and signs it with an RSA-3072 key of exponent 3: a
// local key or a hardware module. Every bit of ATTRIBUTES, MISCSELECT and the CET
// attributes is under the mask, so a launcher can change none of them: it can not
// run a release enclave in debug mode, nor the reverse.
func Sign(d *descriptor.Descriptor, signer crypto.Signer, o SignOptions) (*Signed, error) {
	mrenclave, err := d.Measure()
	if err != nil {
		return nil, err
	}
	day := o.Date.UTC()
	if day.Year() < 2000 || day.Year() > 9999 {
		return nil, errors.New("sign enclave: the date is not set, or not between the years 2000 and 9999")
	}
	s := &sgx.SigStruct{
		Date:              sgx.DateBCD(day),
		MiscMask:          ^uint32(0),
		CETAttributesMask: ^byte(0),
		ISVFamilyID:       o.FamilyID,
		Attributes:        descriptor.Attributes(o.Debug),
		AttributeMask:     sgx.Attributes{Flags: ^sgx.AttributeFlags(0), XFRM: ^uint64(0)},
		EnclaveHash:       mrenclave,
		ISVExtProdID:      o.ExtProductID,
		ISVProdID:         o.ProductID,
		ISVSVN:            o.SVN,
	}
	if err := s.Sign(signer); err != nil {
		return nil, err
	}
	return &Signed{Descriptor: d, SigStruct: s}, nil
}

// Verify checks that the SIGSTRUCT's signature is genuine, that it is for the
// descriptor, and that its attributes are those of a container enclave. The error
// is a SignatureInvalid. Who signed is for the caller to judge.
func (s *Signed) Verify() error {
	if err := s.SigStruct.Verify(); err != nil {
		return refusal.New(refusal.SignatureInvalid, "enclave %q: %w", s.Descriptor.Name, err)
	}
	mrenclave, err := s.Descriptor.Measure()
	if err != nil {
		return refusal.New(refusal.SignatureInvalid, "enclave %q: %w", s.Descriptor.Name, err)
	}
	if subtle.ConstantTimeCompare(mrenclave[:], s.SigStruct.EnclaveHash[:]) != 1 {
		return refusal.New(refusal.SignatureInvalid, "enclave %q: SIGSTRUCT is for MRENCLAVE %s, the descriptor measures to %s",
			s.Descriptor.Name, s.SigStruct.EnclaveHash, mrenclave)
	}
	if want := descriptor.Attributes(s.Debug()); s.SigStruct.Attributes != want {
		return refusal.New(refusal.SignatureInvalid, "enclave %q: SIGSTRUCT has attributes %v and XFRM %#x, a container enclave has %v and %#x",
			s.Descriptor.Name, s.SigStruct.Attributes.Flags, s.SigStruct.Attributes.XFRM, want.Flags, want.XFRM)
	}
	return nil
}

// Debug reports whether the enclave is signed to run in debug mode.
func (s *Signed) Debug() bool { return s.SigStruct.Attributes.Flags&sgx.AttributeDebug != 0 }

// Check verifies the signature and compares what is about to run with what was
// signed. The error is a SignatureInvalid, or a MeasurementMismatch that names
// the parts that differ.
func (s *Signed) Check(actual *descriptor.Descriptor) error {
	if err := s.Verify(); err != nil {
		return err
	}
	return s.Descriptor.Check(actual)
}

// MaxBundle bounds an encoded bundle in bytes.
const MaxBundle = descriptor.MaxSize + 8<<10

// bundle is a signed enclave in a file of its own.
type bundle struct {
	Descriptor json.RawMessage `json:"descriptor"`
	MediaType  string          `json:"mediaType"`
	SigStruct  []byte          `json:"sigstruct"`
}

// BundleType is the mediaType member of a bundle.
const BundleType = "application/vnd.adyton.enclave.bundle.v1+json"

// Bundle gives the signed enclave as one JSON object in RFC 8785 form with the
// members descriptor (as package descriptor encodes it), mediaType ([BundleType])
// and sigstruct (base64 of its 1,808 bytes).
func (s *Signed) Bundle() ([]byte, error) {
	d, err := s.Descriptor.JSON()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(bundle{Descriptor: d, MediaType: BundleType, SigStruct: s.SigStruct.Bytes()})
	if err != nil {
		return nil, fmt.Errorf("encode enclave bundle: %w", err)
	}
	return jcs.Transform(text)
}

// ParseBundle reads what Bundle gave, with or without a final newline. It checks
// the form; Verify checks the signature.
func ParseBundle(r io.Reader) (*Signed, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxBundle+1))
	if err != nil {
		return nil, fmt.Errorf("read enclave bundle: %w", err)
	}
	if len(text) > MaxBundle {
		return nil, fmt.Errorf("read enclave bundle: it is longer than %d bytes", MaxBundle)
	}
	var b bundle
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, fmt.Errorf("read enclave bundle: %w", err)
	}
	if b.MediaType != BundleType {
		return nil, fmt.Errorf("read enclave bundle: mediaType is %q, want %q", b.MediaType, BundleType)
	}
	return parseSigned(b.Descriptor, b.SigStruct)
}

func parseSigned(descriptorJSON, sigStruct []byte) (*Signed, error) {
	d, err := descriptor.Parse(descriptorJSON)
	if err != nil {
		return nil, err
	}
	s, err := sgx.ParseSigStruct(sigStruct)
	if err != nil {
		return nil, err
	}
	return &Signed{Descriptor: d, SigStruct: s}, nil
}
