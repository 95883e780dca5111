package data_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"

	"github.com/adyton-dev/adyton/data"
	"github.com/adyton-dev/adyton/refusal"
)

const keyURI = "kbs:///hospital-a/key/cohort"

func testKey() []byte { return bytes.Repeat([]byte{0x42}, data.KeySize) }

// content gives n bytes that differ everywhere.
func content(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(b)
	return b
}

func seal(t testing.TB, plain []byte, h data.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := data.NewWriter(&b, testKey(), h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(sealed []byte) ([]byte, error) {
	r, err := data.NewReader(bytes.NewReader(sealed), testKey())
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func small() data.Header { return data.Header{Key: keyURI, SegmentSize: data.SmallSegment} }

// prefixSize is the length of the header with all before it.
func prefixSize(t testing.TB, sealed []byte) int {
	t.Helper()
	r := bytes.NewReader(sealed)
	if _, err := data.ReadHeader(r); err != nil {
		t.Fatal(err)
	}
	return len(sealed) - r.Len()
}

// sizes are lengths of content around each boundary of the segments.
func sizes() []int {
	const first, full = data.SmallSegment - 16 - 40, data.SmallSegment - 16
	out := []int{0, 1, 100}
	for _, boundary := range []int{first, first + full, first + 2*full} {
		out = append(out, boundary-1, boundary, boundary+1)
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, segment := range []int{0, data.SmallSegment, data.LargeSegment} {
		for _, n := range append(sizes(), 3<<20+17) {
			t.Run(fmt.Sprintf("%d/%d", segment, n), func(t *testing.T) {
				t.Parallel()
				plain := content(n)
				sealed := seal(t, plain, data.Header{Key: keyURI, SegmentSize: segment})
				got, err := open(sealed)
				if err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("got %d bytes, error %v", len(got), err)
				}
				h, err := data.ReadHeader(bytes.NewReader(sealed))
				if err != nil {
					t.Fatal(err)
				}
				if h.Key != keyURI || h.Content != data.File {
					t.Errorf("header %+v", h)
				}
				if size, err := h.PlainSize(int64(len(sealed))); err != nil || size != int64(n) {
					t.Errorf("PlainSize = %d, %v", size, err)
				}
			})
		}
	}
}

func TestReaderAllowsAnyChunking(t *testing.T) {
	t.Parallel()
	plain := content(10_000)
	sealed := seal(t, plain, small())
	for name, chunked := range map[string]func(io.Reader) io.Reader{
		"one byte": iotest.OneByteReader, "half": iotest.HalfReader, "data with EOF": iotest.DataErrReader,
	} {
		r, err := data.NewReader(chunked(bytes.NewReader(sealed)), testKey())
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, plain); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryTruncationIsCorrupt(t *testing.T) {
	t.Parallel()
	for _, n := range sizes() {
		plain := content(n)
		sealed := seal(t, plain, small())
		for cut := range sealed {
			// Each cut of a file is tried near the header and the boundaries.
			offset := cut - prefixSize(t, sealed)
			if near := offset & (data.SmallSegment - 1); offset > 200 && near > 60 && near < data.SmallSegment-20 && cut < len(sealed)-20 {
				continue
			}
			mustBeCorrupt(t, sealed[:cut], plain, fmt.Sprintf("%d bytes cut to %d", len(sealed), cut))
		}
	}
}

func TestEveryBitFlipIsCorrupt(t *testing.T) {
	t.Parallel()
	const n = 2*data.SmallSegment + 50
	plain := content(n)
	sealed := seal(t, plain, small())
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1 << (i % 8)
		mustBeCorrupt(t, changed, plain, fmt.Sprintf("byte %d changed", i))
	}
}

func TestReorderedSegmentsAreCorrupt(t *testing.T) {
	t.Parallel()
	plain := content(5 * data.SmallSegment)
	sealed := seal(t, plain, small())
	start := prefixSize(t, sealed)
	segment := func(i int) []byte {
		return sealed[start+i*data.SmallSegment : min(start+(i+1)*data.SmallSegment, len(sealed))]
	}
	other := seal(t, plain, small())
	join := func(parts ...[]byte) []byte { return bytes.Join(append([][]byte{sealed[:start]}, parts...), nil) }
	for name, changed := range map[string][]byte{
		"swapped":       join(segment(0), segment(2), segment(1), segment(3), segment(4), segment(5)),
		"repeated":      join(segment(0), segment(1), segment(1), segment(2), segment(3), segment(4), segment(5)),
		"removed":       join(segment(0), segment(2), segment(3), segment(4), segment(5)),
		"last removed":  join(segment(0), segment(1), segment(2), segment(3), segment(4)),
		"extended":      append(bytes.Clone(sealed), 0),
		"of other file": append(bytes.Clone(sealed[:start+data.SmallSegment]), other[start+data.SmallSegment:]...),
		"other header":  append(bytes.Clone(other[:start]), sealed[start:]...),
	} {
		mustBeCorrupt(t, changed, plain, name)
	}
}

// mustBeCorrupt checks that neither reader accepts a changed file, and that what
// the streaming one gives before its refusal is a proper part of plain.
func mustBeCorrupt(t *testing.T, sealed, plain []byte, what string) {
	t.Helper()
	got, err := open(sealed)
	if refusal.Of(err) != refusal.DataCorrupt {
		t.Fatalf("%s: NewReader: %v, want DataCorrupt", what, err)
	}
	if !bytes.HasPrefix(plain, got) {
		t.Fatalf("%s: NewReader gave wrong content", what)
	}
	r, err := data.OpenAt(bytes.NewReader(sealed), int64(len(sealed)), testKey())
	if err == nil {
		got, err = io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if !bytes.HasPrefix(plain, got) {
			t.Fatalf("%s: OpenAt gave wrong content", what)
		}
	}
	if refusal.Of(err) != refusal.DataCorrupt {
		t.Fatalf("%s: OpenAt: %v, want DataCorrupt", what, err)
	}
}

func TestCorruptionIsFinal(t *testing.T) {
	t.Parallel()
	sealed := seal(t, content(100), small())
	sealed[len(sealed)-1] ^= 1
	r, err := data.NewReader(bytes.NewReader(sealed), testKey())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n, err := r.Read(make([]byte, 10)); n != 0 || refusal.Of(err) != refusal.DataCorrupt {
			t.Errorf("Read = %d, %v", n, err)
		}
	}
}

func TestWrongKeyIsRefused(t *testing.T) {
	t.Parallel()
	sealed := seal(t, content(100), small())
	_, err := data.NewReader(bytes.NewReader(sealed), bytes.Repeat([]byte{1}, data.KeySize))
	if refusal.Of(err) != refusal.DataCorrupt {
		t.Errorf("other key: %v", err)
	}
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := data.NewReader(bytes.NewReader(sealed), make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes opened it", n)
		}
	}
}

func TestSourceErrorIsNotCorruption(t *testing.T) {
	t.Parallel()
	sealed := seal(t, content(10_000), small())
	broken := errors.New("broken disk")
	r, err := data.NewReader(io.MultiReader(bytes.NewReader(sealed[:5000]), iotest.ErrReader(broken)), testKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, broken) || refusal.Of(err) != "" {
		t.Errorf("error %v", err)
	}
}

func TestWriteErrorIsFinal(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	dst := &failing{after: 1, err: full}
	w, err := data.NewWriter(dst, testKey(), small())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content(10_000)); !errors.Is(err, full) {
		t.Errorf("Write: %v", err)
	}
	dst.err = nil
	if _, err := w.Write(nil); !errors.Is(err, full) {
		t.Errorf("second Write: %v", err)
	}
	if err := w.Close(); !errors.Is(err, full) {
		t.Errorf("Close: %v", err)
	}
}

