package sgx_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/adyton-dev/adyton/sgx"
)

const (
	codePage = sgx.PageTypeREG | sgx.SecInfoR | sgx.SecInfoX
	dataPage = sgx.PageTypeREG | sgx.SecInfoR | sgx.SecInfoW
)

// The golden values were computed from the SDM's text with Python's hashlib.
const (
	goldenEmpty = "9e197c8837c6d65632dbdd59cd7df4f1a25b68d8e4e5eb6ca3b20b05311fecb8" // ECREATE of 2 pages, SSA frame 1
	goldenSmall = "1745d11058f21e21aa6b19ba49c37e41e38e48ca6dd3d7966767da5c7600e0f3" // smallEnclave
)

// smallEnclave measures a code page, a zero data page, an unmeasured data page and
// a TCS, in 64 KiB.
func smallEnclave(t *testing.T) *sgx.Measurer {
	t.Helper()
	m, err := sgx.NewMeasurer(1, 0x10000)
	if err != nil {
		t.Fatal(err)
	}
	page, zero := examplePage(), new([sgx.PageSize]byte)
	for _, err := range []error{
		m.AddPage(0, codePage, page),
		m.AddPage(0x1000, dataPage, zero),
		m.Add(0x2000, dataPage),
		m.AddPage(0x3000, sgx.PageTypeTCS|sgx.SecInfoR|sgx.SecInfoW, zero),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func examplePage() *[sgx.PageSize]byte {
	var page [sgx.PageSize]byte
	for i := range page {
		page[i] = byte(7*i + 3)
	}
	return &page
}

func TestMeasureGolden(t *testing.T) {
	t.Parallel()
	m, err := sgx.NewMeasurer(1, 2*sgx.PageSize)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Sum().String(); got != goldenEmpty {
		t.Errorf("empty enclave: got %s, want %s", got, goldenEmpty)
	}
	if got := smallEnclave(t).Sum().String(); got != goldenSmall {
		t.Errorf("small enclave: got %s, want %s", got, goldenSmall)
	}
}

func TestMeasureChunksEqualsMeasurePage(t *testing.T) {
	t.Parallel()
	byPage, _ := sgx.NewMeasurer(2, 0x4000)
	byChunk, _ := sgx.NewMeasurer(2, 0x4000)
	page := examplePage()
	if err := byPage.AddPage(0x1000, codePage, page); err != nil {
		t.Fatal(err)
	}
	if err := byChunk.Add(0x1000, codePage); err != nil {
		t.Fatal(err)
	}
	for i := uint64(0); i < sgx.PageSize; i += 256 {
		if err := byChunk.Extend(0x1000+i, (*[256]byte)(page[i:])); err != nil {
			t.Fatal(err)
		}
	}
	if byPage.Sum() != byChunk.Sum() {
		t.Error("the measurements differ")
	}
}

func TestMeasureSumDoesNotEndTheMeasurement(t *testing.T) {
	t.Parallel()
	m := smallEnclave(t)
	before := m.Sum()
	if m.Sum() != before {
		t.Error("a second Sum differs")
	}
	if err := m.Add(0x4000, dataPage); err != nil {
		t.Fatal(err)
	}
	if m.Sum() == before {
		t.Error("a page after Sum was not measured")
	}
}

func TestMeasureDependsOnEveryPartOfAPage(t *testing.T) {
	t.Parallel()
	measure := func(ssa uint32, size, offset uint64, flags sgx.SecInfoFlags, change int) sgx.Measurement {
		m, err := sgx.NewMeasurer(ssa, size)
		if err != nil {
			t.Fatal(err)
		}
		page := examplePage()
		if change >= 0 {
			page[change]++
		}
		if err := m.AddPage(offset, flags, page); err != nil {
			t.Fatal(err)
		}
		return m.Sum()
	}
	base := measure(1, 0x4000, 0x1000, codePage, -1)
	for name, other := range map[string]sgx.Measurement{
		"SSAFRAMESIZE": measure(2, 0x4000, 0x1000, codePage, -1),
		"SIZE":         measure(1, 0x8000, 0x1000, codePage, -1),
		"offset":       measure(1, 0x4000, 0x2000, codePage, -1),
		"permissions":  measure(1, 0x4000, 0x1000, dataPage, -1),
		"first byte":   measure(1, 0x4000, 0x1000, codePage, 0),
		"last byte":    measure(1, 0x4000, 0x1000, codePage, sgx.PageSize-1),
	} {
		if other == base {
			t.Errorf("%s does not change the measurement", name)
		}
	}
}

func TestMeasureRefusesWhatTheCPURefuses(t *testing.T) {
	t.Parallel()
	for name, create := range map[string]struct {
		ssa  uint32
		size uint64
	}{
		"SSAFRAMESIZE 0": {0, 0x2000}, "SIZE 0": {1, 0}, "SIZE of one page": {1, 0x1000}, "SIZE not a power of two": {1, 0x3000},
	} {
		if _, err := sgx.NewMeasurer(create.ssa, create.size); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	m, _ := sgx.NewMeasurer(1, 0x2000)
	before := m.Sum()
	for name, err := range map[string]error{
		"EADD unaligned":         m.Add(0x800, codePage),
		"EADD outside":           m.Add(0x2000, codePage),
		"EADD far outside":       m.Add(^uint64(0)&^0xfff, codePage),
		"page unaligned":         m.AddPage(1, codePage, examplePage()),
		"page outside":           m.AddPage(0x2000, codePage, examplePage()),
		"EEXTEND unaligned":      m.Extend(0x80, new([256]byte)),
		"EEXTEND outside":        m.Extend(0x2000, new([256]byte)),
		"EEXTEND beyond 64 bits": m.Extend(^uint64(0)&^0xff, new([256]byte)),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if m.Sum() != before {
		t.Error("something refused was measured")
	}
}

// stream builds SGX streams record by record.
type stream struct{ bytes.Buffer }

func (s *stream) block(tag string, fields ...uint64) *stream {
	block := make([]byte, 64)
	copy(block, tag)
	for i, field := range fields {
		binary.LittleEndian.PutUint64(block[8+8*i:], field)
	}
	s.Write(block)
	return s
}

// create writes ECREATE or UNSIZED, whose fields have 4 and 8 bytes.
func (s *stream) create(tag string, ssa uint32, size uint64) *stream {
	return s.block(tag, uint64(ssa)|size<<32, size>>32)
}

func (s *stream) chunk(tag string, offset uint64, content []byte) *stream {
	s.block(tag, offset).Write(content)
	return s
}

func (s *stream) page(offset uint64, flags sgx.SecInfoFlags, page *[sgx.PageSize]byte) *stream {
	s.block("EADD", offset, uint64(flags))
	for i := uint64(0); i < sgx.PageSize; i += 256 {
		s.chunk("EEXTEND", offset+i, page[i:][:256])
	}
	return s
}

func smallStream() *stream {
	zero := new([sgx.PageSize]byte)
	return new(stream).create("ECREATE", 1, 0x10000).
		page(0, codePage, examplePage()).page(0x1000, dataPage, zero).
		block("EADD", 0x2000, uint64(dataPage)).page(0x3000, sgx.PageTypeTCS, zero)
}

func TestSGXSMeasurementIsTheHashOfTheStream(t *testing.T) {
	t.Parallel()
	raw := smallStream().Bytes()
	got, err := sgx.MeasureSGXS(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != goldenSmall || got != sha256.Sum256(raw) {
		t.Errorf("got %s, want %s", got, goldenSmall)
	}
}

// The reader's pieces need not be blocks: the stream is longer than any buffer and
// comes in parts of odd sizes.
func TestSGXSMayComeInPieces(t *testing.T) {
	t.Parallel()
	s := new(stream).create("ECREATE", 1, 1<<20)
	for offset := uint64(0); offset < 1<<20; offset += sgx.PageSize {
		s.page(offset, codePage, examplePage())
	}
	want := sgx.Measurement(sha256.Sum256(s.Bytes()))
	for name, r := range map[string]io.Reader{
		"whole":     bytes.NewReader(s.Bytes()),
		"halves":    iotest.HalfReader(bytes.NewReader(s.Bytes())),
		"data, EOF": iotest.DataErrReader(bytes.NewReader(s.Bytes())),
	} {
		if got, err := sgx.MeasureSGXS(r); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
		}
	}
}

func TestSGXSChunksMayComeInAnyOrder(t *testing.T) {
	t.Parallel()
	raw := new(stream).create("ECREATE", 1, 0x2000).block("EADD", 0, uint64(dataPage)).
		chunk("EEXTEND", 0xf00, make([]byte, 256)).chunk("EEXTEND", 0x100, make([]byte, 256)).Bytes()
	got, err := sgx.MeasureSGXS(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if got != sha256.Sum256(raw) {
		t.Error("the measurement is not the stream's hash")
	}
}

func TestSGXSUnmeasuredContentIsSkipped(t *testing.T) {
	t.Parallel()
	with := func(content byte) sgx.Measurement {
		chunk := bytes.Repeat([]byte{content}, 256)
		m, err := sgx.MeasureSGXS(new(stream).create("ECREATE", 1, 0x2000).block("EADD", 0, uint64(dataPage)).
			chunk("UNMEASRD", 0x300, chunk).chunk("EEXTEND", 0x400, make([]byte, 256)))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	without := new(stream).create("ECREATE", 1, 0x2000).block("EADD", 0, uint64(dataPage)).
		chunk("EEXTEND", 0x400, make([]byte, 256))
	if with(1) != with(2) || with(1) != sha256.Sum256(without.Bytes()) {
		t.Error("unmeasured content changes the measurement")
	}
}

func TestSGXSRefusesAStreamThatIsNotCanonical(t *testing.T) {
	t.Parallel()
	begin := func() *stream { return new(stream).create("ECREATE", 1, 0x4000) }
	added := func() *stream { return begin().block("EADD", 0x1000, uint64(dataPage)) }
	chunk := make([]byte, 256)
	for name, test := range map[string]struct {
		stream io.Reader
		want   string
	}{
		"empty":                    {new(stream), "unexpected EOF"},
		"UNSIZED":                  {new(stream).create("UNSIZED", 1, 0x1000), "no size yet"},
		"EADD first":               {new(stream).block("EADD"), "want ECREATE"},
		"ECREATE twice":            {begin().create("ECREATE", 1, 0x4000), "unknown block"},
		"unknown tag":              {begin().block("EBADTAG"), "unknown block"},
		"ECREATE reserved":         {new(stream).block("ECREATE", 1|0x4000<<32, 0, 1), "reserved byte"},
		"ECREATE without SSA":      {new(stream).create("ECREATE", 0, 0x4000), "SSAFRAMESIZE"},
		"EADD reserved":            {begin().block("EADD", 0, 0, 1), "reserved byte"},
		"EADD outside":             {begin().block("EADD", 0x4000, 0), "offset 0x4000"},
		"EADD unaligned":           {begin().block("EADD", 0x100, 0), "offset 0x100"},
		"EADD twice":               {added().block("EADD", 0x1000, 0), "not above"},
		"EADD falling":             {added().block("EADD", 0, 0), "not above"},
		"TCS with permissions":     {begin().block("EADD", 0, uint64(sgx.PageTypeTCS|sgx.SecInfoR)), "TCS permissions"},
		"content without page":     {begin().chunk("EEXTEND", 0, chunk), "page that was added last"},
		"content before its page":  {added().chunk("EEXTEND", 0xf00, chunk), "page that was added last"},
		"content behind its page":  {added().chunk("EEXTEND", 0x2000, chunk), "page that was added last"},
		"content unaligned":        {added().chunk("EEXTEND", 0x1010, chunk), "page that was added last"},
		"content twice":            {added().chunk("EEXTEND", 0x1000, chunk).chunk("UNMEASRD", 0x1000, chunk), "twice"},
		"content reserved":         {added().block("EEXTEND", 0x1000, 1).chunk("", 0, chunk), "reserved byte"},
		"end inside a block":       {io.LimitReader(smallStream(), 64+7), "unexpected EOF"},
		"end inside content":       {added().chunk("EEXTEND", 0x1000, chunk[:255]), "unexpected EOF"},
		"end where content begins": {added().block("EEXTEND", 0x1000), "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := sgx.MeasureSGXS(test.stream); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestSGXSReportsAReadError(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is broken")
	stream := io.MultiReader(io.LimitReader(smallStream(), 100), failing{broken})
	if _, err := sgx.MeasureSGXS(stream); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
