// Package softtee is the software TEE: a stand-in for SGX and TDX platforms and
// for Intel's certification of them, for development and CI.
//
// An [Installation] is a directory with a software root CA and the platforms that
// it certifies. A [Platform] has a software CPU, on which enclaves are launched,
// and quoting enclaves, whose quotes chain to that root. [Installation.PCS] serves
// the collateral. Everything is in Intel's formats; only the root differs, and
// whoever has the directory can forge anything: no policy trusts the root unless
// it names it.
//
// The package may import the packages below it (cpu, pki, qe, collateral, pcs) and
// the libraries sgx and dcap; packages launch and cli import it. To add a kind of
// platform, add a field to [PlatformSpec] and honour it in collateral.go.
package softtee

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee/pcs"
	"github.com/adyton-dev/adyton/internal/softtee/pki"
	"github.com/adyton-dev/adyton/sgx"
)

// DefaultPlatform is the name of the up-to-date platform that Create makes.
const DefaultPlatform = "default"

// RootCertificateFile is the name, in an installation's directory, of the root
// certificate in PEM, for the certificateFile of a TrustPolicy.
const RootCertificateFile = "root.pem"

// ErrExists says that a directory already holds an installation. It is an fs.ErrExist.
var ErrExists = fmt.Errorf("a software TEE is already here: %w", fs.ErrExist)

// Installation is a software TEE on disk. It is safe for concurrent use, also by
// several processes.
type Installation struct {
	dir   string
	id    string
	now   func() time.Time
	root  *pki.Authority
	cas   map[dcap.PCKCA]*pki.Authority
	tcb   *pki.Authority
	qeKey *rsa.PrivateKey // signs the quoting enclaves
}

// Option changes how an installation is made or opened.
type Option func(*Installation)

// WithClock sets where the time of certificates and collateral comes from.
func WithClock(now func() time.Time) Option {
	return func(i *Installation) { i.now = now }
}

// DefaultDir gives the directory that is meant when a user names none:
// /var/lib/adyton/softtee for root, else adyton/softtee in $XDG_STATE_HOME or
// ~/.local/state.
func DefaultDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/adyton/softtee", nil
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "adyton", "softtee"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a directory for the software TEE: %w; name one with --dir", err)
	}
	return filepath.Join(home, ".local", "state", "adyton", "softtee"), nil
}

// Create makes an installation with new keys and one platform, [DefaultPlatform],
// in dir, which must be absent or empty. The directory has mode 0700, every file
// with a key 0600. It appears complete or not at all. The error is [ErrExists] if
// dir holds an installation.
func Create(dir string, options ...Option) (*Installation, error) {
	i, err := create(dir, options)
	if err != nil {
		return nil, fmt.Errorf("create software TEE in %s: %w", dir, err)
	}
	return i, nil
}

// Open reads an installation. The error is an fs.ErrNotExist if there is none.
func Open(dir string, options ...Option) (*Installation, error) {
	i, err := open(dir, options)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no software TEE in %s: make one with `adyton softtee init --dir %s`: %w", dir, dir, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("open software TEE in %s: %w", dir, err)
	}
	return i, nil
}

// Dir gives the installation's directory.
func (i *Installation) Dir() string { return i.dir }

// ID tells installations apart: 8 hex digits, also in the root's name.
func (i *Installation) ID() string { return i.id }

// Root gives the root certificate.
func (i *Installation) Root() *x509.Certificate { return i.root.Certificate }

// TrustRoot gives the root under a name, for a dcap.Verifier.
func (i *Installation) TrustRoot(name string) dcap.Root {
	return dcap.Root{Name: name, PublicKey: &i.root.Key.PublicKey, Software: true}
}

// PCS gives a collateral service for all platforms of the installation, including
// those created later.
func (i *Installation) PCS() http.Handler { return pcs.New(i) }

const (
	stateFile    = "installation.json"
	stateVersion = 1
	maxState     = 64 << 10
)

// installationState is the JSON of stateFile. Keys are PKCS #8, certificates DER.
type installationState struct {
	Version     int            `json:"version"`
	ID          string         `json:"id"`
	Root        authorityState `json:"root"`
	ProcessorCA authorityState `json:"processorCA"`
	PlatformCA  authorityState `json:"platformCA"`
	TCBSigner   authorityState `json:"tcbSigner"`
	QESigner    []byte         `json:"qeSigner"`
}

