package attestfs_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/adyton-dev/adyton/internal/softtee/attestfs"
	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/sgx"
)

// quoter makes fake quotes of realistic size, which repeat the report.
type quoter struct{ qe *cpu.Enclave }

func (q quoter) QETargetInfo() *sgx.TargetInfo { return q.qe.TargetInfo() }

func (q quoter) Quote(r *sgx.Report) ([]byte, error) {
	if err := q.qe.VerifyReport(r); err != nil {
		return nil, err
	}
	return bytes.Repeat(r.Body.Bytes(), 12), nil
}

func launch(t *testing.T, c *cpu.CPU, mrenclave byte) *cpu.Enclave {
	t.Helper()
	secs := &sgx.SECS{Size: 8192, SSAFrameSize: 1, Attributes: sgx.Attributes{Flags: sgx.AttributeMode64Bit, XFRM: 3}}
	sig := &sgx.SigStruct{Date: 0x20260901, ISVProdID: 7, ISVSVN: 2, Attributes: secs.Attributes, EnclaveHash: sgx.Measurement{mrenclave}}
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := sig.Sign(key); err != nil {
		t.Fatal(err)
	}
	e, err := c.EINIT(secs, sig.EnclaveHash, sig)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var signingKey = sync.OnceValues(func() (signer, error) { return sgx.GenerateKey(rand.Reader) })

// mounted serves an enclave's files in a new directory.
func mounted(t *testing.T) (dir string, e *cpu.Enclave, q quoter) {
	t.Helper()
	needFUSE(t)
	c := cpu.New([32]byte{1}, sgx.CPUSVN{20, 20})
	e, q = launch(t, c, 1), quoter{launch(t, c, 2)}
	dir = t.TempDir()
	server, err := attestfs.Mount(dir, e, q, attestfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-server.Done()
	})
	return dir, e, q
}

// needFUSE skips where FUSE is missing, but not in CI.
func needFUSE(t *testing.T) {
	t.Helper()
	_, err := os.Stat("/dev/fuse")
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI has no FUSE: %v", err)
	}
	t.Skipf("no FUSE: %v", err)
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestQuoteHasTheReportDataThatWasWritten(t *testing.T) {
	t.Parallel()
	dir, e, _ := mounted(t)
	if kind := string(read(t, dir+"/attestation_type")); kind != "dcap" {
		t.Errorf("attestation_type = %q", kind)
	}
	for i := range byte(3) {
		data := bytes.Repeat([]byte{i + 1}, 64)
		write(t, dir+"/user_report_data", data)
		want := e.Identity()
		want.ReportData = sgx.ReportData(data)
		if got := read(t, dir+"/quote"); !bytes.Equal(got, bytes.Repeat(want.Bytes(), 12)) {
			t.Errorf("write %d: the quote (%d bytes) is not of this enclave and report data", i, len(got))
		}
	}
}

