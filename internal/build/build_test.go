package build_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/adyton-dev/adyton/internal/build"
	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/internal/build/image"
	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

// signingKey makes one key for all tests, as making one takes seconds.
var signingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return sgx.GenerateKey(rand.Reader) })

func testKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var initDigest = "sha256:" + strings.Repeat("2b", 32)

// testImage is the same image always.
func testImage(t testing.TB) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: "amd64",
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: []string{"/entry"}, Cmd: []string{"cmd"},
			Env: []string{"PATH=/bin", "MODE=dev"}, User: "7:8", WorkingDir: "/srv/",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	// A tar without entries.
	l := static.NewLayer(make([]byte, 1024), "application/vnd.docker.image.rootfs.diff.tar")
	if img, err = mutate.AppendLayers(img, l); err != nil {
		t.Fatal(err)
	}
	return img
}

func layoutOf(t testing.TB, img v1.Image) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	return dir
}

func openImage(t testing.TB, reference string) *image.Image {
	t.Helper()
	img, err := image.Open(t.Context(), reference, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func newRegistry(t testing.TB, options ...registry.Option) string {
	t.Helper()
	server := httptest.NewServer(registry.New(append(options, registry.Logger(log.New(io.Discard, "", 0)))...))
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

func parse(t testing.TB, text string) *build.Config {
	t.Helper()
	c, err := build.ParseConfig("enclave.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func describe(t testing.TB, c *build.Config, img *image.Image) *descriptor.Descriptor {
	t.Helper()
	d, err := build.Describe(t.Context(), c, img, initDigest)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const head = "apiVersion: adyton.dev/v1alpha1\nkind: EnclaveBuild\nname: test\nimage: oci:image\n"

// TestGoldenMRENCLAVEFromEverySource measures full.yaml with testImage, which gives
// the same on every machine.
func TestGoldenMRENCLAVEFromEverySource(t *testing.T) {
	t.Parallel()
	img := testImage(t)
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
	golden := filepath.Join("testdata", "mrenclave.golden")
	for _, reference := range []string{"oci:" + layoutOf(t, img), "docker-archive:" + archive, host + "/app:v1"} {
		m, err := describe(t, parse(t, fullYAML(t)), openImage(t, reference)).Measure()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(golden, []byte(m.String()+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if m.String() != strings.TrimSpace(string(want)) {
			t.Errorf("MRENCLAVE from %s is %s, want %s", reference, m, want)
		}
	}
}

func TestDescribeMergesAsContainersDo(t *testing.T) {
	t.Parallel()
	img := openImage(t, "oci:"+layoutOf(t, testImage(t)))
	for _, c := range []struct {
		yaml, arguments, user, dir, mode string
	}{
		{"", "/entry cmd", "7:8", "/srv", "dev"},
		{"args: [a, b]\n", "/entry a b", "7:8", "/srv", "dev"},
		{"args: []\n", "/entry", "7:8", "/srv", "dev"},
		{"entrypoint: [/x]\n", "/x", "7:8", "/srv", "dev"},
		{"entrypoint: [/x]\nargs: [y]\nenv: {MODE: prod}\nuser: \"1:2\"\nworkingDir: /w\n", "/x y", "1:2", "/w", "prod"},
	} {
		d := describe(t, parse(t, head+c.yaml), img)
		if got := strings.Join(d.Arguments, " "); got != c.arguments || d.User != c.user || d.WorkingDirectory != c.dir || d.Environment["MODE"] != c.mode || d.Environment["PATH"] != "/bin" {
			t.Errorf("%q gives %+v", c.yaml, d)
		}
	}
}

func TestInitMustBeTheNamedOne(t *testing.T) {
	t.Parallel()
	img := openImage(t, "oci:"+layoutOf(t, testImage(t)))
	named := parse(t, head+"init: "+initDigest+"\n")
	if d, err := build.Describe(t.Context(), named, img, ""); err != nil || d.Init != initDigest {
		t.Errorf("named only: %v", err)
	}
	if _, err := build.Describe(t.Context(), named, img, "sha256:"+strings.Repeat("00", 32)); refusal.Of(err) != refusal.MeasurementMismatch {
		t.Errorf("another init: %v, want MeasurementMismatch", err)
	}
	if _, err := build.Describe(t.Context(), parse(t, head), img, ""); err == nil {
		t.Error("no init at all: no error")
	}
}

func sign(t testing.TB, c *build.Config, img *image.Image, date time.Time) *build.Signed {
	t.Helper()
	o := c.SignOptions()
	o.Date = date
	s, err := build.Sign(describe(t, c, img), testKey(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var day = time.Date(2026, 11, 24, 23, 59, 0, 0, time.UTC)

func TestSIGSTRUCTSaysWhatTheConfigSays(t *testing.T) {
	t.Parallel()
	img := openImage(t, "oci:"+layoutOf(t, testImage(t)))
	s := sign(t, parse(t, fullYAML(t)), img, day)
	q := s.SigStruct
	if q.ISVProdID != 7 || q.ISVSVN != 2 || q.Date != 0x20261124 || q.ISVExtProdID[1] != 1 || q.ISVFamilyID[0] != 0xf0 {
		t.Errorf("SIGSTRUCT is %+v", q)
	}
	if q.DebugAllowed() || s.Debug() {
		t.Error("debug is allowed")
	}
	if err := s.Check(s.Descriptor.Clone()); err != nil {
		t.Error(err)
	}
	again := sign(t, parse(t, fullYAML(t)), img, day)
	if *again.SigStruct != *q {
		t.Error("signing again gives other bytes")
	}
	debug := sign(t, parse(t, head+"debug: true\n"), img, day)
	if !debug.Debug() || debug.Verify() != nil {
		t.Error("a debug enclave is not one")
	}
	if _, err := build.Sign(s.Descriptor, testKey(t), build.SignOptions{}); err == nil {
		t.Error("signed without a date")
	}
}

func TestForgedSignatureIsInvalid(t *testing.T) {
	t.Parallel()
	img := openImage(t, "oci:"+layoutOf(t, testImage(t)))
	for name, forge := range map[string]func(*build.Signed){
		"signature":  func(s *build.Signed) { s.SigStruct.Signature[5] ^= 1 },
		"SVN":        func(s *build.Signed) { s.SigStruct.ISVSVN++ },
		"debug":      func(s *build.Signed) { s.SigStruct.Attributes.Flags |= sgx.AttributeDebug },
		"mask":       func(s *build.Signed) { s.SigStruct.AttributeMask.Flags = 0 },
		"descriptor": func(s *build.Signed) { s.Descriptor.Arguments[0] = "/evil" },
		"measurement": func(s *build.Signed) {
			s.Descriptor.Arguments[0] = "/evil"
			m, err := s.Descriptor.Measure()
			if err != nil {
				t.Fatal(err)
			}
			s.SigStruct.EnclaveHash = m
		},
		"attributes, signed": func(s *build.Signed) {
			s.SigStruct.Attributes.Flags |= sgx.AttributeProvisionKey
			if err := s.SigStruct.Sign(testKey(t)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		s := sign(t, parse(t, head), img, day)
		forge(s)
		if err := s.Check(s.Descriptor.Clone()); refusal.Of(err) != refusal.SignatureInvalid {
			t.Errorf("%s: %v, want SignatureInvalid", name, err)
		}
	}
}

func TestCheckNamesThePartThatDiffers(t *testing.T) {
	t.Parallel()
	img := openImage(t, "oci:"+layoutOf(t, testImage(t)))
	s := sign(t, parse(t, head), img, day)
	actual := s.Descriptor.Clone()
	actual.Environment["MODE"] = "evil"
	err := s.Check(actual)
	if refusal.Of(err) != refusal.MeasurementMismatch || !strings.Contains(err.Error(), "environment: signed ") {
		t.Errorf("%v, want MeasurementMismatch of the environment", err)
	}
}

func TestBundleRoundTrip(t *testing.T) {
	t.Parallel()
	s := sign(t, parse(t, fullYAML(t)), openImage(t, "oci:"+layoutOf(t, testImage(t))), day)
	text, err := s.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	got, err := build.ParseBundle(bytes.NewReader(append(text, '\n')))
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Check(s.Descriptor); err != nil {
		t.Error(err)
	}
	if *got.SigStruct != *s.SigStruct {
		t.Error("SIGSTRUCT changed")
	}
	if _, err := build.ParseBundle(strings.NewReader(strings.Repeat(" ", build.MaxBundle+1))); err == nil {
		t.Error("a bundle that is too long is accepted")
	}
}

func FuzzParseBundle(f *testing.F) {
	f.Add([]byte(`{"descriptor":{},"mediaType":"` + build.BundleType + `","sigstruct":""}`))
	s := sign(f, parse(f, fullYAML(f)), openImage(f, "oci:"+layoutOf(f, testImage(f))), day)
	text, err := s.Bundle()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := build.ParseBundle(bytes.NewReader(text))
		if err != nil {
			return
		}
		if _, err := s.Bundle(); err != nil {
			t.Errorf("%q is accepted but cannot be written: %v", text, err)
		}
	})
}

func TestSignedEnclavesTravelWithTheirImage(t *testing.T) {
	t.Parallel()
	img := testImage(t)
	modern, old := newRegistry(t, registry.WithReferrersSupport(true)), newRegistry(t)
	push(t, modern+"/app:v1", img)
	push(t, old+"/app:v1", img)
	for _, reference := range []string{"oci:" + layoutOf(t, img), modern + "/app:v1", old + "/app:v1"} {
		t.Run(reference, func(t *testing.T) {
			t.Parallel()
			target := openImage(t, reference)
			find := func(q build.Query) (*build.Signed, error) { return build.Find(t.Context(), openImage(t, reference), q) }
			if _, err := find(build.Query{}); refusal.Of(err) != refusal.SignatureMissing {
				t.Errorf("unsigned: %v, want SignatureMissing", err)
			}
			attach := func(yaml string, date time.Time) {
				t.Helper()
				if err := build.Attach(t.Context(), target, sign(t, parse(t, yaml), target, date), date); err != nil {
					t.Fatal(err)
				}
			}
			attach(head+"svn: 1\n", day)
			s, err := find(build.Query{})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Check(describe(t, parse(t, head), openImage(t, reference))); err != nil {
				t.Error(err)
			}
			// Signed again, it is replaced.
			attach(head+"svn: 2\n", day)
			if s, err = find(build.Query{Name: "test"}); err != nil || s.SigStruct.ISVSVN != 2 {
				t.Errorf("after signing again: %v", err)
			}
			if all, err := build.List(t.Context(), openImage(t, reference)); strings.HasPrefix(reference, "oci:") && len(all) != 1 {
				t.Errorf("%d enclaves after signing again, %v, want 1", len(all), err)
			}
			// A second name is a second enclave.
			attach(strings.Replace(head, "name: test", "name: other", 1), day)
			if _, err = find(build.Query{}); err == nil || refusal.Of(err) != "" || !strings.Contains(err.Error(), "other, test") {
				t.Errorf("two names and none asked for: %v", err)
			}
			if s, err = find(build.Query{Name: "other"}); err != nil || s.Descriptor.Name != "other" {
				t.Errorf("by name: %v", err)
			}
			signer := s.SigStruct.MRSIGNER()
			if _, err = find(build.Query{Name: "test", Signer: &signer}); err != nil {
				t.Errorf("by signer: %v", err)
			}
			signer[0] ^= 1
			if _, err = find(build.Query{Name: "test", Signer: &signer}); refusal.Of(err) != refusal.SignatureMissing {
				t.Errorf("by another signer: %v, want SignatureMissing", err)
			}
		})
	}
}

// TestNewestSignatureCounts keeps all signatures, as a registry does.
func TestNewestSignatureCounts(t *testing.T) {
	t.Parallel()
	reference := "oci:" + layoutOf(t, testImage(t))
	img := openImage(t, reference)
	for _, c := range []struct {
		svn  string
		date time.Time
	}{{"3", day.AddDate(0, 0, -1)}, {"1", day}, {"2", day}} {
		s := sign(t, parse(t, head+"svn: "+c.svn+"\n"), img, c.date)
		text, err := s.Descriptor.JSON()
		if err != nil {
			t.Fatal(err)
		}
		err = img.Attach(t.Context(), image.Artifact{
			Type: build.ArtifactType, Config: text,
			Layers: []image.Blob{{MediaType: build.SigStructType, Data: s.SigStruct.Bytes()}},
		}, func(image.Artifact) bool { return false })
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := build.Find(t.Context(), openImage(t, reference), build.Query{})
	if err != nil || s.SigStruct.ISVSVN != 2 {
		t.Errorf("SVN is %v, %v, want 2 of the latest date", s, err)
	}
}

func TestFindInit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "init")
	t.Setenv("ADYTON_INIT", path)
	if _, err := build.FindInit(); err == nil {
		t.Error("an init that does not exist is found")
	}
	if err := os.WriteFile(path, []byte("init"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := build.FindInit(); err != nil || got != path {
		t.Errorf("FindInit gives %q, %v", got, err)
	}
	sum := sha256.Sum256([]byte("init"))
	if got, err := build.DigestFile(path); err != nil || got != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Errorf("DigestFile gives %q, %v", got, err)
	}
	t.Setenv("ADYTON_INIT", "")
	if _, err := build.FindInit(); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("beside the test: %v", err)
	}
}
