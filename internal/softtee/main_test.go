package softtee_test

import (
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/internal/softtee"
	"github.com/adyton-dev/adyton/sgx"
)

// shared gives one installation for all tests that do not change what concerns
// others: making one costs an RSA key.
func shared(t *testing.T) *softtee.Installation {
	t.Helper()
	inst, err := sharedInstallation()
	if err != nil {
		t.Fatal(err)
	}
	return inst
}

var sharedInstallation = sync.OnceValues(func() (*softtee.Installation, error) {
	dir, err := os.MkdirTemp("", "softtee-test-")
	if err != nil {
		return nil, err
	}
	sharedDir = dir
	return softtee.Create(filepath.Join(dir, "tee"), softtee.WithClock(func() time.Time { return now }))
})

var sharedDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if sharedDir != "" {
		_ = os.RemoveAll(sharedDir) // the temporary directory is cleaned anyway
	}
	os.Exit(code)
}

func newSigningKey() *rsa.PrivateKey {
	key, err := sgx.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}
