package bgzf_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"

	"github.com/adyton-dev/adyton/examples/genomics/bgzf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text gives n bytes: half of them compress, half do not.
func text(n int) []byte {
	b := bytes.Repeat([]byte("0|0\t0|1\t"), n/8+1)[:n]
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(b[n/2:])
	return b
}

func compress(t testing.TB, content []byte, workers int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := bgzf.NewWriter(&b, 1, workers)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second Close does nothing
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func decompress(b []byte) ([]byte, error) {
	r := bgzf.NewReader(bytes.NewReader(b), 2)
	content, err := io.ReadAll(r)
	return content, errors.Join(err, r.Close())
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 0xff00 - 1, 0xff00, 0xff00 + 1, 1 << 20} {
		content := text(n)
		b := compress(t, content, 2)
		got, err := decompress(b)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
		// BGZF is gzip.
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(z, content); err != nil && n > 0 {
			t.Errorf("%d bytes by gzip: %v", n, err)
		}
	}
}

func TestFileDoesNotDependOnWorkers(t *testing.T) {
	t.Parallel()
	content := text(1 << 20)
	if !bytes.Equal(compress(t, content, 1), compress(t, content, 7)) {
		t.Error("files differ")
	}
}

func TestEveryTruncationIsAnError(t *testing.T) {
	t.Parallel()
	b := compress(t, text(100_000)[:70_000], 1) // two blocks and the end
	for cut := range b {
		if cut > 100 && cut < len(b)-100 && cut%97 != 0 {
			continue
		}
		if _, err := decompress(b[:cut]); !errors.Is(err, bgzf.ErrFormat) {
			t.Fatalf("%d bytes cut to %d: %v", len(b), cut, err)
		}
	}
}

func TestChangedBytesAreNotGivenOut(t *testing.T) {
	t.Parallel()
	content := text(2000)
	b := compress(t, content, 1)
	for i := range b {
		changed := bytes.Clone(b)
		changed[i] ^= 0x10
		got, err := decompress(changed)
		if err == nil && !bytes.Equal(got, content) {
			t.Fatalf("byte %d: other content", i)
		}
	}
}

func TestGzipIsToldFromBGZF(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := errors.Join(func() error { _, err := z.Write([]byte("text")); return err }(), z.Close()); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][]byte{"gzip": b.Bytes(), "plain": []byte("##fileformat=VCFv4.3\n")} {
		_, err := decompress(in)
		if !errors.Is(err, bgzf.ErrFormat) || !strings.Contains(err.Error(), "bgzip") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCloseInTheMiddleEndsAllGoroutines(t *testing.T) {
	t.Parallel()
	b := compress(t, text(8<<20), 2)
	r := bgzf.NewReader(bytes.NewReader(b), 3)
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadAll(r); err == nil {
		t.Error("a closed reader reads")
	}
}

func TestWriteErrorIsGiven(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	w, err := bgzf.NewWriter(failing{full}, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	_, writeErr := w.Write(text(32 << 20))
	if err := w.Close(); !errors.Is(err, full) || !errors.Is(writeErr, full) {
		t.Errorf("Write: %v, Close: %v", writeErr, err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// bgzip is the reference implementation (Debian: tabix).
func TestBgzipAgrees(t *testing.T) {
	t.Parallel()
	bgzip, err := exec.LookPath("bgzip")
	if err != nil {
		t.Log("bgzip is not installed; the tests above check the structure")
		return
	}
	content := text(1 << 20)
	name := filepath.Join(t.TempDir(), "f.gz")
	if err := os.WriteFile(name, compress(t, content, 2), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := exec.Command(bgzip, "-cd", name).Output()
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("bgzip read %d bytes: %v", len(got), err)
	}
	cmd := exec.Command(bgzip, "-c")
	cmd.Stdin = bytes.NewReader(content)
	theirs, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decompress(theirs); err != nil || !bytes.Equal(got, content) {
		t.Errorf("read %d bytes of bgzip's: %v", len(got), err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(compress(f, text(1000), 1))
	f.Add(compress(f, nil, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		content, err := decompress(b)
		if err == nil {
			if got, err := decompress(compress(t, content, 1)); err != nil || !bytes.Equal(got, content) {
				t.Errorf("round trip: %v", err)
			}
		}
	})
}

func BenchmarkReader(b *testing.B) {
	content := bytes.Repeat([]byte("0|0\t0|1\t0|0\t1|1\t./.\t0|0\t"), 1<<20)
	file := compress(b, content, 2)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		r := bgzf.NewReader(bytes.NewReader(file), 1)
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
