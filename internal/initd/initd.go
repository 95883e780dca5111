// Package initd is what adyton-init does, the first program inside an enclave:
// it attests to the broker, fetches what the enclave may unlock, puts it where
// the descriptor says, becomes the application's user and turns into the
// application.
//
// The program is measured and static, so the package's imports stay few: the
// descriptor, attest, attest/kbs and data, and no verifier, image or CLI library.
// To unlock in one more way, add a field to descriptor.Unlock and a case to
// unlock.
package initd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/data"
	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

// The files that the launcher puts into every enclave.
const (
	Dir            = "/run/adyton"
	Program        = Dir + "/init"
	DescriptorFile = Dir + "/enclave.json"
	InitDataFile   = Dir + "/initdata.toml"
	BrokerSocket   = Dir + "/broker.sock"
)

// unnamedBroker is the broker's URL if the enclave names only its key: the
// launcher's relay decides where the connection goes, the key who may answer.
const unnamedBroker = "https://broker"

// maxInitData bounds the init-data document in bytes.
const maxInitData = 128 << 10

// Run does everything; environ is the environment that the launcher gave. It
// returns only with an error; [ExitCode] gives the code to exit with.
func Run(ctx context.Context, environ []string) error {
	text, err := readBounded(DescriptorFile, descriptor.MaxSize)
	if err != nil {
		return fmt.Errorf("read the enclave's descriptor: %w", err)
	}
	d, err := descriptor.Parse(text)
	if err != nil {
		return err
	}
	owner, err := user.GetExecUserPath(d.User, nil, "/etc/passwd", "/etc/group")
	if err != nil {
		return fmt.Errorf("find the user %s: %w", d.User, err)
	}
	env := environment(d, environ, owner.Home)
	if len(d.Unlock) > 0 {
		if err := unlockAll(ctx, d, owner, env); err != nil {
			return err
		}
	}
	process := &Process{Args: d.Arguments, Env: entries(env), Dir: d.WorkingDirectory, User: owner}
	return process.Exec()
}

// ExitCode gives the exit code for an error of Run.
func ExitCode(err error) int {
	var exec *ExecError
	if errors.As(err, &exec) {
		return exec.Code
	}
	return ExitNotStarted
}

// environment is the application's: what is signed, and of the launcher's only
// what may be passed. PATH, HOME and, on a terminal, TERM get the values that
// every container runtime gives them.
func environment(d *descriptor.Descriptor, environ []string, home string) map[string]string {
	env := map[string]string{"PATH": defaultPath, "HOME": "/"}
	if home != "" {
		env["HOME"] = home
	}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		env["TERM"] = "xterm"
	}
	maps.Copy(env, d.Environment)
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if slices.Contains(d.PassEnvironment, name) {
			env[name] = value
		}
	}
	return env
}

func entries(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// checkIdentity compares the descriptor, a file that the launcher put here, with
// what this enclave was measured as, according to the attestation files in dir.
func checkIdentity(d *descriptor.Descriptor, dir string) error {
	text, err := readBounded(filepath.Join(dir, "my_target_info"), sgx.TargetInfoSize)
	if err != nil {
		return fmt.Errorf("read this enclave's identity: %w", err)
	}
	own, err := sgx.ParseTargetInfo(text)
	if err != nil {
		return fmt.Errorf("read this enclave's identity: %w", err)
	}
	measured, err := d.Measure()
	if err != nil {
		return err
	}
	if own.MRENCLAVE != measured {
		return refusal.New(refusal.MeasurementMismatch, "%s describes the enclave %s, but this is %s", DescriptorFile, measured, own.MRENCLAVE)
	}
	return nil
}

// unlockAll opens a session with the broker and unlocks everything in order.
func unlockAll(ctx context.Context, d *descriptor.Descriptor, owner *user.ExecUser, env map[string]string) error {
	initData, err := readBounded(InitDataFile, maxInitData)
	if err != nil {
		return fmt.Errorf("read the init-data: %w", err)
	}
	attester, err := attest.Detect(attest.Paths{})
	if err != nil {
		return err
	}
	if attester.TEE() == attest.SGX {
		if err := checkIdentity(d, attest.GramineDir); err != nil {
			return err
		}
	}
	url := d.Broker.URL
	if url == "" {
		url = unnamedBroker
	}
	client, err := kbs.New(kbs.Options{
		URL: url, SPKI: d.Broker.SPKI, Attester: attester, InitData: initData,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", BrokerSocket)
		},
	})
	if err != nil {
		return err
	}
	defer client.Close()
	for _, u := range d.Unlock {
		if err := unlock(ctx, client, u, owner, env); err != nil {
			return fmt.Errorf("unlock %s: %w", u.Resource, err)
		}
	}
	return nil
}

// resources is where secrets come from: *kbs.Client.
type resources interface {
	Resource(ctx context.Context, uri string) ([]byte, error)
}

// unlock puts one resource where u says. The copy that it fetched is zeroed; of
// a value in the environment the one copy stays that exec hands on.
func unlock(ctx context.Context, from resources, u descriptor.Unlock, owner *user.ExecUser, env map[string]string) error {
	secret, err := from.Resource(ctx, u.Resource)
	if err != nil {
		return err
	}
	defer clear(secret)
	switch {
	case u.Env != "":
		if slices.Contains(secret, 0) {
			return errors.New("a value with a zero byte cannot be in the environment: use file")
		}
		env[u.Env] = string(secret)
		return nil
	case u.File != "":
		return writeSecret(u.File, secret, owner)
	default:
		return openSealed(ctx, u, secret, owner)
	}
}

func openSealed(ctx context.Context, u descriptor.Unlock, kek []byte, owner *user.ExecUser) error {
	if err := makeMemoryDir(filepath.Dir(u.Open.To)); err != nil {
		return err
	}
	key := func(h *data.Header) ([]byte, error) {
		// Another key than the one named could be one that the host knows.
		if h.Key != u.Resource {
			return nil, fmt.Errorf("it is sealed for %q", h.Key)
		}
		return slices.Clone(kek), nil
	}
	return data.Open(ctx, u.Open.From, u.Open.To, key, data.OpenOptions{Owner: &data.Owner{UID: owner.Uid, GID: owner.Gid}})
}

// writeSecret makes the file, which must not exist, readable by owner alone.
// Nothing stays on an error.
func writeSecret(path string, secret []byte, owner *user.ExecUser) (err error) {
	if err := makeMemoryDir(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return fmt.Errorf("make the file: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if _, err := f.Write(secret); err != nil {
		return fmt.Errorf("write the file: %w", err)
	}
	if owner.Uid == os.Getuid() && owner.Gid == os.Getgid() {
		return nil
	}
	if err := f.Chown(owner.Uid, owner.Gid); err != nil {
		return fmt.Errorf("give the file to its user: %w", err)
	}
	return nil
}

// makeMemoryDir makes the directory and checks that it is in memory: on anything
// but a tmpfs the host would see what is written there.
func makeMemoryDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("find out what %s is stored on: %w", dir, err)
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is not in memory: put it below /run or a tmpfs mount", dir)
	}
	return nil
}

// readBounded reads a file whole, or fails if it is longer than limit.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return text, err
}
