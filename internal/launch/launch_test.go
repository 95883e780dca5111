package launch_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/internal/build"
	"github.com/adyton-dev/adyton/internal/build/image"
	"github.com/adyton-dev/adyton/internal/launch"
	"github.com/adyton-dev/adyton/internal/launch/launchtest"
	"github.com/adyton-dev/adyton/internal/sandbox"
	"github.com/adyton-dev/adyton/internal/softtee"
	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

var lab *launchtest.Lab

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "adyton-launch-test-")
		if err == nil {
			defer os.RemoveAll(dir)
			lab, err = launchtest.New(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

func platform(t *testing.T) *softtee.Platform {
	t.Helper()
	p, err := lab.Installation.Platform(softtee.DefaultPlatform)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// signed gives an image and its signed enclave.
func signed(t *testing.T, lines string) (*image.Image, *build.Signed) {
	t.Helper()
	img, err := image.Open(t.Context(), lab.Sign(t, lines), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := build.Find(t.Context(), img, build.Query{})
	if err != nil {
		t.Fatal(err)
	}
	return img, s
}

// asSigned is found when nothing was changed.
func asSigned(s *build.Signed) launch.Found {
	return launch.Found{Image: s.Descriptor.Image, Init: s.Descriptor.Init}
}

func TestInitRefusesWhatIsNotAsSignedAndNamesThePart(t *testing.T) {
	t.Parallel()
	_, s := signed(t, "args: [one]\nenv: {A: b}\npassEnv: [LOG_LEVEL]")
	other := "sha256:" + strings.Repeat("ab", 32)
	p := platform(t)
	for _, tc := range []struct {
		part   string
		change func(*launch.Found)
	}{
		{"image", func(f *launch.Found) { f.Image.Digest = other }},
		{"image", func(f *launch.Found) { f.Image.Platform = "linux/arm64" }},
		{"init", func(f *launch.Found) { f.Init = other }},
		{"arguments", func(f *launch.Found) { f.Arguments = []string{"two"} }},
		{"arguments", func(f *launch.Found) { f.Arguments = []string{} }},
		{"environment", func(f *launch.Found) { f.Environment = map[string]string{"A": "c"} }},
		{"environment", func(f *launch.Found) { f.Environment = map[string]string{"B": "c"} }},
	} {
		found := asSigned(s)
		tc.change(&found)
		_, err := launch.Init(p, s, found, nil)
		if refusal.Of(err) != refusal.MeasurementMismatch || !strings.Contains(err.Error(), tc.part+": ") {
			t.Errorf("%s changed: %v", tc.part, err)
		}
	}
}

func TestInitRefusesAForgedSignature(t *testing.T) {
	t.Parallel()
	p := platform(t)
	for name, tc := range map[string]struct {
		forge func(*sgx.SigStruct)
		want  refusal.Reason
	}{
		"SVN raised":        {func(s *sgx.SigStruct) { s.ISVSVN++ }, refusal.SignatureInvalid},
		"debug switched on": {func(s *sgx.SigStruct) { s.Attributes.Flags |= sgx.AttributeDebug }, refusal.SignatureInvalid},
		"provisioning key asked for": {func(s *sgx.SigStruct) {
			s.Attributes.Flags |= sgx.AttributeProvisionKey
			if err := s.Sign(lab.Key); err != nil {
				t.Fatal(err)
			}
		}, refusal.SignatureInvalid},
	} {
		_, s := signed(t, "")
		tc.forge(s.SigStruct)
		if _, err := launch.Init(p, s, asSigned(s), nil); refusal.Of(err) != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}

func TestPassedEnvironmentIsNotMeasured(t *testing.T) {
	t.Parallel()
	_, s := signed(t, "passEnv: [LOG_LEVEL]")
	found := asSigned(s)
	found.Environment = map[string]string{"LOG_LEVEL": "debug"}
	e, err := launch.Init(platform(t), s, found, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Identity().MRENCLAVE; got != s.SigStruct.EnclaveHash {
		t.Errorf("MRENCLAVE %s, signed %s", got, s.SigStruct.EnclaveHash)
	}
	if len(e.PassedEnv) != 1 || e.PassedEnv[0] != "LOG_LEVEL=debug" {
		t.Errorf("passed %q", e.PassedEnv)
	}
}

func TestConfigIDBindsTheInitData(t *testing.T) {
	t.Parallel()
	_, s := signed(t, "")
	p := platform(t)
	for _, kind := range []sandbox.Kind{sandbox.GVisor, sandbox.None} {
		document, err := launch.InitData(kind, sandbox.NetworkNone)
		if err != nil {
			t.Fatal(err)
		}
		e, err := launch.Init(p, s, asSigned(s), document)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := appraise.ParseInitData(document)
		if err != nil {
			t.Fatal(err)
		}
		configID := e.Identity().ConfigID
		if !bytes.Equal(configID[:], parsed.Bind(len(configID))) {
			t.Errorf("CONFIGID %x, init-data binds %x", configID, parsed.Bind(64))
		}
		if parsed.Data["sandbox"] != string(kind) || parsed.Data["network"] != "none" {
			t.Errorf("init-data says %v", parsed.Data)
		}
	}
}

// request is one that works, where the engine does.
func request(t *testing.T, lines string) launch.Request {
	t.Helper()
	img, s := signed(t, lines)
	return launch.Request{
		Image: img, Signed: s, Platform: platform(t), Init: lab.Init, Sandbox: sandbox.GVisor, Network: sandbox.NetworkNone,
		Base: filepath.Join(t.TempDir(), "run"), Logger: slog.New(slog.DiscardHandler),
	}
}

func TestPrepareLeavesNothingWhenItFails(t *testing.T) {
	t.Parallel()
	launchtest.NeedEngine(t, sandbox.GVisor)
	for name, change := range map[string]func(*launch.Request){
		"refusal":          func(r *launch.Request) { r.Arguments = []string{"other"} },
		"init program":     func(r *launch.Request) { r.Init = "/does/not/exist" },
		"broker's address": func(r *launch.Request) { r.Broker = "http://plain" },
		"sandbox":          func(r *launch.Request) { r.Sandbox = "other" },
		"mount":            func(r *launch.Request) { r.Mounts = map[string]string{"/data": "/tmp"} },
	} {
		r := request(t, "")
		change(&r)
		if c, err := launch.Prepare(t.Context(), r); err == nil {
			t.Errorf("%s: Prepare succeeded", name)
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if left, err := os.ReadDir(r.Base); len(left) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}
