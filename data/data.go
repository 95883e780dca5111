// Package data seals files and directories of any size, so that whoever stores
// them can neither read nor change them.
//
// # Envelope
//
// Each sealed file has a fresh 32-byte data key (DEK). The DEK is wrapped with
// AES-256-GCM under a 32-byte key-encryption key (KEK), which an Adyton broker
// keeps as the resource kbs:///repository/type/tag and releases only to approved
// enclaves. The file names that resource, so that it says itself which key opens
// it.
//
// # Format, version 1
//
//	19 bytes  "adyton.dev/data/v1\n"
//	 4 bytes  length of the header, big-endian, at most 4096
//	 n bytes  header, JSON: see below
//	          everything above is the prefix
//	 1 byte   40
//	32 bytes  salt
//	 7 bytes  nonce prefix
//	          segments, each AES-256-GCM, each ending in a tag of 16 bytes
//
// The header is the JSON object that encoding/json makes of its fields, in this
// order and without spaces: "key" (the resource's URI, or "" for a KEK that no
// broker keeps), "content" ("file" or "directory"), "segmentSize" (4096 or
// 1048576) and "wrappedKey" (base64 of 12 bytes nonce, 32 bytes encrypted DEK,
// 16 bytes tag; its associated data is "adyton.dev/data/v1 key\x00" and the URI).
//
// From the byte 40 on, this is Tink's AES256_GCM_HKDF_4KB or AES256_GCM_HKDF_1MB
// streaming AEAD, which is the STREAM construction of Hoang, Reyhanitabar,
// Rogaway and Vizár (https://eprint.iacr.org/2015/189). The segment key is
// HKDF-SHA256(DEK, salt, info = prefix), so that a changed header opens nothing.
// The nonce of a segment is the nonce prefix, its number (4 bytes, big-endian)
// and 1 if it is the last, else 0; so removing, adding, reordering and
// truncating segments is found. Segment i occupies the bytes from i·segmentSize
// of the Tink ciphertext, except that the first starts behind the 40 bytes; hence
// any part can be read alone ([OpenAt]). Up to 2³²−1 segments: 4 PiB or 16 TiB.
//
// The content of a directory is a POSIX (pax) tar archive of its regular files
// and directories in lexical order, with permission bits and without owners and
// times: one tree always gives one archive.
//
// # Why Tink
//
// Tink's construction is proven, published, kept by Google and read by other
// languages; its AES-GCM runs at the speed of AES-NI, and its segments can be
// read in any order. age (filippo.io/age) is as well made but is ChaCha20-Poly1305
// in 64 KiB chunks, slower where AES-NI exists, and its recipients do not bind a
// header of ours. Of Tink only streamingaead/subtle/noncebased is imported, which
// does the segments and imports nothing but the standard library; Tink's
// registry would link protobuf into every enclave's init program. The tests
// exchange files with Tink's own AES256_GCM_HKDF.
//
// # Use
//
// [Seal] and [Open] work on paths and leave nothing half-written; [NewWriter],
// [NewReader] and [OpenAt] work on streams. Memory is constant: about two segments.
//
// The package is linked into the measured init program of every enclave: it may
// import the standard library, refusal, renameio and noncebased. A new version of
// the format gets a magic of its own in header.go.
package data

import (
	"errors"
	"fmt"
	"io"

	"github.com/adyton-dev/adyton/refusal"
	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle/noncebased"
)

// KeySize is the length of a KEK and of a DEK in bytes.
const KeySize = 32

// Content says what is inside a sealed file.
type Content string

// The kinds of content.
const (
	File      Content = "file"
	Directory Content = "directory" // as a tar archive
)

// The segment sizes, in bytes of ciphertext.
const (
	// SmallSegment wastes little when single records are read by [OpenAt].
	SmallSegment = 4 << 10
	// LargeSegment is the default: 16 bytes of tag on 1 MiB.
	LargeSegment = 1 << 20
)