// failing is a writer that fails after some writes.
type failing struct {
	after int
	err   error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, f.err
	}
	return len(p), nil
}

func TestReadAtAnyPlace(t *testing.T) {
	t.Parallel()
	for _, n := range sizes() {
		plain := content(n)
		sealed := seal(t, plain, small())
		r, err := data.OpenAt(bytes.NewReader(sealed), int64(len(sealed)), testKey())
		if err != nil {
			t.Fatal(err)
		}
		if r.Size() != int64(n) || r.Header().Key != keyURI {
			t.Errorf("size %d, header %+v", r.Size(), r.Header())
		}
		if err := iotest.TestReader(io.NewSectionReader(r, 0, r.Size()), plain); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		for _, off := range []int{0, n / 2, max(n-1, 0), n, n + 1} {
			got := make([]byte, 5000)
			m, err := r.ReadAt(got, int64(off))
			if want := plain[min(off, n):min(off+5000, n)]; !bytes.Equal(got[:m], want) || (m < 5000) != (err == io.EOF) {
				t.Errorf("%d bytes: ReadAt(%d) = %d, %v", n, off, m, err)
			}
		}
	}
}

func TestReadAtFindsADamagedSegmentOnly(t *testing.T) {
	t.Parallel()
	plain := content(5 * data.SmallSegment)
	sealed := seal(t, plain, small())
	sealed[prefixSize(t, sealed)+2*data.SmallSegment+5] ^= 1
	r, err := data.OpenAt(bytes.NewReader(sealed), int64(len(sealed)), testKey())
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	if _, err := r.ReadAt(p, 2*data.SmallSegment); refusal.Of(err) != refusal.DataCorrupt {
		t.Errorf("damaged segment: %v", err)
	}
	if _, err := r.ReadAt(p, 0); err != nil || !bytes.Equal(p, plain[:100]) {
		t.Errorf("another segment: %v", err)
	}
}

