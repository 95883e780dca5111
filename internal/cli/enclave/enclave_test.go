package enclave_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/adyton-dev/adyton/internal/build"
	"github.com/adyton-dev/adyton/internal/cli/enclave"
	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/refusal"
)

// run runs a command line and gives its output.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := enclave.New()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run(t, args...)
	if err != nil {
		t.Fatalf("adyton enclave %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func testImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Entrypoint: []string{"/app"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	l := static.NewLayer(make([]byte, 1024), "application/vnd.oci.image.layer.v1.tar")
	if img, err = mutate.AppendLayers(img, l); err != nil {
		t.Fatal(err)
	}
	return img
}

// TestFromImageToVerifiedEnclave goes the way of a user, in a directory of its own.
func TestFromImageToVerifiedEnclave(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("ADYTON_INIT", filepath.Join(dir, "adyton-init"))
	t.Setenv("SOURCE_DATE_EPOCH", "1795564800")
	if err := os.WriteFile("adyton-init", []byte("init"), 0o755); err != nil {
		t.Fatal(err)
	}
	img := testImage(t)
	path, err := layout.Write("image", empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img); err != nil {
		t.Fatal(err)
	}

	if _, err := run(t, "measure"); err == nil || !strings.Contains(err.Error(), "adyton enclave init") {
		t.Errorf("no file: %v", err)
	}
	mustRun(t, "init", "--image", "oci:image", "--name", "demo")
	if _, err := run(t, "init", "--image", "oci:image"); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("init over a file: %v", err)
	}
	text, err := os.ReadFile("enclave.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `image: "oci:./image"`) {
		t.Errorf("enclave.yaml is\n%s", text)
	}
	for _, command := range []string{"sign", "init"} {
		if _, err := run(t, command); ui.ExitCode(err) != ui.ExitUsage {
			t.Errorf("%s without its flag: %v, want exit code %d", command, err, ui.ExitUsage)
		}
	}
	out := mustRun(t, "keygen", "key.pem")
	signer := regexp.MustCompile(`[0-9a-f]{64}`).FindString(out)
	if info, err := os.Stat("key.pem"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v", info.Mode(), err)
	}
	if _, err := run(t, "keygen", "key.pem"); err == nil {
		t.Error("a key is overwritten")
	}

	var measured struct{ MRENCLAVE string }
	decode(t, mustRun(t, "measure", "-o", "json"), &measured)
	if !strings.Contains(mustRun(t, "measure"), measured.MRENCLAVE) {
		t.Error("text and JSON differ")
	}
	if _, err := run(t, "verify", "oci:image"); refusal.Of(err) != refusal.SignatureMissing || ui.ExitCode(err) != ui.ExitRefused {
		t.Errorf("unsigned: %v, want SignatureMissing and exit code 3", err)
	}
	if _, err := run(t, "inspect", "oci:image"); refusal.Of(err) != refusal.SignatureMissing {
		t.Errorf("unsigned: %v, want SignatureMissing", err)
	}
	if _, err := run(t, "sign", "--key", "missing.pem"); err == nil || !strings.Contains(err.Error(), "adyton enclave keygen missing.pem") {
		t.Errorf("no key: %v", err)
	}
	mustRun(t, "sign", "--key", "key.pem")
	mustRun(t, "verify", "oci:image", "--signer", signer)
	mustRun(t, "verify", "oci:image", "-f", "enclave.yaml", "--name", "demo")
	if out := mustRun(t, "inspect", "oci:image"); !strings.Contains(out, measured.MRENCLAVE) || !strings.Contains(out, `["/app"]`) {
		t.Errorf("inspect gives\n%s", out)
	}
	var list []struct{ Name, MRENCLAVE, MRSIGNER, Signature, Date string }
	decode(t, mustRun(t, "inspect", "oci:image", "-o", "json"), &list)
	if len(list) != 1 || list[0].Name != "demo" || list[0].MRENCLAVE != measured.MRENCLAVE || list[0].MRSIGNER != signer || list[0].Signature != "valid" || list[0].Date != "20261125" {
		t.Errorf("inspect gives %+v", list)
	}

	refused := func(want refusal.Reason, part string, args ...string) {
		t.Helper()
		_, err := run(t, args...)
		if refusal.Of(err) != want || !strings.Contains(err.Error(), part) || ui.ExitCode(err) != ui.ExitRefused {
			t.Errorf("adyton enclave %s: %v, want %s: %s", strings.Join(args, " "), err, want, part)
		}
	}
	refused(refusal.SignerNotApproved, "", "verify", "oci:image", "--signer", strings.Repeat("0", 64))
	edited := strings.Replace(string(text), "threads: 4", "threads: 5", 1)
	if err := os.WriteFile("other.yaml", []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(refusal.MeasurementMismatch, "threads: signed 4, found 5", "verify", "oci:image", "-f", "other.yaml")
	if err := os.WriteFile("evil-init", []byte("evil"), 0o755); err != nil {
		t.Fatal(err)
	}
	refused(refusal.MeasurementMismatch, "init: signed ", "verify", "oci:image", "--init", "evil-init")

	// One byte of the layer.
	digest, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := digest[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join("image", "blobs", "sha256", hash.Hex)
	content, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-1] ^= 1
	if err := os.WriteFile(blob, content, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(refusal.MeasurementMismatch, "image: layer 1 of 1", "verify", "oci:image")
	refused(refusal.MeasurementMismatch, "image: layer 1 of 1", "sign", "--key", "key.pem")
}

func TestBundleForADockerArchive(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("ADYTON_INIT", filepath.Join(dir, "adyton-init"))
	if err := os.WriteFile("adyton-init", []byte("init"), 0o755); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("example/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile("app.tar", tag, testImage(t)); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "init", "--image", "docker-archive:app.tar", "--name", "demo")
	mustRun(t, "keygen", "key.pem")
	if _, err := run(t, "sign", "--key", "key.pem"); ui.ExitCode(err) != ui.ExitUsage || !strings.Contains(err.Error(), "--bundle") {
		t.Errorf("without --bundle: %v", err)
	}
	mustRun(t, "sign", "--key", "key.pem", "--bundle", "app.enclave")
	mustRun(t, "verify", "docker-archive:app.tar", "--bundle", "app.enclave")
	mustRun(t, "inspect", "--bundle", "app.enclave")
	if _, err := run(t, "inspect"); ui.ExitCode(err) != ui.ExitUsage {
		t.Errorf("inspect of nothing: %v", err)
	}
	if _, err := run(t, "verify", "docker-archive:app.tar", "--bundle", "app.enclave", "--name", "other"); err == nil {
		t.Error("the bundle of another name is accepted")
	}
	if err := os.WriteFile("app.enclave", []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "verify", "docker-archive:app.tar", "--bundle", "app.enclave"); err == nil || strings.ContainsRune(err.Error(), '\n') {
		t.Errorf("a broken bundle: %v", err)
	}
}

// TestTemplateIsValid reads the template with every comment of a field taken away.
func TestTemplateIsValid(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	path, err := layout.Write("image", empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(testImage(t)); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "init", "--image", "oci:image", "--name", "demo", "-f", "e.yaml")
	text, err := os.ReadFile("e.yaml")
	if err != nil {
		t.Fatal(err)
	}
	full := regexp.MustCompile(`(?m)^# ?((init|entrypoint|args|env|passEnv|user|workingDir|extProductID|familyID|broker|unlock):.*|  ?- \{.*)$`).ReplaceAllString(string(text), "$1")
	full = strings.ReplaceAll(full, "sha256:…", "sha256:"+strings.Repeat("ab", 32))
	c, err := build.ParseConfig("e.yaml", []byte(full))
	if err != nil {
		t.Fatalf("%v\n%s", err, full)
	}
	if c.Init == "" || len(c.Unlock) != 3 || c.Broker == nil || len(c.Mounts) != 2 {
		t.Errorf("the template has not every field: %+v\n%s", c, full)
	}
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
}
