package data

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/adyton-dev/adyton/refusal"
)

// The constants of Tink's AES256_GCM_HKDF.
const (
	tagSize         = 16
	nonceSize       = 12
	saltSize        = KeySize
	noncePrefixSize = 7
	paramsSize      = 1 + saltSize + noncePrefixSize // what precedes the first segment
)

// segments encrypts and decrypts the segments of one file. Its methods are what
// noncebased asks for.
type segments struct {
	gcm         cipher.AEAD
	noncePrefix []byte
}

// newSegments draws the parameters of a new file, and gives them as they are
// written.
func newSegments(dek, prefix []byte) (*segments, []byte, error) {
	params := make([]byte, paramsSize)
	params[0] = paramsSize
	_, _ = rand.Read(params[1:]) // never fails
	seg, err := deriveSegments(dek, prefix, params)
	return seg, params, err
}

// openSegments gives the segments of the file that h and params begin.
func (h *Header) openSegments(kek, params []byte) (*segments, error) {
	if params[0] != paramsSize {
		return nil, refusal.New(refusal.DataCorrupt, "sealed data: stream header of %d bytes, want %d", params[0], paramsSize)
	}
	dek, err := h.unwrap(kek)
	if err != nil {
		return nil, err
	}
	defer clear(dek)
	prefix, err := h.encode()
	if err != nil {
		return nil, err
	}
	return deriveSegments(dek, prefix, params)
}

func deriveSegments(dek, prefix, params []byte) (*segments, error) {
	key, err := hkdf.Key(sha256.New, dek, params[1:1+saltSize], string(prefix), KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive segment key: %w", err)
	}
	defer clear(key)
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return &segments{gcm: gcm, noncePrefix: params[1+saltSize:]}, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("%d bytes, want %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("AES: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("AES-GCM: %w", err)
	}
	return gcm, nil
}

// EncryptSegment and EncryptSegmentWithDst encrypt one segment; the latter
// reuses dst, which is empty.
func (s *segments) EncryptSegment(plain, nonce []byte) ([]byte, error) {
	return s.EncryptSegmentWithDst(nil, plain, nonce)
}

func (s *segments) EncryptSegmentWithDst(dst, plain, nonce []byte) ([]byte, error) {
	return s.gcm.Seal(dst, nonce, plain, nil), nil
}

// DecryptSegment and DecryptSegmentWithDst decrypt one segment; the latter
// reuses dst, which is empty.
func (s *segments) DecryptSegment(sealed, nonce []byte) ([]byte, error) {
	return s.DecryptSegmentWithDst(nil, sealed, nonce)
}

func (s *segments) DecryptSegmentWithDst(dst, sealed, nonce []byte) ([]byte, error) {
	return s.gcm.Open(dst, nonce, sealed, nil)
}

// nonce is the nonce of segment i, as noncebased makes it.
func (s *segments) nonce(i int64, last bool) []byte {
	nonce := binary.BigEndian.AppendUint32(append(make([]byte, 0, nonceSize), s.noncePrefix...), uint32(i))
	if last {
		return append(nonce, 1)
	}
	return append(nonce, 0)
}

// layout is where the segments of one file lie.
type layout struct {
	segment  int64 // size of a segment of ciphertext
	stream   int64 // length from the parameters on
	segments int64
	plain    int64 // length of the content
}

// layout computes the layout of a file whose length behind its prefix is stream.
func (h *Header) layout(stream int64) (layout, error) {
	l := layout{segment: int64(h.SegmentSize), stream: stream}
	if stream < paramsSize+tagSize {
		return layout{}, refusal.New(refusal.DataCorrupt, "sealed data is too short")
	}
	l.segments = (stream + l.segment - 1) / l.segment
	if l.segments >= maxSegments {
		return layout{}, refusal.New(refusal.DataCorrupt, "sealed data has too many segments")
	}
	// Only an empty file has an empty segment.
	if l.segments > 1 && stream-(l.segments-1)*l.segment <= tagSize {
		return layout{}, refusal.New(refusal.DataCorrupt, "sealed data is cut inside its last segment")
	}
	l.plain = stream - paramsSize - l.segments*tagSize
	return l, nil
}

// locate gives the segment that holds the byte at off of the content, and the
// byte's place in it.
func (l layout) locate(off int64) (i, within int64) {
	// Seen as if the parameters were content, all segments are equal.
	off += paramsSize
	i, within = off/(l.segment-tagSize), off%(l.segment-tagSize)
	if i == 0 {
		within -= paramsSize
	}
	return i, within
}

// span gives the ciphertext of segment i as a range of the stream.
func (l layout) span(i int64) (from, to int64) {
	from, to = i*l.segment, min((i+1)*l.segment, l.stream)
	if i == 0 {
		from = paramsSize
	}
	return from, to
}