// The stream behind the header is Tink's AES256_GCM_HKDF: Tink itself opens it.
func TestTinkOpensTheStream(t *testing.T) {
	t.Parallel()
	for _, segment := range []int{data.SmallSegment, data.LargeSegment} {
		plain := content(2*segment + 100)
		sealed := seal(t, plain, data.Header{Key: keyURI, SegmentSize: segment})
		prefix := sealed[:prefixSize(t, sealed)]
		h, err := data.ReadHeader(bytes.NewReader(sealed))
		if err != nil {
			t.Fatal(err)
		}
		tink, err := subtle.NewAESGCMHKDF(unwrap(t, h), "SHA256", 32, segment, 0)
		if err != nil {
			t.Fatal(err)
		}
		r, err := tink.NewDecryptingReader(bytes.NewReader(sealed[len(prefix):]), prefix)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("segments of %d: Tink read %d bytes: %v", segment, len(got), err)
		}
		// And the other way round.
		var b bytes.Buffer
		b.Write(prefix)
		w, err := tink.NewEncryptingWriter(&b, prefix)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := open(b.Bytes()); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("segments of %d: opening Tink's: %v", segment, err)
		}
	}
}

// unwrap opens the wrapped key as the package comment says.
func unwrap(t *testing.T, h *data.Header) []byte {
	t.Helper()
	block, err := aes.NewCipher(testKey())
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	dek, err := gcm.Open(nil, h.WrappedKey[:12], h.WrappedKey[12:], []byte("adyton.dev/data/v1 key\x00"+h.Key))
	if err != nil {
		t.Fatal(err)
	}
	return dek
}

func TestHeaderBounds(t *testing.T) {
	t.Parallel()
	file := func(text string) []byte {
		b := binary.BigEndian.AppendUint32([]byte("adyton.dev/data/v1\n"), uint32(len(text)))
		return append(b, text...)
	}
	good := data.Header{Key: keyURI, Content: data.File, SegmentSize: data.SmallSegment, WrappedKey: make([]byte, 60)}
	text, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := data.ReadHeader(bytes.NewReader(file(string(text)))); err != nil {
		t.Fatalf("good header: %v", err)
	}
	replace := func(old, new string) []byte { return file(strings.Replace(string(text), old, new, 1)) }
	for name, b := range map[string][]byte{
		"empty":           {},
		"other magic":     []byte("age-encryption.org/v1\n and more"),
		"other version":   []byte("adyton.dev/data/v2\n\x00\x00\x00\x00"),
		"large":           append([]byte("adyton.dev/data/v1\n\xff\xff\xff\xff"), text...),
		"not JSON":        file("{"),
		"null":            file("null"),
		"unknown field":   replace(`{`, `{"x":1,`),
		"repeated field":  replace(`{`, `{"key":"",`),
		"space":           replace(`{`, `{ `),
		"other case":      replace(`"key"`, `"Key"`),
		"content":         replace(`"file"`, `"link"`),
		"segment size":    replace(`4096`, `8192`),
		"negative size":   replace(`4096`, `-1`),
		"short key":       replace(`AAAA`, ``),
		"URI scheme":      replace(`kbs:///`, `http://`),
		"URI of two":      replace(`/cohort`, ``),
		"URI of four":     replace(`/cohort`, `/a/b`),
		"URI with dots":   replace(`/cohort`, `/..`),
		"URI with spaces": replace(`cohort`, `co hort`),
	} {
		if _, err := data.ReadHeader(bytes.NewReader(b)); refusal.Of(err) != refusal.DataCorrupt {
			t.Errorf("%s: %v, want DataCorrupt", name, err)
		}
	}
}

// The init program of every enclave links this package.
func TestImportGraphIsSmall(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{
		"github.com/adyton-dev/adyton/data": true, "github.com/adyton-dev/adyton/refusal": true,
		"github.com/google/renameio/v2":                                     true,
		"github.com/tink-crypto/tink-go/v2/streamingaead/subtle/noncebased": true,
	}
	for _, pkg := range strings.Fields(string(out)) {
		host, _, _ := strings.Cut(pkg, "/")
		if strings.Contains(host, ".") && !allowed[pkg] {
			t.Errorf("imports %s", pkg)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, n := range []int{0, 10, 5000} {
		f.Add(seal(f, content(n), small()))
	}
	f.Fuzz(func(t *testing.T, sealed []byte) {
		got, err := open(sealed)
		r, errAt := data.OpenAt(bytes.NewReader(sealed), int64(len(sealed)), testKey())
		var gotAt []byte
		if errAt == nil {
			gotAt, errAt = io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		}
		if (err == nil) != (errAt == nil) || err == nil && !bytes.Equal(got, gotAt) {
			t.Errorf("NewReader: %d bytes, %v; OpenAt: %d bytes, %v", len(got), err, len(gotAt), errAt)
		}
	})
}

func FuzzReadHeader(f *testing.F) {
	f.Add(seal(f, nil, small()))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := data.ReadHeader(bytes.NewReader(b))
		if err != nil {
			if refusal.Of(err) != refusal.DataCorrupt {
				t.Errorf("error without a reason: %v", err)
			}
			return
		}
		if _, err := h.PlainSize(int64(len(b))); err != nil && refusal.Of(err) != refusal.DataCorrupt {
			t.Errorf("PlainSize: %v", err)
		}
	})
}
