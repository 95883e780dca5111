package cpu_test

import (
	"errors"
	"testing"

	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/sgx"
)

// sealRequest asks for the key that is bound to the signer and the product, at the
// versions that newLaunch has.
func sealRequest() *sgx.KeyRequest {
	return &sgx.KeyRequest{
		KeyName: sgx.KeyNameSeal, KeyPolicy: sgx.KeyPolicyMRSIGNER, ISVSVN: 2, ConfigSVN: 3, CPUSVN: svn,
		AttributeMask: sgx.Attributes{Flags: sgx.AttributeMode64Bit, XFRM: ^uint64(0)}, KeyID: [32]byte{9},
	}
}

// request is sealRequest with changes.
func request(changes ...func(*sgx.KeyRequest)) *sgx.KeyRequest {
	r := sealRequest()
	for _, change := range changes {
		change(r)
	}
	return r
}

func named(name sgx.KeyName) func(*sgx.KeyRequest) {
	return func(r *sgx.KeyRequest) { r.KeyName = name }
}

func policy(policy sgx.KeyPolicy) func(*sgx.KeyRequest) {
	return func(r *sgx.KeyRequest) { r.KeyPolicy = policy }
}

func mustKey(t testing.TB, e *cpu.Enclave, r *sgx.KeyRequest) sgx.Key128 {
	t.Helper()
	k, err := e.EGETKEY(r)
	if err != nil {
		t.Fatal(err)
	}
	if k == (sgx.Key128{}) {
		t.Fatal("the key is zero")
	}
	return k
}

// privileged may ask for every key name.
var privileged = withFlags(sgx.AttributeProvisionKey | sgx.AttributeEINITTokenKey)

var keyNames = map[string]sgx.KeyName{
	"EINITTOKEN": sgx.KeyNameEINITToken, "PROVISION": sgx.KeyNameProvision,
	"PROVISION_SEAL": sgx.KeyNameProvisionSeal, "REPORT": sgx.KeyNameReport, "SEAL": sgx.KeyNameSeal,
}

func TestEveryKeyNameGivesAnotherKey(t *testing.T) {
	t.Parallel()
	e := enclave(t, privileged)
	seen := map[sgx.Key128]string{}
	for name, value := range keyNames {
		k := mustKey(t, e, request(named(value)))
		if other, ok := seen[k]; ok {
			t.Errorf("%s and %s are the same key", name, other)
		}
		seen[k] = name
	}
}

func TestAnUnknownKeyNameIsRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []sgx.KeyName{5, 0xffff} {
		wantRefusal(t, enclave(t, privileged), request(named(name)), cpu.InvalidKeyName)
	}
}

func wantRefusal(t *testing.T, e *cpu.Enclave, r *sgx.KeyRequest, code cpu.Code) {
	t.Helper()
	k, err := e.EGETKEY(r)
	var refused *cpu.EGETKEYError
	if !errors.As(err, &refused) || refused.Code != code {
		t.Errorf("KEYNAME %d: got %v, want %v", r.KeyName, err, code)
	}
	if k != (sgx.Key128{}) {
		t.Error("a refusal gives a key")
	}
}

func TestPrivilegedKeysNeedTheirAttribute(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  sgx.KeyName
		needs sgx.AttributeFlags
		other sgx.AttributeFlags
	}{
		{sgx.KeyNameProvision, sgx.AttributeProvisionKey, sgx.AttributeEINITTokenKey},
		{sgx.KeyNameProvisionSeal, sgx.AttributeProvisionKey, sgx.AttributeEINITTokenKey},
		{sgx.KeyNameEINITToken, sgx.AttributeEINITTokenKey, sgx.AttributeProvisionKey},
	} {
		wantRefusal(t, enclave(t), request(named(test.name)), cpu.InvalidAttribute)
		wantRefusal(t, enclave(t, withFlags(test.other)), request(named(test.name)), cpu.InvalidAttribute)
		mustKey(t, enclave(t, withFlags(test.needs)), request(named(test.name)))
	}
}

func TestHigherVersionsThanOnesOwnAreRefused(t *testing.T) {
	t.Parallel()
	e := enclave(t, privileged)
	for name, value := range keyNames {
		if value == sgx.KeyNameReport {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRefusal(t, e, request(named(value), func(r *sgx.KeyRequest) { r.ISVSVN = 3 }), cpu.InvalidISVSVN)
			wantRefusal(t, e, request(named(value), func(r *sgx.KeyRequest) { r.ConfigSVN = 4 }), cpu.InvalidISVSVN)
			wantRefusal(t, e, request(named(value), func(r *sgx.KeyRequest) { r.CPUSVN = sgx.CPUSVN{3, 2, 2} }), cpu.InvalidCPUSVN)
			// CPUSVN is compared byte by byte: lower elsewhere does not help.
			wantRefusal(t, e, request(named(value), func(r *sgx.KeyRequest) { r.CPUSVN = sgx.CPUSVN{0, 0, 0, 1} }), cpu.InvalidCPUSVN)
		})
	}
}