func TestShortWritesArePaddedAndLongOnesTruncated(t *testing.T) {
	t.Parallel()
	dir, _, _ := mounted(t)
	long := bytes.Repeat([]byte{7}, 100)
	write(t, dir+"/user_report_data", long)
	if got := read(t, dir+"/user_report_data"); !bytes.Equal(got, long[:64]) {
		t.Errorf("after a long write: %x", got)
	}
	write(t, dir+"/user_report_data", []byte("short"))
	if got := read(t, dir+"/user_report_data"); !bytes.Equal(got, append([]byte("short"), make([]byte, 59)...)) {
		t.Errorf("after a short write: %x", got)
	}
	// In pieces, as dd bs=16 writes.
	f, err := os.OpenFile(dir+"/user_report_data", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if _, err := f.Write(bytes.Repeat([]byte{byte(i + 1)}, 16)); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	if got := read(t, dir+"/user_report_data"); got[0] != 1 || got[16] != 2 || got[63] != 4 {
		t.Errorf("after a write in pieces: %x", got)
	}
}

func TestReportIsForTheTarget(t *testing.T) {
	t.Parallel()
	dir, e, q := mounted(t)
	if got := read(t, dir+"/my_target_info"); !bytes.Equal(got, e.TargetInfo().Bytes()) {
		t.Errorf("my_target_info = %x", got)
	}
	write(t, dir+"/target_info", q.qe.TargetInfo().Bytes())
	write(t, dir+"/user_report_data", []byte{9})
	report, err := sgx.ParseReport(read(t, dir+"/report"))
	if err != nil {
		t.Fatal(err)
	}
	if err := q.qe.VerifyReport(report); err != nil {
		t.Error(err)
	}
	if report.Body.ReportData != (sgx.ReportData{9}) {
		t.Errorf("report data = %x", report.Body.ReportData)
	}
	// A TARGETINFO with reserved bytes set fails.
	write(t, dir+"/target_info", bytes.Repeat([]byte{0xff}, 512))
	if _, err := os.ReadFile(dir + "/report"); !errors.Is(err, syscall.EACCES) {
		t.Errorf("report for a malformed target = %v, want EACCES", err)
	}
}

func TestSealKeysAreGramines(t *testing.T) {
	t.Parallel()
	dir, e, _ := mounted(t)
	id := e.Identity()
	for name, policy := range map[string]sgx.KeyPolicy{"_sgx_mrenclave": sgx.KeyPolicyMRENCLAVE, "_sgx_mrsigner": sgx.KeyPolicyMRSIGNER} {
		want, err := e.EGETKEY(&sgx.KeyRequest{
			KeyName: sgx.KeyNameSeal, KeyPolicy: policy, CPUSVN: id.CPUSVN, ISVSVN: id.ISVSVN, ConfigSVN: id.ConfigSVN,
			AttributeMask: sgx.Attributes{Flags: 0xffffffffffffffff, XFRM: 0xfffffffffff9ff1b}, MiscMask: 0xffffffff,
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, dir+"/keys/"+name); !bytes.Equal(got, want[:]) {
			t.Errorf("%s = %x, want %x", name, got, want)
		}
		if err := os.WriteFile(dir+"/keys/"+name, make([]byte, 16), 0o600); !errors.Is(err, syscall.EACCES) {
			t.Errorf("writing %s = %v, want EACCES", name, err)
		}
	}
}

func TestKeysAreExactly16Bytes(t *testing.T) {
	t.Parallel()
	dir, _, _ := mounted(t)
	for _, name := range []string{"default", "mine"} {
		path := dir + "/keys/" + name
		if _, err := os.ReadFile(path); err == nil {
			t.Errorf("%s can be read before it is set", name)
		}
		key := bytes.Repeat([]byte{3}, 16)
		write(t, path, key)
		for _, size := range []int{1, 15, 17, 64} {
			if err := os.WriteFile(path, make([]byte, size), 0o600); !errors.Is(err, syscall.EACCES) {
				t.Errorf("%s: a write of %d bytes = %v, want EACCES", name, size, err)
			}
		}
		if got := read(t, path); !bytes.Equal(got, key) {
			t.Errorf("%s = %x, want %x", name, got, key)
		}
	}
	if err := os.WriteFile(dir+"/keys/_mine", make([]byte, 16), 0o600); !errors.Is(err, syscall.EACCES) {
		t.Errorf("a reserved name = %v, want EACCES", err)
	}
	failed := error(nil)
	for i := 0; i < 300 && failed == nil; i++ {
		failed = os.WriteFile(fmt.Sprintf("%s/keys/k%d", dir, i), make([]byte, 16), 0o600)
	}
	if !errors.Is(failed, syscall.EACCES) {
		t.Errorf("300 keys = %v, want a bound", failed)
	}
}

func TestTheTreeCannotBeChanged(t *testing.T) {
	t.Parallel()
	dir, _, _ := mounted(t)
	for name, err := range map[string]error{
		"remove":           os.Remove(dir + "/quote"),
		"remove key":       os.Remove(dir + "/keys/default"),
		"remove directory": os.Remove(dir + "/keys"),
		"create":           os.WriteFile(dir+"/new", nil, 0o600),
		"mkdir":            os.Mkdir(dir+"/keys/sub", 0o700),
		"chmod":            os.Chmod(dir+"/quote", 0o777),
		"write quote":      os.WriteFile(dir+"/quote", []byte("x"), 0o600),
		"rename":           os.Rename(dir+"/quote", dir+"/report"),
	} {
		if err == nil {
			t.Errorf("%s succeeded", name)
		}
	}
	var names []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	want := []string{".", "attestation_type", "keys", "keys/_sgx_mrenclave", "keys/_sgx_mrsigner", "keys/default", "my_target_info", "quote", "report", "target_info", "user_report_data"}
	if err != nil || !slices.Equal(names, want) {
		t.Errorf("tree = %q (%v), want %q", names, err, want)
	}
}

func TestSizesAreThoseOfTheContent(t *testing.T) {
	t.Parallel()
	dir, _, _ := mounted(t)
	write(t, dir+"/keys/default", make([]byte, 16))
	for _, name := range []string{"attestation_type", "user_report_data", "target_info", "my_target_info", "report", "quote", "keys/default", "keys/_sgx_mrenclave"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(read(t, filepath.Join(dir, name))); int64(n) != info.Size() {
			t.Errorf("%s has %d bytes, stat says %d", name, n, info.Size())
		}
	}
}

// TestProcessesDoNotDisturbEachOther lets many processes attest at the same time,
// each through threads of its own.
func TestProcessesDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	dir, e, _ := mounted(t)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), attestEnv+"="+dir, fmt.Sprintf("%s=%d", dataEnv, i+1))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("process %d: %v: %s", i, err, out)
			}
		})
	}
	group.Wait()
	// A process that has written nothing has zeros.
	want := e.Identity()
	if got := read(t, dir+"/quote"); !bytes.Equal(got[:384], want.Bytes()) {
		t.Error("this process sees what others have written")
	}
}

