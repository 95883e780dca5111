package cpu_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/sgx"
)

// signingKeys are two keys for all tests, as making one takes a while.
var signingKeys = sync.OnceValues(func() (keys [2]*rsa.PrivateKey, err error) {
	for i := range keys {
		if keys[i], err = sgx.GenerateKey(rand.Reader); err != nil {
			return keys, err
		}
	}
	return keys, nil
})

func signer(t testing.TB, i int) *rsa.PrivateKey {
	t.Helper()
	keys, err := signingKeys()
	if err != nil {
		t.Fatal(err)
	}
	return keys[i]
}

var (
	seed      = [32]byte{1}
	svn       = sgx.CPUSVN{2, 2, 2}
	mrenclave = sgx.Measurement{0xe1}
)

// launch is all that decides about an EINIT.
type launch struct {
	cpu       *cpu.CPU
	secs      sgx.SECS
	mrenclave sgx.Measurement
	sig       sgx.SigStruct
	signer    int
	after     func(*sgx.SigStruct) // changes the SIGSTRUCT when it is signed
}

// newLaunch is a launch of a KSS enclave that succeeds.
func newLaunch() *launch {
	attributes := sgx.Attributes{Flags: sgx.AttributeMode64Bit | sgx.AttributeKSS, XFRM: sgx.XFRMLegacy}
	return &launch{
		cpu: cpu.New(seed, svn),
		secs: sgx.SECS{
			Size: 0x10000, SSAFrameSize: 1, MiscSelect: sgx.MiscSelectEXINFO, Attributes: attributes,
			ConfigID: [64]byte{0xcf}, ConfigSVN: 3,
		},
		mrenclave: mrenclave,
		sig: sgx.SigStruct{
			EnclaveHash: mrenclave, Attributes: attributes,
			AttributeMask: sgx.Attributes{Flags: sgx.AttributeInit | sgx.AttributeMode64Bit, XFRM: ^uint64(0)},
			ISVProdID:     7, ISVSVN: 2, ISVFamilyID: [16]byte{0xfa}, ISVExtProdID: [16]byte{0xe0},
		},
	}
}

func (l *launch) einit(t testing.TB) (*cpu.Enclave, error) {
	t.Helper()
	sig := l.sig
	if err := sig.Sign(signer(t, l.signer)); err != nil {
		t.Fatal(err)
	}
	if l.after != nil {
		l.after(&sig)
	}
	return l.cpu.EINIT(&l.secs, l.mrenclave, &sig)
}

