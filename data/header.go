package data

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/adyton-dev/adyton/refusal"
)

const (
	magic         = "adyton.dev/data/v1\n"
	wrapLabel     = "adyton.dev/data/v1 key\x00"
	maxHeader     = 4096 // bytes of JSON
	maxKeyURI     = 1024
	wrappedSize   = nonceSize + KeySize + tagSize
	keyURIScheme  = "kbs:///"
	lengthSize    = 4
	maxSegments   = 1<<32 - 1
	minPrefixSize = len(magic) + lengthSize
)

// Header says what a sealed file is and which key opens it. It is readable by
// everyone; only a file that opens proves it.
type Header struct {
	// Key names the KEK: kbs:///repository/type/tag, or "" if no broker keeps it.
	Key string `json:"key"`
	// Content is File or Directory.
	Content Content `json:"content"`
	// SegmentSize is SmallSegment or LargeSegment.
	SegmentSize int `json:"segmentSize"`
	// WrappedKey is the wrapped DEK; [NewWriter] makes it.
	WrappedKey []byte `json:"wrappedKey"`
}

// ReadHeader reads the header and leaves r at the byte behind it. What is not a
// sealed file is a DataCorrupt refusal.
func ReadHeader(r io.Reader) (*Header, error) {
	start := make([]byte, minPrefixSize)
	n, err := io.ReadFull(r, start)
	if known := min(n, len(magic)); string(start[:known]) != magic[:known] {
		return nil, refusal.New(refusal.DataCorrupt, "not a file that adyton sealed: it does not begin with %q", magic)
	}
	if err != nil {
		return nil, headerError(err)
	}
	length := binary.BigEndian.Uint32(start[len(magic):])
	if length > maxHeader {
		return nil, refusal.New(refusal.DataCorrupt, "sealed data: header of %d bytes; at most %d", length, maxHeader)
	}
	text := make([]byte, length)
	if err := readFull(r, text); err != nil {
		return nil, err
	}
	h := new(Header)
	if err := json.Unmarshal(text, h); err != nil {
		return nil, refusal.New(refusal.DataCorrupt, "sealed data: header: %w", err)
	}
	// One header has one encoding: this refuses unknown and repeated fields too.
	prefix, err := h.encode()
	if err != nil {
		return nil, refusal.New(refusal.DataCorrupt, "sealed data: %w", err)
	}
	if !bytes.Equal(prefix, slices.Concat(start, text)) {
		return nil, refusal.New(refusal.DataCorrupt, "sealed data: header is not in its canonical form")
	}
	return h, nil
}

// PlainSize gives the length of the content of a sealed file of fileSize bytes,
// in bytes: for a directory, of its archive.
func (h *Header) PlainSize(fileSize int64) (int64, error) {
	prefix, err := h.encode()
	if err != nil {
		return 0, err
	}
	l, err := h.layout(fileSize - int64(len(prefix)))
	if err != nil {
		return 0, err
	}
	return l.plain, nil
}

// encode checks h and gives the prefix of its file.
func (h *Header) encode() ([]byte, error) {
	if err := checkKeyURI(h.Key); err != nil {
		return nil, fmt.Errorf("header: key: %w", err)
	}
	if h.Content != File && h.Content != Directory {
		return nil, fmt.Errorf("header: content %q: want file or directory", h.Content)
	}
	if h.SegmentSize != SmallSegment && h.SegmentSize != LargeSegment {
		return nil, fmt.Errorf("header: segment size %d: want %d or %d", h.SegmentSize, SmallSegment, LargeSegment)
	}
	if len(h.WrappedKey) != wrappedSize {
		return nil, fmt.Errorf("header: wrapped key of %d bytes: want %d", len(h.WrappedKey), wrappedSize)
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if len(text) > maxHeader {
		return nil, fmt.Errorf("header of %d bytes: at most %d", len(text), maxHeader)
	}
	prefix := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(text)))
	return append(prefix, text...), nil
}

// makeKey makes a DEK and puts it, wrapped, into h.
func (h *Header) makeKey(kek []byte) ([]byte, error) {
	gcm, err := newGCM(kek)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	// crypto/rand.Read never fails: the program ends instead.
	dek := make([]byte, KeySize)
	_, _ = rand.Read(dek)
	nonce := make([]byte, nonceSize, wrappedSize)
	_, _ = rand.Read(nonce)
	h.WrappedKey = gcm.Seal(nonce, nonce, dek, []byte(wrapLabel+h.Key))
	return dek, nil
}

// unwrap gives the DEK.
func (h *Header) unwrap(kek []byte) ([]byte, error) {
	gcm, err := newGCM(kek)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	nonce, sealed := h.WrappedKey[:nonceSize], h.WrappedKey[nonceSize:]
	dek, err := gcm.Open(nil, nonce, sealed, []byte(wrapLabel+h.Key))
	if err != nil {
		return nil, refusal.New(refusal.DataCorrupt, "this key does not open the sealed data: it is another key, or the header was changed")
	}
	return dek, nil
}

// checkKeyURI accepts "" and kbs:///repository/type/tag with the names that the
// broker accepts.
func checkKeyURI(uri string) error {
	if uri == "" {
		return nil
	}
	path, ok := strings.CutPrefix(uri, keyURIScheme)
	if !ok || len(uri) > maxKeyURI {
		return fmt.Errorf("%.64q: want kbs:///repository/type/tag", uri)
	}
	names := strings.Split(path, "/")
	for _, name := range names {
		if name == "" || name[0] == '.' || strings.ContainsFunc(name, notInName) {
			return fmt.Errorf("%.64q: want kbs:///repository/type/tag of letters, digits, '_', '-' and (not first) '.'", uri)
		}
	}
	if len(names) != 3 {
		return fmt.Errorf("%.64q: want kbs:///repository/type/tag", uri)
	}
	return nil
}

func notInName(c rune) bool {
	return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' || c == '.')
}
