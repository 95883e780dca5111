package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Tool is a program of another project that a sandbox is made with. `make
// tools` builds it from its Go module, which tools/<Folder> pins, into the
// cache.
type Tool struct {
	Name    string // of the program: runsc, runc
	Version string // of its Go module; tools/<Folder>/go.mod requires the same
	Module  string // Go module path
	Package string // Go package of its main function
	Folder  string // below tools/
	Cgo     bool
	Tags    string // Go build tags
}

// Runsc is gVisor's OCI runtime.
func Runsc() Tool {
	return Tool{
		Name: "runsc", Version: "v0.0.0-20260905035102-160fafc42237",
		Module: "gvisor.dev/gvisor", Package: "gvisor.dev/gvisor/runsc", Folder: "gvisor",
	}
}

// Runc is the OCI runtime of plain containers. It is built with cgo, because
// it enters name spaces before the Go runtime starts and loads seccomp filters
// with libseccomp.
func Runc() Tool {
	return Tool{
		Name: "runc", Version: "v1.5.2",
		Module: "github.com/opencontainers/runc", Package: "github.com/opencontainers/runc", Folder: "runc",
		Cgo: true, Tags: "seccomp",
	}
}

// CachePath is where `make tools` puts the program, outside every checkout:
// ${ADYTON_CACHE:-<the user's cache>/adyton}/tools/<name>-<version>/<name>. The
// version is part of the path, so that programs of two versions never mix.
func (t Tool) CachePath() (string, error) {
	cache := os.Getenv("ADYTON_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache of built tools (set ADYTON_CACHE): %w", err)
		}
		cache = filepath.Join(user, "adyton")
	}
	return filepath.Join(cache, "tools", t.Name+"-"+t.Version, t.Name), nil
}

// Find gives the path of the program: the one on PATH, else the one in the
// cache.
func (t Tool) Find() (string, error) {
	if path, err := exec.LookPath(t.Name); err == nil {
		return filepath.Abs(path)
	}
	path, err := t.CachePath()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is neither on PATH nor at %s: install it, or build it with `make tools`", t.Name, path)
	}
	return path, nil
}
