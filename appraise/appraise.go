// Package appraise turns evidence of any TEE into [Claims], or into a refusal.
//
// An [Appraiser] holds a [TrustPolicy] and judges platforms: is the evidence
// genuine, does its root count, is the firmware recent, is it bound to what the
// caller expects (report data, init-data). Which enclave may have which key is
// not its business; that is for the broker's release policies, over the Claims.
//
// SGX and TDX are verified by package dcap, SEV-SNP by
// github.com/google/go-sev-guest. To add a TEE, add its claims to claims.go, a
// file like snp.go that verifies the evidence, and a case in
// [Appraiser.Appraise].
package appraise

import (
	"context"
	"crypto/ecdsa"
	"crypto/subtle"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/refusal"
)

// CollateralSource fetches the collateral for a quote, for example from a PCCS
// (package dcap/pcs). It need not be trusted.
type CollateralSource interface {
	Collateral(ctx context.Context, quote *dcap.Quote) (*dcap.Collateral, error)
}

// Expect is what evidence must be bound to.
type Expect struct {
	// ReportData is what the verifier's challenge requires.
	ReportData [attest.ReportDataSize]byte
	// InitData is the init-data document that the attester showed, or nil.
	InitData []byte
}

// CertificateSource fetches a certificate by URL, for example [KDS]. It need not
// be trusted.
type CertificateSource interface {
	Get(ctx context.Context, url string) ([]byte, error)
}

// Options are the parts that not every installation has. The zero value is right
// for SGX and TDX.
type Options struct {
	// KDS serves AMD's VCEK certificates when SNP evidence carries none; nil:
	// evidence must carry its certificate.
	KDS CertificateSource
	// AMDRoots replaces AMD's own roots, by product line: for tests.
	AMDRoots map[string][]*trust.AMDRootCerts
	// Now gives the time; nil: time.Now.
	Now func() time.Time
}

// Appraiser judges evidence by one trust policy. It is safe for concurrent use.
type Appraiser struct {
	policy     TrustPolicy
	collateral CollateralSource
	verifier   *dcap.Verifier
	dcapPolicy dcap.Policy
	kds        CertificateSource
	amdRoots   map[string][]*trust.AMDRootCerts
	now        func() time.Time
}

// New makes an appraiser. collateral may be nil if policy accepts neither SGX nor TDX.
func New(policy *TrustPolicy, collateral CollateralSource, opts Options) (*Appraiser, error) {
	if err := policy.Check(); err != nil {
		return nil, fmt.Errorf("trust policy: %w", err)
	}
	a := &Appraiser{policy: *policy, collateral: collateral, kds: opts.KDS, amdRoots: opts.AMDRoots, now: opts.Now}
	if a.now == nil {
		a.now = time.Now
	}
	a.dcapPolicy = dcap.Policy{
		Statuses:            policy.TCB.AcceptedStatuses,
		Advisories:          policy.TCB.AcceptedAdvisories,
		MinEvaluationNumber: policy.TCB.MinimumEvaluationNumber,
		CollateralGrace:     policy.TCB.CollateralGrace,
		AllowDebug:          policy.AllowDebug,
		Rollback:            new(dcap.RollbackGuard),
	}
	var own []dcap.Root
	for _, root := range policy.Roots {
		// All names, so that the list is never empty: an empty one means Intel's.
		a.dcapPolicy.Roots = append(a.dcapPolicy.Roots, root.Name)
		if root.Certificate != nil {
			own = append(own, dcap.Root{Name: root.Name, Software: root.Software, PublicKey: root.Certificate.PublicKey.(*ecdsa.PublicKey)})
		}
	}
	var err error
	if a.verifier, err = dcap.NewVerifier(dcap.VerifierOptions{Roots: own}); err != nil {
		return nil, fmt.Errorf("trust policy: %w", err)
	}
	if a.amdRoots == nil {
		if a.amdRoots, err = builtinAMDRoots(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Appraise verifies evidence, checks that it is bound to what want says, and
// judges it by the trust policy. The order is: genuine, bound, good enough. Every
// error is a refusal or wraps one, but for the end of ctx.
func (a *Appraiser) Appraise(ctx context.Context, e *attest.Evidence, want Expect) (*Claims, error) {
	if len(a.policy.TEEs) > 0 && !slices.Contains(a.policy.TEEs, e.TEE) {
		return nil, refusal.New(refusal.EvidenceUnsupported, "evidence is of TEE %.16q, the trust policy accepts %q", e.TEE, a.policy.TEEs)
	}
	var claims *Claims
	var err error
	switch e.TEE {
	case attest.SGX, attest.TDX:
		claims, err = a.intel(ctx, e, want)
	case attest.SNP:
		claims, err = a.snp(ctx, e, want)
	default:
		err = refusal.New(refusal.EvidenceUnsupported, "evidence is of TEE %.16q, supported are sgx, tdx and snp", e.TEE)
	}
	if err != nil {
		return nil, fmt.Errorf("appraise %.16s evidence: %w", e.TEE, err)
	}
	if err := a.checkSandbox(claims); err != nil {
		return nil, fmt.Errorf("appraise %s evidence: %w", e.TEE, err)
	}
	return claims, nil
}

func (a *Appraiser) checkSandbox(claims *Claims) error {
	if !a.policy.RequireSandbox {
		return nil
	}
	sandbox, _ := claims.InitData["sandbox"].(string)
	if sandbox == "" || sandbox == "none" {
		return refusal.New(refusal.SandboxRequired, "the trust policy requires a sandbox, init-data says %q: run it with --sandbox=gvisor", sandbox)
	}
	return nil
}

// checkBinding compares what a genuine report carries with what is expected, and
// gives the data of the init-data document. That is parsed last: it is as long as
// whoever sent the evidence likes.
func checkBinding(reportData, configField []byte, fieldName string, want Expect) (map[string]any, error) {
	if subtle.ConstantTimeCompare(reportData, want.ReportData[:]) != 1 {
		return nil, refusal.New(refusal.ReportDataMismatch, "the report data is %x, want %x: the evidence is of another session or key", reportData, want.ReportData)
	}
	if want.InitData == nil {
		return map[string]any{}, nil
	}
	initData, err := ParseInitData(want.InitData)
	if err != nil {
		return nil, err
	}
	return initData.Data, initData.check(configField, fieldName)
}
