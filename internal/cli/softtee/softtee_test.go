package softtee_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/appraise"
	cli "github.com/adyton-dev/adyton/internal/cli/softtee"
)

// run gives what a command wrote.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return runContext(t, t.Context(), args...)
}

func runContext(t *testing.T, ctx context.Context, args ...string) (string, error) {
	t.Helper()
	cmd := cli.New()
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run(t, args...)
	if err != nil {
		t.Fatalf("adyton softtee %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func TestInitShowPlatformServe(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tee")
	if _, err := run(t, "show", "--dir", dir); err == nil || !strings.Contains(err.Error(), "adyton softtee init") {
		t.Errorf("show before init = %v, want an error that names init", err)
	}
	var made struct{ ID, Fingerprint string }
	if err := json.Unmarshal([]byte(mustRun(t, "init", "--dir", dir, "-o", "json")), &made); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, "init", "--dir", dir); err == nil || !strings.Contains(err.Error(), "--if-missing") {
		t.Errorf("second init = %v, want an error that names --if-missing", err)
	}
	if out := mustRun(t, "init", "--dir", dir, "--if-missing"); !strings.Contains(out, made.Fingerprint) {
		t.Errorf("init --if-missing shows %q, want fingerprint %s", out, made.Fingerprint)
	}

	policy, err := appraise.ParseTrustPolicy([]byte(mustRun(t, "show", "--dir", dir, "--trust-policy")), dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(policy.Roots) != 1 || !policy.Roots[0].Software || policy.Roots[0].Name != "softtee-"+made.ID {
		t.Errorf("trust policy has roots %+v", policy.Roots)
	}

	mustRun(t, "platform", "create", "--dir", dir, "--tcb", "out-of-date", "stale")
	mustRun(t, "platform", "create", "--dir", dir, "--tcb", "ConfigurationAndSWHardeningNeeded", "--advisory", "INTEL-SA-1", "soft")
	if _, err := run(t, "platform", "create", "--dir", dir, "stale"); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("second platform of a name = %v", err)
	}
	if _, err := run(t, "platform", "create", "--dir", dir, "--tcb", "fine", "x"); err == nil || !strings.Contains(err.Error(), "sw-hardening-needed") {
		t.Errorf("unknown status = %v, want the known ones", err)
	}
	list := mustRun(t, "platform", "list", "--dir", dir)
	for _, want := range []string{"default", "stale", "TCB OutOfDate", "open to INTEL-SA-1"} {
		if !strings.Contains(list, want) {
			t.Errorf("list lacks %q:\n%s", want, list)
		}
	}

	ctx, stop := context.WithCancel(t.Context())
	ready := filepath.Join(t.TempDir(), "ready")
	served := make(chan error, 1)
	go func() {
		_, err := runContext(t, ctx, "serve", "--dir", dir, "--listen", "127.0.0.1:0", "--ready-file", ready)
		served <- err
	}()
	url := await(t, ready)
	response, err := http.Get(url + "/sgx/certification/v4/qe/identity")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("QE identity: %s", response.Status)
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("serve = %v after the stop, want nil", err)
	}
}

func TestServeSaysThatThePortIsInUse(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tee")
	mustRun(t, "init", "--dir", dir)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if _, err := run(t, "serve", "--dir", dir, "--listen", listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("serve on a used port = %v, want one that says so", err)
	}
}

// await gives the content of a file as soon as it is there.
func await(t *testing.T, path string) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(path); err == nil {
			return string(text)
		}
	}
	t.Fatalf("%s did not appear", path)
	return ""
}
