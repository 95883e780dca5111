package pcs_test

import (
	"crypto/rsa"
	"encoding/pem"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/adyton-dev/adyton/internal/softtee"
)

type signer = *rsa.PrivateKey

// installation is made once: it costs an RSA key.
var installation = sync.OnceValues(func() (*softtee.Installation, error) {
	var err error
	if installationDir, err = os.MkdirTemp("", "pcs-test-"); err != nil {
		return nil, err
	}
	return softtee.Create(filepath.Join(installationDir, "tee"))
})

var installationDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if installationDir != "" {
		_ = os.RemoveAll(installationDir) // the temporary directory is cleaned anyway
	}
	os.Exit(code)
}

func firstPEM(t *testing.T, text []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	return block.Bytes
}
