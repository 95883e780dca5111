package launch

import (
	"context"
	"crypto/rand"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/adyton-dev/adyton/internal/build"
	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/internal/build/image"
	"github.com/adyton-dev/adyton/internal/initd"
	"github.com/adyton-dev/adyton/internal/launch/ocispec"
	"github.com/adyton-dev/adyton/internal/launch/rundir"
	"github.com/adyton-dev/adyton/internal/sandbox"
	"github.com/adyton-dev/adyton/refusal"
)

// maxTasks bounds the processes and threads of a container on the host.
const maxTasks = 4096

// deleteTimeout bounds the end of a sandbox.
const deleteTimeout = 30 * time.Second

// Request says what to run and how.
type Request struct {
	Image    *image.Image
	Signed   *build.Signed
	Platform Platform
	// Init is the path of the init program.
	Init string

	// Name of the enclave among those that run; "" makes one up. It is also its
	// host name.
	Name string
	// Arguments and Environment are as in [Found].
	Arguments   []string
	Environment map[string]string
	// Mounts gives the source on the host of each bind mount of the descriptor, by
	// its destination.
	Mounts map[string]string
	// Memory, if not 0, limits the memory in bytes below what is signed.
	Memory   uint64
	Sandbox  sandbox.Kind
	Network  sandbox.Network
	Terminal bool
	// Broker is as in [ServeOptions].
	Broker string

	// Base is the directory of running enclaves; see [rundir.DefaultBase].
	Base string
	// Progress is as in [image.UnpackOptions].
	Progress func(read, total int64)
	Logger   *slog.Logger
}

// Container is an enclave that is ready to run. Close it in any case.
type Container struct {
	enclave *Enclave
	id      string
	dir     *rundir.Dir
	service *Service
	engine  *sandbox.Engine
}

