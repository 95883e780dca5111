// Package genomics_test checks the files of the example that people copy.
package genomics_test

import (
	"os"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/build"
)

func TestEnclaveFileIsValidAndTrustsNoBrokerAsItStands(t *testing.T) {
	t.Parallel()
	c, err := build.LoadConfig("enclave.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.ProductID != 7 || c.SVN != 2 || c.Debug || len(c.Unlock) != 2 {
		t.Errorf("config %+v", c)
	}
	if c.Broker.SPKI != "sha256:"+strings.Repeat("0", 64) {
		t.Errorf("broker %+v", c.Broker)
	}
}

func TestPolicyIsValidAndApprovesNobodyAsItStands(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("policy/release.yaml")
	if err != nil {
		t.Fatal(err)
	}
	compiler, err := broker.NewPolicyCompiler()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := compiler.Compile(text); err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(text), `sgx.mrsigner == "`+strings.Repeat("0", 64)+`"`) {
		t.Error("the policy names a signer")
	}
}
