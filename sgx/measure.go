package sgx

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"math/bits"
)

// The tags that begin each measured block, in memory order.
const (
	tagECREATE = "ECREATE\x00"
	tagEADD    = "EADD\x00\x00\x00\x00"
	tagEEXTEND = "EEXTEND\x00"
)

const (
	blockSize     = 64  // what ECREATE and EADD add to the measurement
	chunkSize     = 256 // the bytes of a page that one EEXTEND measures
	extendSize    = blockSize + chunkSize
	chunksPerPage = PageSize / chunkSize
)

// Measurer computes MRENCLAVE as the CPU does: a SHA-256 over a block for
// ECREATE, one for each EADD, and one for each EEXTEND with the 256 bytes that it
// measures (SDM, operation of ECREATE, EADD and EEXTEND). It needs constant
// memory, whatever the size of the enclave.
type Measurer struct {
	digest hash.Hash
	size   uint64
	// page is room for what one measured page adds, so that SHA-256 sees few
	// long writes instead of many short ones.
	page [blockSize + chunksPerPage*extendSize]byte
}

// NewMeasurer begins a measurement with ECREATE. The SSA frame size is in pages;
// the enclave's size is in bytes and must be a power of two of at least two pages.
func NewMeasurer(ssaFrameSize uint32, size uint64) (*Measurer, error) {
	if ssaFrameSize == 0 {
		return nil, errors.New("SSAFRAMESIZE is 0, want at least 1 page")
	}
	if size < 2*PageSize || bits.OnesCount64(size) != 1 {
		return nil, fmt.Errorf("enclave size %#x is not a power of two of at least %#x", size, 2*PageSize)
	}
	m := &Measurer{digest: sha256.New(), size: size}
	block := m.page[:blockSize]
	copy(block, tagECREATE)
	le.PutUint32(block[8:], ssaFrameSize)
	le.PutUint64(block[12:], size)
	m.digest.Write(block)
	clear(block)
	return m, nil
}

// Add measures EADD of the page at offset, in bytes from the enclave's base, with
// the given SECINFO flags. The content is measured by Extend only. The offset
// must be page-aligned and inside the enclave.
func (m *Measurer) Add(offset uint64, flags SecInfoFlags) error {
	if err := m.checkOffset(offset, PageSize); err != nil {
		return fmt.Errorf("EADD: %w", err)
	}
	putEADD(m.page[:blockSize], offset, flags)
	m.digest.Write(m.page[:blockSize])
	return nil
}

// Extend measures EEXTEND of the 256 bytes at offset, which must be a multiple of
// 256 inside the enclave.
func (m *Measurer) Extend(offset uint64, chunk *[chunkSize]byte) error {
	if err := m.checkOffset(offset, chunkSize); err != nil {
		return fmt.Errorf("EEXTEND: %w", err)
	}
	putEEXTEND(m.page[:extendSize], offset, chunk[:])
	m.digest.Write(m.page[:extendSize])
	return nil
}

// AddPage measures EADD of a page and EEXTEND of all its content.
func (m *Measurer) AddPage(offset uint64, flags SecInfoFlags, page *[PageSize]byte) error {
	if err := m.checkOffset(offset, PageSize); err != nil {
		return fmt.Errorf("EADD: %w", err)
	}
	putEADD(m.page[:blockSize], offset, flags)
	for i := range chunksPerPage {
		at := i * chunkSize
		putEEXTEND(m.page[blockSize+i*extendSize:][:extendSize], offset+uint64(at), page[at:at+chunkSize])
	}
	m.digest.Write(m.page[:])
	return nil
}

// Sum gives MRENCLAVE of what was added so far. The measurement may go on.
func (m *Measurer) Sum() Measurement { return Measurement(m.digest.Sum(nil)) }

func (m *Measurer) checkOffset(offset, size uint64) error {
	if offset%size != 0 || offset > m.size-size {
		return fmt.Errorf("offset %#x is not a multiple of %d inside the enclave's %#x bytes", offset, size, m.size)
	}
	return nil
}

func putEADD(block []byte, offset uint64, flags SecInfoFlags) {
	if flags.PageType() == PageTypeTCS {
		// The CPU clears the permissions of a TCS before it measures them.
		flags &^= SecInfoPermissions
	}
	clear(block)
	copy(block, tagEADD)
	le.PutUint64(block[8:], offset)
	le.PutUint64(block[16:], uint64(flags))
}

func putEEXTEND(block []byte, offset uint64, chunk []byte) {
	clear(block[:blockSize])
	copy(block, tagEEXTEND)
	le.PutUint64(block[8:], offset)
	copy(block[blockSize:], chunk)
}
