package dcap

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

// Policy judges a Result. The zero Policy accepts any enclave or TD that is not in
// debug mode, on Intel hardware that is up to date, by collateral that has not
// expired.
type Policy struct {
	// Roots are the names of the roots that are accepted. If empty, every root
	// that is not software is. A software root is accepted only if named here.
	Roots []string
	// Statuses are accepted. If empty, only UpToDate is.
	Statuses []Status
	// Advisories are the ids that may apply; "*" stands for all. A platform to
	// which another one applies is refused. An up-to-date platform may be open to
	// advisories too.
	Advisories []string
	// MinEvaluationNumber is the floor for tcbEvaluationDataNumber.
	MinEvaluationNumber uint32
	// CollateralGrace is how long after its date collateral or a certificate is
	// still accepted. Expired collateral may hide a revocation: keep it short.
	CollateralGrace time.Duration
	// AllowDebug accepts enclaves and TDs that the host can read.
	AllowDebug bool
	// Enclaves are the SGX enclaves that are accepted, of which one must fit. If
	// empty, any is, unless TDs are given.
	Enclaves []EnclaveIdentity
	// TDs are the trust domains that are accepted, of which one must fit. If empty,
	// any is, unless Enclaves are given.
	TDs []TDIdentity
	// Rollback, if set, refuses collateral older than what it has seen.
	Rollback *RollbackGuard
}

// EnclaveIdentity says which SGX enclave is meant. What is nil or zero is not compared.
type EnclaveIdentity struct {
	MRENCLAVE *sgx.Measurement
	MRSIGNER  *sgx.Measurement
	ISVProdID *uint16
	MinISVSVN uint16
}

// TDIdentity says which trust domain is meant. What is nil or false is not compared.
type TDIdentity struct {
	MRTD        *[48]byte
	MRCONFIGID  *[48]byte
	MROWNER     *[48]byte
	MRServiceTD *[48]byte
	RTMR        [4]*[48]byte
	// RequireSEPTVEDisable wants TDATTRIBUTES.SEPT_VE_DISABLE, without which the
	// host can inject #VE into the guest by taking pages away.
	RequireSEPTVEDisable bool
	// RefuseReserved refuses TDATTRIBUTES bits that had no meaning when this was written.
	RefuseReserved bool
}

// Appraise gives nil if the policy accepts the result, else a refusal. The reasons
// are RootNotTrusted, SoftwareRootNotTrusted, DebugNotAllowed, CollateralExpired,
// CollateralRollback, those of [Status.Reason], AdvisoryNotAccepted,
// SignerNotApproved, ProductNotApproved, SVNTooLow and IdentityMismatch.
func (p Policy) Appraise(r *Result) error {
	checks := []func(*Result) error{
		p.checkRoot, p.checkDebug, p.checkExpiry, p.checkEvaluationNumber,
		p.checkStatus, p.checkAdvisories, p.checkIdentity, p.Rollback.check,
	}
	for _, check := range checks {
		if err := check(r); err != nil {
			return err
		}
	}
	return nil
}

func (p Policy) checkRoot(r *Result) error {
	if slices.Contains(p.Roots, r.Root.Name) {
		return nil
	}
	if r.Root.Software {
		return refusal.New(refusal.SoftwareRootNotTrusted, "the evidence is of a software TEE (root %q) and the policy does not name its root", r.Root.Name)
	}
	if len(p.Roots) > 0 {
		return refusal.New(refusal.RootNotTrusted, "root %q is not among the policy's %q", r.Root.Name, p.Roots)
	}
	return nil
}

func (p Policy) checkDebug(r *Result) error {
	if r.Quote.Debug() && !p.AllowDebug {
		return refusal.New(refusal.DebugNotAllowed, "the %s is in debug mode, where the host can read it", kind(r.Quote))
	}
	return nil
}

func (p Policy) checkExpiry(r *Result) error {
	for _, e := range r.Expired {
		if r.At.After(e.NotAfter.Add(p.CollateralGrace)) {
			return refusal.New(refusal.CollateralExpired, "%s expired %s, grace is %s: refresh it",
				e.Document, e.NotAfter.UTC().Format(time.RFC3339), p.CollateralGrace)
		}
	}
	return nil
}

func (p Policy) checkEvaluationNumber(r *Result) error {
	if r.EvaluationNumber < p.MinEvaluationNumber {
		return refusal.New(refusal.CollateralRollback, "TCB evaluation data number %d is below the policy's %d", r.EvaluationNumber, p.MinEvaluationNumber)
	}
	return nil
}

func (p Policy) checkStatus(r *Result) error {
	if r.Status == UpToDate || slices.Contains(p.Statuses, r.Status) {
		return nil
	}
	return refusal.New(r.Status.Reason(), "TCB status is %s (platform %s, quoting enclave %s%s), open to %q",
		r.Status, r.Platform.Status, r.QE.Status, moduleStatus(r), r.Advisories)
}