// Prepare launches the enclave and makes all that its sandbox needs. It first
// checks everything, then unpacks: a refusal leaves nothing and costs little.
func Prepare(ctx context.Context, r Request) (_ *Container, err error) {
	d := r.Signed.Descriptor
	binds, err := bindMounts(d, r.Mounts)
	if err != nil {
		return nil, err
	}
	if r.Memory > d.Memory {
		return nil, fmt.Errorf("memory of %d bytes is more than the %d that enclave %q is signed for", r.Memory, d.Memory, d.Name)
	}
	if os.Geteuid() != 0 {
		if err := sandbox.CheckUserNamespaces("/proc"); err != nil {
			return nil, err
		}
	}
	suffix := make([]byte, 4)
	_, _ = rand.Read(suffix) // never fails (crypto/rand)
	c := &Container{id: "adyton-" + hex.EncodeToString(suffix)}
	name := r.Name
	if name == "" {
		name = d.Name + "-" + hex.EncodeToString(suffix)
	}
	if c.dir, err = rundir.Create(r.Base, name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	// The copy is what is measured and what runs, whatever happens to the original.
	program := c.dir.Join("init")
	if err := copyFile(program, r.Init, 0o555); err != nil {
		return nil, fmt.Errorf("copy the init program: %w", err)
	}
	if err := c.launch(r, program); err != nil {
		return nil, err
	}
	if err := os.Mkdir(c.dir.Join("served"), 0o700); err != nil {
		return nil, fmt.Errorf("make the run directory: %w", err)
	}
	c.service, err = Serve(c.dir.Join("served"), c.enclave, r.Platform, ServeOptions{Init: program, Broker: r.Broker, Logger: r.Logger})
	if err != nil {
		return nil, err
	}
	if err := r.Image.Unpack(ctx, c.dir.Join("root"), image.UnpackOptions{Progress: r.Progress}); err != nil {
		return nil, err
	}
	if err := makeWorkingDirectory(c.dir.Join("root"), d.WorkingDirectory); err != nil {
		return nil, err
	}
	return c, c.bundle(r, append(binds, c.service.Mounts()...))
}

// launch checks what is found against what is signed, and starts the enclave.
func (c *Container) launch(r Request, program string) error {
	if err := checkStatic(program); err != nil {
		return fmt.Errorf("init program %s: %w", r.Init, err)
	}
	digest, err := build.DigestFile(program)
	if err != nil {
		return err
	}
	initData, err := InitData(r.Sandbox, r.Network)
	if err != nil {
		return err
	}
	c.enclave, err = Init(r.Platform, r.Signed, Found{
		Image:       descriptor.Image{Digest: r.Image.Digest(), Platform: r.Image.Platform()},
		Init:        digest,
		Arguments:   r.Arguments,
		Environment: r.Environment,
	}, initData)
	return err
}

// bundle sets up the engine and writes the OCI bundle.
func (c *Container) bundle(r Request, mounts []ocispec.Mount) error {
	setup := engineSetup{ID: c.id, Options: sandbox.Options{
		Kind: r.Sandbox, Network: r.Network, StateDir: c.dir.Join("engine"),
		Rootless: os.Geteuid() != 0, Cgroups: sandbox.CgroupsUsable(),
	}}
	if !setup.Cgroups {
		r.Logger.Warn("no control groups can be made here: memory is not limited")
	}
	if err := os.Mkdir(setup.StateDir, 0o700); err != nil {
		return fmt.Errorf("make the engine's directory: %w", err)
	}
	var err error
	if c.engine, err = sandbox.New(setup.Options); err != nil {
		return err
	}
	if err := writeJSON(c.dir.Join(engineFile), setup); err != nil {
		return err
	}
	config, err := c.config(r, setup.Options, mounts)
	if err != nil {
		return err
	}
	spec, err := ocispec.New(config)
	if err != nil {
		return err
	}
	return writeJSON(c.dir.Join("config.json"), spec)
}

func (c *Container) config(r Request, o sandbox.Options, mounts []ocispec.Mount) (ocispec.Config, error) {
	d := c.enclave.Descriptor
	config := ocispec.Config{
		Root:         c.dir.Join("root"),
		ReadOnlyRoot: d.ReadOnlyRoot,
		Args:         []string{initd.Program},
		Env:          c.enclave.PassedEnv,
		Terminal:     r.Terminal,
		Hostname:     c.dir.Name(),
		HostNetwork:  r.Network == sandbox.NetworkHost,
		Mounts:       mounts,
		Seccomp:      r.Sandbox == sandbox.None,
	}
	for _, m := range d.Mounts {
		if m.Kind == descriptor.MountTmpfs {
			config.Mounts = append(config.Mounts, ocispec.Mount{Destination: m.Destination, Size: m.Size})
		}
	}
	if config.HostNetwork {
		config.Mounts = append(config.Mounts, nameServiceFiles(d)...)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return config, fmt.Errorf("read the limit of open files: %w", err)
	}
	config.MaxFiles = min(files.Max, 1<<20)
	if o.Cgroups {
		memory := d.Memory
		if r.Memory > 0 {
			memory = r.Memory
		}
		config.Cgroup = path.Join(sandbox.CgroupParent, c.id)
		config.Limits = ocispec.Limits{
			Memory: memory + sandbox.Overhead(r.Sandbox, memory), NoSwap: sandbox.SwapLimitUsable(), Threads: maxTasks,
		}
	}
	if o.Rootless && r.Sandbox == sandbox.None {
		config.Users = userNamespace()
		if d.User != "0:0" && len(config.Users.UIDs) == 1 {
			return config, fmt.Errorf("enclave %q runs as user %s, and without root --sandbox=none needs entries for this user in /etc/subuid and /etc/subgid: add them, or use --sandbox=gvisor", d.Name, d.User)
		}
	}
	return config, nil
}

// Enclave is what was launched.
func (c *Container) Enclave() *Enclave { return c.enclave }

// Name is the enclave's name among those that run.
func (c *Container) Name() string { return c.dir.Name() }

// Run runs the application to its end; see [sandbox.Engine.Run]. The refusal, if
// the sandbox does not start, is LaunchFailed.
func (c *Container) Run(ctx context.Context, s sandbox.Streams, signals <-chan os.Signal) (int, error) {
	code, err := c.engine.Run(ctx, c.id, c.dir.Path(), s, signals)
	if err != nil {
		return 0, refusal.New(refusal.LaunchFailed, "%w", err)
	}
	return code, nil
}

// Close ends the sandbox, if it still runs, and removes all that Prepare made.
func (c *Container) Close() error {
	var errs []error
	if c.engine != nil {
		ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
		defer cancel()
		errs = append(errs, c.engine.Delete(ctx, c.id))
	}
	if c.service != nil {
		errs = append(errs, c.service.Close())
	}
	return errors.Join(append(errs, c.dir.Remove())...)
}

// bindMounts pairs the sources that the launcher gave with the bind mounts that
// are signed: all of them, and no others.
func bindMounts(d *descriptor.Descriptor, sources map[string]string) ([]ocispec.Mount, error) {
	var mounts []ocispec.Mount
	declared := []string{}
	for _, m := range d.Mounts {
		if m.Kind != descriptor.MountBind {
			continue
		}
		declared = append(declared, m.Destination)
		source, ok := sources[m.Destination]
		if !ok {
			return nil, fmt.Errorf("enclave %q mounts %s: say from where with --mount %s=HOSTPATH", d.Name, m.Destination, m.Destination)
		}
		source, err := filepath.Abs(source)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Destination, err)
		}
		if _, err := os.Stat(source); err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Destination, err)
		}
		mounts = append(mounts, ocispec.Mount{Destination: m.Destination, Source: source, ReadOnly: m.ReadOnly})
	}
	for destination := range sources {
		if !slices.Contains(declared, destination) {
			return nil, fmt.Errorf("enclave %q is not signed to mount %s; its mounts are: %s", d.Name, destination, strings.Join(append(declared, "none")[:max(1, len(declared))], ", "))
		}
	}
	return mounts, nil
}

