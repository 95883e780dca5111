package softtee

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee/collateral"
	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/internal/softtee/pki"
	"github.com/adyton-dev/adyton/internal/softtee/qe"
	"github.com/adyton-dev/adyton/sgx"
)

// Platform is a software machine: a CPU and its quoting enclaves. It is safe for
// concurrent use.
type Platform struct {
	state *platformState
	svns  svns
	cpu   *cpu.CPU
	qe    *qe.Enclave
	tdQE  *qe.Enclave
}

// TD is what a software trust domain says it is. The platform fills in the rest of
// the report: TDX module, TEE_TCB_SVN.
type TD struct {
	Attributes    dcap.TDAttributes
	XFAM          uint64
	MRTD          [48]byte
	MRCONFIGID    [48]byte
	MROWNER       [48]byte
	MROWNERCONFIG [48]byte
	RTMR          [4][48]byte
	// MRServiceTD is in TD 1.5 reports only.
	MRServiceTD [48]byte
	// Body is dcap.BodyTD10 (or 0), in a quote v4; dcap.BodyTD15 or BodyTD15Ex, in
	// a quote v5.
	Body dcap.BodyType
	// Extended is for BodyTD15Ex only, and needed there.
	Extended *dcap.TDExtended
}

// CreatePlatform makes a platform. The name has lower-case letters, digits and
// inner dashes, at most 63. The error is fs.ErrExist if the name is taken.
func (i *Installation) CreatePlatform(name string, spec PlatformSpec) error {
	if err := i.createPlatform(name, spec); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("the name is taken: %w", fs.ErrExist)
		}
		return fmt.Errorf("create platform %q: %w", name, err)
	}
	return nil
}

// Platform starts a platform: its CPU and its quoting enclaves.
func (i *Installation) Platform(name string) (*Platform, error) {
	state, err := i.loadPlatform(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no platform %q in %s: make one with `adyton softtee platform create --dir %s %s`: %w", name, i.dir, i.dir, name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("open platform %q: %w", name, err)
	}
	p, err := i.start(state)
	if err != nil {
		return nil, fmt.Errorf("start platform %q: %w", name, err)
	}
	return p, nil
}

// PlatformInfo says what a platform is, without its secrets.
type PlatformInfo struct {
	Name   string       `json:"name"`
	FMSPC  string       `json:"fmspc"`
	PCEID  string       `json:"pceid"`
	QEID   string       `json:"qeID"`
	CPUSVN string       `json:"cpuSVN"`
	Spec   PlatformSpec `json:"spec"`
}

// Platforms lists all platforms, sorted by name.
func (i *Installation) Platforms() ([]PlatformInfo, error) {
	states, err := i.platforms()
	if err != nil {
		return nil, fmt.Errorf("list platforms: %w", err)
	}
	infos := make([]PlatformInfo, len(states))
	for k, s := range states {
		infos[k] = PlatformInfo{
			Name: s.Name, FMSPC: s.fmspc.String(), PCEID: dcap.PCEID{}.String(), QEID: fmt.Sprintf("%x", s.QEID),
			CPUSVN: fmt.Sprintf("%x", s.pck.CPUSVN), Spec: s.Spec,
		}
	}
	return infos, nil
}

// Name gives the platform's name.
func (p *Platform) Name() string { return p.state.Name }

// CPU gives the software CPU, on which enclaves are launched.
func (p *Platform) CPU() *cpu.CPU { return p.cpu }

// QETargetInfo is what an enclave aims a report at to have it quoted.
func (p *Platform) QETargetInfo() *sgx.TargetInfo { return p.qe.TargetInfo() }

// Quote gives an SGX quote v3 of a report that was made on this platform's CPU for
// [Platform.QETargetInfo].
func (p *Platform) Quote(report *sgx.Report) ([]byte, error) { return p.qe.Quote(report) }

// QuoteV5 gives the same as a quote v5.
func (p *Platform) QuoteV5(report *sgx.Report) ([]byte, error) { return p.qe.QuoteV5(report) }

// TDQuote gives a quote of a software TD.
func (p *Platform) TDQuote(td TD, reportData [64]byte) ([]byte, error) {
	report := &dcap.TDReport{
		TEETCBSVN:     collateral.TEETCBSVN(p.svns.module),
		MRSEAM:        sha512.Sum384([]byte("Adyton software TDX module")),
		Attributes:    td.Attributes,
		XFAM:          td.XFAM,
		MRTD:          td.MRTD,
		MRCONFIGID:    td.MRCONFIGID,
		MROWNER:       td.MROWNER,
		MROWNERCONFIG: td.MROWNERCONFIG,
		RTMR:          td.RTMR,
		ReportData:    reportData,
		TEETCBSVN2:    collateral.TEETCBSVN(p.svns.moduleNow),
		MRServiceTD:   td.MRServiceTD,
		Extended:      td.Extended,
	}
	return p.tdQE.TDQuote(report, cmp.Or(td.Body, dcap.BodyTD10))
}

