package build

import (
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/internal/strictyaml"
)

// Kind is enclave.yaml's kind.
const Kind = "EnclaveBuild"

// MaxConfig bounds an enclave.yaml in bytes.
const MaxConfig = 64 << 10

// Config is an enclave.yaml: what the owner of an enclave decides.
type Config struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	// Name tells the enclaves of one image apart.
	Name string `yaml:"name"`
	// Image is a reference as image.Open takes it; a path in it is relative to the file.
	Image string `yaml:"image"`
	// Init is the digest of adyton-init, or "" to take that of the one at hand.
	Init string `yaml:"init"`

	Entrypoint   []string          `yaml:"entrypoint"` // default: the image's
	Args         []string          `yaml:"args"`       // default: the image's
	Env          map[string]string `yaml:"env"`        // added to the image's
	PassEnv      []string          `yaml:"passEnv"`
	WorkingDir   string            `yaml:"workingDir"` // default: the image's, else /
	User         string            `yaml:"user"`       // default: the image's, else 0:0
	Mounts       []Mount           `yaml:"mounts"`
	ReadOnlyRoot bool              `yaml:"readOnlyRoot"`
	Memory       Size              `yaml:"memory"`  // default: 256Mi
	Threads      uint32            `yaml:"threads"` // default: 4

	ProductID    uint16 `yaml:"productID"`
	SVN          uint16 `yaml:"svn"`
	Debug        bool   `yaml:"debug"`
	ExtProductID ID     `yaml:"extProductID"`
	FamilyID     ID     `yaml:"familyID"`

	Broker *Broker  `yaml:"broker"`
	Unlock []Unlock `yaml:"unlock"`

	// Dir is the directory of the file, from which Image is resolved.
	Dir string `yaml:"-"`
}

// Mount is a place in the enclave that is not the image's: a bind mount whose
// source is named at launch, or a tmpfs.
type Mount struct {
	Path     string `yaml:"path"`
	ReadOnly bool   `yaml:"readOnly"`
	Tmpfs    bool   `yaml:"tmpfs"`
	Size     Size   `yaml:"size"`
}

// Broker is the key broker that the enclave trusts.
type Broker struct {
	URL  string `yaml:"url"`
	SPKI string `yaml:"spki"`
}

// Unlock is a resource that the enclave fetches before it starts.
type Unlock struct {
	Resource string `yaml:"resource"`
	File     string `yaml:"file"`
	Env      string `yaml:"env"`
	Open     *Open  `yaml:"open"`
}

// Open is sealed data and where its plaintext goes.
type Open struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
}

// The defaults of a config.
const (
	defaultMemory  Size   = 256 << 20
	defaultThreads uint32 = 4
)

// LoadConfig reads an enclave.yaml.
func LoadConfig(file string) (*Config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read enclave.yaml: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read enclave.yaml: %w", err)
	}
	c, err := ParseConfig(file, text)
	if err != nil {
		return nil, err
	}
	c.Dir = filepath.Dir(file)
	return c, nil
}

// ParseConfig reads and checks the text of an enclave.yaml. An error is one line
// that begins with "file:line:column: ".
func ParseConfig(file string, text []byte) (*Config, error) {
	doc, err := strictyaml.Parse(file, text, MaxConfig)
	if err != nil {
		return nil, err
	}
	c := &Config{Memory: defaultMemory, Threads: defaultThreads}
	if err := doc.Decode(c); err != nil {
		return nil, err
	}
	for _, check := range c.checks() {
		if err := check.run(); err != nil {
			return nil, doc.ErrorAt(check.path, err)
		}
	}
	return c, nil
}

// SignOptions gives what the config says of the signature, all but its date.
func (c *Config) SignOptions() SignOptions {
	return SignOptions{
		ProductID:    c.ProductID,
		SVN:          c.SVN,
		Debug:        c.Debug,
		ExtProductID: c.ExtProductID,
		FamilyID:     c.FamilyID,
	}
}

// check is a rule about the value at a YAML path.
type check struct {
	path string
	run  func() error
}

