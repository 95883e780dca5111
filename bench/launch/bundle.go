package launch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/adyton-dev/adyton/internal/launch/ocispec"
	"github.com/adyton-dev/adyton/internal/sandbox"
)

// memory is that of the signed enclave in bytes.
const memory = 256 << 20

// bundle is an OCI bundle that only the engine runs.
type bundle struct {
	dir    string
	id     string // of the container, on this machine
	engine *sandbox.Engine
}

// newBundle makes a bundle whose root file system holds the application.
func newBundle(dir, application string, kind sandbox.Kind) (*bundle, error) {
	root, state := filepath.Join(dir, "root"), filepath.Join(dir, "engine")
	for _, d := range []string{root, state} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	program, err := os.ReadFile(application)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(root, "hello"), program, 0o755); err != nil {
		return nil, err
	}
	config := ocispec.Config{
		Root: root, Args: []string{"/hello"}, Hostname: "alone",
		Seccomp: kind == sandbox.None, MaxFiles: 1024,
	}
	id := fmt.Sprintf("bench-%d-%s", os.Getpid(), kind)
	cgroups := sandbox.CgroupsUsable()
	if cgroups {
		config.Cgroup = path.Join(sandbox.CgroupParent, id)
		config.Limits = ocispec.Limits{
			Memory: memory + sandbox.Overhead(kind, memory), NoSwap: sandbox.SwapLimitUsable(), Threads: 4096,
		}
	}
	spec, err := ocispec.New(config)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600); err != nil {
		return nil, err
	}
	engine, err := sandbox.New(sandbox.Options{Kind: kind, Network: sandbox.NetworkNone, StateDir: state, Cgroups: cgroups})
	return &bundle{dir: dir, id: id, engine: engine}, err
}

func (b *bundle) run(ctx context.Context) (err error) {
	var out, problems bytes.Buffer
	code, err := b.engine.Run(ctx, b.id, b.dir, sandbox.Streams{Out: &out, Err: &problems}, nil)
	err = errors.Join(err, b.engine.Delete(context.WithoutCancel(ctx), b.id))
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("exit code %d: %.200s", code, problems.Bytes())
	}
	return check(out.String())
}
