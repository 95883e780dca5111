package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"

	"github.com/adyton-dev/adyton/refusal"
)

// entry is one entry of a test layer.
type entry struct {
	tar.Header
	content string
}

func file(name, content string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content}
}

func dir(name string, mode int64) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode}, ""}
}

func symlink(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, ""}
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}, ""}
}

// archiveOf gives the tar of a layer.
func archiveOf(t testing.TB, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.content))
		e.Uid, e.Gid = os.Getuid(), os.Getgid()
		e.ModTime = time.Unix(1_700_000_000, 0)
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func imageOf(t testing.TB, layers ...[]entry) v1.Image {
	t.Helper()
	img, err := mutate.Config(empty.Image, v1.Config{Cmd: []string{"/app"}, User: "app"})
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	for _, entries := range layers {
		text := archiveOf(t, entries)
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil })
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

// layoutOf writes images to a layout directory, each tagged.
func layoutOf(t testing.TB, images map[string]v1.Image) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for tag, img := range images {
		if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{refName: tag})); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// openLayers opens an image of the layers from a layout.
func openLayers(t testing.TB, layers ...[]entry) *Image {
	t.Helper()
	img, err := Open(t.Context(), "oci:"+layoutOf(t, map[string]v1.Image{"latest": imageOf(t, layers...)}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// newRegistry starts a registry in memory and gives its host.
func newRegistry(t testing.TB, options ...registry.Option) string {
	t.Helper()
	options = append(options, registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(registry.New(options...))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func push(t testing.TB, reference string, img v1.Image) {
	t.Helper()
	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

var appLayers = [][]entry{
	{dir("etc/", 0o755), file("etc/passwd", "root:x:0:0::/:\n"), file("etc/group", "staff:x:50:\n"), file("app", "one")},
	{file("etc/passwd", "root:x:0:0::/:\napp:x:1000:1001::/:\n"), file("app", "two")},
}

func TestEverySourceGivesTheSameImage(t *testing.T) {
	t.Parallel()
	img := imageOf(t, appLayers...)
	archive := filepath.Join(t.TempDir(), "app.tar")
	tag, err := name.NewTag("example/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(archive, tag, img); err != nil {
		t.Fatal(err)
	}
	host := newRegistry(t)
	push(t, host+"/app:v1", img)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	dir := layoutOf(t, map[string]v1.Image{"v1": img, "other": imageOf(t)})
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{
		"oci:" + dir + ":v1",
		"oci:" + dir + "@" + digest.String(),
		"docker-archive:" + archive,
		"docker-archive:" + archive + ":v1",
		host + "/app:v1",
		host + "/app@" + digest.String(),
	} {
		t.Run(reference, func(t *testing.T) {
			t.Parallel()
			i, err := Open(t.Context(), reference, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if i.Digest() != id.String() || i.Platform() != "linux/amd64" {
				t.Errorf("digest is %s, platform %s, want %s and linux/amd64", i.Digest(), i.Platform(), id)
			}
			root := filepath.Join(t.TempDir(), "root")
			if err := i.Unpack(t.Context(), root, UnpackOptions{}); err != nil {
				t.Fatal(err)
			}
			if got := read(t, root, "app"); got != "two" {
				t.Errorf("/app is %q, want two", got)
			}
			if err := i.Verify(t.Context(), nil); err != nil {
				t.Error(err)
			}
			if user, err := i.ResolveUser(t.Context(), i.Config().User); err != nil || user != "1000:1001" {
				t.Errorf("user is %q, %v, want 1000:1001", user, err)
			}
		})
	}
}

func TestMultiPlatformIndexGivesTheAskedImage(t *testing.T) {
	t.Parallel()
	amd, arm := imageOf(t, []entry{file("a", "amd64")}), imageOf(t, []entry{file("a", "arm64")})
	config, err := arm.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture = "arm64"
	if arm, err = mutate.ConfigFile(arm, config); err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	host := newRegistry(t)
	ref, err := name.ParseReference(host + "/multi:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	nested := filepath.Join(t.TempDir(), "nested")
	path, err := layout.Write(nested, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendIndex(index); err != nil {
		t.Fatal(err)
	}
	for _, reference := range []string{host + "/multi:1", "oci:" + nested} {
		for platform, img := range map[string]v1.Image{"": amd, "linux/amd64": amd, "linux/arm64": arm} {
			want, err := img.ConfigName()
			if err != nil {
				t.Fatal(err)
			}
			got, err := Open(t.Context(), reference, Options{Platform: platform})
			if err != nil {
				t.Fatalf("%s for %q: %v", reference, platform, err)
			}
			if got.Digest() != want.String() {
				t.Errorf("%s for %q is another image", reference, platform)
			}
		}
		if _, err := Open(t.Context(), reference, Options{Platform: "linux/s390x"}); err == nil {
			t.Errorf("%s for s390x: no error", reference)
		}
	}
}

// TestTamperedBlobIsRefused changes one byte of each blob of a layout in turn.
func TestTamperedBlobIsRefused(t *testing.T) {
	t.Parallel()
	dir := layoutOf(t, map[string]v1.Image{"latest": imageOf(t, appLayers...)})
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil || len(blobs) != 4 {
		t.Fatalf("%d blobs, %v, want manifest, configuration and two layers", len(blobs), err)
	}
	layers := 0
	for _, blob := range blobs {
		genuine, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, 5, len(genuine) / 2, len(genuine) - 1} {
			tampered := bytes.Clone(genuine)
			tampered[at] ^= 1
			if err := os.WriteFile(blob, tampered, 0o644); err != nil {
				t.Fatal(err)
			}
			root := filepath.Join(t.TempDir(), "root")
			img, err := Open(t.Context(), "oci:"+dir, Options{})
			if err == nil {
				layers++
				err = img.Unpack(t.Context(), root, UnpackOptions{})
				if err != nil && !strings.Contains(err.Error(), "image: layer ") {
					t.Errorf("%q does not name the layer", err)
				}
			}
			if refusal.Of(err) != refusal.MeasurementMismatch {
				t.Errorf("blob %s changed at %d: %v, want MeasurementMismatch", filepath.Base(blob)[:8], at, err)
			}
			mustBeEmpty(t, filepath.Dir(root))
		}
		if err := os.WriteFile(blob, append(bytes.Clone(genuine), 0), 0o644); err != nil {
			t.Fatal(err)
		}
		img, err := Open(t.Context(), "oci:"+dir, Options{})
		if err == nil {
			err = img.Verify(t.Context(), nil)
		}
		if refusal.Of(err) != refusal.MeasurementMismatch {
			t.Errorf("a byte more: %v, want MeasurementMismatch", err)
		}
		if err := os.WriteFile(blob, genuine, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if layers != 8 {
		t.Errorf("%d changes were found while unpacking, want 8", layers)
	}
}

// TestWrongDiffIDIsRefused has a layer that its manifest names rightly and its
// configuration does not.
func TestWrongDiffIDIsRefused(t *testing.T) {
	t.Parallel()
	img := imageOf(t, appLayers...)
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.RootFS.DiffIDs[1] = config.RootFS.DiffIDs[0]
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	dir := layoutOf(t, map[string]v1.Image{"latest": img})
	manifest = manifest.DeepCopy()
	manifest.Config.Digest, manifest.Config.Size = digestOf(raw), int64(len(raw))
	text, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	path := layout.Path(dir)
	for _, b := range [][]byte{raw, text} {
		if err := path.WriteBlob(digestOf(b), io.NopCloser(bytes.NewReader(b))); err != nil {
			t.Fatal(err)
		}
	}
	if err := path.AppendDescriptor(v1.Descriptor{MediaType: manifest.MediaType, Digest: digestOf(text), Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	i, err := Open(t.Context(), "oci:"+dir+"@"+digestOf(text).String(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = i.Unpack(t.Context(), filepath.Join(t.TempDir(), "root"), UnpackOptions{})
	if refusal.Of(err) != refusal.MeasurementMismatch || !strings.Contains(err.Error(), "layer 2 of 2") {
		t.Errorf("%v, want MeasurementMismatch of layer 2", err)
	}
}

func TestTamperedArchiveIsRefused(t *testing.T) {
	t.Parallel()
	img := imageOf(t, []entry{file("app", "genuine application")})
	archive := filepath.Join(t.TempDir(), "app.tar")
	tag, err := name.NewTag("example/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(archive, tag, img); err != nil {
		t.Fatal(err)
	}
	// Exchange the layer's file for one with other content.
	in, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var out bytes.Buffer
	r, w := tar.NewReader(in), tar.NewWriter(&out)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(h.Name, ".tar.gz") {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			if _, err := z.Write(archiveOf(t, []entry{file("app", "tampered application")})); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			content, h.Size = b.Bytes(), int64(b.Len())
		}
		if err := errors.Join(w.WriteHeader(h), writeAll(w, content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(archive, out.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
	i, err := Open(t.Context(), "docker-archive:"+archive, Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = i.Unpack(t.Context(), filepath.Join(t.TempDir(), "root"), UnpackOptions{})
	if refusal.Of(err) != refusal.MeasurementMismatch {
		t.Errorf("%v, want MeasurementMismatch", err)
	}
}

func writeAll(w io.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}

func TestLayersMayBeZstdOrPlain(t *testing.T) {
	t.Parallel()
	text := archiveOf(t, []entry{file("app", "content")})
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, blob := range map[string][]byte{"plain": text, "zstd": encoder.EncodeAll(text, nil)} {
		l := layer{digest: digestOf(blob), size: int64(len(blob)), open: opener(blob)}
		var got bytes.Buffer
		err := l.use(t.Context(), digestOf(text), &meter{}, func(r io.Reader) error {
			_, err := got.ReadFrom(r)
			return err
		})
		if err != nil || !bytes.Equal(got.Bytes(), text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnpackAppliesLayersInOrder(t *testing.T) {
	t.Parallel()
	img := openLayers(t,
		[]entry{
			dir("a/", 0o755), file("a/kept", "1"), file("a/removed", "1"), file("a/replaced", "1"),
			dir("opaque/", 0o755), file("opaque/lower", "1"), dir("opaque/sub/", 0o755), file("opaque/sub/lower", "1"),
			dir("ro/", 0o555), file("dir-to-file/x", "1"), file("file-to-dir", "1"),
			symlink("var/run", "/run"), dir("run/", 0o755), symlink("link", "a/kept"),
		},
		[]entry{
			file("a/.wh.removed", ""), file("a/replaced", "2"),
			// The marker comes after an entry of its own layer, which stays.
			file("opaque/upper", "2"), file("opaque/sub/upper", "2"), file("opaque/.wh..wh..opq", ""),
			file("ro/new", "2"), file("dir-to-file", "2"), dir("file-to-dir/", 0o700),
			file("var/run/pid", "2"), hardlink("a/hard", "a/kept"), file("link", "2"), file(".wh.nothing", ""),
			{tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, ""},
			{tar.Header{Name: "suid", Typeflag: tar.TypeReg, Mode: 0o6755}, "x"},
			dir("./", 0o711),
		},
	)
	root := filepath.Join(t.TempDir(), "root")
	if err := img.Unpack(t.Context(), root, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := info.Mode().String() + " " + strings.TrimPrefix(path, root)
		switch {
		case info.Mode().IsRegular():
			line += " " + read(t, path, "")
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		got = append(got, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"drwx--x--x ",
		"drwxr-xr-x /a", "-rw-r--r-- /a/hard 1", "-rw-r--r-- /a/kept 1", "-rw-r--r-- /a/replaced 2",
		"-rw-r--r-- /dir-to-file 2", "drwx------ /file-to-dir", "-rw-r--r-- /link 2",
		"drwxr-xr-x /opaque", "drwxr-xr-x /opaque/sub", "-rw-r--r-- /opaque/sub/upper 2", "-rw-r--r-- /opaque/upper 2",
		"dr-xr-xr-x /ro", "-rw-r--r-- /ro/new 2", "drwxr-xr-x /run", "-rw-r--r-- /run/pid 2",
		"-rwxr-xr-x /suid x", "drwxr-xr-x /var", "Lrwxrwxrwx /var/run -> /run",
	}
	if os.Geteuid() != 0 {
		want[slices.Index(want, "dr-xr-xr-x /ro")] = "drwxr-xr-x /ro"
	}
	if !slices.Equal(got, want) {
		t.Errorf("unpacked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	info, err := os.Stat(filepath.Join(root, "a"))
	if err != nil || info.ModTime().Unix() != 1_700_000_000 {
		t.Errorf("time of a directory is %v, %v", info.ModTime(), err)
	}
}

func TestUnpackStaysInItsDirectory(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 30)
	for name, c := range map[string]struct {
		entries []entry
		refused bool
	}{
		"dot-dot name":                   {[]entry{file("../../evil", "x")}, true},
		"dot-dot inside a name":          {[]entry{file("a/../../evil", "x")}, true},
		"absolute name stays inside":     {[]entry{file(outside+"/evil", "x")}, false},
		"dot-dot whiteout":               {[]entry{file("../.wh.victim", "")}, true},
		"whiteout of dot-dot":            {[]entry{file("a/.wh...", "")}, true},
		"whiteout of nothing":            {[]entry{file(".wh.", "")}, true},
		"file through absolute symlink":  {[]entry{symlink("a", outside), file("a/victim", "x")}, false},
		"file through relative symlink":  {[]entry{symlink("a", up+outside), file("a/victim", "x")}, false},
		"file over a symlink":            {[]entry{symlink("a", victim), file("a", "x")}, false},
		"directory over a symlink":       {[]entry{symlink("a", outside), dir("a", 0o777), file("a/victim", "x")}, false},
		"whiteout through a symlink":     {[]entry{symlink("a", outside), file("a/.wh.victim", "")}, false},
		"opaque through a symlink":       {[]entry{symlink("a", outside), file("a/.wh..wh..opq", "")}, false},
		"hard link to an absolute path":  {[]entry{hardlink("a", victim)}, true},
		"hard link by dot-dot":           {[]entry{hardlink("a", up+victim)}, true},
		"hard link through a symlink":    {[]entry{symlink("s", outside), hardlink("a", "s/victim")}, true},
		"hard link to a symlink, opened": {[]entry{symlink("s", victim), hardlink("a", "s"), file("a", "x")}, false},
		"hard link to a directory":       {[]entry{dir("d", 0o755), hardlink("a", "d")}, true},
		"symlink loop":                   {[]entry{symlink("a", "b"), symlink("b", "a"), file("a/x", "x")}, true},
		"file below a file":              {[]entry{file("a", "x"), file("a/b", "x")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := t.TempDir()
			root := filepath.Join(base, "root")
			err := openLayers(t, c.entries).Unpack(t.Context(), root, UnpackOptions{})
			if (err != nil) != c.refused {
				t.Errorf("error is %v", err)
			}
			if err != nil {
				mustBeEmpty(t, base)
			}
			if read(t, victim, "") != "untouched" {
				t.Error("a file outside was changed")
			}
			mustHave(t, outside, 1)
		})
	}
}

func TestUnpackIsBounded(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	img := openLayers(t, []entry{file("a", strings.Repeat("x", 600))}, []entry{file("a", strings.Repeat("y", 600))})
	err := img.Unpack(t.Context(), filepath.Join(base, "root"), UnpackOptions{MaxBytes: 1000})
	if err == nil || !strings.Contains(err.Error(), "larger unpacked than is allowed") {
		t.Errorf("1200 bytes where 1000 are allowed: %v", err)
	}
	mustBeEmpty(t, base)
}

// TestHugeSparseFileIsRefused has an entry of few bytes that declares a terabyte.
func TestHugeSparseFileIsRefused(t *testing.T) {
	t.Parallel()
	// PAX 1.0 sparse: the map in the data says one empty fragment at the end.
	content := "1\n1099511627776\n0\n"
	content += strings.Repeat("\x00", 512-len(content))
	pax := ""
	for _, record := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=huge", "GNU.sparse.realsize=1099511627776"} {
		n := len(record) + 2
		for n != len(record)+2+len(fmt.Sprint(n)) {
			n = len(record) + 2 + len(fmt.Sprint(n))
		}
		pax += fmt.Sprintf("%d %s\n", n, record)
	}
	text := rawEntry('x', "PaxHeaders.0/huge", pax)
	text = append(text, rawEntry('0', "GNUSparseFile.0/huge", content)...)
	text = append(text, make([]byte, 1024)...)
	tr, err := newTree(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	if err := tr.apply(bytes.NewReader(text)); err == nil || !strings.Contains(err.Error(), "larger unpacked than is allowed") {
		t.Errorf("%v, want a refusal by size", err)
	}
}

// rawEntry writes a ustar entry by hand, as archive/tar writes no sparse files.
func rawEntry(kind byte, name, content string) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00        ", len(content), 0))
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, v := range b {
		sum += int(v)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(b, append([]byte(content), make([]byte, (512-len(content)%512)%512)...)...)
}

func TestUnpackRefusesADirectoryThatExists(t *testing.T) {
	t.Parallel()
	if err := openLayers(t).Unpack(t.Context(), t.TempDir(), UnpackOptions{}); err == nil {
		t.Error("no error")
	}
}

func TestUnpackEndsWithItsContext(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	img := openLayers(t, appLayers...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := img.Unpack(ctx, filepath.Join(base, "root"), UnpackOptions{}); !errors.Is(err, ctx.Err()) {
		t.Errorf("%v, want %v", err, ctx.Err())
	}
	mustBeEmpty(t, base)
}

func TestProgressReachesTheSum(t *testing.T) {
	t.Parallel()
	img := openLayers(t, appLayers...)
	var read, total int64
	if err := img.Verify(t.Context(), func(r, n int64) { read, total = r, n }); err != nil {
		t.Fatal(err)
	}
	if total == 0 || read != total {
		t.Errorf("read %d of %d", read, total)
	}
}

func TestArtifactsReferToTheirImage(t *testing.T) {
	t.Parallel()
	img, other := imageOf(t, appLayers...), imageOf(t)
	dir := layoutOf(t, map[string]v1.Image{"v1": img, "other": other})
	references := map[string]string{"oci:" + dir + ":v1": "oci:" + dir + ":other"}
	for _, api := range []bool{true, false} {
		host := newRegistry(t, registry.WithReferrersSupport(api))
		push(t, host+"/app:v1", img)
		push(t, host+"/app:other", other)
		references[host+"/app:v1"] = host + "/app:other"
	}
	for reference, otherReference := range references {
		t.Run(reference, func(t *testing.T) {
			t.Parallel()
			open := func(reference string) *Image {
				t.Helper()
				i, err := Open(t.Context(), reference, Options{})
				if err != nil {
					t.Fatal(err)
				}
				return i
			}
			for _, a := range []Artifact{
				{Type: "application/x+json", Config: []byte(`{"n":1}`), Layers: []Blob{{"application/y", []byte("first")}}, Annotations: map[string]string{"name": "a"}},
				{Type: "application/x+json", Config: []byte(`{"n":2}`), Layers: []Blob{{"application/y", []byte("b")}}, Annotations: map[string]string{"name": "b"}},
				{Type: "application/x+json", Config: []byte(`{"n":3}`), Layers: []Blob{{"application/y", []byte("second")}}, Annotations: map[string]string{"name": "a"}},
			} {
				err := open(reference).Attach(t.Context(), a, func(old Artifact) bool { return old.Annotations["name"] == a.Annotations["name"] })
				if err != nil {
					t.Fatal(err)
				}
			}
			list, err := open(reference).Artifacts(t.Context(), "application/x+json")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range list {
				got = append(got, a.Annotations["name"]+" "+string(a.Config)+" "+string(a.Layers[0].Data))
			}
			slices.Sort(got)
			want := []string{`a {"n":3} second`, `b {"n":2} b`}
			if !strings.HasPrefix(reference, "oci:") {
				want = slices.Insert(want, 0, `a {"n":1} first`) // a registry keeps it
			}
			if !slices.Equal(got, want) {
				t.Errorf("artifacts are %q, want %q", got, want)
			}
			for what, i := range map[string]*Image{"another image": open(otherReference)} {
				if list, err := i.Artifacts(t.Context(), "application/x+json"); err != nil || len(list) != 0 {
					t.Errorf("%s has %d artifacts, %v", what, len(list), err)
				}
			}
			if list, err := open(reference).Artifacts(t.Context(), "application/z"); err != nil || len(list) != 0 {
				t.Errorf("%d artifacts of another type, %v", len(list), err)
			}
		})
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := layoutOf(t, map[string]v1.Image{"a": imageOf(t), "b": imageOf(t, []entry{file("x", "")})})
	host := newRegistry(t)
	for reference, want := range map[string]string{
		"oci:" + dir + "/missing":     "is not an OCI image layout directory",
		"oci:" + dir:                  "name one by :TAG or @sha256:",
		"oci:" + dir + ":c":           "there is no such image",
		"docker-archive:/nonexistent": "no such file",
		"UPPER CASE":                  "neither oci:DIR, docker-archive:FILE nor a registry",
		host + "/missing:v1":          "NAME_UNKNOWN",
	} {
		_, err := Open(t.Context(), reference, Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", reference, err, want)
		}
	}
	if _, err := Open(t.Context(), "oci:"+dir+":a", Options{Platform: "linux/arm64"}); err == nil || !strings.Contains(err.Error(), "it is for linux/amd64") {
		t.Errorf("wrong platform: %v", err)
	}
}

// FuzzApply applies arbitrary layers: whatever happens, it happens inside.
func FuzzApply(f *testing.F) {
	f.Add(archiveOf(f, slices.Concat(appLayers...)))
	f.Add(archiveOf(f, []entry{symlink("a", "/"), file("a/b", "x"), hardlink("c", "a/b"), file("a/.wh.b", "")}))
	f.Fuzz(func(t *testing.T, layer []byte) {
		base := t.TempDir()
		root := filepath.Join(base, "root")
		if err := os.Mkdir(root, 0o700); err != nil {
			t.Fatal(err)
		}
		tr, err := newTree(root, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer tr.close()
		if err := tr.apply(bytes.NewReader(layer)); err == nil {
			_ = tr.finish()
		}
		mustHave(t, base, 1)
	})
}

func opener(b []byte) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

func read(t testing.TB, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func mustBeEmpty(t testing.TB, dir string) {
	t.Helper()
	mustHave(t, dir, 0)
}

func mustHave(t testing.TB, dir string, n int) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, syscall.ENOENT) {
		t.Fatal(err)
	}
	if len(list) != n {
		t.Errorf("%s has %v, want %d entries", dir, list, n)
	}
}