// nameServiceFiles let an enclave on the host's network find hosts by name.
func nameServiceFiles(d *descriptor.Descriptor) []ocispec.Mount {
	var mounts []ocispec.Mount
	for _, file := range []string{"/etc/hosts", "/etc/resolv.conf"} {
		declared := slices.ContainsFunc(d.Mounts, func(m descriptor.Mount) bool { return m.Destination == file })
		if _, err := os.Stat(file); err == nil && !declared {
			mounts = append(mounts, ocispec.Mount{Destination: file, Source: file, ReadOnly: true})
		}
	}
	return mounts
}

// userNamespace maps root of the container to this user, and the users above to
// those that /etc/subuid and /etc/subgid give this user, if any.
func userNamespace() *ocispec.UserNamespace {
	uids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(os.Geteuid()), Size: 1}}
	gids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(os.Getegid()), Size: 1}}
	subordinateUIDs, uidErr := user.CurrentUserSubUIDs()
	subordinateGIDs, gidErr := user.CurrentUserSubGIDs()
	if uidErr == nil && gidErr == nil && len(subordinateUIDs) > 0 && len(subordinateGIDs) > 0 {
		uids = append(uids, subordinate(subordinateUIDs[0]))
		gids = append(gids, subordinate(subordinateGIDs[0]))
	}
	return &ocispec.UserNamespace{UIDs: uids, GIDs: gids}
}

func subordinate(ids user.SubID) specs.LinuxIDMapping {
	return specs.LinuxIDMapping{ContainerID: 1, HostID: uint32(ids.SubID), Size: uint32(ids.Count)}
}

// makeWorkingDirectory makes the directory that the application starts in, as
// other container runtimes do. No link of the image leads out of root: a path
// through one that tries is left alone, and the init program says whether it
// exists inside.
func makeWorkingDirectory(root, dir string) error {
	inside, err := os.OpenRoot(root)
	if err != nil {
		return fmt.Errorf("open the root file system: %w", err)
	}
	defer inside.Close()
	dir = strings.TrimPrefix(dir, "/")
	if dir == "" {
		return nil
	}
	err = inside.MkdirAll(dir, 0o755)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EIO) {
		return fmt.Errorf("make the working directory: %w", err)
	}
	return nil
}

// checkStatic refuses a program that would need an interpreter: the image has none,
// and the error from inside would not say so.
func checkStatic(program string) error {
	f, err := elf.Open(program)
	if err != nil {
		return fmt.Errorf("not a Linux program: %w", err)
	}
	defer f.Close()
	for _, segment := range f.Progs {
		if segment.Type == elf.PT_INTERP {
			return errors.New("not static: build it with `make build` (CGO_ENABLED=0)")
		}
	}
	return nil
}

func copyFile(to, from string, mode os.FileMode) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	_, err = io.Copy(target, source)
	return err
}

func writeJSON(file string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(file), err)
	}
	if err := renameio.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(file), err)
	}
	return nil
}
