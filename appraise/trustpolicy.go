package appraise

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/strictyaml"
)

// The names of the built-in roots.
const (
	// RootIntel is Intel's SGX Root CA: SGX and TDX.
	RootIntel = "intel"
	// RootAMD are AMD's root keys (ARK) for Milan, Genoa and Turin: SEV-SNP.
	RootAMD = "amd"
)

// MaxTrustPolicy bounds a trust policy file, in bytes.
const MaxTrustPolicy = 256 << 10

// TrustPolicy says which evidence is believed. It is about platforms; which
// enclave may have which key is for release policies. As a file:
//
//	apiVersion: adyton.dev/v1alpha1
//	kind: TrustPolicy
//	metadata: {name: demo}
//	spec:
//	  roots:
//	    - name: intel                    # built in, as is amd
//	    - {name: lab, software: true, certificateFile: root.pem}   # or certificate: PEM text
//	  tees: [sgx, tdx, snp]              # default: whatever the roots vouch for
//	  tcb:
//	    acceptedStatuses: [UpToDate]     # the default
//	    acceptedAdvisories: []           # INTEL-SA-…; "*" accepts all
//	    minimumEvaluationNumber: 0
//	    collateralGrace: 0s
//	  snp:
//	    minimumTCB: {bootloader: 0, tee: 0, snp: 0, microcode: 0}
//	  allowDebug: false
//	  requireSandbox: false
type TrustPolicy struct {
	// Name is for people.
	Name string
	// Roots are the trust anchors. At least one.
	Roots []Root
	// TEEs are the accepted kinds, attest.SGX and so on; empty: those that the
	// roots vouch for.
	TEEs []string
	// TCB is for Intel's collateral.
	TCB TCBPolicy
	// MinimumSNPTCB is the least reported TCB of SEV-SNP, by component.
	MinimumSNPTCB SNPTCB
	// AllowDebug accepts TEEs that the host can read.
	AllowDebug bool
	// RequireSandbox accepts only TEEs whose init-data names a sandbox.
	RequireSandbox bool
}

// Root is a trust anchor.
type Root struct {
	// Name is RootIntel, RootAMD or one of the policy's own.
	Name string
	// Software says that the root is a software TEE's. It must be said.
	Software bool
	// Certificate is nil for the built-in roots. Its public key is what is trusted.
	Certificate *x509.Certificate
}

// TCBPolicy says how old an Intel platform may be.
type TCBPolicy struct {
	// AcceptedStatuses are Intel's words; UpToDate is always accepted. Revoked and
	// NotSupported cannot be.
	AcceptedStatuses []dcap.Status
	// AcceptedAdvisories are the ids (INTEL-SA-00615) that may apply; "*" stands for
	// all, empty for none. An up-to-date platform may be open to advisories too.
	AcceptedAdvisories []string
	// MinimumEvaluationNumber is the least tcbEvaluationDataNumber.
	MinimumEvaluationNumber uint32
	// CollateralGrace is how long after its date collateral is still accepted.
	CollateralGrace time.Duration
}

// DefaultTrustPolicy trusts Intel's root, up-to-date platforms and nothing else:
// no software roots, no debug, no grace.
func DefaultTrustPolicy() *TrustPolicy {
	return &TrustPolicy{Name: "default", Roots: []Root{{Name: RootIntel}}}
}

// LoadTrustPolicy reads a YAML file of kind TrustPolicy. An error names the file,
// line and column.
func LoadTrustPolicy(path string) (*TrustPolicy, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load trust policy: %w", err)
	}
	if info.Size() > MaxTrustPolicy {
		return nil, fmt.Errorf("load trust policy: %s has %d bytes, more than %d", path, info.Size(), MaxTrustPolicy)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load trust policy: %w", err)
	}
	return parseTrustPolicy(path, data, filepath.Dir(path))
}

