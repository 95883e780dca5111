package run_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/data"
	"github.com/adyton-dev/adyton/dcap/pcs"
	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/admin"
	"github.com/adyton-dev/adyton/internal/broker/api"
	"github.com/adyton-dev/adyton/internal/broker/owner"
	"github.com/adyton-dev/adyton/internal/broker/server"
	"github.com/adyton-dev/adyton/internal/broker/vault"
)

// testBroker is a broker that trusts the lab's software TEE.
type testBroker struct {
	*httptest.Server
	owner *admin.Client // of the repository hospital
}

func startBroker(t *testing.T) *testBroker {
	t.Helper()
	collateral := httptest.NewServer(lab.Installation.PCS())
	t.Cleanup(collateral.Close)
	source, err := pcs.New(collateral.URL, pcs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	trust := appraise.DefaultTrustPolicy()
	trust.Roots = append(trust.Roots, appraise.Root{Name: "lab", Software: true, Certificate: lab.Installation.Root()})
	appraiser, err := appraise.New(trust, source, appraise.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "broker")
	if _, err := broker.Init(t.Context(), dir, broker.InitOptions{Protection: vault.KeyFile}); err != nil {
		t.Fatal(err)
	}
	opened, err := broker.Open(t.Context(), dir, broker.Options{
		Means: vault.Means{KeyFile: filepath.Join(dir, broker.KeyFile)}, Appraiser: appraiser,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	var handler http.Handler // made once the certificate is known
	b := &testBroker{Server: httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))}
	t.Cleanup(b.Close)
	certificate := b.TLS.Certificates[0]
	certificate.Leaf = b.Certificate()
	s, err := server.New(server.Config{
		Broker: opened, Limits: server.DefaultLimits(), TLS: &certificate, Metrics: server.NewMetrics(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	handler = s.Handler()
	b.addOwner(t, filepath.Join(dir, broker.AdminKeyFile))
	return b
}

func (b *testBroker) addOwner(t *testing.T, adminKey string) {
	t.Helper()
	administrator, err := admin.New(b.URL, b.pin(), adminKey)
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := owner.MarshalPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if err := administrator.AddOwner(t.Context(), api.Owner{Name: "hospital", PublicKey: string(pem), Repositories: []string{"hospital"}}); err != nil {
		t.Fatal(err)
	}
	if b.owner, err = admin.NewWithKey(b.URL, b.pin(), private); err != nil {
		t.Fatal(err)
	}
}

func (b *testBroker) pin() string { return kbs.Pin(b.Certificate()) }

// put stores a value that only the lab's signer gets, from a minimum SVN on.
func (b *testBroker) put(t *testing.T, uri string, value []byte, minimumSVN int, more ...string) {
	t.Helper()
	mrsigner := signerOf(t)
	policy := fmt.Sprintf(`apiVersion: adyton.dev/v1alpha1
kind: ReleasePolicy
spec:
  validations:
  - {expression: 'sgx.mrsigner == "%s"', reason: SignerNotApproved}
  - {expression: 'sgx.isv_svn >= %d', reason: SVNTooLow}
`, mrsigner, minimumSVN) + strings.Join(more, "")
	if err := b.owner.PutResource(t.Context(), uri, value, []byte(policy), true); err != nil {
		t.Fatal(err)
	}
}

func signerOf(t *testing.T) string {
	t.Helper()
	signer, err := lab.MRSIGNER()
	if err != nil {
		t.Fatal(err)
	}
	return signer.String()
}

// unlocking are the lines of an enclave.yaml that unlocks everything from b.
func (b *testBroker) unlocking(args, unlock string) string {
	return fmt.Sprintf("args: %s\nbroker: {url: '%s', spki: '%s'}\nunlock:\n%s", args, b.URL, b.pin(), unlock)
}

func TestUnlockedSecretsReachTheApplicationAlone(t *testing.T) {
	b := startBroker(t)
	b.put(t, "kbs:///hospital/secret/a", []byte("alpha"), 2)
	kek := make([]byte, 32)
	_, _ = rand.Read(kek)
	b.put(t, "kbs:///hospital/key/cohort", kek, 2)
	sealed := t.TempDir()
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("genotypes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	header := data.Header{Key: "kbs:///hospital/key/cohort"}
	file, err := data.Seal(t.Context(), plain, filepath.Join(sealed, "cohort.sealed"), kek, header, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Commit(); err != nil {
		t.Fatal(err)
	}
	// The file is of a user that is neither the application's nor root.
	if err := os.Chown(filepath.Join(sealed, "cohort.sealed"), 4321, 4321); err != nil {
		t.Fatal(err)
	}
	const unlock = `- {resource: "kbs:///hospital/secret/a", file: /run/secrets/a}
- {resource: "kbs:///hospital/secret/a", env: SECRET}
- {resource: "kbs:///hospital/key/cohort", open: {from: /data/cohort.sealed, to: /run/data/cohort}}
mounts: [{path: /data, readOnly: true}]`
	for _, tc := range []struct{ args, want string }{
		{"[cat, /run/secrets/a, /run/data/cohort]", "alphagenotypes\n"},
		{"[stat, /run/secrets/a, /run/data/cohort]", "/run/secrets/a 400 1234:1234\n/run/data/cohort 600 1234:1234\n"},
		{"[env]", "HOME=/home/app\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nSECRET=alpha\n"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
				got := finish(t, adyton(t, base, with(engine, "--mount", "/data="+sealed, lab.Sign(t, b.unlocking(tc.args, unlock)))...))
				if want := (result{0, tc.want, ""}); got != want {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		})
	}
}

func TestRefusalOfTheBrokerKeepsTheApplicationFromStarting(t *testing.T) {
	b := startBroker(t)
	b.put(t, "kbs:///hospital/secret/later", []byte("x"), 3)
	b.put(t, "kbs:///hospital/secret/sandboxed", []byte("x"), 1, "  - {expression: 'init_data.sandbox == \"other\"', reason: SandboxRequired}\n")
	gone := httptest.NewServer(nil)
	gone.Close()
	otherKey := strings.Repeat("ab", 32)
	for _, tc := range []struct{ name, lines, reason string }{
		{"policy", b.unlocking("[env]", `- {resource: "kbs:///hospital/secret/later", env: S}`), "SVNTooLow: "},
		{"sandbox of the init-data", b.unlocking("[env]", `- {resource: "kbs:///hospital/secret/sandboxed", env: S}`), "SandboxRequired: "},
		{"broker with another key", fmt.Sprintf("args: [env]\nbroker: {url: '%s', spki: 'sha256:%s'}\nunlock: [{resource: 'kbs:///hospital/secret/later', env: S}]", b.URL, otherKey), "BrokerNotTrusted: "},
		{"broker that is down", fmt.Sprintf("args: [env]\nbroker: {url: '%s', spki: 'sha256:%s'}\nunlock: [{resource: 'kbs:///hospital/secret/later', env: S}]", strings.Replace(gone.URL, "http:", "https:", 1), otherKey), "BrokerUnreachable: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onEveryEngine(t, func(t *testing.T, base string, engine ...string) {
				got := finish(t, adyton(t, base, with(engine, lab.Sign(t, tc.lines))...))
				if got.code != 125 || got.out != "" || !strings.Contains(got.err, tc.reason) {
					t.Errorf("got %v, want 125 and %s", got, tc.reason)
				}
				if n := strings.Count(got.err, "adyton-init: "); n != 1 {
					t.Errorf("%d lines of adyton-init, want one:\n%s", n, got.err)
				}
			})
		})
	}
}
