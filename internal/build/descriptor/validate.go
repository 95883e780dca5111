package descriptor

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The bounds of an enclave.
const (
	MinMemory  = 1 << 20 // 1 MiB
	MaxMemory  = 1 << 42 // 4 TiB
	MaxThreads = 4096
	maxEntries = 4096 // of each list
	maxString  = 128 << 10
	maxPath    = 4095 // Linux's PATH_MAX without the NUL
)

var (
	namePattern     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
	userPattern     = regexp.MustCompile(`^(0|[1-9][0-9]{0,9}):(0|[1-9][0-9]{0,9})$`)
	platformPattern = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+(/[a-z0-9.]+)?$`)
)

// Validate checks every field. The first error names its part.
func (d *Descriptor) Validate() error {
	checks := []struct {
		part  string
		check func() error
	}{
		{"version", func() error {
			if d.APIVersion != Version {
				return fmt.Errorf("apiVersion is %q, want %q", d.APIVersion, Version)
			}
			return nil
		}},
		{"name", func() error { return CheckName(d.Name) }},
		{"image", d.checkImage},
		{"init", func() error { return CheckDigest(d.Init) }},
		{"arguments", d.checkArguments},
		{"environment", d.checkEnvironment},
		{"pass-environment", d.checkPassEnvironment},
		{"working-directory", func() error { return CheckPath(d.WorkingDirectory) }},
		{"user", d.checkUser},
		{"mounts", d.checkMounts},
		{"memory", func() error { return CheckMemory(d.Memory) }},
		{"threads", func() error { return CheckThreads(d.Threads) }},
		{"unlock", d.checkUnlock},
		{"broker", d.checkBroker},
	}
	for _, c := range checks {
		if err := c.check(); err != nil {
			return fmt.Errorf("enclave descriptor: %s: %w", c.part, err)
		}
	}
	return nil
}

// CheckName checks that a name is a DNS label (RFC 1123).
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%q is not a name: use 1 to 63 of a-z, 0-9 and -, and no - at either end", name)
	}
	return nil
}

// CheckDigest checks for "sha256:" and 64 lower-case hex digits.
func CheckDigest(digest string) error {
	text, ok := strings.CutPrefix(digest, "sha256:")
	raw, err := hex.DecodeString(text)
	if !ok || err != nil || len(raw) != 32 || strings.ToLower(text) != text {
		return fmt.Errorf("%q is not a digest: write sha256: and 64 lower-case hexadecimal digits", digest)
	}
	return nil
}

// CheckVariable checks the name of an environment variable.
func CheckVariable(name string) error {
	if len(name) > 255 || !variablePattern.MatchString(name) {
		return fmt.Errorf("%q is not the name of an environment variable", name)
	}
	return nil
}

// CheckPath checks for an absolute path without ".", ".." or needless slashes.
func CheckPath(p string) error {
	if len(p) > maxPath {
		return fmt.Errorf("a path is %d bytes long, at most %d are allowed", len(p), maxPath)
	}
	if !path.IsAbs(p) || path.Clean(p) != p {
		return fmt.Errorf("%q is not a clean absolute path: write it from / without dot elements", p)
	}
	return CheckText(p)
}

// CheckText checks that text can be an argument or a variable: UTF-8 without NUL.
func CheckText(text string) error {
	switch {
	case len(text) > maxString:
		return fmt.Errorf("a text is %d bytes long, at most %d are allowed", len(text), maxString)
	case !utf8.ValidString(text):
		return fmt.Errorf("%q is not UTF-8", text)
	case strings.ContainsRune(text, 0):
		return fmt.Errorf("%q has a NUL byte", text)
	}
	return nil
}

// CheckMemory checks the memory limit in bytes.
func CheckMemory(bytes uint64) error {
	if bytes < MinMemory || bytes > MaxMemory {
		return fmt.Errorf("%d bytes are not between 1Mi and 4Ti", bytes)
	}
	return nil
}

// CheckThreads checks the number of threads.
func CheckThreads(n uint32) error {
	if n < 1 || n > MaxThreads {
		return fmt.Errorf("%d is not between 1 and %d", n, MaxThreads)
	}
	return nil
}

func (d *Descriptor) checkImage() error {
	if !platformPattern.MatchString(d.Image.Platform) {
		return fmt.Errorf("platform %q is not os/architecture", d.Image.Platform)
	}
	return CheckDigest(d.Image.Digest)
}

func (d *Descriptor) checkArguments() error {
	if len(d.Arguments) == 0 || d.Arguments[0] == "" {
		return errors.New("there is no command: set entrypoint or args")
	}
	if len(d.Arguments) > maxEntries {
		return fmt.Errorf("there are %d, at most %d are allowed", len(d.Arguments), maxEntries)
	}
	for _, a := range d.Arguments {
		if err := CheckText(a); err != nil {
			return err
		}
	}
	return nil
}

func (d *Descriptor) checkEnvironment() error {
	if len(d.Environment) > maxEntries {
		return fmt.Errorf("there are %d variables, at most %d are allowed", len(d.Environment), maxEntries)
	}
	for name, value := range d.Environment {
		if err := CheckVariable(name); err != nil {
			return err
		}
		if err := CheckText(value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (d *Descriptor) checkPassEnvironment() error {
	if len(d.PassEnvironment) > maxEntries {
		return fmt.Errorf("there are %d variables, at most %d are allowed", len(d.PassEnvironment), maxEntries)
	}
	seen := map[string]bool{}
	for _, name := range d.PassEnvironment {
		if err := CheckVariable(name); err != nil {
			return err
		}
		if choosesCode(name) {
			return fmt.Errorf("%s lets the host choose what code runs: fix its value with env", name)
		}
		if seen[name] {
			return fmt.Errorf("%s is named twice", name)
		}
		seen[name] = true
	}
	return nil
}

// choosesCode names the variables that steer the dynamic loader, the search for the
// application's program, and the Go runtime of the init program, which has what the
// host passes in its own environment.
func choosesCode(name string) bool {
	return name == "PATH" || strings.HasPrefix(name, "LD_") || name == "GODEBUG"
}

func (d *Descriptor) checkUser() error {
	m := userPattern.FindStringSubmatch(d.User)
	if m == nil {
		return fmt.Errorf("%q is not uid:gid", d.User)
	}
	for _, id := range m[1:] {
		// 2³²-1 means "no user" to the kernel.
		if v, err := strconv.ParseUint(id, 10, 32); err != nil || v == 1<<32-1 {
			return fmt.Errorf("%s is not a user or group id", id)
		}
	}
	return nil
}

func (d *Descriptor) checkMounts() error {
	if len(d.Mounts) > maxEntries {
		return fmt.Errorf("there are %d, at most %d are allowed", len(d.Mounts), maxEntries)
	}
	kinds := map[string]string{} // by destination
	for _, m := range d.Mounts {
		if err := CheckMount(m); err != nil {
			return err
		}
		if kinds[m.Destination] != "" {
			return fmt.Errorf("%s is mounted twice", m.Destination)
		}
		kinds[m.Destination] = m.Kind
	}
	// What is in a bind mount is the host's: there, the place of a further mount could
	// be a symbolic link, by which it would cover anything, the init program too.
	for _, m := range d.Mounts {
		for end := strings.LastIndexByte(m.Destination, '/'); end > 0; end = strings.LastIndexByte(m.Destination[:end], '/') {
			if kinds[m.Destination[:end]] == MountBind {
				return fmt.Errorf("%s is below the mount %s, where the host could redirect it: mount it elsewhere", m.Destination, m.Destination[:end])
			}
		}
	}
	return nil
}

// reserved are the trees of the enclave that the launcher fills.
var reserved = []string{"/dev", "/proc", "/sys", "/run/adyton"}

// CheckMount checks one mount. The trees that the launcher fills, and what
// encloses them, cannot be mounted over.
func CheckMount(m Mount) error {
	if err := CheckPath(m.Destination); err != nil {
		return err
	}
	if m.Destination == "/" {
		return errors.New("/ is the image's: mount below it")
	}
	for _, tree := range reserved {
		if Under(m.Destination, tree) || Under(tree, m.Destination) {
			return fmt.Errorf("%s would cover %s, which belongs to Adyton", m.Destination, tree)
		}
	}
	switch {
	case m.Kind != MountBind && m.Kind != MountTmpfs:
		return fmt.Errorf("%s: kind is %q, want %s or %s", m.Destination, m.Kind, MountBind, MountTmpfs)
	case m.Size != 0 && m.Kind != MountTmpfs:
		return fmt.Errorf("%s: only a tmpfs has a size", m.Destination)
	case m.Size > MaxMemory:
		return fmt.Errorf("%s: size is above 4Ti", m.Destination)
	case m.ReadOnly && m.Kind == MountTmpfs:
		return fmt.Errorf("%s: a read-only tmpfs holds nothing", m.Destination)
	}
	return nil
}

func (d *Descriptor) checkUnlock() error {
	if len(d.Unlock) > maxEntries {
		return fmt.Errorf("there are %d resources, at most %d are allowed", len(d.Unlock), maxEntries)
	}
	if len(d.Unlock) > 0 && d.Broker == nil {
		return errors.New("there is no broker: name the one that the enclave trusts by broker.spki, else the host chooses it")
	}
	seen := map[string]bool{}
	for _, u := range d.Unlock {
		if err := CheckUnlock(u, d.Mounts); err != nil {
			return err
		}
		target := u.File + u.Env
		if u.Open != nil {
			target = u.Open.To
		}
		if seen[target] {
			return fmt.Errorf("%s is unlocked twice", target)
		}
		seen[target] = true
	}
	return nil
}

// CheckUnlock checks one resource. What is unlocked must stay in memory: below
// /run, which is a tmpfs in every enclave, or below a tmpfs of mounts.
func CheckUnlock(u Unlock, mounts []Mount) error {
	if !strings.HasPrefix(u.Resource, "kbs:///") || CheckText(u.Resource) != nil {
		return fmt.Errorf("%q is not a resource: write kbs:///repository/type/tag", u.Resource)
	}
	count := 0
	for _, set := range []bool{u.File != "", u.Env != "", u.Open != nil} {
		if set {
			count++
		}
	}
	if count != 1 {
		return fmt.Errorf("%s: set exactly one of file, env and open", u.Resource)
	}
	if u.Env != "" {
		return CheckVariable(u.Env)
	}
	target := u.File
	if u.Open != nil {
		if err := CheckPath(u.Open.From); err != nil {
			return err
		}
		target = u.Open.To
	}
	if err := CheckPath(target); err != nil {
		return err
	}
	if !inMemory(target, mounts) {
		return fmt.Errorf("%s is not in memory: put it below /run or below a mount with tmpfs: true", target)
	}
	return nil
}

// inMemory reports whether the innermost mount that holds target is a tmpfs.
func inMemory(target string, mounts []Mount) bool {
	if target == "/run" || Under(target, "/run/adyton") {
		return false
	}
	inner := Mount{Destination: "/", Kind: MountBind}
	if Under(target, "/run") {
		inner = Mount{Destination: "/run", Kind: MountTmpfs}
	}
	for _, m := range mounts {
		if target != m.Destination && Under(target, m.Destination) && len(m.Destination) >= len(inner.Destination) {
			inner = m
		}
	}
	return inner.Kind == MountTmpfs
}

// Under reports whether the clean path p is tree or in it.
func Under(p, tree string) bool {
	return p == tree || tree == "/" || strings.HasPrefix(p, tree+"/")
}

func (d *Descriptor) checkBroker() error {
	if d.Broker == nil {
		return nil
	}
	if err := CheckText(d.Broker.URL); err != nil {
		return err
	}
	return CheckDigest(d.Broker.SPKI)
}
