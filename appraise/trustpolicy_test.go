package appraise_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/dcap"
)

func TestTrustPolicyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate := rootPEM(t, "Adyton Software TEE SGX Root CA")
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), []byte(certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "trust.yaml")
	if err := os.WriteFile(file, []byte(`apiVersion: adyton.dev/v1alpha1
kind: TrustPolicy
metadata: {name: demo}
spec:
  roots:
    - name: intel
    - {name: lab, software: true, certificateFile: root.pem}
    - name: lab2
      certificate: |
`+indent(rootPEM(t, "Own SGX Root CA"))+`
  tees: [sgx, tdx]
  tcb: {acceptedStatuses: [UpToDate, SWHardeningNeeded], acceptedAdvisories: [INTEL-SA-00615], minimumEvaluationNumber: 17, collateralGrace: 72h}
  snp: {minimumTCB: {snp: 8, microcode: 115}}
  allowDebug: true
  requireSandbox: true
`), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := appraise.LoadTrustPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "demo" || len(p.Roots) != 3 || p.Roots[1].Name != "lab" || !p.Roots[1].Software || p.Roots[2].Software ||
		p.Roots[2].Certificate.Subject.CommonName != "Own SGX Root CA" ||
		p.TEEs[1] != attest.TDX || p.TCB.AcceptedStatuses[1] != dcap.SWHardeningNeeded || p.TCB.AcceptedAdvisories[0] != "INTEL-SA-00615" ||
		p.TCB.MinimumEvaluationNumber != 17 || p.TCB.CollateralGrace != 72*time.Hour ||
		p.MinimumSNPTCB != (appraise.SNPTCB{SNP: 8, Microcode: 115}) || !p.AllowDebug || !p.RequireSandbox {
		t.Errorf("%+v", p)
	}
}

func TestDefaultTrustPolicyIsStrict(t *testing.T) {
	t.Parallel()
	p := appraise.DefaultTrustPolicy()
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	if len(p.Roots) != 1 || p.Roots[0].Name != appraise.RootIntel || p.AllowDebug || len(p.TCB.AcceptedStatuses) != 0 || p.TCB.CollateralGrace != 0 {
		t.Errorf("%+v", p)
	}
}

func TestTrustPolicyErrorsNameTheLine(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: adyton.dev/v1alpha1\nkind: TrustPolicy\nspec:\n"
	software := strings.ReplaceAll(rootPEM(t, "Adyton Software TEE SGX Root CA"), "\n", `\n`)
	tests := []struct{ name, yaml, want string }{
		{"empty", "", "1:1: "},
		{"two documents", head + "  roots: [{name: intel}]\n---\n{}\n", "second document"},
		{"no YAML", "a: [", "1:"},
		{"unknown field", head + "  roots: [{name: intel}]\n  colour: red\n", "5:3: unknown field \"colour\""},
		{"wrong type", head + "  roots: [{name: intel}]\n  allowDebug: perhaps\n", "5:"},
		{"duplicate key", head + "  roots: [{name: intel}]\n  roots: []\n", "5:"},
		{"tag", head + "  roots: !!seq\n", "4:10: tags"},
		{"alias", head + "  roots: &a [{name: intel}]\n  tees: *a\n", "4:10: tags, anchors"},
		{"wrong version", "apiVersion: v1\nkind: TrustPolicy\n", "1:13: apiVersion: \"v1\""},
		{"wrong kind", "apiVersion: adyton.dev/v1alpha1\nkind: Pod\n", "2:7: kind: \"Pod\""},
		{"no roots", head + "  roots: []\n", "4:"},
		{"no spec", "apiVersion: adyton.dev/v1alpha1\nkind: TrustPolicy\n", "at least one root"},
		{"nameless root", head + "  roots:\n    - software: true\n", "5:"},
		{"root twice", head + "  roots:\n    - name: intel\n    - name: intel\n", "6:13: spec.roots[1].name"},
		{"own root without certificate", head + "  roots:\n    - name: intel\n    - name: lab\n", "needs a certificate"},
		{"certificate for a built-in root", head + "  roots:\n    - {name: intel, certificate: \"" + software + "\"}\n", "takes no certificate"},
		{"intel as software", head + "  roots:\n    - {name: intel, software: true}\n", "is no software root"},
		{"software root that is not called so", head + "  roots:\n    - {name: lab, certificate: \"" + software + "\"}\n", "say `software: true`"},
		{"missing certificate file", head + "  roots:\n    - {name: lab, certificateFile: none.pem}\n", "none.pem"},
		{"broken certificate", head + "  roots:\n    - {name: lab, certificate: x}\n", "not one PEM block"},
		{"both certificates", head + "  roots:\n    - {name: lab, certificate: x, certificateFile: y}\n", "exclude each other"},
		{"unknown TEE", head + "  roots: [{name: intel}]\n  tees: [sgx, cca]\n", "5:15: spec.tees[1]: \"cca\""},
		{"unknown status", head + "  roots: [{name: intel}]\n  tcb: {acceptedStatuses: [Fine]}\n", "spec.tcb.acceptedStatuses[0]: \"Fine\""},
		{"Revoked", head + "  roots: [{name: intel}]\n  tcb: {acceptedStatuses: [Revoked]}\n", "\"Revoked\""},
		{"grace without unit", head + "  roots: [{name: intel}]\n  tcb:\n    collateralGrace: \"3\"\n", "6:22: spec.tcb.collateralGrace"},
		{"negative grace", head + "  roots: [{name: intel}]\n  tcb: {collateralGrace: -1h}\n", "must not be negative"},
		{"long", strings.Repeat("#", appraise.MaxTrustPolicy+1), "longer than"},
	}
	for _, test := range tests {
		_, err := appraise.ParseTrustPolicy([]byte(test.yaml), t.TempDir())
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q, want %q in one line", test.name, fmt.Sprint(err), test.want)
		}
	}
}

func FuzzTrustPolicy(f *testing.F) {
	f.Add([]byte("apiVersion: adyton.dev/v1alpha1\nkind: TrustPolicy\nmetadata: {name: x}\nspec:\n  roots: [{name: intel}, {name: amd}]\n  tees: [sgx]\n  tcb: {acceptedStatuses: [UpToDate], collateralGrace: 1h}\n"))
	f.Add([]byte("spec: {roots: [{certificate: |\n -----BEGIN CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "certificateFile") {
			return // would read any file of the machine
		}
		p, err := appraise.ParseTrustPolicy(data, ".")
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		if err := p.Check(); err != nil {
			t.Error(err)
		}
	})
}

func rootPEM(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func indent(text string) string {
	return "        " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n        ")
}
