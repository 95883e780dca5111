package reference

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/bits"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gowebpki/jcs"

	"github.com/adyton-dev/adyton/data"
	"github.com/adyton-dev/adyton/internal/build/descriptor"
)

// TestSealedFormatPageSuffices opens sealed files by what sealed-format.md says.
func TestSealedFormatPageSuffices(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, data.SmallSegment - 56, data.SmallSegment - 55, 3*data.SmallSegment + 7} {
		kek, plain := make([]byte, 32), make([]byte, size)
		_, _ = rand.Read(kek)
		_, _ = rand.Read(plain)
		var file bytes.Buffer
		w, err := data.NewWriter(&file, kek, data.Header{Key: "kbs:///a/key/b", SegmentSize: data.SmallSegment})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := openByThePage(t, file.Bytes(), kek); !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: the page gives other content, %d bytes", size, len(got))
		}
	}
}

func openByThePage(t *testing.T, file, kek []byte) []byte {
	t.Helper()
	const magic = "adyton.dev/data/v1\n"
	if string(file[:19]) != magic {
		t.Fatalf("the file begins with %q", file[:19])
	}
	prefix := file[:23+binary.BigEndian.Uint32(file[19:])]
	var header struct {
		Key         string `json:"key"`
		Content     string `json:"content"`
		SegmentSize int    `json:"segmentSize"`
		WrappedKey  []byte `json:"wrappedKey"`
	}
	if err := json.Unmarshal(prefix[23:], &header); err != nil {
		t.Fatal(err)
	}
	if encoded, err := json.Marshal(header); err != nil || !bytes.Equal(encoded, prefix[23:]) {
		t.Errorf("the header is %s, the page says %s", prefix[23:], encoded)
	}
	dek, err := gcm(t, kek).Open(nil, header.WrappedKey[:12], header.WrappedKey[12:], []byte("adyton.dev/data/v1 key\x00"+header.Key))
	if err != nil {
		t.Fatal(err)
	}
	rest := file[len(prefix):]
	if rest[0] != 40 {
		t.Errorf("the byte behind the header is %d", rest[0])
	}
	salt, noncePrefix := rest[1:33], rest[33:40]
	key, err := hkdf.Key(sha256.New, dek, salt, string(prefix), 32)
	if err != nil {
		t.Fatal(err)
	}
	var content []byte
	for i, start := 0, 40; start < len(rest); i++ {
		end := min((i+1)*header.SegmentSize, len(rest))
		nonce := binary.BigEndian.AppendUint32(slices.Clone(noncePrefix), uint32(i))
		if end == len(rest) {
			nonce = append(nonce, 1)
		} else {
			nonce = append(nonce, 0)
		}
		if content, err = gcm(t, key).Open(content, nonce, rest[start:end], nil); err != nil {
			t.Fatalf("segment %d: %v", i, err)
		}
		start = end
	}
	return content
}

func gcm(t *testing.T, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// TestMeasurementPageSuffices computes an MRENCLAVE by what measurement.md says,
// with the parts in the order of its table.
func TestMeasurementPageSuffices(t *testing.T) {
	t.Parallel()
	d := &descriptor.Descriptor{
		APIVersion:       descriptor.Version,
		Name:             "page",
		Image:            descriptor.Image{Digest: "sha256:" + strings.Repeat("1a", 32), Platform: "linux/amd64"},
		Init:             "sha256:" + strings.Repeat("2b", 32),
		Arguments:        []string{"/app", "<&>", strings.Repeat("long ", 2000)},
		Environment:      map[string]string{"B": "2", "A": "1"},
		WorkingDirectory: "/",
		User:             "65532:65532",
		Mounts:           []descriptor.Mount{{Destination: "/data", Kind: descriptor.MountBind, ReadOnly: true}},
		Memory:           256 << 20,
		Threads:          3,
	}
	text, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	want, err := d.Measure()
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	if got := measureByThePage(t, members, d.Memory, d.Threads); got != want.String() {
		t.Errorf("the page gives MRENCLAVE %s, the code %s", got, want)
	}
}

func measureByThePage(t *testing.T, members map[string]json.RawMessage, memory uint64, threads uint32) string {
	t.Helper()
	const pageSize = 4096
	type enclavePage struct {
		flags   uint64
		content []byte
	}
	var pages []enclavePage
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| `(\\w+)` \\|").FindAllStringSubmatch(read(t, "measurement.md"), -1)
	if len(rows) != len(members) {
		t.Errorf("the page names %d parts, the descriptor has %d members", len(rows), len(members))
	}
	for _, row := range rows {
		value, err := jcs.Transform(members[row[2]])
		if err != nil {
			// JCS is for objects and arrays; a scalar of the descriptor is canonical as it stands.
			value = members[row[2]]
		}
		region := make([]byte, (64+len(value)+pageSize-1)/pageSize*pageSize)
		copy(region, "ADYTPART")
		binary.LittleEndian.PutUint64(region[8:], uint64(len(value)))
		copy(region[16:64], row[1])
		copy(region[64:], value)
		for content := range slices.Chunk(region, pageSize) {
			pages = append(pages, enclavePage{0x201, content})
		}
	}
	for range threads {
		tcs := make([]byte, pageSize)
		binary.LittleEndian.PutUint64(tcs[16:], uint64(len(pages)+1)*pageSize)
		binary.LittleEndian.PutUint32(tcs[28:], 1)
		pages = append(pages, enclavePage{0x100, tcs}, enclavePage{0x203, make([]byte, pageSize)})
	}

	digest := sha256.New()
	block := func(tag string, fill func(b []byte)) {
		b := make([]byte, 64)
		copy(b, tag)
		fill(b)
		digest.Write(b)
	}
	block("ECREATE\x00", func(b []byte) {
		binary.LittleEndian.PutUint32(b[8:], 1)
		binary.LittleEndian.PutUint64(b[12:], 1<<bits.Len64(uint64(len(pages))*pageSize+memory-1))
	})
	for i, p := range pages {
		offset := uint64(i) * pageSize
		block("EADD\x00\x00\x00\x00", func(b []byte) {
			binary.LittleEndian.PutUint64(b[8:], offset)
			binary.LittleEndian.PutUint64(b[16:], p.flags)
		})
		for at := uint64(0); at < pageSize; at += 256 {
			block("EEXTEND\x00", func(b []byte) { binary.LittleEndian.PutUint64(b[8:], offset+at) })
			digest.Write(p.content[at : at+256])
		}
	}
	return hex.EncodeToString(digest.Sum(nil))
}