// The report key is of the present versions, whatever is asked.
func TestTheReportKeyIgnoresTheRequestedVersions(t *testing.T) {
	t.Parallel()
	e := enclave(t)
	if mustKey(t, e, request(named(sgx.KeyNameReport))) != mustKey(t, e, &sgx.KeyRequest{
		KeyName: sgx.KeyNameReport, KeyID: [32]byte{9}, ISVSVN: 99, CPUSVN: sgx.CPUSVN{99},
	}) {
		t.Error("the keys differ")
	}
}

// An update keeps the keys of the versions before it; these never get its own.
func TestKeysOfLowerVersionsSurviveAnUpdate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		update func(*launch)
		newest func(*sgx.KeyRequest)
		code   cpu.Code
	}{
		"ISVSVN": {
			func(l *launch) { l.sig.ISVSVN = 5; another(l) },
			func(r *sgx.KeyRequest) { r.ISVSVN = 5 }, cpu.InvalidISVSVN,
		},
		"CPUSVN": {
			func(l *launch) { l.cpu = cpu.New(seed, sgx.CPUSVN{2, 3, 2}) },
			func(r *sgx.KeyRequest) { r.CPUSVN = sgx.CPUSVN{2, 3, 2} }, cpu.InvalidCPUSVN,
		},
		"CONFIGSVN": {
			func(l *launch) { l.secs.ConfigSVN = 5 },
			func(r *sgx.KeyRequest) { r.ConfigSVN = 5 }, cpu.InvalidISVSVN,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, after := enclave(t), enclave(t, test.update)
			signerAndConfig := policy(sgx.KeyPolicyMRSIGNER | sgx.KeyPolicyConfigID)
			old := mustKey(t, before, request(signerAndConfig))
			if mustKey(t, after, request(signerAndConfig)) != old {
				t.Error("the updated enclave does not get the old key")
			}
			if mustKey(t, after, request(signerAndConfig, test.newest)) == old {
				t.Error("the new version has the old key")
			}
			wantRefusal(t, before, request(signerAndConfig, test.newest), test.code)
		})
	}
}

// Each row changes one thing of the enclave, and says which keys change with it.
func TestKeysDependOnWhatThePolicyNames(t *testing.T) {
	t.Parallel()
	requests := map[string]*sgx.KeyRequest{
		"by MRENCLAVE":    request(policy(sgx.KeyPolicyMRENCLAVE)),
		"by MRSIGNER":     request(policy(sgx.KeyPolicyMRSIGNER)),
		"by neither":      request(policy(0)),
		"NOISVPRODID":     request(policy(sgx.KeyPolicyMRSIGNER | sgx.KeyPolicyNoISVProdID)),
		"by CONFIGID":     request(policy(sgx.KeyPolicyMRSIGNER | sgx.KeyPolicyConfigID)),
		"by ISVFAMILYID":  request(policy(sgx.KeyPolicyMRSIGNER | sgx.KeyPolicyISVFamilyID)),
		"by ISVEXTPRODID": request(policy(sgx.KeyPolicyMRSIGNER | sgx.KeyPolicyISVExtProdID)),
		"PROVISION":       request(named(sgx.KeyNameProvision)),
		"PROVISION_SEAL":  request(named(sgx.KeyNameProvisionSeal)),
		"EINITTOKEN":      request(named(sgx.KeyNameEINITToken)),
		"REPORT":          request(named(sgx.KeyNameReport)),
	}
	all := func(but ...string) map[string]bool {
		changed := map[string]bool{}
		for name := range requests {
			changed[name] = true
		}
		for _, name := range but {
			delete(changed, name)
		}
		return changed
	}
	only := func(names ...string) map[string]bool {
		changed := map[string]bool{}
		for _, name := range names {
			changed[name] = true
		}
		return changed
	}
	base := enclave(t, privileged)
	for name, test := range map[string]struct {
		change  func(*launch)
		changed map[string]bool
	}{
		"nothing":      {func(*launch) {}, only()},
		"CPU":          {func(l *launch) { l.cpu = cpu.New([32]byte{2}, svn) }, all()},
		"owner epoch":  {func(l *launch) { l.cpu = l.cpu.WithOwnerEpoch([16]byte{1}) }, all("PROVISION", "PROVISION_SEAL")},
		"MRENCLAVE":    {another, only("by MRENCLAVE", "REPORT")},
		"MRSIGNER":     {func(l *launch) { l.signer = 1 }, all("by MRENCLAVE", "by neither", "REPORT")},
		"ISVPRODID":    {func(l *launch) { l.sig.ISVProdID++ }, all("NOISVPRODID", "REPORT")},
		"ISVSVN":       {func(l *launch) { l.sig.ISVSVN++ }, only()},
		"CONFIGID":     {func(l *launch) { l.secs.ConfigID[0]++ }, only("by CONFIGID", "REPORT")},
		"CONFIGSVN":    {func(l *launch) { l.secs.ConfigSVN++ }, only("REPORT")},
		"ISVFAMILYID":  {func(l *launch) { l.sig.ISVFamilyID[0]++ }, only("by ISVFAMILYID")},
		"ISVEXTPRODID": {func(l *launch) { l.sig.ISVExtProdID[0]++ }, only("by ISVEXTPRODID")},
		"DEBUG":        {withFlags(sgx.AttributeDebug), all()},
		"AEXNOTIFY":    {withFlags(sgx.AttributeAEXNotify), only("REPORT")},
		"MISCSELECT":   {func(l *launch) { l.secs.MiscSelect = 0 }, only("REPORT")},
		"XFRM":         {func(l *launch) { l.secs.Attributes.XFRM, l.sig.Attributes.XFRM = 7, 7 }, all()},
		"CPUSVN":       {func(l *launch) { l.cpu = cpu.New(seed, sgx.CPUSVN{2, 2, 3}) }, only("REPORT")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			other := enclave(t, privileged, test.change)
			for key, r := range requests {
				changed := mustKey(t, other, r) != mustKey(t, base, r)
				if changed != test.changed[key] {
					t.Errorf("%s: changed %t, want %t", key, changed, test.changed[key])
				}
			}
		})
	}
}

