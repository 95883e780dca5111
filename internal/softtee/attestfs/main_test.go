package attestfs_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"testing"

	"github.com/adyton-dev/adyton/internal/softtee/attestfs"
	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/sgx"
)

type signer = *rsa.PrivateKey

const serveEnv = "ATTESTFS_TEST_SERVE"

// TestMain is also the other process of the tests that need one.
func TestMain(m *testing.M) {
	if dir := os.Getenv(attestEnv); dir != "" {
		exit(attestRepeatedly(dir, os.Getenv(dataEnv)))
	}
	if dir := os.Getenv(serveEnv); dir != "" {
		exit(serveForever(dir))
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serveForever serves until it is killed.
func serveForever(dir string) error {
	key, err := sgx.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	secs := &sgx.SECS{Size: 8192, SSAFrameSize: 1, Attributes: sgx.Attributes{Flags: sgx.AttributeMode64Bit, XFRM: 3}}
	sig := &sgx.SigStruct{Date: 0x20260901, Attributes: secs.Attributes}
	if err := sig.Sign(key); err != nil {
		return err
	}
	e, err := cpu.New([32]byte{1}, sgx.CPUSVN{}).EINIT(secs, sig.EnclaveHash, sig)
	if err != nil {
		return err
	}
	server, err := attestfs.Mount(dir, e, nil, attestfs.Options{})
	if err != nil {
		return err
	}
	<-server.Done()
	return nil
}