// enclave launches with the changes and must succeed.
func enclave(t testing.TB, changes ...func(*launch)) *cpu.Enclave {
	t.Helper()
	l := newLaunch()
	for _, change := range changes {
		change(l)
	}
	e, err := l.einit(t)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// withFlags adds attribute bits, which the signature leaves to the launcher.
func withFlags(flags sgx.AttributeFlags) func(*launch) {
	return func(l *launch) { l.secs.Attributes.Flags |= flags }
}

func withoutKSS(l *launch) {
	l.secs.Attributes.Flags &^= sgx.AttributeKSS
	l.secs.ConfigID, l.secs.ConfigSVN = [64]byte{}, 0
	l.sig.ISVFamilyID = [16]byte{}
}

func TestEINITSetsTheIdentity(t *testing.T) {
	t.Parallel()
	l := newLaunch()
	e, err := l.einit(t)
	if err != nil {
		t.Fatal(err)
	}
	signed := l.sig
	if err := signed.Sign(signer(t, 0)); err != nil {
		t.Fatal(err)
	}
	attributes := l.secs.Attributes
	attributes.Flags |= sgx.AttributeInit
	want := sgx.ReportBody{
		CPUSVN: svn, MiscSelect: sgx.MiscSelectEXINFO, Attributes: attributes,
		MRENCLAVE: mrenclave, MRSIGNER: signed.MRSIGNER(), ISVProdID: 7, ISVSVN: 2,
		ISVFamilyID: [16]byte{0xfa}, ISVExtProdID: [16]byte{0xe0}, ConfigID: [64]byte{0xcf}, ConfigSVN: 3,
	}
	if got := e.Identity(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEINITRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule   string
		change func(*launch)
		code   cpu.Code
	}{
		{"another vendor", func(l *launch) { l.sig.Vendor = 1 }, cpu.InvalidSigStruct},
		{"another exponent", func(l *launch) { l.after = func(s *sgx.SigStruct) { s.Exponent = 65537 } }, cpu.InvalidSigStruct},
		{"ISVFAMILYID without KSS", func(l *launch) { withoutKSS(l); l.sig.ISVFamilyID[0] = 1 }, cpu.InvalidSigStruct},
		{"a changed signature", func(l *launch) { l.after = func(s *sgx.SigStruct) { s.Signature[0] ^= 1 } }, cpu.InvalidSignature},
		{"a field changed after signing", func(l *launch) { l.after = func(s *sgx.SigStruct) { s.ISVSVN++ } }, cpu.InvalidSignature},
		{"a wrong Q1", func(l *launch) { l.after = func(s *sgx.SigStruct) { s.Q1[9] ^= 1 } }, cpu.InvalidSignature},
		{"a wrong Q2", func(l *launch) { l.after = func(s *sgx.SigStruct) { s.Q2[9] ^= 1 } }, cpu.InvalidSignature},
		{"no signature", func(l *launch) { l.after = func(s *sgx.SigStruct) { *s = sgx.SigStruct{Exponent: 3} } }, cpu.InvalidSignature},
		{"another measurement", func(l *launch) { l.mrenclave[31] ^= 1 }, cpu.InvalidMeasurement},
		{"a flag that the signature forbids", func(l *launch) {
			l.sig.AttributeMask.Flags |= sgx.AttributeDebug
			l.secs.Attributes.Flags |= sgx.AttributeDebug
		}, cpu.InvalidAttribute},
		{"a flag missing that the signature demands", func(l *launch) {
			l.sig.AttributeMask.Flags |= sgx.AttributeDebug
			l.sig.Attributes.Flags |= sgx.AttributeDebug
		}, cpu.InvalidAttribute},
		{"a signature that demands INIT", func(l *launch) { l.sig.Attributes.Flags |= sgx.AttributeInit }, cpu.InvalidAttribute},
		{"an XFRM that the signature forbids", func(l *launch) { l.secs.Attributes.XFRM = 7 }, cpu.InvalidAttribute},
		{"a MISCSELECT that the signature forbids", func(l *launch) { l.sig.MiscMask = sgx.MiscSelectEXINFO }, cpu.InvalidAttribute},
		{"CET attributes that the signature forbids", func(l *launch) {
			l.secs.Attributes.Flags |= sgx.AttributeCET
			l.secs.CETAttributes, l.sig.CETAttributesMask = 1, 1
		}, cpu.InvalidAttribute},
	} {
		t.Run(test.rule, func(t *testing.T) {
			t.Parallel()
			l := newLaunch()
			test.change(l)
			_, err := l.einit(t)
			var refused *cpu.EINITError
			if !errors.As(err, &refused) || refused.Code != test.code {
				t.Errorf("got %v, want %v", err, test.code)
			}
		})
	}
}

// Each refusal comes before the next although both are due.
func TestEINITChecksInTheOrderOfTheSDM(t *testing.T) {
	t.Parallel()
	l := newLaunch()
	l.sig.Vendor = 1
	l.after = func(s *sgx.SigStruct) { s.Signature[0] ^= 1 }
	l.mrenclave[0]++
	l.secs.Attributes.XFRM = 7
	for _, step := range []struct {
		code cpu.Code
		fix  func()
	}{
		{cpu.InvalidSigStruct, func() { l.sig.Vendor = sgx.VendorIntel }},
		{cpu.InvalidSignature, func() { l.after = nil }},
		{cpu.InvalidMeasurement, func() { l.mrenclave = mrenclave }},
		{cpu.InvalidAttribute, func() { l.secs.Attributes.XFRM = sgx.XFRMLegacy }},
	} {
		_, err := l.einit(t)
		var refused *cpu.EINITError
		if !errors.As(err, &refused) || refused.Code != step.code {
			t.Fatalf("got %v, want %v", err, step.code)
		}
		step.fix()
	}
	if _, err := l.einit(t); err != nil {
		t.Error(err)
	}
}

// What the signature's masks leave out is the launcher's to choose.
func TestEINITAdmitsWhatTheMasksLeaveOut(t *testing.T) {
	t.Parallel()
	e := enclave(t, withFlags(sgx.AttributeDebug), func(l *launch) { l.secs.MiscSelect |= sgx.MiscSelectCPINFO })
	if e.Identity().Attributes.Flags&sgx.AttributeDebug == 0 {
		t.Error("DEBUG is lost")
	}
	enclave(t, withoutKSS)
	for _, controlled := range []sgx.AttributeFlags{sgx.AttributeEINITTokenKey, sgx.AttributeProvisionKey} {
		enclave(t, withFlags(controlled)) // the driver lets every signer launch
		enclave(t, withFlags(controlled), func(l *launch) { l.signer = 1 })
	}
}

func TestECREATERefuses(t *testing.T) {
	t.Parallel()
	for rule, change := range map[string]func(*sgx.SECS){
		"SIZE of one page":                  func(s *sgx.SECS) { s.Size = 0x1000 },
		"SIZE 0":                            func(s *sgx.SECS) { s.Size = 0 },
		"SIZE not a power of two":           func(s *sgx.SECS) { s.Size = 0x3000 },
		"BASEADDR not aligned to SIZE":      func(s *sgx.SECS) { s.BaseAddr = 0x8000 },
		"SSAFRAMESIZE 0":                    func(s *sgx.SECS) { s.SSAFrameSize = 0 },
		"SSA frame too small for AMX":       func(s *sgx.SECS) { s.Attributes.XFRM |= 1<<2 | 3<<17; s.SSAFrameSize = 2 },
		"reserved ATTRIBUTES":               func(s *sgx.SECS) { s.Attributes.Flags |= 1 << 3 },
		"INIT":                              func(s *sgx.SECS) { s.Attributes.Flags |= sgx.AttributeInit },
		"reserved MISCSELECT":               func(s *sgx.SECS) { s.MiscSelect = 4 },
		"XFRM without x87 and SSE":          func(s *sgx.SECS) { s.Attributes.XFRM = 1 },
		"XFRM that XCR0 does not define":    func(s *sgx.SECS) { s.Attributes.XFRM |= 1 << 8 },
		"XFRM with half of AVX-512":         func(s *sgx.SECS) { s.Attributes.XFRM |= 1<<2 | 1<<5 },
		"XFRM with AVX-512 without AVX":     func(s *sgx.SECS) { s.Attributes.XFRM |= 7 << 5 },
		"XFRM with half of MPX":             func(s *sgx.SECS) { s.Attributes.XFRM |= 1 << 3 },
		"XFRM with half of AMX":             func(s *sgx.SECS) { s.Attributes.XFRM |= 1 << 17 },
		"CET attributes without CET":        func(s *sgx.SECS) { s.CETAttributes = 1 },
		"CET bitmap without CET":            func(s *sgx.SECS) { s.CETLegBitmapOffset = 0x1000 },
		"reserved CET attributes":           func(s *sgx.SECS) { s.Attributes.Flags |= sgx.AttributeCET; s.CETAttributes = 0x40 },
		"CET bitmap not page-aligned":       func(s *sgx.SECS) { s.Attributes.Flags |= sgx.AttributeCET; s.CETLegBitmapOffset = 1 },
		"CONFIGID without KSS":              func(s *sgx.SECS) { s.Attributes.Flags &^= sgx.AttributeKSS; s.ConfigSVN = 0 },
		"CONFIGSVN without KSS":             func(s *sgx.SECS) { s.Attributes.Flags &^= sgx.AttributeKSS; s.ConfigID = [64]byte{} },
		"SSA frame that only counts in all": func(s *sgx.SECS) { s.SSAFrameSize = 0; s.MiscSelect = 0 },
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			l := newLaunch()
			change(&l.secs)
			if err := l.cpu.ECREATE(&l.secs); !errors.Is(err, cpu.ErrGeneralProtection) {
				t.Errorf("got %v, want #GP", err)
			}
			if _, err := l.einit(t); !errors.Is(err, cpu.ErrGeneralProtection) {
				t.Errorf("EINIT: got %v, want #GP", err)
			}
		})
	}
}

