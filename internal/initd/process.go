package initd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// The exit codes before the application runs, as of a shell and docker run.
const (
	ExitNotStarted    = 125 // attestation, unlocking or setup failed
	ExitNotExecutable = 126
	ExitNotFound      = 127
)

// defaultPath is searched if the signed environment has no PATH; it is Docker's.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ExecError is a failure to start the application, with the exit code for it.
type ExecError struct {
	Code int
	Err  error
}

func (e *ExecError) Error() string { return e.Err.Error() }
func (e *ExecError) Unwrap() error { return e.Err }

// Process is the application as the init program starts it.
type Process struct {
	Args []string // the first is looked up in PATH of Env, if it has no slash
	Env  []string // KEY=VALUE
	Dir  string   // working directory
	User *user.ExecUser
}

// Exec replaces this program by the application. It gives up every capability
// for good first: the application is its user and nothing more, also if that
// user is root. It returns only with an error; the process is then no longer fit
// to continue.
func (p *Process) Exec() error {
	if err := os.Chdir(p.Dir); err != nil {
		return fmt.Errorf("enter the working directory: %w", err)
	}
	// Capabilities belong to the thread, and exec keeps those of the thread that
	// calls it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := dropBoundingSet(); err != nil {
		return err
	}
	if err := p.becomeUser(); err != nil {
		return err
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	program, err := lookPath(p.Args[0], p.Env)
	if err != nil {
		return err
	}
	err = unix.Exec(program, p.Args, p.Env)
	code := ExitNotExecutable
	if errors.Is(err, fs.ErrNotExist) { // of the interpreter, since program was there
		code = ExitNotFound
	}
	return &ExecError{Code: code, Err: fmt.Errorf("execute %s: %w", program, err)}
}

// becomeUser leaves out what is so already: in a user name space that maps one
// user only, the calls would fail.
func (p *Process) becomeUser() error {
	if current, err := os.Getgroups(); err != nil || !slices.Equal(current, p.User.Sgids) {
		if err := unix.Setgroups(p.User.Sgids); err != nil && !setgroupsDenied() {
			return fmt.Errorf("set the groups %v: %w", p.User.Sgids, err)
		}
	}
	if os.Getgid() != p.User.Gid {
		if err := unix.Setresgid(p.User.Gid, p.User.Gid, p.User.Gid); err != nil {
			return fmt.Errorf("become group %d: %w", p.User.Gid, err)
		}
	}
	if os.Getuid() != p.User.Uid {
		if err := unix.Setresuid(p.User.Uid, p.User.Uid, p.User.Uid); err != nil {
			return fmt.Errorf("become user %d: %w", p.User.Uid, err)
		}
	}
	return nil
}

// setgroupsDenied reports whether the user name space forbids setgroups, as one
// made without root does (user_namespaces(7)). The groups are then the
// launcher's, and name nothing inside.
func setgroupsDenied() bool {
	rule, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.TrimSpace(string(rule)) == "deny"
}

// dropBoundingSet keeps exec from giving capabilities back, as it would to root
// (capabilities(7)).
func dropBoundingSet() error {
	for capability := uintptr(0); capability <= unix.CAP_LAST_CAP; capability++ {
		held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, capability, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // the kernel knows no more
		}
		if err != nil {
			return fmt.Errorf("read the bounding set: %w", err)
		}
		if held == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", capability, err)
		}
	}
	return nil
}

func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("drop the ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData // 64 capabilities in two halves
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop the capabilities: %w", err)
	}
	return nil
}

// lookPath finds the program as a shell does, in the application's PATH.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return "", err
		}
		return name, nil
	}
	var denied error
	for _, dir := range filepath.SplitList(lookupEnv(env, "PATH")) {
		candidate := filepath.Join("/", dir, name)
		err := executable(candidate)
		if err == nil {
			return candidate, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			denied = err
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", &ExecError{Code: ExitNotFound, Err: fmt.Errorf("%s: not found in PATH", name)}
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &ExecError{Code: ExitNotFound, Err: err}
	case err != nil:
		return &ExecError{Code: ExitNotExecutable, Err: err}
	case info.IsDir() || info.Mode()&0o111 == 0:
		return &ExecError{Code: ExitNotExecutable, Err: fmt.Errorf("%s: not an executable file: %w", path, fs.ErrPermission)}
	default:
		return nil
	}
}

func lookupEnv(env []string, name string) string {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