// ParseTrustPolicy parses and checks a policy. certificateFile is read relative
// to dir. An error begins with "policy:line:column: ".
func ParseTrustPolicy(data []byte, dir string) (*TrustPolicy, error) {
	return parseTrustPolicy("policy", data, dir)
}

func parseTrustPolicy(name string, data []byte, dir string) (*TrustPolicy, error) {
	yaml, err := strictyaml.Parse(name, data, MaxTrustPolicy)
	if err != nil {
		return nil, err
	}
	var document trustPolicyDocument
	if err := yaml.Decode(&document); err != nil {
		return nil, err
	}
	policy, err := document.policy(dir)
	var at *fault
	if errors.As(err, &at) {
		return nil, yaml.ErrorAt(at.path, at.err)
	}
	return policy, err
}

// trustPolicyDocument is the YAML form.
type trustPolicyDocument struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Spec struct {
		Roots []struct {
			Name            string `yaml:"name"`
			Software        bool   `yaml:"software"`
			Certificate     string `yaml:"certificate"`
			CertificateFile string `yaml:"certificateFile"`
		} `yaml:"roots"`
		TEEs []string `yaml:"tees"`
		TCB  struct {
			AcceptedStatuses        []dcap.Status `yaml:"acceptedStatuses"`
			AcceptedAdvisories      []string      `yaml:"acceptedAdvisories"`
			MinimumEvaluationNumber uint32        `yaml:"minimumEvaluationNumber"`
			CollateralGrace         string        `yaml:"collateralGrace"`
		} `yaml:"tcb"`
		SNP struct {
			MinimumTCB struct {
				Bootloader uint8 `yaml:"bootloader"`
				TEE        uint8 `yaml:"tee"`
				SNP        uint8 `yaml:"snp"`
				Microcode  uint8 `yaml:"microcode"`
			} `yaml:"minimumTCB"`
		} `yaml:"snp"`
		AllowDebug     bool `yaml:"allowDebug"`
		RequireSandbox bool `yaml:"requireSandbox"`
	} `yaml:"spec"`
}

// fault is an error at a place of the document.
type fault struct {
	path string // YAML path: $.spec.roots[0].name
	err  error
}

