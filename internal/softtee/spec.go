package softtee

import (
	"errors"
	"fmt"
	"slices"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee/collateral"
)

// Fault is something wrong with the TCB info that is served for a platform.
type Fault string

// The faults.
const (
	NoFault      Fault = ""
	Expired      Fault = "expired"       // its last day is past
	NotYetValid  Fault = "not-yet-valid" // it is dated in the future
	WrongFMSPC   Fault = "wrong-fmspc"   // it is for another platform family
	BadSignature Fault = "bad-signature" // its signature does not verify
	Missing      Fault = "missing"       // there is none
)

// Faults lists all faults.
func Faults() []Fault { return []Fault{Expired, NotYetValid, WrongFMSPC, BadSignature, Missing} }

// PlatformSpec says what verifiers shall find when they appraise a platform. The
// zero spec is an up-to-date platform. It cannot be changed afterwards.
//
// The merged verdict follows Intel's rules from the parts: TCB OutOfDate with QE
// Revoked is Revoked, and so on. Debug is a property of enclaves and TDs, not of
// platforms.
type PlatformSpec struct {
	// TCB is the platform's status; "" is UpToDate. NotSupported means that it is
	// below every level. TDRelaunchAdvised and TDRelaunchAdvisedConfigurationNeeded
	// are for TDX (TD 1.5): TDs were launched under an out-of-date TDX module that
	// has been updated since; the platform is UpToDate or ConfigurationNeeded.
	TCB dcap.Status `json:"tcb,omitempty"`
	// QE is the status of the quoting enclaves: UpToDate (or ""), OutOfDate,
	// Revoked or NotSupported.
	QE dcap.Status `json:"qe,omitempty"`
	// TDXModule is the status of the TDX module: UpToDate (or ""), OutOfDate,
	// Revoked or NotSupported.
	TDXModule dcap.Status `json:"tdxModule,omitempty"`
	// Advisories, if given, replace those of the platform's TCB level.
	Advisories []string `json:"advisories,omitempty"`
	// EvaluationNumber, if not 0, is the tcbEvaluationDataNumber of the platform's
	// TCB info. Verifiers report the lower of it and the QE identity's, [EvaluationNumber].
	EvaluationNumber uint32 `json:"evaluationNumber,omitempty"`
	// CA certifies the platform; "" is dcap.PlatformCA.
	CA dcap.PCKCA `json:"ca,omitempty"`
	// TCBInfo is what is wrong with the platform's TCB info.
	TCBInfo Fault `json:"tcbInfo,omitempty"`
	// RevokedPCK puts the platform's certificate on its CA's CRL.
	RevokedPCK bool `json:"revokedPCK,omitempty"`
	// RevokedCA puts the CA on the root CRL: all platforms that it certifies in
	// this installation are affected.
	RevokedCA bool `json:"revokedCA,omitempty"`
	// RevokedTCBSigner puts the TCB signing certificate on the root CRL: all
	// platforms of this installation are affected.
	RevokedTCBSigner bool `json:"revokedTCBSigner,omitempty"`
}

// EvaluationNumber is the tcbEvaluationDataNumber of what an installation signs,
// where a spec does not say another.
const EvaluationNumber uint32 = 18

// TCBStatuses lists the statuses that a spec's TCB can have.
func TCBStatuses() []dcap.Status {
	var all []dcap.Status
	for _, level := range collateral.PlatformLevels() {
		all = append(all, level.Status)
	}
	return append(all, dcap.NotSupported, dcap.TDRelaunchAdvised, dcap.TDRelaunchAdvisedConfigurationNeeded)
}

// svns are what a spec comes to.
type svns struct {
	platform, qe uint8
	// module is the TDX module at the TDs' launch, moduleNow the one that runs.
	module, moduleNow uint8
	// level is the platform's status as its level has it.
	level dcap.Status
}

// resolve fills in the defaults and checks the spec.
func (s *PlatformSpec) resolve() (svns, error) {
	var out svns
	level, module, moduleNow := s.TCB, s.TDXModule, s.TDXModule
	switch s.TCB {
	case dcap.TDRelaunchAdvised:
		level, module, moduleNow = dcap.UpToDate, dcap.OutOfDate, dcap.UpToDate
	case dcap.TDRelaunchAdvisedConfigurationNeeded:
		level, module, moduleNow = dcap.ConfigurationNeeded, dcap.OutOfDate, dcap.UpToDate
	}
	if s.TDXModule != "" && (s.TCB == dcap.TDRelaunchAdvised || s.TCB == dcap.TDRelaunchAdvisedConfigurationNeeded) {
		return out, fmt.Errorf("TCB status %s says what the TDX module is: leave its status out", s.TCB)
	}
	out.level = orUpToDate(level)
	for _, part := range []struct {
		name   string
		levels []collateral.Level
		status dcap.Status
		to     *uint8
	}{
		{"platform", collateral.PlatformLevels(), level, &out.platform},
		{"quoting enclave", collateral.EnclaveLevels(), s.QE, &out.qe},
		{"TDX module", collateral.ModuleLevels(), module, &out.module},
		{"TDX module", collateral.ModuleLevels(), moduleNow, &out.moduleNow},
	} {
		var err error
		if *part.to, err = collateral.SVN(part.levels, orUpToDate(part.status)); err != nil {
			return out, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if s.TCBInfo != NoFault && !slices.Contains(Faults(), s.TCBInfo) {
		return out, fmt.Errorf("unknown fault %q of TCB info, want one of %q", s.TCBInfo, Faults())
	}
	if s.CA != "" && s.CA != dcap.PlatformCA && s.CA != dcap.ProcessorCA {
		return out, fmt.Errorf("unknown PCK CA %q, want %s or %s", s.CA, dcap.PlatformCA, dcap.ProcessorCA)
	}
	if out.level == dcap.NotSupported && len(s.Advisories) > 0 {
		return out, errors.New("a platform below every TCB level has no advisories")
	}
	return out, nil
}

func (s *PlatformSpec) ca() dcap.PCKCA {
	if s.CA == "" {
		return dcap.PlatformCA
	}
	return s.CA
}

func orUpToDate(s dcap.Status) dcap.Status {
	if s == "" {
		return dcap.UpToDate
	}
	return s
}
