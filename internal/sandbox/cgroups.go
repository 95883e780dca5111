package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

const cgroupRoot = "/sys/fs/cgroup"

// CgroupParent is the control group that those of all sandboxes are made in.
const CgroupParent = "/adyton"

// CgroupsUsable reports whether memory limits can be set here, by making
// [CgroupParent] in the hierarchy that controls memory (version 1 or 2). Without
// root that needs a delegated hierarchy, which is not looked for.
func CgroupsUsable() bool {
	err := os.Mkdir(filepath.Join(memoryHierarchy(), CgroupParent), 0o755)
	return err == nil || errors.Is(err, fs.ErrExist) && os.Geteuid() == 0
}

// SwapLimitUsable reports whether the kernel can count swap in a memory limit.
func SwapLimitUsable() bool {
	if unified() {
		return true
	}
	_, err := os.Stat(filepath.Join(cgroupRoot, "memory", "memory.memsw.limit_in_bytes"))
	return err == nil
}

func memoryHierarchy() string {
	if unified() {
		return cgroupRoot
	}
	return filepath.Join(cgroupRoot, "memory")
}

func unified() bool {
	_, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers"))
	return err == nil
}