func TestPROVISIONSEALFollowsTheKSSPolicies(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		policy sgx.KeyPolicy
		change func(*launch)
	}{
		"CONFIGID":     {sgx.KeyPolicyConfigID, func(l *launch) { l.secs.ConfigID[0]++ }},
		"ISVFAMILYID":  {sgx.KeyPolicyISVFamilyID, func(l *launch) { l.sig.ISVFamilyID[0]++ }},
		"ISVEXTPRODID": {sgx.KeyPolicyISVExtProdID, func(l *launch) { l.sig.ISVExtProdID[0]++ }},
	} {
		r := request(named(sgx.KeyNameProvisionSeal), policy(test.policy))
		if mustKey(t, enclave(t, privileged), r) == mustKey(t, enclave(t, privileged, test.change), r) {
			t.Errorf("%s does not change the key", name)
		}
	}
	r := request(named(sgx.KeyNameProvisionSeal), policy(sgx.KeyPolicyNoISVProdID))
	if mustKey(t, enclave(t, privileged), r) != mustKey(t, enclave(t, privileged, func(l *launch) { l.sig.ISVProdID++ }), r) {
		t.Error("NOISVPRODID: ISVPRODID changes the key")
	}
}

func TestKeysDependOnTheRequest(t *testing.T) {
	t.Parallel()
	e := enclave(t, privileged)
	changes := map[string]func(*sgx.KeyRequest){
		"KEYID":         func(r *sgx.KeyRequest) { r.KeyID[31]++ },
		"KEYPOLICY":     func(r *sgx.KeyRequest) { r.KeyPolicy = 0 },
		"ISVSVN":        func(r *sgx.KeyRequest) { r.ISVSVN = 1 },
		"CPUSVN":        func(r *sgx.KeyRequest) { r.CPUSVN[0] = 1 },
		"ATTRIBUTEMASK": func(r *sgx.KeyRequest) { r.AttributeMask.Flags = 0 },
		"XFRM mask":     func(r *sgx.KeyRequest) { r.AttributeMask.XFRM = 0 },
		"MISCMASK":      func(r *sgx.KeyRequest) { r.MiscMask = 2 }, // a bit that the enclave does not have
		"CET mask":      func(r *sgx.KeyRequest) { r.CETAttributesMask = 1 },
	}
	// What each key depends on of the request (SDM "EGETKEY").
	for name, test := range map[string]struct {
		key     sgx.KeyName
		depends []string
	}{
		"SEAL":           {sgx.KeyNameSeal, []string{"KEYID", "KEYPOLICY", "ISVSVN", "CPUSVN", "ATTRIBUTEMASK", "XFRM mask", "MISCMASK", "CET mask"}},
		"PROVISION":      {sgx.KeyNameProvision, []string{"ISVSVN", "CPUSVN", "ATTRIBUTEMASK", "XFRM mask", "MISCMASK", "CET mask"}},
		"PROVISION_SEAL": {sgx.KeyNameProvisionSeal, []string{"KEYPOLICY", "ISVSVN", "CPUSVN", "ATTRIBUTEMASK", "XFRM mask", "MISCMASK", "CET mask"}},
		"EINITTOKEN":     {sgx.KeyNameEINITToken, []string{"KEYID", "ISVSVN", "CPUSVN", "ATTRIBUTEMASK", "XFRM mask"}},
		"REPORT":         {sgx.KeyNameReport, []string{"KEYID"}},
	} {
		want := map[string]bool{}
		for _, field := range test.depends {
			want[field] = true
		}
		base := mustKey(t, e, request(named(test.key)))
		for field, change := range changes {
			if changed := mustKey(t, e, request(named(test.key), change)) != base; changed != want[field] {
				t.Errorf("%s: %s changes the key: %t, want %t", name, field, changed, want[field])
			}
		}
	}
}

