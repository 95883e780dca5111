// Package launchtest makes signed images of a small program and a software TEE
// to run them on, for tests of whatever launches enclaves. The program is
// internal/sandbox/testdata/probe.
//
// It imports testing and builds programs, so nothing that ships may import it.
package launchtest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/adyton-dev/adyton/internal/build"
	"github.com/adyton-dev/adyton/internal/build/image"
	"github.com/adyton-dev/adyton/internal/sandbox"
	"github.com/adyton-dev/adyton/internal/softtee"
	"github.com/adyton-dev/adyton/sgx"
)

// Lab is what the tests of one package share; make it in TestMain.
type Lab struct {
	Init         string // adyton-init
	Installation *softtee.Installation
	Key          *rsa.PrivateKey // of the enclaves' owner
	probe        []byte
}

// New makes a lab in dir.
func New(dir string) (*Lab, error) {
	lab := &Lab{Init: filepath.Join(dir, build.InitName)}
	probe := filepath.Join(dir, "probe")
	for program, pkg := range map[string]string{lab.Init: "cmd/adyton-init", probe: "internal/sandbox/testdata/probe"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -buildid=", "-o", program, "github.com/adyton-dev/adyton/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w: %s", pkg, err, out)
		}
	}
	var err error
	if lab.probe, err = os.ReadFile(probe); err != nil {
		return nil, err
	}
	if lab.Key, err = sgx.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	lab.Installation, err = softtee.Create(filepath.Join(dir, "softtee"))
	return lab, err
}

// NeedEngine ends a test that cannot run the engine here: it fails under CI=true
// and is skipped elsewhere.
func NeedEngine(t testing.TB, kind sandbox.Kind) {
	t.Helper()
	tool := sandbox.Runsc()
	if kind == sandbox.None {
		tool = sandbox.Runc()
	}
	_, err := tool.Find()
	if err == nil && os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("needs root (user is %d) and %s: %v", os.Geteuid(), tool.Name, err)
	}
	t.Skipf("needs root and %s", tool.Name)
}

// Sign makes an Image, signs it as an enclave with the given lines in its
// enclave.yaml, and gives the image's reference.
func (l *Lab) Sign(t testing.TB, lines string) string {
	t.Helper()
	reference := l.Image(t)
	text := fmt.Sprintf("apiVersion: adyton.dev/v1alpha1\nkind: EnclaveBuild\nname: probe\nimage: %s\nproductID: 7\nsvn: 2\n%s\n", reference, lines)
	config, err := build.ParseConfig("enclave.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Open(t.Context(), reference, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.attach(t.Context(), config, img); err != nil {
		t.Fatal(err)
	}
	return reference
}

// Image makes an image of the probe program as /app, run by the user app (1234),
// and gives its reference.
func (l *Lab) Image(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	if err := l.writeImage(dir); err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir
}

func (l *Lab) attach(ctx context.Context, config *build.Config, img *image.Image) error {
	digest, err := build.DigestFile(l.Init)
	if err != nil {
		return err
	}
	d, err := build.Describe(ctx, config, img, digest)
	if err != nil {
		return err
	}
	now := time.Now()
	signed, err := build.Sign(d, l.Key, build.SignOptions{ProductID: config.ProductID, SVN: config.SVN, Debug: config.Debug, Date: now})
	if err != nil {
		return err
	}
	return build.Attach(ctx, img, signed, now)
}

func (l *Lab) writeImage(dir string) error {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for _, file := range []struct {
		name    string
		mode    int64
		content []byte
	}{
		{"app", 0o755, l.probe},
		{"plain", 0o644, []byte("not a program\n")},
		{"etc/passwd", 0o644, []byte("root:x:0:0::/root:/app\napp:x:1234:1234::/home/app:/app\n")},
	} {
		if err := w.WriteHeader(&tar.Header{Name: file.name, Mode: file.mode, Size: int64(len(file.content)), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		if _, err := w.Write(file.content); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	img, err = mutate.ConfigFile(img, withDefaults(img))
	if err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendImage(img)
}

// withDefaults is the image's configuration as a Dockerfile for the probe makes it.
func withDefaults(img v1.Image) *v1.ConfigFile {
	config, err := img.ConfigFile()
	if err != nil {
		config = &v1.ConfigFile{}
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config = v1.Config{Entrypoint: []string{"/app"}, User: "app", WorkingDir: "/work"}
	return config
}

// MRSIGNER is the signer of the enclaves, as policies name it.
func (l *Lab) MRSIGNER() (sgx.Measurement, error) {
	var s sgx.SigStruct
	if err := s.Sign(l.Key); err != nil {
		return sgx.Measurement{}, err
	}
	return s.MRSIGNER(), nil
}
