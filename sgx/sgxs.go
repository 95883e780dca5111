package sgx

import (
	"errors"
	"fmt"
	"io"
)

// The tags of the enhanced SGX stream format beside those that are measured.
const (
	tagUNSIZED  = "UNSIZED\x00" // in place of ECREATE: the enclave's size is not known yet
	tagUNMEASRD = "UNMEASRD"    // in place of EEXTEND: content that is loaded but not measured
)

// sgxsBufferSize has room for the blocks of one page, and no more, as the hash is
// faster over what is in the first-level cache: 0.88 of its bound with 6 KiB, 0.82
// with 64 KiB (bench/measure).
const sgxsBufferSize = 6 << 10

// MeasureSGXS computes MRENCLAVE of an enclave in the SGX stream format and its
// enhanced form (Fortanix, rust-sgx, doc/SGXS.md): the measured blocks of 64 bytes
// one after another, each EEXTEND followed by its 256 bytes of content, as is each
// UNMEASRD, which is skipped. It reads to the end of the stream in constant memory.
//
// The stream must be canonical, so that it has one meaning to every loader: ECREATE
// first and once, pages in rising order, and the content of a page after its EADD,
// in any order but no part twice. One whose enclave has no size yet (UNSIZED) has
// no measurement.
func MeasureSGXS(r io.Reader) (Measurement, error) {
	var s sgxsMeasurer
	buffer := make([]byte, sgxsBufferSize)
	for have := 0; ; {
		n, err := io.ReadFull(r, buffer[have:])
		have += n
		end := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return Measurement{}, fmt.Errorf("SGX stream: read: %w", err)
		}
		used, err := s.measure(buffer[:have])
		if err != nil {
			return Measurement{}, fmt.Errorf("SGX stream: %w", err)
		}
		have = copy(buffer, buffer[used:have])
		if end && (have != 0 || s.m == nil) {
			return Measurement{}, fmt.Errorf("SGX stream: it ends inside a block: %w", io.ErrUnexpectedEOF)
		}
		if end {
			return s.m.Sum(), nil
		}
	}
}

// sgxsMeasurer checks a stream block by block. The bytes of measured blocks are
// just what the CPU hashes, so it hashes them where they lie, many at once.
type sgxsMeasurer struct {
	m *Measurer // nil before ECREATE

	anyPage bool
	page    uint64 // offset of the page that was added last
	chunks  uint16 // a bit for each chunk of that page that has come
}

// measure takes the whole blocks at the beginning of b and says how many bytes
// they are.
func (s *sgxsMeasurer) measure(b []byte) (used int, err error) {
	hashed := 0 // bytes that were hashed or skipped
	for {
		size, measured, err := s.block(b[used:])
		if err != nil {
			return 0, err
		}
		if size == 0 || !measured {
			if used > hashed {
				s.m.digest.Write(b[hashed:used])
			}
			hashed = used + size
		}
		if size == 0 {
			return used, nil
		}
		used += size
	}
}

// block checks the block at the beginning of b and gives its size with its
// content, or 0 if not all of it is there yet. ECREATE is measured here.
func (s *sgxsMeasurer) block(b []byte) (size int, measured bool, err error) {
	if len(b) < blockSize {
		return 0, false, nil
	}
	tag := b[:8]
	if s.m == nil {
		return blockSize, false, s.create(tag, b)
	}
	switch string(tag) {
	case tagEADD:
		return blockSize, true, s.add(b)
	case tagEEXTEND, tagUNMEASRD:
		if len(b) < extendSize {
			return 0, false, nil
		}
		return extendSize, string(tag) == tagEEXTEND, s.load(b)
	default:
		return 0, false, fmt.Errorf("unknown block %q", tag)
	}
}

func (s *sgxsMeasurer) create(tag, b []byte) (err error) {
	switch string(tag) {
	case tagECREATE:
	case tagUNSIZED:
		return errors.New("the enclave has no size yet (UNSIZED)")
	default:
		return fmt.Errorf("it begins with %q, want ECREATE", tag)
	}
	if err := checkZero("ECREATE block", b[20:blockSize], 20); err != nil {
		return err
	}
	s.m, err = NewMeasurer(le.Uint32(b[8:]), le.Uint64(b[12:]))
	return err
}

func (s *sgxsMeasurer) add(b []byte) error {
	offset, flags := le.Uint64(b[8:]), SecInfoFlags(le.Uint64(b[16:]))
	if err := checkZero("EADD block", b[24:blockSize], 24); err != nil {
		return err
	}
	if err := s.m.checkOffset(offset, PageSize); err != nil {
		return fmt.Errorf("EADD: %w", err)
	}
	if flags.PageType() == PageTypeTCS && flags&SecInfoPermissions != 0 {
		return fmt.Errorf("EADD at offset %#x gives a TCS permissions, which is never measured", offset)
	}
	if s.anyPage && offset <= s.page {
		return fmt.Errorf("EADD at offset %#x is not above the page before", offset)
	}
	s.anyPage, s.page, s.chunks = true, offset, 0
	return nil
}

func (s *sgxsMeasurer) load(b []byte) error {
	offset := le.Uint64(b[8:])
	if err := checkZero("content block", b[16:blockSize], 16); err != nil {
		return err
	}
	if !s.anyPage || offset < s.page || offset-s.page >= PageSize || offset%chunkSize != 0 {
		return fmt.Errorf("content at offset %#x is not a %d-byte part of the page that was added last", offset, chunkSize)
	}
	chunk := uint16(1) << ((offset - s.page) / chunkSize)
	if s.chunks&chunk != 0 {
		return fmt.Errorf("content at offset %#x comes twice", offset)
	}
	s.chunks |= chunk
	return nil
}