func TestECREATEAdmitsEveryXFRMOfRealCPUs(t *testing.T) {
	t.Parallel()
	for name, secs := range map[string]sgx.SECS{
		"SSE":     {SSAFrameSize: 1, Attributes: sgx.Attributes{XFRM: 3}},
		"AVX":     {SSAFrameSize: 1, Attributes: sgx.Attributes{XFRM: 7}},
		"MPX":     {SSAFrameSize: 1, Attributes: sgx.Attributes{XFRM: 0x1f}},
		"AVX-512": {SSAFrameSize: 1, Attributes: sgx.Attributes{XFRM: 0xe7}},
		"PKRU":    {SSAFrameSize: 1, Attributes: sgx.Attributes{XFRM: 0x2e7}},
		"AMX":     {SSAFrameSize: 3, Attributes: sgx.Attributes{XFRM: 0x602e7}},
		"CET": {SSAFrameSize: 1, CETAttributes: 0x3f, CETLegBitmapOffset: 0x1000,
			Attributes: sgx.Attributes{Flags: sgx.AttributeCET, XFRM: 3}},
		"based": {SSAFrameSize: 1, BaseAddr: 0x30000, Attributes: sgx.Attributes{XFRM: 3}},
	} {
		secs.Size = 0x10000
		if err := cpu.New(seed, svn).ECREATE(&secs); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCodesHaveTheNamesAndNumbersOfTheSDM(t *testing.T) {
	t.Parallel()
	for code, want := range map[cpu.Code]string{
		0: "SGX_SUCCESS", 1: "SGX_INVALID_SIG_STRUCT", 2: "SGX_INVALID_ATTRIBUTE", 3: "SGX_BLKSTATE",
		4: "SGX_INVALID_MEASUREMENT", 5: "SGX_NOTBLOCKABLE", 6: "SGX_PG_INVLD", 7: "SGX_LOCKFAIL",
		8: "SGX_INVALID_SIGNATURE", 9: "SGX_MAC_COMPARE_FAIL", 10: "SGX_PAGE_NOT_BLOCKED", 11: "SGX_NOT_TRACKED",
		12: "SGX_VA_SLOT_OCCUPIED", 13: "SGX_CHILD_PRESENT", 14: "SGX_ENCLAVE_ACT", 15: "SGX_ENTRYEPOCH_LOCKED",
		16: "SGX_INVALID_EINITTOKEN", 17: "SGX_PREV_TRK_INCMPL", 18: "SGX_PG_IS_SECS",
		19: "SGX_PAGE_ATTRIBUTES_MISMATCH", 20: "SGX_PAGE_NOT_MODIFIABLE", 21: "SGX_PAGE_NOT_DEBUGGABLE",
		32: "SGX_INVALID_CPUSVN", 64: "SGX_INVALID_ISVSVN", 128: "SGX_UNMASKED_EVENT", 256: "SGX_INVALID_KEYNAME",
		99: "SGX error 99",
	} {
		if got := code.String(); got != want {
			t.Errorf("%d: got %s, want %s", code, got, want)
		}
	}
	refused := &cpu.EINITError{Code: cpu.InvalidMeasurement, Detail: "why"}
	if got := refused.Error(); !strings.Contains(got, "SGX_INVALID_MEASUREMENT: why") {
		t.Errorf("got %q", got)
	}
}
