package cli_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newFixture makes good files for bad commands, by the program itself, and gives
// their paths: TEE, BROKER (directories), URL and PIN of a running broker, ADMIN,
// OWNER (.key and .pub), POLICY, IMAGE (signed), KEY, YAML, DATAKEY, SEALED.
func newFixture(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	names := map[string]string{
		"TEE": dir + "/tee", "BROKER": dir + "/broker", "OWNER": dir + "/owner", "POLICY": dir + "/release.yaml",
		"IMAGE": "oci:" + dir + "/image", "KEY": dir + "/key.pem", "YAML": dir + "/enclave.yaml",
		"DATAKEY": dir + "/data.key", "SEALED": dir + "/sealed", "PLAIN": dir + "/plain", "ADMIN": dir + "/broker/admin.key",
		"FIXTURE": dir, "PROGRAM": program,
	}
	do := func(args string) string {
		t.Helper()
		return mustRun(t, invocation{dir: dir, args: expand(args, names, dir)})
	}
	write("app", "#!/bin/sh\n")(t, dir)
	write("plain", strings.Repeat("genotype ", 1000))(t, dir)
	if err := os.Chmod(dir+"/app", 0o755); err != nil {
		t.Fatal(err)
	}
	do("softtee init --dir $TEE")
	do("broker init --dir $BROKER")
	do("broker keygen owner")
	do("broker owner add --dir $BROKER owner --public-key $OWNER.pub --repository hospital")
	do("policy init --signer " + strings.Repeat("ab", 32) + " --product 1 --svn 1 --file $POLICY")
	do("enclave pack --to image app=/app")
	do("enclave init --image oci:image --name app -f $YAML")
	do("enclave keygen $KEY")
	do("enclave sign --key $KEY -f $YAML")
	do("data keygen $DATAKEY")
	do("data seal --key-file $DATAKEY $PLAIN $SEALED")
	names["URL"] = serve(t, dir, expand("broker serve --dir $BROKER --listen 127.0.0.1:0 --ready-file $DIR/url", names, dir), dir+"/url")
	names["PORT"] = strings.TrimPrefix(names["URL"], "https://")
	names["PIN"] = strings.TrimSpace(do("broker pin --dir $BROKER"))
	return names
}

// serve runs a server until the test ends and gives the URL that it wrote.
func serve(t *testing.T, dir string, args []string, ready string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-exited:
			if err != nil {
				t.Errorf("adyton %q: %v after SIGTERM: %s", args, err, &stderr)
			}
		case <-time.After(timeout):
			_ = cmd.Process.Kill()
			<-exited
			t.Errorf("adyton %q does not stop", args)
		}
		if _, err := os.Stat(ready); err == nil {
			t.Errorf("%s is still there after the stop", ready)
		}
	})
	var url []byte
	await(t, fmt.Sprintf("adyton %q", args), func() bool {
		var err error
		url, err = os.ReadFile(ready)
		return err == nil
	})
	return string(bytes.TrimSpace(url))
}

// await waits for a condition.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// tmpfs mounts a file system of the given size below dir.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a full disk needs root")
	}
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}
