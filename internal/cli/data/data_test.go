package data

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/data"
	"github.com/adyton-dev/adyton/internal/broker/admin"
	"github.com/adyton-dev/adyton/internal/broker/api"
	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/refusal"
)

const resource = "kbs:///hospital-a/key/cohort"

// run runs `adyton data args…` and gives its output.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := New()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// folder makes a directory with a file to seal and a key file.
func folder(t *testing.T) (in func(string) string) {
	t.Helper()
	dir := t.TempDir()
	in = func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(in("plain"), []byte("the genotypes"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "keygen", in("key")); err != nil {
		t.Fatal(err)
	}
	return in
}

func absent(t *testing.T, name string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), filepath.Base(name)) {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

func TestKeyFileSealsAndOpens(t *testing.T) {
	t.Parallel()
	in := folder(t)
	for _, flags := range [][]string{nil, {"--random-access", "--force", "--resource", resource}} {
		if _, err := run(t, append([]string{"seal", "--key-file", in("key"), in("plain"), in("sealed")}, flags...)...); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t, "open", "--force", "--key-file", in("key"), in("sealed"), in("opened")); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t, "open", "--key-file", in("key"), in("sealed"), in("opened")); err == nil || !strings.Contains(err.Error(), "--force") {
			t.Errorf("open onto a file = %v, want an error that names --force", err)
		}
		got, err := os.ReadFile(in("opened"))
		if err != nil || string(got) != "the genotypes" {
			t.Errorf("opened %q, %v", got, err)
		}
	}
	out, err := run(t, "info", "-o", "json", in("sealed"))
	if err != nil {
		t.Fatal(err)
	}
	var f facts
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		t.Fatal(err)
	}
	if f.Key != resource || f.PlainSize != 13 || f.SegmentSize != data.SmallSegment || f.Content != data.File {
		t.Errorf("info: %+v", f)
	}
	if out, err := run(t, "info", in("sealed")); err != nil || !strings.Contains(out, resource) {
		t.Errorf("info: %s, %v", out, err)
	}
}

func TestWrongUseIsRefusedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	in := folder(t)
	if err := os.WriteFile(in("open-key"), make([]byte, 32), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("short-key"), make([]byte, 31), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("policy.yaml"), []byte("apiVersion: adyton.dev/v1alpha1\nkind: Nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broker := []string{"--broker", "https://127.0.0.1:1", "--broker-spki", "sha256:00", "--owner-key", in("missing"), "--resource", resource}
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no key":            {[]string{"seal", in("plain"), in("out")}, "--key-file"},
		"key and broker":    {[]string{"seal", "--key-file", in("key"), "--broker", "https://b", in("plain"), in("out")}, "none of the others"},
		"resource":          {[]string{"seal", "--key-file", in("key"), "--resource", "a/b", in("plain"), in("out")}, "kbs:///repository/type/tag"},
		"missing input":     {[]string{"seal", "--key-file", in("key"), in("missing"), in("out")}, "no such file"},
		"missing directory": {[]string{"seal", "--key-file", in("key"), in("plain"), in("missing/out")}, "no such file"},
		"existing output":   {[]string{"seal", "--key-file", in("key"), in("plain"), in("plain")}, "--force"},
		"readable key":      {[]string{"seal", "--key-file", in("open-key"), in("plain"), in("out")}, "chmod 600"},
		"short key":         {[]string{"seal", "--key-file", in("short-key"), in("plain"), in("out")}, "31 bytes"},
		"bad policy":        {append([]string{"seal", "--policy", in("policy.yaml"), in("plain"), in("out")}, broker...), "policy.yaml"},
		"missing policy":    {append([]string{"seal", "--policy", in("missing"), in("plain"), in("out")}, broker...), "no such file"},
		"open plain file":   {[]string{"open", "--key-file", in("key"), in("plain"), in("out")}, "DataCorrupt"},
		"info of plain":     {[]string{"info", in("plain")}, "not a file that adyton sealed"},
		"existing key":      {[]string{"keygen", in("key")}, "file exists"},
	} {
		if _, err := run(t, c.args...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		absent(t, in("out"))
	}
}

func TestOutsideATEEOnlyAKeyFileOpens(t *testing.T) {
	t.Parallel()
	in := folder(t)
	if _, err := run(t, "seal", "--key-file", in("key"), "--resource", resource, in("plain"), in("sealed")); err != nil {
		t.Fatal(err)
	}
	o := opening{in: in("sealed"), out: in("out"), attestation: attest.Paths{Gramine: in("no-such-directory")}}
	err := o.run(t.Context(), io.Discard, io.Discard)
	if refusal.Of(err) != refusal.EvidenceUnsupported || !strings.Contains(err.Error(), "--key-file") || ui.ExitCode(err) != ui.ExitRefused {
		t.Errorf("error %v", err)
	}
	absent(t, in("out"))
}

// fakeKeeper is a broker that fails as told.
type fakeKeeper struct {
	stored             map[string][]byte
	lookup, put        error
	beforePut          func()
	deleted, policySet bool
}

func (k *fakeKeeper) Metadata(_ context.Context, path string) (*api.Metadata, error) {
	if k.lookup != nil {
		return nil, k.lookup
	}
	if k.stored[path] == nil {
		return nil, refusal.New(refusal.ResourceNotFound, "no %s", path)
	}
	return &api.Metadata{}, nil
}

func (k *fakeKeeper) PutResource(_ context.Context, path string, value, policy []byte, createOnly bool) error {
	if k.beforePut != nil {
		k.beforePut()
	}
	if k.put != nil {
		return k.put
	}
	k.stored[path], k.policySet = bytes.Clone(value), createOnly && len(policy) > 0
	return nil
}

func (k *fakeKeeper) DeleteResource(ctx context.Context, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	delete(k.stored, path)
	k.deleted = true
	return nil
}

func TestKeyIsStoredWithItsPolicyBeforeTheFileAppears(t *testing.T) {
	t.Parallel()
	in := folder(t)
	s := sealing{in: in("plain"), out: in("sealed"), resource: resource}
	k := &fakeKeeper{stored: map[string][]byte{}}
	k.beforePut = func() {
		if _, err := os.Stat(in("sealed")); err == nil {
			t.Error("the file has its name before its key is stored")
		}
	}
	if err := s.sealWith(t.Context(), k, []byte("policy"), io.Discard); err != nil {
		t.Fatal(err)
	}
	if len(k.stored[resource]) != data.KeySize || !k.policySet {
		t.Errorf("stored %d bytes, with policy: %v", len(k.stored[resource]), k.policySet)
	}
	key := func(*data.Header) ([]byte, error) { return k.stored[resource], nil }
	if err := data.Open(t.Context(), in("sealed"), in("opened"), key, data.OpenOptions{}); err != nil {
		t.Error(err)
	}
}

func TestBrokerFailureLeavesNoFile(t *testing.T) {
	t.Parallel()
	broken := refusal.New(refusal.BrokerUnreachable, "connection refused")
	for name, c := range map[string]struct {
		keeper fakeKeeper
		reason refusal.Reason
		says   string
	}{
		"down":           {fakeKeeper{lookup: broken}, refusal.BrokerUnreachable, "look up"},
		"forbidden":      {fakeKeeper{lookup: refusal.New(refusal.Forbidden, "not yours")}, refusal.Forbidden, "look up"},
		"exists":         {fakeKeeper{stored: map[string][]byte{resource: {1}}}, "", "exists at the broker"},
		"made meanwhile": {fakeKeeper{put: admin.ErrExists}, "", "meanwhile"},
		"lost":           {fakeKeeper{put: broken}, refusal.BrokerUnreachable, "adyton broker resource delete"},
		"bad policy":     {fakeKeeper{put: refusal.New(refusal.PolicyInvalid, "no")}, refusal.PolicyInvalid, "store key"},
	} {
		in := folder(t)
		s := sealing{in: in("plain"), out: in("out"), resource: resource}
		err := s.sealWith(t.Context(), &c.keeper, []byte("policy"), io.Discard)
		if err == nil || refusal.Of(err) != c.reason || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if c.keeper.deleted {
			t.Errorf("%s: a key was deleted", name)
		}
		absent(t, in("out"))
	}
}

func TestKeyOfAFileThatCannotBeNamedIsTakenBack(t *testing.T) {
	t.Parallel()
	in := folder(t)
	s := sealing{in: in("plain"), out: in("out"), resource: resource}
	k := &fakeKeeper{stored: map[string][]byte{}}
	ctx, cancel := context.WithCancel(t.Context())
	k.beforePut = func() {
		// A directory of the name keeps the file from getting it.
		if err := os.MkdirAll(filepath.Join(in("out"), "x"), 0o700); err != nil {
			t.Error(err)
		}
		cancel() // the user interrupts now
	}
	if err := s.sealWith(ctx, k, []byte("policy"), io.Discard); err == nil {
		t.Error("no error")
	}
	if len(k.stored) != 0 || !k.deleted {
		t.Error("the key was not taken back")
	}
}

func TestOpenInterruptedLeavesNothing(t *testing.T) {
	t.Parallel()
	in := folder(t)
	if _, err := run(t, "seal", "--key-file", in("key"), in("plain"), in("sealed")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := opening{in: in("sealed"), out: in("out"), keyFile: in("key")}
	if err := o.run(ctx, io.Discard, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	absent(t, in("out"))
}
