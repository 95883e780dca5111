package bgzf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// Writer compresses to BGZF. The file depends only on its content and the level.
// It is not safe for concurrent use.
type Writer struct {
	content []byte
	work    chan *block
	ordered chan *block
	failed  chan struct{}
	err     error // set before failed is closed
	closed  bool

	goroutines sync.WaitGroup
}

// NewWriter writes to w, compressing with as many goroutines as workers says, at
// a level of 1 (fast) to 9 (small). Close ends them.
func NewWriter(w io.Writer, level, workers int) (*Writer, error) {
	compressors := make([]*flate.Writer, workers)
	for i := range compressors {
		var err error
		if compressors[i], err = flate.NewWriter(io.Discard, level); err != nil {
			return nil, fmt.Errorf("BGZF: %w", err)
		}
	}
	z := &Writer{
		content: make([]byte, 0, blockContent),
		work:    make(chan *block),
		ordered: make(chan *block, 4*workers),
		failed:  make(chan struct{}),
	}
	for _, c := range compressors {
		z.goroutines.Go(func() {
			for b := range z.work {
				b.out, b.err = deflate(c, b.in)
				close(b.done)
			}
		})
	}
	z.goroutines.Go(func() { z.run(w) })
	return z, nil
}

// Write takes content.
func (z *Writer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n := min(len(p), blockContent-len(z.content))
		z.content = append(z.content, p[:n]...)
		p, written = p[n:], written+n
		if len(z.content) == blockContent {
			if err := z.flush(); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// Close writes what is left and the end-of-file block, and waits for the
// Writer's goroutines. It does not close the file.
func (z *Writer) Close() error {
	if z.closed {
		return z.err
	}
	z.closed = true
	if len(z.content) > 0 {
		// An error is kept by run, which also gives it.
		_ = z.flush()
	}
	close(z.work)
	close(z.ordered)
	z.goroutines.Wait()
	return z.err
}

func (z *Writer) flush() error {
	b := &block{in: z.content, done: make(chan struct{})}
	z.content = make([]byte, 0, blockContent)
	select {
	case <-z.failed:
		return z.err
	case z.ordered <- b:
	}
	z.work <- b
	return nil
}

// run writes the blocks in order. After an error it still takes them, so that
// nobody waits for it.
func (z *Writer) run(w io.Writer) {
	for b := range z.ordered {
		<-b.done
		if z.err != nil {
			continue
		}
		err := b.err
		if err == nil {
			_, err = w.Write(b.out)
		}
		if err != nil {
			z.err = fmt.Errorf("write BGZF: %w", err)
			close(z.failed)
		}
	}
	if z.err == nil {
		if _, err := io.WriteString(w, eof); err != nil {
			z.err = fmt.Errorf("write BGZF: %w", err)
		}
	}
}

// deflate makes a block of content.
func deflate(c *flate.Writer, content []byte) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(maxBlock)
	b.WriteString(eof[:headerSize+6]) // the header; the size of the block is set below
	c.Reset(&b)
	if _, err := c.Write(content); err != nil {
		return nil, err
	}
	if err := c.Close(); err != nil {
		return nil, err
	}
	trailer := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(content))
	b.Write(binary.LittleEndian.AppendUint32(trailer, uint32(len(content))))
	if b.Len() > maxBlock {
		return nil, fmt.Errorf("block of %d bytes", b.Len())
	}
	binary.LittleEndian.PutUint16(b.Bytes()[headerSize+4:], uint16(b.Len()-1))
	return b.Bytes(), nil
}
