package ratls

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/refusal"
)

// The forms of evidence in a certificate.
//
// Interoperable RA-TLS (Confidential Computing Consortium): the extension
// 2.23.133.5.4.9 (TCG DICE tagged evidence), not critical, holds CBOR
//
//	60000([quote: bstr, claims: bstr])
//
// The quote's report data is SHA-256(claims) and 32 zero bytes. claims is a CBOR
// map: "pubkey-hash" is a bstr of [algorithm, hash of the DER
// SubjectPublicKeyInfo], the algorithm being IANA's named-information number: 1
// SHA-256, 7 SHA-384, 8 SHA-512. Other claims are the maker's; Adyton adds
// "init-data", a bstr with its init-data document.
//
// Gramine's older form: the extension 1.2.840.113741.1337.6 holds the quote; its
// report data is SHA-256(SubjectPublicKeyInfo) and 32 zero bytes.
func oidInteroperable() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 23, 133, 5, 4, 9} }
func oidGramine() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113741, 1337, 6}
}

const (
	// tagQuote is the CBOR tag of an Intel quote with claims.
	tagQuote = 60000

	claimPubKeyHash = "pubkey-hash"
	claimInitData   = "init-data"

	// maxExtension bounds the extension: a quote and an init-data document.
	maxExtension = 256 << 10
)

// The hash algorithms of pubkey-hash.
const (
	hashSHA256 = 1
	hashSHA384 = 7
	hashSHA512 = 8
)

type taggedEvidence struct {
	_      struct{} `cbor:",toarray"`
	Quote  []byte
	Claims []byte
}

type pubKeyHash struct {
	_         struct{} `cbor:",toarray"`
	Algorithm int
	Hash      []byte
}

func encodeClaims(spki, initData []byte) ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(spki)
	hash, err := mode.Marshal(pubKeyHash{Algorithm: hashSHA256, Hash: digest[:]})
	if err != nil {
		return nil, err
	}
	claims := map[string][]byte{claimPubKeyHash: hash}
	if initData != nil {
		claims[claimInitData] = initData
	}
	return mode.Marshal(claims)
}

func encodeExtension(evidence *attest.Evidence, claims []byte) (pkix.Extension, error) {
	if evidence.TEE != attest.SGX && evidence.TEE != attest.TDX {
		return pkix.Extension{}, refusal.New(refusal.EvidenceUnsupported, "RA-TLS has no form for evidence of TEE %q", evidence.TEE)
	}
	value, err := cbor.Marshal(cbor.Tag{Number: tagQuote, Content: taggedEvidence{Quote: evidence.Quote, Claims: claims}})
	return pkix.Extension{Id: oidInteroperable(), Value: value}, err
}

// reportDataOf gives SHA-256(claims), zero-padded.
func reportDataOf(claims []byte) (reportData [attest.ReportDataSize]byte) {
	digest := sha256.Sum256(claims)
	copy(reportData[:], digest[:])
	return reportData
}

func parseInteroperable(value, spki []byte) (*attest.Evidence, appraise.Expect, error) {
	fail := func(reason refusal.Reason, format string, args ...any) (*attest.Evidence, appraise.Expect, error) {
		return nil, appraise.Expect{}, refusal.New(reason, "evidence extension: "+format, args...)
	}
	if len(value) > maxExtension {
		return fail(refusal.EvidenceMalformed, "%d bytes, more than %d", len(value), maxExtension)
	}
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64,
	}.DecMode()
	if err != nil {
		return nil, appraise.Expect{}, err
	}
	var tag cbor.RawTag
	if err := mode.Unmarshal(value, &tag); err != nil {
		return fail(refusal.EvidenceMalformed, "%w", err)
	}
	if tag.Number != tagQuote {
		return fail(refusal.EvidenceUnsupported, "CBOR tag %d, want %d", tag.Number, tagQuote)
	}
	var tagged taggedEvidence
	if err := mode.Unmarshal(tag.Content, &tagged); err != nil {
		return fail(refusal.EvidenceMalformed, "%w", err)
	}
	var claims map[string]cbor.RawMessage
	if err := mode.Unmarshal(tagged.Claims, &claims); err != nil {
		return fail(refusal.EvidenceMalformed, "claims: %w", err)
	}
	var encoded []byte
	var hash pubKeyHash
	if err := mode.Unmarshal(claims[claimPubKeyHash], &encoded); err != nil {
		return fail(refusal.EvidenceMalformed, "pubkey-hash: %w", err)
	}
	if err := mode.Unmarshal(encoded, &hash); err != nil {
		return fail(refusal.EvidenceMalformed, "pubkey-hash: %w", err)
	}
	digest, err := hashOf(hash.Algorithm, spki)
	if err != nil {
		return fail(refusal.EvidenceUnsupported, "pubkey-hash: %w", err)
	}
	if subtle.ConstantTimeCompare(digest, hash.Hash) != 1 {
		return fail(refusal.ReportDataMismatch, "the claims name another key than the certificate's")
	}
	want := appraise.Expect{ReportData: reportDataOf(tagged.Claims)}
	if raw, ok := claims[claimInitData]; ok {
		if err := mode.Unmarshal(raw, &want.InitData); err != nil {
			return fail(refusal.EvidenceMalformed, "init-data: %w", err)
		}
	}
	evidence, err := evidenceOf(tagged.Quote)
	return evidence, want, err
}

func parseGramine(value, spki []byte) (*attest.Evidence, appraise.Expect, error) {
	evidence, err := evidenceOf(value)
	return evidence, appraise.Expect{ReportData: reportDataOf(spki)}, err
}

// evidenceOf says of which TEE a quote is, from its header: version u16, key type
// u16, TEE type u32, little-endian; version 3 is SGX's alone. The appraiser
// parses the quote.
func evidenceOf(quote []byte) (*attest.Evidence, error) {
	const header = 48
	if len(quote) < header || len(quote) > maxExtension {
		return nil, refusal.New(refusal.EvidenceMalformed, "the quote has %d bytes", len(quote))
	}
	version, tee := binary.LittleEndian.Uint16(quote), binary.LittleEndian.Uint32(quote[4:])
	switch {
	case version == 3 || tee == 0:
		return &attest.Evidence{TEE: attest.SGX, Quote: quote}, nil
	case tee == 0x81:
		return &attest.Evidence{TEE: attest.TDX, Quote: quote}, nil
	}
	return nil, refusal.New(refusal.EvidenceUnsupported, "the quote is of TEE type %#x", tee)
}

func hashOf(algorithm int, data []byte) ([]byte, error) {
	switch algorithm {
	case hashSHA256:
		digest := sha256.Sum256(data)
		return digest[:], nil
	case hashSHA384:
		digest := sha512.Sum384(data)
		return digest[:], nil
	case hashSHA512:
		digest := sha512.Sum512(data)
		return digest[:], nil
	}
	return nil, fmt.Errorf("hash algorithm %d, want 1, 7 or 8", algorithm)
}
