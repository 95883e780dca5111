package data

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/adyton-dev/adyton/appraise/appraisetest"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/broker/admin"
	"github.com/adyton-dev/adyton/internal/broker/api"
	"github.com/adyton-dev/adyton/internal/broker/owner"
	"github.com/adyton-dev/adyton/internal/broker/server"
	"github.com/adyton-dev/adyton/internal/broker/vault"
	"github.com/adyton-dev/adyton/internal/softtee/attestfs"
	"github.com/adyton-dev/adyton/refusal"
)

// startBroker starts a broker that trusts the lab, and registers the owner of
// repository hospital-a, whose key it writes to ownerKey.
func startBroker(t *testing.T, lab *appraisetest.Lab, ownerKey string) (url, pin string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "broker")
	if _, err := broker.Init(t.Context(), dir, broker.InitOptions{Protection: vault.KeyFile}); err != nil {
		t.Fatal(err)
	}
	b, err := broker.Open(t.Context(), dir, broker.Options{
		Means:     vault.Means{KeyFile: filepath.Join(dir, broker.KeyFile)},
		Appraiser: lab.Appraiser(lab.Policy()),
	})
	if err != nil {
		t.Fatal(err)
	}
	certificate := b.TLSCertificate()
	s, err := server.New(server.Config{Broker: b, TLS: &certificate, Limits: server.DefaultLimits(), Metrics: server.NewMetrics(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(s.Handler())
	web.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}
	web.StartTLS()
	t.Cleanup(func() {
		web.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	pin = kbs.Pin(certificate.Leaf)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := owner.MarshalPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ownerKey, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	if pem, err = owner.MarshalPublicKey(public); err != nil {
		t.Fatal(err)
	}
	administrator, err := admin.New(web.URL, pin, filepath.Join(dir, broker.AdminKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	err = administrator.AddOwner(t.Context(), api.Owner{Name: "hospital", PublicKey: string(pem), Repositories: []string{"hospital-a"}})
	if err != nil {
		t.Fatal(err)
	}
	return web.URL, pin
}

// launch serves the attestation files of an enclave with an SVN.
func launch(t *testing.T, lab *appraisetest.Lab, svn uint16) attest.Paths {
	t.Helper()
	platform, enclave := lab.Launch(appraisetest.Enclave{ISVProdID: 7, ISVSVN: svn})
	dir := filepath.Join(t.TempDir(), "attestation")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := attestfs.Mount(dir, enclave, platform, attestfs.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	})
	return attest.Paths{Gramine: dir}
}

func TestOnlyTheApprovedEnclaveOpensWhatAHospitalSealed(t *testing.T) {
	t.Parallel()
	in := folder(t)
	lab := appraisetest.New(t)
	url, pin := startBroker(t, lab, in("owner.key"))
	policy := `apiVersion: adyton.dev/v1alpha1
kind: ReleasePolicy
spec:
  validations:
  - {expression: "sgx.isv_prod_id == 7", reason: ProductNotApproved}
  - {expression: "sgx.isv_svn >= 2", reason: SVNTooLow}
`
	if err := os.WriteFile(in("release.yaml"), []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"seal", "--broker", url, "--broker-spki", pin, "--owner-key", in("owner.key"),
		"--resource", resource, "--policy", in("release.yaml"), in("plain")}
	if _, err := run(t, append(args, in("sealed"))...); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, append(args, in("again"))...); err == nil {
		t.Error("a second file was sealed under the same name of a key")
	}
	absent(t, in("again"))

	o := opening{in: in("sealed"), out: in("opened"), brokerURL: url, brokerPin: pin, attestation: launch(t, lab, 1)}
	if err := o.run(t.Context(), io.Discard, io.Discard); refusal.Of(err) != refusal.SVNTooLow {
		t.Errorf("enclave of SVN 1: %v, want SVNTooLow", err)
	}
	absent(t, in("opened"))

	o.attestation = launch(t, lab, 2)
	if err := o.run(t.Context(), io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(in("opened")); err != nil || string(got) != "the genotypes" {
		t.Errorf("opened %q, %v", got, err)
	}

	o.out, o.brokerPin = in("out"), fmt.Sprintf("sha256:%064d", 0)
	if err := o.run(t.Context(), io.Discard, io.Discard); refusal.Of(err) != refusal.BrokerNotTrusted {
		t.Errorf("another broker: %v, want BrokerNotTrusted", err)
	}
	absent(t, in("out"))
}