const platformsDir = "platforms"

// platformState is the JSON of a platform's file. Keys are PKCS #8.
type platformState struct {
	Version           int            `json:"version"`
	Name              string         `json:"name"`
	Spec              PlatformSpec   `json:"spec"`
	Seed              []byte         `json:"seed"` // the CPU's fuses: 32 bytes
	QEID              []byte         `json:"qeID"` // 16 bytes
	PCK               authorityState `json:"pck"`
	AttestationKey    []byte         `json:"attestationKey"`
	TDXAttestationKey []byte         `json:"tdxAttestationKey"`

	// pck, fmspc and certificate are read from PCK's certificate.
	pck         *dcap.PCK
	fmspc       dcap.FMSPC
	certificate *x509.Certificate
}

func (i *Installation) createPlatform(name string, spec PlatformSpec) error {
	if err := checkName(name); err != nil {
		return err
	}
	svns, err := spec.resolve()
	if err != nil {
		return err
	}
	state := platformState{Version: stateVersion, Name: name, Spec: spec, Seed: make([]byte, 32), QEID: make([]byte, 16)}
	rand.Read(state.Seed)
	rand.Read(state.QEID)
	components := collateral.Components(svns.platform)
	id := &pki.Identity{CA: spec.ca(), Components: components, PCESVN: collateral.PCESVN, CPUSVN: components}
	rand.Read(id.PPID[:])
	rand.Read(id.FMSPC[:]) // one family a platform, so that each has a TCB info of its own
	if id.CA == dcap.PlatformCA {
		rand.Read(id.InstanceID[:])
		id.SGXType = dcap.SGXScalable
	}
	pck, err := i.cas[id.CA].NewPCK(id, i.now())
	if err != nil {
		return err
	}
	if err := state.PCK.set(pck); err != nil {
		return err
	}
	for _, to := range []*[]byte{&state.AttestationKey, &state.TDXAttestationKey} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return fmt.Errorf("make attestation key: %w", err)
		}
		if *to, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			return fmt.Errorf("make attestation key: %w", err)
		}
	}
	text, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	return createFile(i.platformFile(name), text, 0o600)
}

func checkName(name string) error {
	if !regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`).MatchString(name) {
		return errors.New("a name has lower-case letters, digits and inner dashes, at most 63")
	}
	return nil
}

func (i *Installation) platformFile(name string) string {
	return filepath.Join(i.dir, platformsDir, name+".json")
}

func (i *Installation) loadPlatform(name string) (*platformState, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	path := i.platformFile(name)
	state := new(platformState)
	if err := readJSON(path, state); err != nil {
		return nil, err
	}
	if state.Version != stateVersion {
		return nil, fmt.Errorf("%s has version %d, this program knows %d", path, state.Version, stateVersion)
	}
	if state.Name != name || len(state.Seed) != 32 || len(state.QEID) != 16 {
		return nil, fmt.Errorf("%s is damaged", path)
	}
	var err error
	if state.certificate, err = x509.ParseCertificate(state.PCK.Certificate); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if state.pck, err = dcap.PCKOf(state.certificate); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	state.fmspc = state.pck.FMSPC
	return state, nil
}

// platforms reads all platforms, sorted by name.
func (i *Installation) platforms() ([]*platformState, error) {
	entries, err := os.ReadDir(filepath.Join(i.dir, platformsDir))
	if err != nil {
		return nil, err
	}
	var states []*platformState
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok || checkName(name) != nil {
			continue // one that is being written
		}
		state, err := i.loadPlatform(name)
		if err != nil {
			return nil, err
		}
		states = append(states, state)
	}
	return states, nil
}

func (i *Installation) start(state *platformState) (*Platform, error) {
	svns, err := state.Spec.resolve()
	if err != nil {
		return nil, err
	}
	p := &Platform{state: state, svns: svns, cpu: cpu.New([32]byte(state.Seed), state.pck.CPUSVN)}
	pck, err := state.PCK.authority()
	if err != nil {
		return nil, fmt.Errorf("PCK certificate: %w", err)
	}
	options := qe.Options{
		CPU: p.cpu, Signer: i.qeKey, ISVSVN: uint16(svns.qe), PCESVN: collateral.PCESVN, ID: [16]byte(state.QEID),
		PCKKey:   pck.Key,
		PCKChain: pki.PEM(pck.Certificate, i.cas[state.Spec.ca()].Certificate, i.root.Certificate),
	}
	for _, enclave := range []struct {
		tee dcap.TEE
		key []byte
		to  **qe.Enclave
	}{
		{dcap.SGX, state.AttestationKey, &p.qe},
		{dcap.TDX, state.TDXAttestationKey, &p.tdQE},
	} {
		options.TEE = enclave.tee
		if options.AttestationKey, err = parseKey(enclave.key); err != nil {
			return nil, fmt.Errorf("attestation key: %w", err)
		}
		if *enclave.to, err = qe.Launch(options); err != nil {
			return nil, err
		}
	}
	return p, nil
}
