package data

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/adyton-dev/adyton/refusal"
)

// ReaderAt reads any part of a sealed file and authenticates what it gives. It
// may be used by several goroutines. Use io.NewSectionReader(r, 0, r.Size()) for
// an io.ReadSeeker.
type ReaderAt struct {
	header *Header
	src    io.ReaderAt
	base   int64 // where the stream begins in src
	seg    *segments
	layout layout

	mu     sync.Mutex
	number int64 // of the segment in plain; -1: none
	sealed []byte
	plain  []byte
}

// OpenAt opens the sealed file of size bytes that src gives. It authenticates
// the last segment, and with it the size: a truncated or extended file is
// refused at once, a change in another segment when that is read.
func OpenAt(src io.ReaderAt, size int64, kek []byte) (*ReaderAt, error) {
	file := io.NewSectionReader(src, 0, size)
	h, err := ReadHeader(file)
	if err != nil {
		return nil, err
	}
	base, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, fmt.Errorf("read sealed data: %w", err)
	}
	params := make([]byte, paramsSize)
	if err := readFull(file, params); err != nil {
		return nil, err
	}
	l, err := h.layout(size - base)
	if err != nil {
		return nil, err
	}
	seg, err := h.openSegments(kek, params)
	if err != nil {
		return nil, err
	}
	r := &ReaderAt{header: h, src: src, base: base, seg: seg, layout: l, number: -1}
	return r, r.load(l.segments - 1)
}

// Header gives the header, which is authentic.
func (r *ReaderAt) Header() *Header { return r.header }

// Size gives the length of the content in bytes.
func (r *ReaderAt) Size() int64 { return r.layout.plain }

// ReadAt reads from the content at off, as io.ReaderAt says.
func (r *ReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read sealed data: negative offset")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(p) {
		if off >= r.layout.plain {
			return n, io.EOF
		}
		i, within := r.layout.locate(off)
		if err := r.load(i); err != nil {
			return n, err
		}
		m := copy(p[n:], r.plain[within:])
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

// load decrypts segment i into r.plain.
//
// Precondition: r.mu is held, or r is not shared yet.
func (r *ReaderAt) load(i int64) error {
	if r.number == i {
		return nil
	}
	r.number = -1
	from, to := r.layout.span(i)
	if r.sealed == nil {
		r.sealed = make([]byte, min(r.layout.segment, r.layout.stream))
	}
	sealed := r.sealed[:to-from]
	if n, err := r.src.ReadAt(sealed, r.base+from); n < len(sealed) {
		return fmt.Errorf("read sealed data: %w", err)
	}
	plain, err := r.seg.DecryptSegmentWithDst(r.plain[:0], sealed, r.seg.nonce(i, i == r.layout.segments-1))
	if err != nil {
		return refusal.New(refusal.DataCorrupt, "sealed data was changed, cut or reordered in segment %d: %w", i, err)
	}
	r.plain, r.number = plain, i
	return nil
}
