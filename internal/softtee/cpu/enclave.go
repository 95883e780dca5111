package cpu

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/adyton-dev/adyton/sgx"
)

// Enclave is an enclave that EINIT has let in. Its methods are the instructions
// that code inside it may execute.
type Enclave struct {
	cpu      *CPU
	identity sgx.ReportBody // REPORTDATA is zero
}

// EINIT admits the enclave with the given SECS and the measurement of its pages if
// its signature allows it (SDM "EINIT"). The checks are made in the order of the
// SDM. A refusal is an *EINITError; SECS that ECREATE does not admit give an error
// that wraps ErrGeneralProtection. The identity fields of SECS are not changed.
func (c *CPU) EINIT(secs *sgx.SECS, mrenclave sgx.Measurement, sig *sgx.SigStruct) (*Enclave, error) {
	if err := c.ECREATE(secs); err != nil {
		return nil, err
	}
	if sig.Vendor != 0 && sig.Vendor != sgx.VendorIntel {
		return nil, refuseEINIT(InvalidSigStruct, "VENDOR is %#x, want 0 or %#x", sig.Vendor, sgx.VendorIntel)
	}
	if sig.Exponent != 3 {
		return nil, refuseEINIT(InvalidSigStruct, "EXPONENT is %d, want 3", sig.Exponent)
	}
	if err := sig.Verify(); err != nil {
		return nil, refuseEINIT(InvalidSignature, "%v", err)
	}
	if sig.ISVFamilyID != [16]byte{} && secs.Attributes.Flags&sgx.AttributeKSS == 0 {
		return nil, refuseEINIT(InvalidSigStruct, "ISVFAMILYID is set and the enclave has no ATTRIBUTES.KSS")
	}
	if mrenclave != sig.EnclaveHash {
		return nil, refuseEINIT(InvalidMeasurement, "MRENCLAVE is %s, the signature is for %s", mrenclave, sig.EnclaveHash)
	}
	if got, want := secs.Attributes.And(sig.AttributeMask), sig.Attributes.And(sig.AttributeMask); got != want {
		return nil, refuseEINIT(InvalidAttribute, "ATTRIBUTES are %v XFRM %#x under the signature's mask, which wants %v XFRM %#x",
			got.Flags, got.XFRM, want.Flags, want.XFRM)
	}
	if got, want := secs.MiscSelect&sig.MiscMask, sig.MiscSelect&sig.MiscMask; got != want {
		return nil, refuseEINIT(InvalidAttribute, "MISCSELECT is %#x under the signature's mask, which wants %#x", got, want)
	}
	if got, want := secs.CETAttributes&sig.CETAttributesMask, sig.CETAttributes&sig.CETAttributesMask; got != want {
		return nil, refuseEINIT(InvalidAttribute, "CET_ATTRIBUTES are %#x under the signature's mask, which wants %#x", got, want)
	}

	attributes := secs.Attributes
	attributes.Flags |= sgx.AttributeInit
	identity := sgx.ReportBody{
		CPUSVN:        c.svn,
		MiscSelect:    secs.MiscSelect,
		CETAttributes: secs.CETAttributes,
		Attributes:    attributes,
		MRENCLAVE:     mrenclave,
		MRSIGNER:      sig.MRSIGNER(),
		ISVProdID:     sig.ISVProdID,
		ISVSVN:        sig.ISVSVN,
		ConfigID:      secs.ConfigID,
		ConfigSVN:     secs.ConfigSVN,
		ISVFamilyID:   sig.ISVFamilyID,
		ISVExtProdID:  sig.ISVExtProdID,
	}
	return &Enclave{cpu: c, identity: identity}, nil
}

func refuseEINIT(code Code, format string, args ...any) error {
	return &EINITError{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Identity is what a report of this enclave says, with REPORTDATA zero.
func (e *Enclave) Identity() sgx.ReportBody { return e.identity }

// TargetInfo is what other enclaves give EREPORT to make a report for this one.
func (e *Enclave) TargetInfo() *sgx.TargetInfo {
	return &sgx.TargetInfo{
		MRENCLAVE:     e.identity.MRENCLAVE,
		Attributes:    e.identity.Attributes,
		CETAttributes: e.identity.CETAttributes,
		ConfigSVN:     e.identity.ConfigSVN,
		MiscSelect:    e.identity.MiscSelect,
		ConfigID:      e.identity.ConfigID,
	}
}

// EREPORT makes a report of this enclave for the target, an enclave on the same
// CPU (SDM "EREPORT"). Only the target can verify it.
func (e *Enclave) EREPORT(target *sgx.TargetInfo, data sgx.ReportData) *sgx.Report {
	r := &sgx.Report{Body: e.identity, KeyID: e.cpu.reportKeyID}
	r.Body.ReportData = data
	r.MAC = cmac(e.cpu.reportKey(target, r.KeyID), r.Body.Bytes())
	return r
}

// VerifyReport checks that the report was made by this CPU for this enclave and is
// unchanged, as the enclave's own code would with the key REPORT of EGETKEY.
func (e *Enclave) VerifyReport(r *sgx.Report) error {
	want := cmac(e.cpu.reportKey(e.TargetInfo(), r.KeyID), r.Body.Bytes())
	if subtle.ConstantTimeCompare(want[:], r.MAC[:]) != 1 {
		return errors.New("REPORT: the MAC is wrong: it was changed, or made for another enclave or by another CPU")
	}
	return nil
}