func create(dir string, options []Option) (*Installation, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := checkFree(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	// Built beside dir and renamed onto it, so that nothing half-made is ever seen.
	building, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".new-") // mode 0700
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(building) // nothing is there after the rename
	i := configure(building, options)
	if err := i.makeKeys(); err != nil {
		return nil, err
	}
	if err := i.save(); err != nil {
		return nil, err
	}
	if err := i.CreatePlatform(DefaultPlatform, PlatformSpec{}); err != nil {
		return nil, err
	}
	// Not os.Rename, which refuses an empty directory as the target.
	if err := unix.Rename(building, dir); err != nil {
		if err := checkFree(dir); err != nil {
			return nil, err // somebody else was faster
		}
		return nil, err
	}
	i.dir = dir
	return i, nil
}

// checkFree says why an installation cannot be made in dir.
func checkFree(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) == 0:
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, stateFile)); err == nil {
		return ErrExists
	}
	return errors.New("the directory is not empty: name another")
}

func configure(dir string, options []Option) *Installation {
	i := &Installation{dir: dir, now: time.Now}
	for _, option := range options {
		option(i)
	}
	return i
}

func (i *Installation) makeKeys() error {
	var id [4]byte
	rand.Read(id[:])
	i.id = hex.EncodeToString(id[:])
	now := i.now()
	var err error
	if i.root, err = pki.NewRoot(i.id, now); err != nil {
		return err
	}
	i.cas = make(map[dcap.PCKCA]*pki.Authority)
	for _, kind := range []dcap.PCKCA{dcap.ProcessorCA, dcap.PlatformCA} {
		if i.cas[kind], err = i.root.NewPCKCA(kind, now); err != nil {
			return err
		}
	}
	if i.tcb, err = i.root.NewTCBSigner(now); err != nil {
		return err
	}
	if i.qeKey, err = sgx.GenerateKey(rand.Reader); err != nil {
		return fmt.Errorf("make quoting enclave signing key: %w", err)
	}
	return nil
}

func (i *Installation) save() error {
	state := installationState{Version: stateVersion, ID: i.id}
	for _, a := range []struct {
		from *pki.Authority
		to   *authorityState
	}{
		{i.root, &state.Root}, {i.cas[dcap.ProcessorCA], &state.ProcessorCA},
		{i.cas[dcap.PlatformCA], &state.PlatformCA}, {i.tcb, &state.TCBSigner},
	} {
		if err := a.to.set(a.from); err != nil {
			return err
		}
	}
	var err error
	if state.QESigner, err = x509.MarshalPKCS8PrivateKey(i.qeKey); err != nil {
		return err
	}
	text, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	if err := createFile(filepath.Join(i.dir, stateFile), text, 0o600); err != nil {
		return err
	}
	if err := createFile(filepath.Join(i.dir, RootCertificateFile), pki.PEM(i.root.Certificate), 0o644); err != nil {
		return err
	}
	return os.Mkdir(filepath.Join(i.dir, platformsDir), 0o700)
}

func open(dir string, options []Option) (*Installation, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	i := configure(dir, options)
	var state installationState
	if err := readJSON(filepath.Join(dir, stateFile), &state); err != nil {
		return nil, err
	}
	if state.Version != stateVersion {
		return nil, fmt.Errorf("%s has version %d, this program knows %d", stateFile, state.Version, stateVersion)
	}
	i.id = state.ID
	i.cas = make(map[dcap.PCKCA]*pki.Authority)
	if i.root, err = state.Root.authority(); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	if i.cas[dcap.ProcessorCA], err = state.ProcessorCA.authority(); err != nil {
		return nil, fmt.Errorf("processor CA: %w", err)
	}
	if i.cas[dcap.PlatformCA], err = state.PlatformCA.authority(); err != nil {
		return nil, fmt.Errorf("platform CA: %w", err)
	}
	if i.tcb, err = state.TCBSigner.authority(); err != nil {
		return nil, fmt.Errorf("TCB signer: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(state.QESigner)
	if err != nil {
		return nil, fmt.Errorf("quoting enclave signer: %w", err)
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("quoting enclave signer: %T, want RSA", key)
	}
	i.qeKey = rsaKey
	return i, nil
}