func (f *fault) Error() string { return strings.TrimPrefix(f.path, "$.") + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// policy converts and checks the document. Its error is a *fault.
func (d *trustPolicyDocument) policy(dir string) (*TrustPolicy, error) {
	if d.APIVersion != "adyton.dev/v1alpha1" {
		return nil, &fault{"$.apiVersion", fmt.Errorf("%q, want adyton.dev/v1alpha1", d.APIVersion)}
	}
	if d.Kind != "TrustPolicy" {
		return nil, &fault{"$.kind", fmt.Errorf("%q, want TrustPolicy", d.Kind)}
	}
	p := &TrustPolicy{
		Name:           d.Metadata.Name,
		TEEs:           d.Spec.TEEs,
		MinimumSNPTCB:  SNPTCB(d.Spec.SNP.MinimumTCB),
		AllowDebug:     d.Spec.AllowDebug,
		RequireSandbox: d.Spec.RequireSandbox,
		TCB: TCBPolicy{
			AcceptedStatuses:        d.Spec.TCB.AcceptedStatuses,
			AcceptedAdvisories:      d.Spec.TCB.AcceptedAdvisories,
			MinimumEvaluationNumber: d.Spec.TCB.MinimumEvaluationNumber,
		},
	}
	if text := d.Spec.TCB.CollateralGrace; text != "" {
		grace, err := time.ParseDuration(text)
		if err != nil {
			return nil, &fault{"$.spec.tcb.collateralGrace", fmt.Errorf("%q is not a duration such as 72h", text)}
		}
		p.TCB.CollateralGrace = grace
	}
	for i, root := range d.Spec.Roots {
		certificate, err := readRoot(root.Certificate, root.CertificateFile, dir)
		if err != nil {
			return nil, &fault{fmt.Sprintf("$.spec.roots[%d]", i), err}
		}
		p.Roots = append(p.Roots, Root{Name: root.Name, Software: root.Software, Certificate: certificate})
	}
	return p, p.Check()
}

// Check says whether the policy makes sense. [New] calls it.
func (p *TrustPolicy) Check() error {
	if len(p.Roots) == 0 {
		return &fault{"$.spec.roots", errors.New("at least one root is needed: `- name: intel`")}
	}
	for i, root := range p.Roots {
		path := fmt.Sprintf("$.spec.roots[%d]", i)
		builtin := root.Name == RootIntel || root.Name == RootAMD
		switch {
		case root.Name == "":
			return &fault{path, errors.New("a root needs a name")}
		case slices.ContainsFunc(p.Roots[:i], func(other Root) bool { return other.Name == root.Name }):
			return &fault{path + ".name", fmt.Errorf("%q is there twice", root.Name)}
		case builtin && root.Certificate != nil:
			return &fault{path, fmt.Errorf("%q is built in and takes no certificate", root.Name)}
		case builtin && root.Software:
			return &fault{path + ".software", fmt.Errorf("%q is no software root", root.Name)}
		case builtin:
			continue
		case root.Certificate == nil:
			return &fault{path, fmt.Errorf("%q needs a certificate or certificateFile; built in are %s and %s", root.Name, RootIntel, RootAMD)}
		case isSoftwareRoot(root.Certificate) && !root.Software:
			return &fault{path, fmt.Errorf("the certificate of %q is a software TEE's: say `software: true` if that is meant", root.Name)}
		}
		if _, ok := root.Certificate.PublicKey.(*ecdsa.PublicKey); !ok {
			return &fault{path, fmt.Errorf("the certificate of %q has no ECDSA key", root.Name)}
		}
	}
	for i, tee := range p.TEEs {
		if !slices.Contains([]string{attest.SGX, attest.TDX, attest.SNP}, tee) {
			return &fault{fmt.Sprintf("$.spec.tees[%d]", i), fmt.Errorf("%q, want sgx, tdx or snp", tee)}
		}
	}
	for i, status := range p.TCB.AcceptedStatuses {
		if !slices.Contains(acceptableStatuses(), status) {
			return &fault{fmt.Sprintf("$.spec.tcb.acceptedStatuses[%d]", i), fmt.Errorf("%q, want one of %v", status, acceptableStatuses())}
		}
	}
	if p.TCB.CollateralGrace < 0 {
		return &fault{"$.spec.tcb.collateralGrace", errors.New("must not be negative")}
	}
	return nil
}

// acceptableStatuses leaves out Revoked and NotSupported.
func acceptableStatuses() []dcap.Status {
	return []dcap.Status{
		dcap.UpToDate, dcap.SWHardeningNeeded, dcap.ConfigurationNeeded, dcap.ConfigurationAndSWHardeningNeeded,
		dcap.OutOfDate, dcap.OutOfDateConfigurationNeeded, dcap.TDRelaunchAdvised, dcap.TDRelaunchAdvisedConfigurationNeeded,
	}
}

// isSoftwareRoot says whether a root calls itself a software TEE's. It protects
// from a mistake, not from an attacker, who would call it otherwise: that root is
// simply not trusted.
func isSoftwareRoot(certificate *x509.Certificate) bool {
	return strings.Contains(certificate.Subject.CommonName, "Adyton Software TEE")
}

func readRoot(text, file, dir string) (*x509.Certificate, error) {
	data := []byte(text)
	if file != "" {
		if text != "" {
			return nil, errors.New("certificate and certificateFile exclude each other")
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		var err error
		if data, err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	if len(data) == 0 {
		return nil, nil
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("the certificate is not one PEM block of type CERTIFICATE")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the certificate: %w", err)
	}
	return certificate, nil
}

// names says whether the policy has a root of that name.
func (p *TrustPolicy) names(root string) bool {
	return slices.ContainsFunc(p.Roots, func(r Root) bool { return r.Name == root })
}