func moduleStatus(r *Result) string {
	if r.Module == nil {
		return ""
	}
	return fmt.Sprintf(", TDX module %s", r.Module.Status)
}

func (p Policy) checkAdvisories(r *Result) error {
	if slices.Contains(p.Advisories, "*") {
		return nil
	}
	for _, id := range r.Advisories {
		if !slices.Contains(p.Advisories, id) {
			return refusal.New(refusal.AdvisoryNotAccepted, "%s applies (TCB status %s) and the policy does not accept it", id, r.Status)
		}
	}
	return nil
}

// checkIdentity gives, when no identity fits, the refusal of the last one tried.
func (p Policy) checkIdentity(r *Result) error {
	if len(p.Enclaves) == 0 && len(p.TDs) == 0 {
		return nil
	}
	err := refusal.New(refusal.IdentityMismatch, "the policy names no %s", kind(r.Quote))
	if r.Quote.SGX != nil {
		for _, id := range p.Enclaves {
			if err = id.check(r.Quote.SGX); err == nil {
				return nil
			}
		}
		return err
	}
	for _, id := range p.TDs {
		if err = id.check(r.Quote.TD); err == nil {
			return nil
		}
	}
	return err
}

func (id EnclaveIdentity) check(e *sgx.ReportBody) error {
	switch {
	case id.MRSIGNER != nil && *id.MRSIGNER != e.MRSIGNER:
		return refusal.New(refusal.SignerNotApproved, "MRSIGNER is %s, want %s", e.MRSIGNER, *id.MRSIGNER)
	case id.ISVProdID != nil && *id.ISVProdID != e.ISVProdID:
		return refusal.New(refusal.ProductNotApproved, "ISVPRODID is %d, want %d", e.ISVProdID, *id.ISVProdID)
	case e.ISVSVN < id.MinISVSVN:
		return refusal.New(refusal.SVNTooLow, "ISVSVN is %d, want at least %d", e.ISVSVN, id.MinISVSVN)
	case id.MRENCLAVE != nil && *id.MRENCLAVE != e.MRENCLAVE:
		return refusal.New(refusal.IdentityMismatch, "MRENCLAVE is %s, want %s", e.MRENCLAVE, *id.MRENCLAVE)
	}
	return nil
}

func (id TDIdentity) check(td *TDReport) error {
	type register struct {
		name string
		want *[48]byte
		have [48]byte
	}
	registers := []register{
		{"MRTD", id.MRTD, td.MRTD}, {"MRCONFIGID", id.MRCONFIGID, td.MRCONFIGID},
		{"MROWNER", id.MROWNER, td.MROWNER}, {"MRSERVICETD", id.MRServiceTD, td.MRServiceTD},
	}
	for i := range td.RTMR {
		registers = append(registers, register{fmt.Sprintf("RTMR%d", i), id.RTMR[i], td.RTMR[i]})
	}
	for _, r := range registers {
		if r.want != nil && *r.want != r.have {
			return refusal.New(refusal.IdentityMismatch, "%s is %x, want %x", r.name, r.have, *r.want)
		}
	}
	if id.RequireSEPTVEDisable && td.Attributes&TDSEPTVEDisable == 0 {
		return refusal.New(refusal.IdentityMismatch, "TDATTRIBUTES %#x lack SEPT_VE_DISABLE", uint64(td.Attributes))
	}
	if reserved := td.Attributes.Reserved(); id.RefuseReserved && reserved != 0 {
		return refusal.New(refusal.IdentityMismatch, "TDATTRIBUTES have the reserved bits %#x", uint64(reserved))
	}
	return nil
}

func kind(q *Quote) string {
	if q.TD != nil {
		return "TD"
	}
	return "enclave"
}

// RollbackGuard remembers the highest evaluation number that was accepted for each
// root, TEE and FMSPC, so that older collateral, although still within its dates,
// is not accepted afterwards. The zero value is ready; it is safe for concurrent
// use. A verifier that uses both update=early and update=standard needs one each.
type RollbackGuard struct {
	mu      sync.Mutex
	highest map[platformKey]uint32
}

type platformKey struct {
	root  string
	tee   TEE
	fmspc FMSPC
}

// check refuses a number below the highest one, and remembers it otherwise. It
// runs last: a result that is refused for another cause teaches nothing.
func (g *RollbackGuard) check(r *Result) error {
	if g == nil {
		return nil
	}
	key := platformKey{r.Root.Name, r.Quote.TEE, r.PCK.FMSPC}
	g.mu.Lock()
	defer g.mu.Unlock()
	if seen := g.highest[key]; r.EvaluationNumber < seen {
		return refusal.New(refusal.CollateralRollback, "TCB evaluation data number %d is below %d, which was seen before for FMSPC %s", r.EvaluationNumber, seen, r.PCK.FMSPC)
	}
	if g.highest == nil {
		g.highest = make(map[platformKey]uint32)
	}
	g.highest[key] = r.EvaluationNumber
	return nil
}
