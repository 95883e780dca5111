// Package ocispec writes the OCI runtime specification of a container that gets
// as little as it can run with. It imports the OCI and seccomp libraries and
// nothing of the project, and touches no file: what is read from the machine is
// in [Config].
package ocispec

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Config says what the container is.
type Config struct {
	Root         string // directory of the root file system
	ReadOnlyRoot bool
	Args         []string
	Env          []string // KEY=VALUE
	Terminal     bool
	Hostname     string
	HostNetwork  bool
	// Mounts come after the system's own (/proc, /dev, /run, …), sorted by their
	// destinations so that one may be inside another.
	Mounts []Mount
	// Seccomp filters system calls by the engine; gVisor needs none.
	Seccomp bool
	// Users, if set, is the user name space of a launcher without root.
	Users *UserNamespace
	// Cgroup, if set, is the control group that gets Limits.
	Cgroup string
	Limits Limits
	// MaxFiles is RLIMIT_NOFILE; it cannot exceed the launcher's own.
	MaxFiles uint64
}

// Mount is one file system. Source is a path on the host, or empty for a tmpfs.
type Mount struct {
	Destination string
	Source      string
	ReadOnly    bool
	Executable  bool
	Size        uint64 // of a tmpfs in bytes; 0: as much as the memory limit allows
}

// Limits bound what the container can take from the host. Zero: no limit.
type Limits struct {
	Memory  uint64 // bytes
	NoSwap  bool   // Memory counts swap too, so that nothing of it goes to a disk
	Threads int64
}

// UserNamespace maps users and groups of the container to those of the host.
type UserNamespace struct {
	UIDs, GIDs []specs.LinuxIDMapping
}

// initCapabilities are what the init program needs to read sealed files whoever
// owns them, to give the application its secrets, to become the application's
// user and to drop the rest. The application gets none.
func initCapabilities() []string {
	return []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"}
}

// New writes the specification.
func New(c Config) (*specs.Spec, error) {
	capabilities := initCapabilities()
	spec := &specs.Spec{
		Version:  specs.Version,
		Hostname: c.Hostname,
		Root:     &specs.Root{Path: c.Root, Readonly: c.ReadOnlyRoot},
		Process: &specs.Process{
			Terminal:        c.Terminal,
			Args:            c.Args,
			Env:             c.Env,
			Cwd:             "/",
			NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{
				Bounding: capabilities, Effective: capabilities, Permitted: capabilities,
			},
			Rlimits: []specs.POSIXRlimit{
				// A core file would hold the secrets of the process.
				{Type: "RLIMIT_CORE", Hard: 0, Soft: 0},
				{Type: "RLIMIT_NOFILE", Hard: c.MaxFiles, Soft: min(c.MaxFiles, 1024)},
			},
		},
		Linux: &specs.Linux{
			Namespaces:    namespaces(c),
			MaskedPaths:   maskedPaths(),
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			Resources:     &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
		},
	}
	mounts, err := mountsOf(c)
	if err != nil {
		return nil, err
	}
	spec.Mounts = mounts
	if c.Users != nil {
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = c.Users.UIDs, c.Users.GIDs
	}
	if c.Cgroup != "" {
		limit(spec, c)
	}
	if c.Seccomp {
		if spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(spec); err != nil {
			return nil, fmt.Errorf("make the seccomp filter: %w", err)
		}
	}
	return spec, nil
}

func limit(spec *specs.Spec, c Config) {
	spec.Linux.CgroupsPath = c.Cgroup
	if c.Limits.Memory > 0 {
		bytes := int64(c.Limits.Memory)
		spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &bytes}
		if c.Limits.NoSwap {
			spec.Linux.Resources.Memory.Swap = &bytes
		}
	}
	if c.Limits.Threads > 0 {
		spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: &c.Limits.Threads}
	}
}

func namespaces(c Config) []specs.LinuxNamespace {
	types := []specs.LinuxNamespaceType{specs.MountNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace}
	if !c.HostNetwork {
		types = append(types, specs.NetworkNamespace)
	}
	if c.Users != nil {
		types = append(types, specs.UserNamespace)
	}
	list := make([]specs.LinuxNamespace, len(types))
	for i, t := range types {
		list[i].Type = t
	}
	return list
}

// maskedPaths are files of /proc and /sys that tell of the host or steer it;
// the list is Docker's.
func maskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
}

func mountsOf(c Config) ([]specs.Mount, error) {
	ptsOptions := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if c.Users == nil {
		ptsOptions = append(ptsOptions, "gid=5") // tty; need not be mapped without root
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: ptsOptions},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "nodev", "mode=755"}},
	}
	if c.Users == nil || !c.HostNetwork {
		// The kernel lets a user name space mount sysfs only with a network of its own.
		mounts = append(mounts, specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}})
	}
	added := slices.Clone(c.Mounts)
	slices.SortFunc(added, func(a, b Mount) int { return strings.Compare(a.Destination, b.Destination) })
	for _, m := range added {
		if !path.IsAbs(m.Destination) || path.Clean(m.Destination) != m.Destination || m.Destination == "/" {
			return nil, fmt.Errorf("mount at %q: want a clean absolute path below /", m.Destination)
		}
		mounts = append(mounts, m.spec())
	}
	return mounts, nil
}

func (m Mount) spec() specs.Mount {
	options := []string{"nosuid", "nodev"}
	if !m.Executable {
		options = append(options, "noexec")
	}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	if m.Source != "" {
		// Not rbind: the options would not hold for what the host has mounted below
		// the source, which would stay writable and executable.
		return specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Source, Options: append(options, "bind", "rprivate")}
	}
	options = append(options, "mode=1777")
	if m.Size > 0 {
		options = append(options, fmt.Sprintf("size=%d", m.Size))
	}
	return specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "tmpfs", Options: options}
}
