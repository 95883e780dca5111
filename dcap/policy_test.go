package dcap_test

import (
	"testing"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

func TestPolicyGivesTheReason(t *testing.T) {
	t.Parallel()
	result := func(status dcap.Status, software bool, advisories ...string) *dcap.Result {
		enclave := &sgx.ReportBody{MRENCLAVE: sgx.Measurement{1}, MRSIGNER: sgx.Measurement{2}, ISVProdID: 3, ISVSVN: 4}
		return &dcap.Result{
			Quote: &dcap.Quote{SGX: enclave}, Root: dcap.Root{Name: "lab", Software: software},
			Status: status, Advisories: advisories, EvaluationNumber: 18, PCK: new(dcap.PCK),
		}
	}
	enclaves := func(ids ...dcap.EnclaveIdentity) dcap.Policy { return dcap.Policy{Enclaves: ids} }
	one, two, prod3, prod4 := sgx.Measurement{1}, sgx.Measurement{2}, uint16(3), uint16(4)
	good := result(dcap.UpToDate, false)
	for _, row := range []struct {
		name   string
		policy dcap.Policy
		result *dcap.Result
		want   refusal.Reason
	}{
		{"the zero policy accepts up-to-date hardware", dcap.Policy{}, good, ""},
		{"another root is named", dcap.Policy{Roots: []string{"intel"}}, good, refusal.RootNotTrusted},
		{"a software root that nobody names", dcap.Policy{}, result(dcap.UpToDate, true), refusal.SoftwareRootNotTrusted},
		{"another software root is named", dcap.Policy{Roots: []string{"demo"}}, result(dcap.UpToDate, true), refusal.SoftwareRootNotTrusted},
		{"the software root is named", dcap.Policy{Roots: []string{"lab"}}, result(dcap.UpToDate, true), ""},
		{"SWHardeningNeeded", dcap.Policy{}, result(dcap.SWHardeningNeeded, false), refusal.TCBSWHardeningNeeded},
		{"ConfigurationNeeded", dcap.Policy{}, result(dcap.ConfigurationNeeded, false), refusal.TCBConfigurationNeeded},
		{"ConfigurationAndSWHardeningNeeded", dcap.Policy{Statuses: []dcap.Status{dcap.SWHardeningNeeded, dcap.ConfigurationNeeded}}, result(dcap.ConfigurationAndSWHardeningNeeded, false), refusal.TCBConfigurationNeeded},
		{"OutOfDate", dcap.Policy{}, result(dcap.OutOfDate, false), refusal.TCBOutOfDate},
		{"OutOfDateConfigurationNeeded", dcap.Policy{Statuses: []dcap.Status{dcap.OutOfDate}}, result(dcap.OutOfDateConfigurationNeeded, false), refusal.TCBOutOfDate},
		{"TDRelaunchAdvised", dcap.Policy{}, result(dcap.TDRelaunchAdvised, false), refusal.TCBRelaunchAdvised},
		{"Revoked", dcap.Policy{}, result(dcap.Revoked, false), refusal.TCBRevoked},
		{"NotSupported", dcap.Policy{}, result(dcap.NotSupported, false), refusal.TCBNotSupported},
		{"a status that does not exist", dcap.Policy{}, result("", false), refusal.TCBNotSupported},
		{"the status is accepted, the advisory not", dcap.Policy{Statuses: []dcap.Status{dcap.OutOfDate}}, result(dcap.OutOfDate, false, "INTEL-SA-1"), refusal.AdvisoryNotAccepted},
		{"one of two advisories is accepted", dcap.Policy{Advisories: []string{"INTEL-SA-1"}}, result(dcap.UpToDate, false, "INTEL-SA-1", "INTEL-SA-2"), refusal.AdvisoryNotAccepted},
		{"all advisories are accepted", dcap.Policy{Advisories: []string{"*"}}, result(dcap.UpToDate, false, "INTEL-SA-1"), ""},
		{"evaluation number", dcap.Policy{MinEvaluationNumber: 19}, good, refusal.CollateralRollback},
		{"MRENCLAVE", enclaves(dcap.EnclaveIdentity{MRENCLAVE: &two}), good, refusal.IdentityMismatch},
		{"MRSIGNER", enclaves(dcap.EnclaveIdentity{MRSIGNER: &one}), good, refusal.SignerNotApproved},
		{"ISVPRODID", enclaves(dcap.EnclaveIdentity{MRSIGNER: &two, ISVProdID: &prod4}), good, refusal.ProductNotApproved},
		{"ISVSVN", enclaves(dcap.EnclaveIdentity{MRSIGNER: &two, ISVProdID: &prod3, MinISVSVN: 5}), good, refusal.SVNTooLow},
		{"all fit", enclaves(dcap.EnclaveIdentity{MRENCLAVE: &one, MRSIGNER: &two, ISVProdID: &prod3, MinISVSVN: 4}), good, ""},
		{"the second identity fits", enclaves(dcap.EnclaveIdentity{MRSIGNER: &one}, dcap.EnclaveIdentity{MRENCLAVE: &one}), good, ""},
		{"only TDs are named", dcap.Policy{TDs: []dcap.TDIdentity{{}}}, good, refusal.IdentityMismatch},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if err := row.policy.Appraise(row.result); refusal.Of(err) != row.want || (err != nil) != (row.want != "") {
				t.Errorf("error = %v, want reason %q", err, row.want)
			}
		})
	}
}

func TestVerifierRefusesAmbiguousRoots(t *testing.T) {
	t.Parallel()
	intel, own := dcap.IntelRoot(), newForge(t, dcap.SGX)
	own.certificates()
	key := &own.rootKey.PublicKey
	for name, roots := range map[string][]dcap.Root{
		"no name":            {{PublicKey: key}},
		"no key":             {{Name: "a"}},
		"Intel's name":       {{Name: dcap.IntelRootName, PublicKey: key}},
		"Intel's key":        {{Name: "a", PublicKey: intel.PublicKey, Software: true}},
		"the same name":      {{Name: "a", PublicKey: key}, {Name: "a", PublicKey: &own.caKey.PublicKey}},
		"one key, two names": {{Name: "a", PublicKey: key}, {Name: "b", PublicKey: key}},
	} {
		if _, err := dcap.NewVerifier(dcap.VerifierOptions{Roots: roots}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
