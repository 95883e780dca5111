// Package launch turns a signed image into a running enclave: it refuses what is
// not as it was signed, launches the enclave on a platform, serves it its
// attestation files and its broker, and runs it in a sandbox.
//
// The steps are separate, so that a runtime plug-in, which has a runtime make the
// container, can take the first two:
//
//	Init     the signature and the measurement are checked, EINIT launches it
//	Serve    attestation files, descriptor, init-data and broker socket on the host
//	Prepare  both, and the image unpacked and an OCI bundle written
//
// The package may import build and softtee, the packages below it, sandbox and
// the libraries; cli/run imports it. What a container may do is decided in package
// ocispec, how an engine is called in package sandbox.
package launch

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pelletier/go-toml/v2"

	"github.com/adyton-dev/adyton/internal/build"
	"github.com/adyton-dev/adyton/internal/build/descriptor"
	"github.com/adyton-dev/adyton/internal/sandbox"
	"github.com/adyton-dev/adyton/internal/softtee/attestfs"
	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/refusal"
)

// Platform is the machine that enclaves are launched on. *softtee.Platform is one.
type Platform interface {
	attestfs.Quoter
	CPU() *cpu.CPU
}

// Found is what is about to run, as the launcher finds it, in place of what is
// signed. A field that differs from the signed one makes Init refuse.
type Found struct {
	Image descriptor.Image
	Init  string // "sha256:" and the hex digest of the init program
	// Arguments, if not nil, are the application's arguments after its program.
	Arguments []string
	// Environment has what the launcher sets. A name that is signed to be passed
	// is handed to the application; another is a change of the enclave.
	Environment map[string]string
}

// Enclave is an enclave that was launched as signed.
type Enclave struct {
	*cpu.Enclave
	Descriptor *descriptor.Descriptor
	InitData   []byte   // the document that CONFIGID binds
	PassedEnv  []string // KEY=VALUE
}

// Init compares what was found with what was signed and launches the enclave:
// CONFIGID is the digest of the init-data. The refusals are MeasurementMismatch,
// which names the parts that differ, SignatureInvalid and AttributesRefused.
func Init(platform Platform, signed *build.Signed, found Found, initData []byte) (*Enclave, error) {
	actual, passed := apply(signed.Descriptor, found)
	if err := signed.Check(actual); err != nil {
		return nil, err
	}
	mrenclave, err := actual.Measure()
	if err != nil {
		return nil, err
	}
	secs, err := actual.SECS(signed.SigStruct.Attributes)
	if err != nil {
		return nil, err
	}
	digest := sha512.Sum384(initData)
	copy(secs.ConfigID[:], digest[:])
	launched, err := platform.CPU().EINIT(secs, mrenclave, signed.SigStruct)
	if err != nil {
		return nil, einitRefusal(actual.Name, err)
	}
	return &Enclave{Enclave: launched, Descriptor: actual, InitData: initData, PassedEnv: passed}, nil
}

// apply gives the descriptor of what is about to run, and the environment to pass.
func apply(signed *descriptor.Descriptor, found Found) (actual *descriptor.Descriptor, passed []string) {
	actual = signed.Clone()
	actual.Image, actual.Init = found.Image, found.Init
	if found.Arguments != nil {
		actual.Arguments = append(actual.Arguments[:1:1], found.Arguments...)
	}
	for _, name := range slices.Sorted(maps.Keys(found.Environment)) {
		value := found.Environment[name]
		if slices.Contains(signed.PassEnvironment, name) {
			passed = append(passed, name+"="+value)
			continue
		}
		if actual.Environment == nil {
			actual.Environment = map[string]string{}
		}
		actual.Environment[name] = value
	}
	return actual, passed
}

func einitRefusal(name string, err error) error {
	reason := refusal.LaunchFailed
	var refused *cpu.EINITError
	if errors.As(err, &refused) {
		switch refused.Code {
		case cpu.InvalidMeasurement:
			reason = refusal.MeasurementMismatch
		case cpu.InvalidAttribute:
			reason = refusal.AttributesRefused
		case cpu.InvalidSignature, cpu.InvalidSigStruct:
			reason = refusal.SignatureInvalid
		}
	}
	return refusal.New(reason, "launch enclave %q: %w", name, err)
}

// InitData writes the init-data document (Confidential Containers, "Initdata
// Specification") that tells a verifier which sandbox and network the enclave was
// given.
func InitData(kind sandbox.Kind, network sandbox.Network) ([]byte, error) {
	var text bytes.Buffer
	err := toml.NewEncoder(&text).Encode(struct {
		Version   string            `toml:"version"`
		Algorithm string            `toml:"algorithm"`
		Data      map[string]string `toml:"data"`
	}{"0.1.0", "sha384", map[string]string{"sandbox": string(kind), "network": string(network)}})
	if err != nil {
		return nil, fmt.Errorf("write the init-data: %w", err)
	}
	return text.Bytes(), nil
}