// A masked attribute binds the key; a debug enclave is apart whatever the mask.
func TestMasksBindAttributes(t *testing.T) {
	t.Parallel()
	flags := func(f sgx.AttributeFlags) func(*sgx.KeyRequest) {
		return func(r *sgx.KeyRequest) { r.AttributeMask.Flags = f }
	}
	same := func(change func(*launch), r *sgx.KeyRequest) bool {
		return mustKey(t, enclave(t), r) == mustKey(t, enclave(t, change), r)
	}
	notify := withFlags(sgx.AttributeAEXNotify)
	misc := func(l *launch) { l.secs.MiscSelect = 0 }
	cet := func(l *launch) { withFlags(sgx.AttributeCET)(l); l.secs.CETAttributes = 1 }
	for name, test := range map[string]struct {
		change func(*launch)
		r      *sgx.KeyRequest
		same   bool
	}{
		"AEXNOTIFY not masked":  {notify, request(flags(0)), true},
		"AEXNOTIFY masked":      {notify, request(flags(sgx.AttributeAEXNotify)), false},
		"DEBUG not masked":      {withFlags(sgx.AttributeDebug), request(flags(0)), false},
		"MISCSELECT not masked": {misc, request(), true},
		"MISCSELECT masked":     {misc, request(func(r *sgx.KeyRequest) { r.MiscMask = 1 }), false},
		"CET not masked":        {cet, request(), true},
		"CET masked":            {cet, request(func(r *sgx.KeyRequest) { r.CETAttributesMask = 1 }), false},
	} {
		if got := same(test.change, test.r); got != test.same {
			t.Errorf("%s: same key %t, want %t", name, got, test.same)
		}
	}
}

func TestReservedPoliciesAndKSSFieldsWithoutKSSFault(t *testing.T) {
	t.Parallel()
	plain := []func(*launch){withoutKSS, privileged}
	for name, test := range map[string]struct {
		e *cpu.Enclave
		r *sgx.KeyRequest
	}{
		"reserved policy":          {enclave(t), request(policy(1 << 6))},
		"reserved, REPORT":         {enclave(t), request(named(sgx.KeyNameReport), policy(1<<15))},
		"NOISVPRODID without KSS":  {enclave(t, plain...), request(noConfig, policy(sgx.KeyPolicyNoISVProdID))},
		"CONFIGID without KSS":     {enclave(t, plain...), request(noConfig, policy(sgx.KeyPolicyConfigID))},
		"ISVFAMILYID without KSS":  {enclave(t, plain...), request(noConfig, policy(sgx.KeyPolicyISVFamilyID))},
		"ISVEXTPRODID without KSS": {enclave(t, plain...), request(noConfig, policy(sgx.KeyPolicyISVExtProdID))},
		"CONFIGSVN without KSS":    {enclave(t, plain...), request()},
		"unknown name with it too": {enclave(t), request(named(77), policy(1<<6))},
	} {
		if k, err := test.e.EGETKEY(test.r); !errors.Is(err, cpu.ErrGeneralProtection) || k != (sgx.Key128{}) {
			t.Errorf("%s: got %v, want #GP", name, err)
		}
	}
	for _, value := range keyNames {
		mustKey(t, enclave(t, plain...), request(noConfig, named(value)))
	}
}

func noConfig(r *sgx.KeyRequest) { r.ConfigSVN = 0 }

// Sealed data must open after every update of this package, so the derivation is
// pinned.
func TestSealKeyGolden(t *testing.T) {
	t.Parallel()
	e := enclave(t)
	r := request(policy(sgx.KeyPolicyMRENCLAVE | sgx.KeyPolicyConfigID))
	// From Python's hmac and "openssl mac CMAC", by the package comment.
	want := sgx.Key128{0xae, 0xdb, 0x6e, 0x7d, 0x39, 0x56, 0xcf, 0xae, 0x45, 0xa3, 0x55, 0x87, 0x48, 0x35, 0x8b, 0x11}
	if got := mustKey(t, e, r); got != want {
		t.Errorf("got %x, want %x", got, want)
	}
}
