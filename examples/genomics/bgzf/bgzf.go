// Package bgzf reads and writes BGZF, the blocked gzip of the SAM specification
// (https://samtools.github.io/hts-specs/SAMv1.pdf, section 4.1) that bgzip makes
// and that VCF files are kept in.
//
// A BGZF file is a series of gzip members of at most 64 KiB, each of which says
// its own size in an extra subfield "BC", and ends with an empty one, so that a
// truncated file is noticed. Blocks are independent: both directions work on all
// of them in parallel and keep their order.
//
// The package imports klauspost/compress and the standard library.
package bgzf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// ErrFormat is in every error about the bytes of a file.
var ErrFormat = errors.New("not a valid BGZF file")

const (
	// blockContent is how much text bgzip puts into a block: even text that does
	// not compress then fits.
	blockContent = 0xff00
	maxBlock     = 1 << 16 // of a compressed block and of its content
	headerSize   = 12      // of the gzip header up to and with XLEN
	trailerSize  = 8       // CRC32 and ISIZE
)

// eof is the empty block that ends a file (SAMv1, section 4.1.2).
const eof = "\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x06\x00BC\x02\x00\x1b\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// block is one block: compressed in, content out or the reverse.
type block struct {
	in, out []byte
	err     error
	done    chan struct{} // closed when out or err is set
}

// Reader gives the content of a BGZF file. It is not safe for concurrent use.
type Reader struct {
	ordered chan *block
	stop    chan struct{}
	stopped chan struct{} // closed when all goroutines have ended
	rest    []byte
	err     error
}

// NewReader reads r with as many goroutines as workers says. Close ends them.
func NewReader(r io.Reader, workers int) *Reader {
	z := &Reader{
		ordered: make(chan *block, 4*workers),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	go z.run(r, workers)
	return z
}

// Read gives content. Its error is io.EOF only behind a complete file.
func (z *Reader) Read(p []byte) (int, error) {
	for len(z.rest) == 0 && z.err == nil {
		b, ok := <-z.ordered
		if !ok {
			z.err = io.EOF
			break
		}
		<-b.done
		z.rest, z.err = b.out, b.err
	}
	if len(z.rest) == 0 {
		return 0, z.err
	}
	n := copy(p, z.rest)
	z.rest = z.rest[n:]
	return n, nil
}

// Close ends the reader's goroutines and waits for them. It does not close the
// file.
func (z *Reader) Close() error {
	select {
	case <-z.stopped:
		return nil
	default:
	}
	close(z.stop)
	<-z.stopped
	z.rest, z.err = nil, errors.New("read of a closed BGZF reader")
	return nil
}

// run reads blocks, hands each to a worker and queues it in order.
func (z *Reader) run(r io.Reader, workers int) {
	work := make(chan *block)
	var inflating sync.WaitGroup
	for range workers {
		inflating.Go(func() {
			d := newInflater()
			for b := range work {
				b.out, b.err = d.inflate(b.in)
				close(b.done)
			}
		})
	}
	defer func() {
		close(work)
		inflating.Wait()
		close(z.ordered)
		close(z.stopped)
	}()
	complete := false
	for {
		in, err := readBlock(r)
		if err == io.EOF && complete {
			return
		}
		if err == io.EOF {
			err = fmt.Errorf("%w: it has no end-of-file block; it is truncated", ErrFormat)
		}
		complete = string(in) == eof
		b := &block{in: in, err: err, done: make(chan struct{})}
		if err != nil {
			close(b.done)
		}
		select {
		case z.ordered <- b:
		case <-z.stop:
			return
		}
		if err != nil {
			return
		}
		select {
		case work <- b:
		case <-z.stop:
			b.err = errors.New("closed")
			close(b.done)
			return
		}
	}
}

// readBlock reads one whole compressed block; io.EOF if there is none.
func readBlock(r io.Reader) ([]byte, error) {
	header := make([]byte, headerSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, truncated(err)
	}
	if !bytes.HasPrefix(header, []byte{0x1f, 0x8b, 8}) {
		return nil, fmt.Errorf("%w: it is not compressed; compress it with bgzip", ErrFormat)
	}
	if header[3] != 4 {
		return nil, fmt.Errorf("%w: it was compressed by gzip; compress it with bgzip", ErrFormat)
	}
	extra := make([]byte, binary.LittleEndian.Uint16(header[10:]))
	if _, err := io.ReadFull(r, extra); err != nil {
		return nil, noEOF(err)
	}
	size, err := blockSize(extra)
	if err != nil {
		return nil, err
	}
	if size < headerSize+len(extra)+trailerSize {
		return nil, fmt.Errorf("%w: block of %d bytes", ErrFormat, size)
	}
	b := make([]byte, size)
	n := copy(b, header)
	n += copy(b[n:], extra)
	if _, err := io.ReadFull(r, b[n:]); err != nil {
		return nil, noEOF(err)
	}
	return b, nil
}

// blockSize finds the subfield BC: the size of the block less one.
func blockSize(extra []byte) (int, error) {
	for len(extra) >= 4 {
		n := 4 + int(binary.LittleEndian.Uint16(extra[2:]))
		if n > len(extra) {
			break
		}
		if extra[0] == 'B' && extra[1] == 'C' && n == 6 {
			return int(binary.LittleEndian.Uint16(extra[4:])) + 1, nil
		}
		extra = extra[n:]
	}
	return 0, fmt.Errorf("%w: a block does not say its size; compress the file with bgzip", ErrFormat)
}

func truncated(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends inside a block", ErrFormat)
	}
	return err
}

func noEOF(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return truncated(err)
}

// inflater decompresses blocks.
type inflater struct {
	src   *bytes.Reader
	flate io.ReadCloser
}

func newInflater() *inflater {
	src := bytes.NewReader(nil)
	return &inflater{src: src, flate: flate.NewReader(src)}
}

// inflate gives the content of a block that readBlock accepted.
func (d *inflater) inflate(b []byte) ([]byte, error) {
	start := headerSize + int(binary.LittleEndian.Uint16(b[10:]))
	trailer := b[len(b)-trailerSize:]
	size := binary.LittleEndian.Uint32(trailer[4:])
	if size > maxBlock {
		return nil, fmt.Errorf("%w: block with a content of %d bytes", ErrFormat, size)
	}
	d.src.Reset(b[start : len(b)-trailerSize])
	if err := d.flate.(flate.Resetter).Reset(d.src, nil); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	out := make([]byte, size)
	if _, err := io.ReadFull(d.flate, out); err != nil {
		return nil, fmt.Errorf("%w: block is shorter than it says: %w", ErrFormat, err)
	}
	if n, err := d.flate.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return nil, fmt.Errorf("%w: block is longer than it says", ErrFormat)
	}
	if crc32.ChecksumIEEE(out) != binary.LittleEndian.Uint32(trailer) {
		return nil, fmt.Errorf("%w: wrong checksum of a block", ErrFormat)
	}
	return out, nil
}