// checks are the rules of an enclave.yaml, in the order of its fields.
func (c *Config) checks() []check {
	list := []check{
		{"$.apiVersion", func() error { return want(c.APIVersion, descriptor.Version) }},
		{"$.kind", func() error { return want(c.Kind, Kind) }},
		{"$.name", func() error { return descriptor.CheckName(c.Name) }},
		{"$.image", func() error { return required(c.Image, "the image to build from, for example oci:./image") }},
		{"$.init", func() error { return optional(c.Init, descriptor.CheckDigest) }},
		{"$.workingDir", func() error { return optional(c.WorkingDir, descriptor.CheckPath) }},
		{"$.user", func() error { return descriptor.CheckText(c.User) }},
		{"$.memory", func() error { return descriptor.CheckMemory(uint64(c.Memory)) }},
		{"$.threads", func() error { return descriptor.CheckThreads(c.Threads) }},
	}
	for i, text := range c.Entrypoint {
		list = append(list, check{fmt.Sprintf("$.entrypoint[%d]", i), func() error { return descriptor.CheckText(text) }})
	}
	for i, text := range c.Args {
		list = append(list, check{fmt.Sprintf("$.args[%d]", i), func() error { return descriptor.CheckText(text) }})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		list = append(list, check{"$.env", func() error {
			if err := descriptor.CheckVariable(name); err != nil {
				return err
			}
			return descriptor.CheckText(c.Env[name])
		}})
	}
	for i, name := range c.PassEnv {
		list = append(list, check{fmt.Sprintf("$.passEnv[%d]", i), func() error { return descriptor.CheckVariable(name) }})
	}
	var mounts []descriptor.Mount
	for i, m := range c.Mounts {
		mounts = append(mounts, m.descriptor())
		list = append(list, check{fmt.Sprintf("$.mounts[%d]", i), func() error { return descriptor.CheckMount(m.descriptor()) }})
	}
	list = append(list, check{"$.broker", c.checkBroker})
	for i, u := range c.Unlock {
		list = append(list, check{fmt.Sprintf("$.unlock[%d]", i), func() error { return c.checkUnlock(u, mounts) }})
	}
	return list
}

func (c *Config) checkBroker() error {
	if c.Broker == nil {
		return nil
	}
	if err := required(c.Broker.SPKI, "spki, the digest of the broker's public key, as `adyton broker init` prints it"); err != nil {
		return err
	}
	if err := descriptor.CheckDigest(c.Broker.SPKI); err != nil {
		return err
	}
	if c.Broker.URL == "" {
		return nil
	}
	if u, err := url.Parse(c.Broker.URL); err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q is not a URL of the form https://host:port", c.Broker.URL)
	}
	return nil
}

func (c *Config) checkUnlock(u Unlock, mounts []descriptor.Mount) error {
	if _, err := kbs.ParseResourceURI(u.Resource); err != nil {
		return err
	}
	if c.Broker == nil {
		return fmt.Errorf("there is no broker to fetch %s from: name the one that the enclave trusts under broker", u.Resource)
	}
	return descriptor.CheckUnlock(u.descriptor(), mounts)
}

func (m Mount) descriptor() descriptor.Mount {
	kind := descriptor.MountBind
	if m.Tmpfs {
		kind = descriptor.MountTmpfs
	}
	return descriptor.Mount{Destination: m.Path, Kind: kind, ReadOnly: m.ReadOnly, Size: uint64(m.Size)}
}

func (u Unlock) descriptor() descriptor.Unlock {
	d := descriptor.Unlock{Resource: u.Resource, File: u.File, Env: u.Env}
	if u.Open != nil {
		d.Open = &descriptor.Open{From: u.Open.From, To: u.Open.To}
	}
	return d
}

func want(have, want string) error {
	if have != want {
		return fmt.Errorf("is %q, want %q", have, want)
	}
	return nil
}

func required(text, what string) error {
	if text == "" {
		return fmt.Errorf("is missing: name %s", what)
	}
	return nil
}

func optional(text string, check func(string) error) error {
	if text == "" {
		return nil
	}
	return check(text)
}

// Size is a number of bytes: an integer, or one with Ki, Mi, Gi or Ti (powers of
// 1,024) as in Kubernetes.
type Size uint64

// UnmarshalYAML reads a size.
func (s *Size) UnmarshalYAML(node ast.Node) error {
	text := node.GetToken().Value
	digits := strings.TrimRight(text, "KMGTi")
	shift, ok := map[string]int{"": 0, "Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}[text[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || n > math.MaxUint64>>shift {
		return nodeError(node, "%q is not a size: write bytes, or a number with Ki, Mi, Gi or Ti", text)
	}
	*s = Size(n << shift)
	return nil
}

// ID is a 16-byte identifier, 32 hexadecimal digits in YAML.
type ID [16]byte

// UnmarshalYAML reads an identifier. It takes the text as written: YAML would read
// one of decimal digits alone as a number.
func (id *ID) UnmarshalYAML(node ast.Node) error {
	text := node.GetToken().Value
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(id) {
		return nodeError(node, "%q is not an identifier: write 32 hexadecimal digits", text)
	}
	*id = ID(raw)
	return nil
}

// nodeError makes an error that package strictyaml knows the position of.
func nodeError(node ast.Node, format string, args ...any) error {
	return &yaml.SyntaxError{Message: fmt.Sprintf(format, args...), Token: node.GetToken()}
}