// NewWriter writes a sealed file to dst: the header at once, then what is
// written to the Writer. Only Close makes the file complete; it does not close
// dst. The zero h.SegmentSize is [LargeSegment], the zero h.Content [File].
// An error of dst is final.
func NewWriter(dst io.Writer, kek []byte, h Header) (io.WriteCloser, error) {
	if h.SegmentSize == 0 {
		h.SegmentSize = LargeSegment
	}
	if h.Content == "" {
		h.Content = File
	}
	dek, err := h.makeKey(kek)
	if err != nil {
		return nil, err
	}
	defer clear(dek)
	prefix, err := h.encode()
	if err != nil {
		return nil, err
	}
	seg, params, err := newSegments(dek, prefix)
	if err != nil {
		return nil, err
	}
	if _, err := dst.Write(append(prefix, params...)); err != nil {
		return nil, fmt.Errorf("write header of sealed data: %w", err)
	}
	w, err := noncebased.NewWriter(noncebased.WriterParams{
		W:                            dst,
		SegmentEncrypter:             seg,
		NonceSize:                    nonceSize,
		NoncePrefix:                  seg.noncePrefix,
		PlaintextSegmentSize:         h.SegmentSize - tagSize,
		FirstCiphertextSegmentOffset: paramsSize,
	})
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return &writer{w: w}, nil
}

// writer makes the first error final: a segment is never encrypted twice under
// one nonce with different content.
type writer struct {
	w   *noncebased.Writer
	err error
}

func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.w.Write(p)
	if err != nil {
		w.err = fmt.Errorf("write sealed data: %w", err)
	}
	return n, w.err
}

func (w *writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if err := w.w.Close(); err != nil {
		w.err = fmt.Errorf("write sealed data: %w", err)
		return w.err
	}
	return nil
}

// Reader gives the content of a sealed file, each byte after it was
// authenticated. That the file is complete is known only when Read returns
// io.EOF: do not act on content before that.
type Reader struct {
	header *Header
	src    source
	r      *noncebased.Reader
	err    error
}

// NewReader opens the sealed file src with its KEK. A file that another key
// sealed, or that was changed, is a DataCorrupt refusal, here or from Read. All
// of src must be the sealed file.
func NewReader(src io.Reader, kek []byte) (*Reader, error) {
	h, err := ReadHeader(src)
	if err != nil {
		return nil, err
	}
	return h.NewReader(src, kek)
}

// NewReader is the function NewReader for a src whose header has been read by
// [ReadHeader].
func (h *Header) NewReader(src io.Reader, kek []byte) (*Reader, error) {
	params := make([]byte, paramsSize)
	if err := readFull(src, params); err != nil {
		return nil, err
	}
	seg, err := h.openSegments(kek, params)
	if err != nil {
		return nil, err
	}
	r := &Reader{header: h, src: source{r: src}}
	r.r, err = noncebased.NewReader(noncebased.ReaderParams{
		R:                            &r.src,
		SegmentDecrypter:             seg,
		NonceSize:                    nonceSize,
		NoncePrefix:                  seg.noncePrefix,
		CiphertextSegmentSize:        h.SegmentSize,
		FirstCiphertextSegmentOffset: paramsSize,
	})
	if err != nil {
		return nil, fmt.Errorf("open sealed data: %w", err)
	}
	return r, nil
}

// Header gives the header. Its fields are authentic once a byte was read.
func (r *Reader) Header() *Header { return r.header }

// Read reads authenticated content. An error is final.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, r.err
	}
	for r.err == nil {
		n, err := r.r.Read(p)
		switch {
		case err == nil && n > 0:
			return n, nil
		case err == io.EOF:
			r.err = io.EOF
		case err != nil && r.src.err != nil:
			r.err = fmt.Errorf("read sealed data: %w", r.src.err)
		case err != nil:
			r.err = refusal.New(refusal.DataCorrupt, "sealed data was changed, cut or reordered before byte %d: %w", r.src.n, err)
		}
	}
	return 0, r.err
}

// source remembers an error of the file, which is not one of its content.
type source struct {
	r   io.Reader
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// readFull reads what a sealed file must have.
func readFull(r io.Reader, p []byte) error {
	if _, err := io.ReadFull(r, p); err != nil {
		return headerError(err)
	}
	return nil
}

// headerError tells the end of the file, which is corruption here, from errors
// of reading it.
func headerError(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return refusal.New(refusal.DataCorrupt, "sealed data ends inside its header")
	}
	return fmt.Errorf("read sealed data: %w", err)
}
