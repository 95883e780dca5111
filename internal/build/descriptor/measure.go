package descriptor

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/adyton-dev/adyton/sgx"
)

const (
	partMagic    = "ADYTPART"
	partHeader   = 64
	ssaFrameSize = 1 // pages
	regionFlags  = sgx.PageTypeREG | sgx.SecInfoR
	ssaFlags     = sgx.PageTypeREG | sgx.SecInfoR | sgx.SecInfoW
)

// Attributes are those of every container enclave: 64-bit, with key separation
// and sharing (for CONFIGID), x87 and SSE state, and debug if asked for.
func Attributes(debug bool) sgx.Attributes {
	a := sgx.Attributes{Flags: sgx.AttributeMode64Bit | sgx.AttributeKSS, XFRM: sgx.XFRMLegacy}
	if debug {
		a.Flags |= sgx.AttributeDebug
	}
	return a
}

// SECS gives the control structure to launch the enclave with: size, SSA frame
// size and the attributes that its SIGSTRUCT says. CONFIGID is the launcher's to
// set.
func (d *Descriptor) SECS(attributes sgx.Attributes) (*sgx.SECS, error) {
	parts, err := d.Parts()
	if err != nil {
		return nil, err
	}
	return &sgx.SECS{Size: d.size(parts), SSAFrameSize: ssaFrameSize, Attributes: attributes}, nil
}

// Measure computes MRENCLAVE (see the package comment) with one page of memory
// beside the parts themselves.
func (d *Descriptor) Measure() (sgx.Measurement, error) {
	if err := d.Validate(); err != nil {
		return sgx.Measurement{}, err
	}
	parts, err := d.Parts()
	if err != nil {
		return sgx.Measurement{}, err
	}
	m, err := sgx.NewMeasurer(ssaFrameSize, d.size(parts))
	if err != nil {
		return sgx.Measurement{}, fmt.Errorf("measure enclave: %w", err)
	}
	l := layouter{measurer: m}
	for _, part := range parts {
		l.region(part)
	}
	for range d.Threads {
		l.thread()
	}
	if l.err != nil {
		return sgx.Measurement{}, fmt.Errorf("measure enclave: %w", l.err)
	}
	return m.Sum(), nil
}

// size gives SECS.SIZE in bytes.
func (d *Descriptor) size(parts []Part) uint64 {
	pages := 2 * uint64(d.Threads)
	for _, part := range parts {
		pages += (partHeader + uint64(len(part.Content)) + sgx.PageSize - 1) / sgx.PageSize
	}
	// Validate bounds both terms far below 2⁶³.
	return 1 << bits.Len64(d.Memory+pages*sgx.PageSize-1)
}

// layouter lays out pages one after another and keeps the first error.
type layouter struct {
	measurer *sgx.Measurer
	offset   uint64
	page     [sgx.PageSize]byte
	err      error
}

// region lays out a part: header, content, zeros.
func (l *layouter) region(part Part) {
	clear(l.page[:])
	copy(l.page[:], partMagic)
	binary.LittleEndian.PutUint64(l.page[8:], uint64(len(part.Content)))
	copy(l.page[16:partHeader], part.Name)
	rest := part.Content[copy(l.page[partHeader:], part.Content):]
	l.add(regionFlags)
	for len(rest) > 0 {
		clear(l.page[:])
		rest = rest[copy(l.page[:], rest):]
		l.add(regionFlags)
	}
}

// thread lays out a TCS and its SSA.
func (l *layouter) thread() {
	tcs := sgx.TCS{OSSA: l.offset + sgx.PageSize, NSSA: 1}
	copy(l.page[:], tcs.Bytes())
	l.add(sgx.PageTypeTCS)
	clear(l.page[:])
	l.add(ssaFlags)
}

func (l *layouter) add(flags sgx.SecInfoFlags) {
	if l.err == nil {
		l.err = l.measurer.AddPage(l.offset, flags, &l.page)
	}
	l.offset += sgx.PageSize
}
