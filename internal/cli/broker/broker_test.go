package broker_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/cli/audit"
	"github.com/adyton-dev/adyton/internal/cli/broker"
	"github.com/adyton-dev/adyton/internal/cli/ui"
	"github.com/adyton-dev/adyton/internal/softtee"
	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

// run executes a command line and gives its output.
func run(ctx context.Context, cmd *cobra.Command, args ...string) (string, error) {
	var out bytes.Buffer
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

func must(t *testing.T, cmd *cobra.Command, args ...string) string {
	t.Helper()
	out, err := run(t.Context(), cmd, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// world is a software TEE, its collateral service and a broker that serves.
type world struct {
	tee             *softtee.Installation
	dir, broker     string
	url, pin, owner string
}

const trustPolicy = `apiVersion: adyton.dev/v1alpha1
kind: TrustPolicy
metadata: {name: test}
spec:
  roots:
  - {name: my-softtee, software: true, certificateFile: root.pem}
  tcb: {acceptedAdvisories: ["*"]}
  allowDebug: true
`

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	var err error
	if w.tee, err = softtee.Create(filepath.Join(w.dir, "tee")); err != nil {
		t.Fatal(err)
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.tee.Root().Raw})
	if err := os.WriteFile(filepath.Join(w.dir, "root.pem"), root, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "trust.yaml"), []byte(trustPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	collateral := httptest.NewServer(w.tee.PCS())
	t.Cleanup(collateral.Close)

	w.broker = filepath.Join(w.dir, "broker")
	must(t, broker.New(), "init", "--dir", w.broker)
	w.pin = strings.TrimSpace(must(t, broker.New(), "pin", "--dir", w.broker))
	w.url = serve(t, w.broker, "--trust-policy", filepath.Join(w.dir, "trust.yaml"), "--collateral-url", collateral.URL)

	must(t, broker.New(), "keygen", filepath.Join(w.dir, "hospital-a"))
	w.owner = filepath.Join(w.dir, "hospital-a.key")
	must(t, broker.New(), "owner", "add", "--dir", w.broker, "hospital-a",
		"--public-key", filepath.Join(w.dir, "hospital-a.pub"), "--repository", "hospital-a")
	return w
}

// serve runs a broker until the test ends and gives its URL.
func serve(t *testing.T, dir string, args ...string) string {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		out, err := run(ctx, broker.New(), append([]string{"serve", "--dir", dir, "--listen", "127.0.0.1:0", "--ready-file", ready}, args...)...)
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		done <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for {
		if url, err := os.ReadFile(ready); err == nil {
			return string(url)
		}
		select {
		case err := <-done:
			done <- nil
			t.Fatalf("serve: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// enclave is an attest.Attester: an enclave on a software platform.
type enclave struct {
	platform *softtee.Platform
	enclave  *cpu.Enclave
}

func (e *enclave) TEE() string { return attest.SGX }

func (e *enclave) Evidence(_ context.Context, reportData [attest.ReportDataSize]byte) (*attest.Evidence, error) {
	quote, err := e.platform.Quote(e.enclave.EREPORT(e.platform.QETargetInfo(), reportData))
	return &attest.Evidence{TEE: attest.SGX, Quote: quote}, err
}

// tdx is a TD on the same platform.
type tdx struct{ platform *softtee.Platform }

func (d *tdx) TEE() string { return attest.TDX }

func (d *tdx) Evidence(_ context.Context, reportData [attest.ReportDataSize]byte) (*attest.Evidence, error) {
	quote, err := d.platform.TDQuote(softtee.TD{}, reportData)
	return &attest.Evidence{TEE: attest.TDX, Quote: quote}, err
}

var signers = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		key, err := sgx.GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		keys[i] = key
	}
	return keys
})

func launch(t *testing.T, tee *softtee.Installation, platform string, signer *rsa.PrivateKey, svn uint16, flags sgx.AttributeFlags) *enclave {
	t.Helper()
	p, err := tee.Platform(platform)
	if err != nil {
		t.Fatal(err)
	}
	secs := &sgx.SECS{Size: 2 * 4096, SSAFrameSize: 1, Attributes: sgx.Attributes{Flags: sgx.AttributeMode64Bit | flags, XFRM: 3}}
	sig := &sgx.SigStruct{
		Date: 0x20260901, ISVProdID: 7, ISVSVN: svn, Attributes: secs.Attributes,
		AttributeMask: sgx.Attributes{Flags: ^sgx.AttributeFlags(0), XFRM: ^uint64(0)}, EnclaveHash: sgx.Measurement{1, 2, 3},
	}
	if err := sig.Sign(signer); err != nil {
		t.Fatal(err)
	}
	e, err := p.CPU().EINIT(secs, sig.EnclaveHash, sig)
	if err != nil {
		t.Fatal(err)
	}
	return &enclave{p, e}
}

func TestKeysAreReleasedToTheApprovedEnclaveOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, spec := range map[string]softtee.PlatformSpec{"stale": {TCB: dcap.OutOfDate}, "revoked": {RevokedPCK: true}} {
		if err := w.tee.CreatePlatform(name, spec); err != nil {
			t.Fatal(err)
		}
	}
	approved, other := signers()[0], signers()[1]
	good := launch(t, w.tee, softtee.DefaultPlatform, approved, 2, 0)
	mrsigner := good.enclave.Identity().MRSIGNER.String()
	policyFile := filepath.Join(w.dir, "release.yaml")
	policy := fmt.Sprintf(`apiVersion: adyton.dev/v1alpha1
kind: ReleasePolicy
spec:
  validations:
  - {expression: 'tee == "sgx" && sgx.mrsigner == %q', reason: SignerNotApproved}
  - {expression: sgx.isv_prod_id == 7, reason: ProductNotApproved}
  - {expression: sgx.isv_svn >= 2, reason: SVNTooLow}
  - {expression: '!debug', reason: DebugNotAllowed}
  - {expression: 'root.name == "my-softtee"', reason: RootNotTrusted}
`, mrsigner)
	if err := os.WriteFile(policyFile, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(w.dir, "secret")
	if err := os.WriteFile(secret, []byte("the key"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, broker.New(), "resource", "put", "--broker", w.url, "--broker-spki", w.pin, "--owner-key", w.owner,
		"--policy", policyFile, "kbs:///hospital-a/key/cohort", secret)

	foreign, err := softtee.Create(filepath.Join(w.dir, "foreign"))
	if err != nil {
		t.Fatal(err)
	}
	defaultPlatform, err := w.tee.Platform(softtee.DefaultPlatform)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		attester attest.Attester
		want     refusal.Reason
	}{
		"the approved enclave":    {good, ""},
		"a newer version of it":   {launch(t, w.tee, softtee.DefaultPlatform, approved, 3, 0), ""},
		"an unapproved signer":    {launch(t, w.tee, softtee.DefaultPlatform, other, 2, 0), refusal.SignerNotApproved},
		"a lower SVN":             {launch(t, w.tee, softtee.DefaultPlatform, approved, 1, 0), refusal.SVNTooLow},
		"a debug enclave":         {launch(t, w.tee, softtee.DefaultPlatform, approved, 2, sgx.AttributeDebug), refusal.DebugNotAllowed},
		"an out-of-date platform": {launch(t, w.tee, "stale", approved, 2, 0), refusal.TCBOutOfDate},
		"a revoked platform":      {launch(t, w.tee, "revoked", approved, 2, 0), refusal.CertificateRevoked},
		"a TD":                    {&tdx{defaultPlatform}, refusal.SignerNotApproved},
		"another software TEE":    {launch(t, foreign, softtee.DefaultPlatform, approved, 2, 0), ""},
	} {
		if name == "another software TEE" {
			c.want = "any"
		}
		t.Run(name, func(t *testing.T) {
			client, err := kbs.New(kbs.Options{URL: w.url, SPKI: w.pin, Attester: c.attester})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			got, err := client.Resource(t.Context(), "kbs:///hospital-a/key/cohort")
			reason := refusal.Of(err)
			switch {
			case c.want == "" && (err != nil || string(got) != "the key"):
				t.Errorf("got %q, %v", got, err)
			case c.want == "any" && reason == "":
				t.Errorf("got %q, %v; want a refusal", got, err)
			case c.want != "" && c.want != "any" && reason != c.want:
				t.Errorf("got %v, want %s", err, c.want)
			}
			t.Log(err)
		})
	}

	list := must(t, audit.New(), "list", "--dir", w.broker)
	for _, reason := range []string{"SignerNotApproved", "SVNTooLow", "DebugNotAllowed", "TCBOutOfDate", "CertificateRevoked"} {
		if !strings.Contains(list, reason) {
			t.Errorf("the audit log does not have %s:\n%s", reason, list)
		}
	}
	kept := filepath.Join(w.dir, "kept")
	must(t, audit.New(), "checkpoint", "--dir", w.broker, "--save", kept)
	if out := must(t, audit.New(), "verify", "--dir", w.broker, "--since", kept); !strings.Contains(out, "records verified") {
		t.Error(out)
	}
	exported := filepath.Join(w.dir, "log.jsonl")
	if err := os.WriteFile(exported, []byte(must(t, audit.New(), "list", "--dir", w.broker, "-o", "json")), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(w.broker, "audit.pub")
	must(t, audit.New(), "verify", "--file", exported, "--checkpoint", kept, "--key", key)
	data, err := os.ReadFile(exported)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exported, bytes.Replace(data, []byte("SVNTooLow"), []byte("Forgotten"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t.Context(), audit.New(), "verify", "--file", exported, "--checkpoint", kept, "--key", key); ui.ExitCode(err) != ui.ExitRefused {
		t.Errorf("a changed export: %v", err)
	}
}

func TestBadInputIsOneLineThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := filepath.Join(dir, "broker")
	passphrase, wrong, broken := filepath.Join(dir, "pass"), filepath.Join(dir, "wrong"), filepath.Join(dir, "trust.yaml")
	for path, text := range map[string]string{passphrase: "correct horse\n", wrong: "battery staple\n", broken: "kind: TrustPolicy\nspec: {rots: []}\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must(t, broker.New(), "init", "--dir", b, "--passphrase-file", passphrase)
	url := serve(t, b, "--passphrase-file", passphrase)
	used := strings.TrimPrefix(url, "https://")
	other := filepath.Join(dir, "other")
	must(t, broker.New(), "init", "--dir", other, "--passphrase-file", passphrase)
	must(t, broker.New(), "keygen", filepath.Join(dir, "o"))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no broker":             {[]string{"serve", "--dir", filepath.Join(dir, "none")}, "make one with `adyton broker init"},
		"made twice":            {[]string{"init", "--dir", b}, "not empty"},
		"port in use":           {[]string{"serve", "--dir", other, "--listen", used, "--passphrase-file", passphrase}, "choose another address"},
		"wrong passphrase":      {[]string{"serve", "--dir", other, "--listen", "127.0.0.1:0", "--passphrase-file", wrong}, "the passphrase is wrong"},
		"already running":       {[]string{"serve", "--dir", b, "--listen", "127.0.0.1:0", "--passphrase-file", passphrase}, "in use by another process"},
		"broken trust policy":   {[]string{"serve", "--dir", other, "--trust-policy", broken, "--passphrase-file", passphrase}, "trust.yaml:2:"},
		"http beyond loopback":  {[]string{"serve", "--dir", other, "--insecure-http", "--listen", "0.0.0.0:0"}, "loopback"},
		"http client elsewhere": {[]string{"resource", "list", "--broker", "http://192.0.2.1", "--owner-key", filepath.Join(dir, "o.key")}, "use https"},
		"no pin":                {[]string{"resource", "list", "--broker", url, "--owner-key", filepath.Join(dir, "o.key")}, "adyton broker pin"},
		"no broker named":       {[]string{"resource", "list"}, "--broker URL"},
		"broker down":           {[]string{"resource", "list", "--broker", "http://127.0.0.1:1", "--owner-key", filepath.Join(dir, "o.key")}, "BrokerUnreachable"},
		"unknown protection":    {[]string{"init", "--dir", filepath.Join(dir, "x"), "--seal-to", "wish"}, "want auto"},
		"not in an enclave":     {[]string{"init", "--dir", filepath.Join(dir, "x"), "--seal-to", "sgx-mrsigner", "--attestation-dir", dir}, "there is none"},
		"key pair exists":       {[]string{"keygen", filepath.Join(dir, "o")}, "exists already"},
		"bad owner name":        {[]string{"owner", "add", "--dir", other, "--passphrase-file", passphrase, "Not A Name", "--public-key", filepath.Join(dir, "o.pub"), "--repository", "r"}, "lower-case"},
		"bad repository":        {[]string{"owner", "add", "--dir", other, "--passphrase-file", passphrase, "o", "--public-key", filepath.Join(dir, "o.pub"), "--repository", "a/b"}, "repository"},
		"a key that is none":    {[]string{"owner", "add", "--dir", other, "--passphrase-file", passphrase, "o", "--public-key", passphrase, "--repository", "r"}, "broker keygen"},
	} {
		out, err := run(t.Context(), broker.New(), c.args...)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q\n%s", name, err, c.want, out)
		}
	}
	if entries, err := filepath.Glob(filepath.Join(dir, "*x*")); err != nil || len(entries) > 0 {
		t.Errorf("a failed init left %v, %v", entries, err)
	}
}