const (
	attestEnv = "ATTESTFS_TEST_DIR"
	dataEnv   = "ATTESTFS_TEST_DATA"
)

// attestRepeatedly is the process of TestProcessesDoNotDisturbEachOther.
func attestRepeatedly(dir, data string) error {
	want := append([]byte(data), make([]byte, 64-len(data))...)
	if err := os.WriteFile(dir+"/user_report_data", []byte(data), 0o600); err != nil {
		return err
	}
	for range 50 {
		quote, err := os.ReadFile(dir + "/quote")
		if err != nil {
			return err
		}
		if !bytes.Equal(quote[320:384], want) {
			return fmt.Errorf("report data %x, want %x", quote[320:384], want)
		}
	}
	return nil
}

func TestAFileThatStaysOpenGivesFreshQuotes(t *testing.T) {
	t.Parallel()
	dir, _, _ := mounted(t)
	f, err := os.Open(dir + "/quote")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range byte(3) {
		write(t, dir+"/user_report_data", []byte{i + 1})
		quote := make([]byte, 8192)
		if _, err := f.ReadAt(quote, 0); err != io.EOF {
			t.Fatal(err)
		}
		if quote[320] != i+1 {
			t.Errorf("read %d shows report data %d", i, quote[320])
		}
	}
}

func TestCloseWhileBusyForgetsEverything(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	c := cpu.New([32]byte{1}, sgx.CPUSVN{})
	dir := t.TempDir()
	server, err := attestfs.Mount(dir, launch(t, c, 1), nil, attestfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if kind := string(read(t, dir+"/attestation_type")); kind != "none" {
		t.Errorf("attestation_type without a quoter = %q", kind)
	}
	if _, err := os.ReadFile(dir + "/quote"); err == nil {
		t.Error("a quote without a quoter")
	}
	busy, err := os.Open(dir + "/keys/_sgx_mrenclave")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := busy.Read(make([]byte, 16)); !errors.Is(err, syscall.EACCES) {
		t.Errorf("a key after Close: %d bytes, %v; want EACCES", n, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the mount is still in the directory (%v)", err)
	}
	busy.Close()
	select {
	case <-server.Done():
	case <-time.After(10 * time.Second):
		t.Error("serving goes on although nothing is open")
	}
	if err := server.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
}

func TestMountCleansUpAfterAKilledServer(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(dir + "/quote"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the other process does not serve")
		}
	}
	c := cpu.New([32]byte{1}, sgx.CPUSVN{})
	if _, err := attestfs.Mount(dir, launch(t, c, 1), nil, attestfs.Options{}); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("Mount over a live server = %v, want a refusal", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if _, err := os.Stat(dir); !errors.Is(err, unix.ENOTCONN) {
		t.Logf("stat after the kill = %v", err)
	}
	server, err := attestfs.Mount(dir, launch(t, c, 1), nil, attestfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	read(t, dir+"/my_target_info")
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}

func TestMountNeedsADirectory(t *testing.T) {
	t.Parallel()
	needFUSE(t)
	e := launch(t, cpu.New([32]byte{1}, sgx.CPUSVN{}), 1)
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	for _, path := range []string{file, file + "-missing"} {
		if _, err := attestfs.Mount(path, e, nil, attestfs.Options{}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("Mount on %s = %v, want one line", path, err)
		}
	}
}
