package dcap_test

// One test for each rule of the list of what naive verifiers get wrong
// (shared/verification-rules.md), numbered as there.

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/refusal"
)

// verdict is a forge with a change and what must come of it: a status, or a reason.
type verdict struct {
	name   string
	tee    dcap.TEE
	change func(f *forge)
	status dcap.Status
	reason refusal.Reason
}

func runVerdicts(t *testing.T, verdicts []verdict) {
	t.Helper()
	for _, v := range verdicts {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			f := newForge(t, v.tee)
			v.change(f)
			result, err := f.verify()
			if refusal.Of(err) != v.reason || (err != nil) != (v.reason != "") {
				t.Fatalf("error = %v, want reason %q", err, v.reason)
			}
			if err == nil && result.Status != v.status {
				t.Errorf("status = %s, want %s", result.Status, v.status)
			}
		})
	}
}

func levels(f *forge, levels ...any) { f.tcbInfo["tcbLevels"] = levels }

func modules(f *forge, modules ...any) { f.tcbInfo["tdxModuleIdentities"] = modules }

func qeLevel(f *forge, status string, advisories ...string) {
	f.qeIdentity["tcbLevels"] = []any{svnLevelOf(1, status, advisories...)}
}

func TestRule01LevelsMatchPCKComponentsAndPCESVN(t *testing.T) {
	t.Parallel()
	verdicts := []verdict{
		{"the report's CPUSVN is not looked at", dcap.SGX, func(f *forge) { f.edit = func(b []byte) { copy(b, make([]byte, 16)) } }, dcap.UpToDate, ""},
		{"a low CPUSVN in the report does not matter, a high one neither", dcap.SGX, func(f *forge) {
			f.pckComponents[0] = 4
			f.edit = func(b []byte) { copy(b, bytes.Repeat([]byte{255}, 16)) }
		}, dcap.OutOfDate, ""},
		{"PCESVN counts", dcap.SGX, func(f *forge) { f.pckPCESVN = 12 }, dcap.OutOfDate, ""},
		{"levels are sorted before matching", dcap.SGX, func(f *forge) {
			levels(f, forgedLevel(3, 3, 10, "OutOfDate"), forgedLevel(5, 5, 13, "UpToDate"), forgedLevel(4, 4, 13, "OutOfDate"))
		}, dcap.UpToDate, ""},
		{"two levels for the same TCB", dcap.SGX, func(f *forge) {
			levels(f, forgedLevel(5, 5, 13, "UpToDate"), forgedLevel(5, 5, 13, "Revoked"))
		}, "", refusal.CollateralInvalid},
		{"two QE levels for the same ISVSVN", dcap.SGX, func(f *forge) {
			f.qeIdentity["tcbLevels"] = []any{svnLevelOf(8, "UpToDate"), svnLevelOf(8, "Revoked")}
		}, "", refusal.CollateralInvalid},
	}
	for i := range 16 {
		verdicts = append(verdicts, verdict{fmt.Sprintf("component %d counts", i+1), dcap.SGX, func(f *forge) { f.pckComponents[i] = 4 }, dcap.OutOfDate, ""})
	}
	runVerdicts(t, verdicts)
}

func TestRule02TDXComponentsFromIndex2IfModuleMajorIsSet(t *testing.T) {
	t.Parallel()
	set := func(i int, v byte) func(f *forge) {
		return func(f *forge) {
			previous := f.edit
			f.edit = func(b []byte) {
				if previous != nil {
					previous(b)
				}
				b[i] = v
			}
		}
	}
	both := func(a, b func(f *forge)) func(f *forge) { return func(f *forge) { a(f); b(f) } }
	runVerdicts(t, []verdict{
		{"major 1: component 1 (1 < 5) is skipped", dcap.TDX, func(*forge) {}, dcap.UpToDate, ""},
		{"major 1: component 2 counts", dcap.TDX, set(2, 4), dcap.OutOfDate, ""},
		{"major 1: component 15 counts", dcap.TDX, set(15, 4), dcap.OutOfDate, ""},
		{"major 0: component 1 (0 < 5) counts", dcap.TDX, set(1, 0), dcap.NotSupported, ""},
		{"major 0: reached where the level asks for 0", dcap.TDX, both(set(1, 0), func(f *forge) {
			level := forgedLevel(5, 5, 13, "UpToDate")
			level["tcb"].(map[string]any)["tdxtcbcomponents"].([]any)[1] = map[string]any{"svn": 0}
			levels(f, level)
		}), dcap.UpToDate, ""},
	})
}

func TestRule03TDXModuleIdentity(t *testing.T) {
	t.Parallel()
	major := func(v byte) func(b []byte) { return func(b []byte) { b[1] = v } }
	ok := []any{svnLevelOf(5, "UpToDate")}
	runVerdicts(t, []verdict{
		{"id is hex", dcap.TDX, func(f *forge) { f.edit = major(0x1a); modules(f, forgedModule("TDX_1A", ok)) }, dcap.UpToDate, ""},
		{"id is not decimal", dcap.TDX, func(f *forge) { f.edit = major(10); modules(f, forgedModule("TDX_10", ok)) }, "", refusal.TDXModuleMismatch},
		{"id in any case", dcap.TDX, func(f *forge) { f.edit = major(0x1a); modules(f, forgedModule("tdx_1a", ok)) }, dcap.UpToDate, ""},
		{"no such identity", dcap.TDX, func(f *forge) { f.edit = major(2) }, "", refusal.TDXModuleMismatch},
		{"the same identity twice", dcap.TDX, func(f *forge) { modules(f, forgedModule("TDX_01", ok), forgedModule("tdx_01", ok)) }, "", refusal.CollateralInvalid},
		{"module SVN is byte 0", dcap.TDX, func(f *forge) { f.edit = func(b []byte) { b[0] = 4 } }, dcap.OutOfDate, ""},
		{"module SVN below every level", dcap.TDX, func(f *forge) { f.edit = func(b []byte) { b[0] = 2 } }, dcap.NotSupported, ""},
		{"MRSIGNERSEAM differs", dcap.TDX, func(f *forge) { f.edit = func(b []byte) { b[64] = 1 } }, "", refusal.TDXModuleMismatch},
		{"the identity's mrsigner overrides tdxModule's", dcap.TDX, func(f *forge) {
			f.tcbInfo["tdxModule"].(map[string]any)["mrsigner"] = strings.Repeat("11", 48)
		}, dcap.UpToDate, ""},
		{"tdxModule's mrsigner does not stand in for the identity's", dcap.TDX, func(f *forge) {
			m := forgedModule("TDX_01", ok)
			m["mrsigner"] = strings.Repeat("11", 48)
			modules(f, m)
		}, "", refusal.TDXModuleMismatch},
		{"SEAMATTRIBUTES equal but not zero", dcap.TDX, func(f *forge) {
			m := forgedModule("TDX_01", ok)
			m["attributes"] = "0100000000000000"
			modules(f, m)
			f.edit = func(b []byte) { b[112] = 1 }
		}, "", refusal.TDXModuleMismatch},
		{"SEAMATTRIBUTES zero but not equal", dcap.TDX, func(f *forge) {
			m := forgedModule("TDX_01", ok)
			m["attributes"] = "0100000000000000"
			modules(f, m)
		}, "", refusal.TDXModuleMismatch},
		{"a mask does not excuse SEAMATTRIBUTES", dcap.TDX, func(f *forge) {
			m := forgedModule("TDX_01", ok)
			m["attributesMask"] = "0000000000000000"
			modules(f, m)
			f.edit = func(b []byte) { b[112] = 1 }
		}, "", refusal.TDXModuleMismatch},
	})
}

func TestRule04NoMatchingLevelIsNotSupported(t *testing.T) {
	t.Parallel()
	runVerdicts(t, []verdict{
		{"SGX component", dcap.SGX, func(f *forge) { f.pckComponents[7] = 2 }, dcap.NotSupported, ""},
		{"PCESVN", dcap.SGX, func(f *forge) { f.pckPCESVN = 9 }, dcap.NotSupported, ""},
		{"TDX component", dcap.TDX, func(f *forge) { f.edit = func(b []byte) { b[3] = 2 } }, dcap.NotSupported, ""},
		{"QE", dcap.SGX, func(f *forge) {
			f.editQE = func(b []byte) { b[258] = 5 }
		}, dcap.NotSupported, ""},
	})
	f := newForge(t, dcap.SGX)
	f.pckPCESVN = 9
	result, err := f.verify()
	if err != nil {
		t.Fatal(err)
	}
	err = dcap.Policy{Roots: []string{"forged"}, Statuses: []dcap.Status{dcap.OutOfDate}}.Appraise(result)
	if refusal.Of(err) != refusal.TCBNotSupported {
		t.Errorf("a policy that accepts OutOfDate gives %v, want TCBNotSupported", err)
	}
}

func TestRule05MergeOfPlatformModuleAndQE(t *testing.T) {
	t.Parallel()
	const (
		up, sw, conf, confSW    = "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"
		old, oldConf, revokedBy = "OutOfDate", "OutOfDateConfigurationNeeded", "Revoked"
	)
	var verdicts []verdict
	for _, row := range []struct{ platform, qe, want string }{
		{up, up, up}, {sw, up, sw}, {conf, up, conf}, {confSW, up, confSW}, {old, up, old}, {oldConf, up, oldConf}, {revokedBy, up, revokedBy},
		{up, old, old}, {sw, old, old}, {conf, old, oldConf}, {confSW, old, oldConf}, {old, old, old}, {oldConf, old, oldConf}, {revokedBy, old, revokedBy},
		{up, revokedBy, revokedBy}, {sw, revokedBy, revokedBy}, {conf, revokedBy, revokedBy}, {confSW, revokedBy, revokedBy}, {old, revokedBy, revokedBy}, {oldConf, revokedBy, revokedBy},
	} {
		verdicts = append(verdicts,
			verdict{"platform " + row.platform + ", QE " + row.qe, dcap.SGX, func(f *forge) {
				levels(f, forgedLevel(5, 5, 13, row.platform))
				qeLevel(f, row.qe)
			}, dcap.Status(row.want), ""},
			verdict{"platform " + row.platform + ", module " + row.qe, dcap.TDX, func(f *forge) {
				levels(f, forgedLevel(5, 5, 13, row.platform))
				modules(f, forgedModule("TDX_01", []any{svnLevelOf(5, row.qe)}))
			}, dcap.Status(row.want), ""})
	}
	runVerdicts(t, verdicts)

	f := newForge(t, dcap.TDX)
	platform, module := forgedLevel(5, 5, 13, sw, "INTEL-SA-3", "INTEL-SA-1"), svnLevelOf(5, up, "INTEL-SA-2", "INTEL-SA-1")
	platform["tcbDate"], module["tcbDate"] = "2025-03-01T00:00:00Z", "2024-01-01T00:00:00Z"
	levels(f, platform)
	modules(f, forgedModule("TDX_01", []any{module}))
	qeLevel(f, up, "INTEL-SA-4")
	result, err := f.verify()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"INTEL-SA-1", "INTEL-SA-2", "INTEL-SA-3", "INTEL-SA-4"}; !slices.Equal(result.Advisories, want) {
		t.Errorf("advisories = %q, want the union %q", result.Advisories, want)
	}
	if want := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC); !result.TCBDate.Equal(want) {
		t.Errorf("TCB date = %s, want the oldest, %s", result.TCBDate, want)
	}
}

func TestRule06RelaunchOfTD15(t *testing.T) {
	t.Parallel()
	// The TD was launched by module 4 (OutOfDate); module 5 runs now.
	launchedOld := func(f *forge) {
		f.version, f.bodyType = 5, dcap.BodyTD15
		f.edit = func(b []byte) { b[0] = 4 }
	}
	with := func(platform string) func(f *forge) {
		return func(f *forge) { launchedOld(f); levels(f, forgedLevel(5, 5, 13, platform)) }
	}
	runVerdicts(t, []verdict{
		{"current is up to date", dcap.TDX, launchedOld, dcap.TDRelaunchAdvised, ""},
		{"current needs software hardening", dcap.TDX, with("SWHardeningNeeded"), dcap.TDRelaunchAdvised, ""},
		{"current needs configuration", dcap.TDX, with("ConfigurationNeeded"), dcap.TDRelaunchAdvisedConfigurationNeeded, ""},
		{"current needs configuration and hardening", dcap.TDX, with("ConfigurationAndSWHardeningNeeded"), dcap.TDRelaunchAdvisedConfigurationNeeded, ""},
		{"platform is out of date", dcap.TDX, with("OutOfDate"), dcap.OutOfDate, ""},
		{"platform is revoked", dcap.TDX, with("Revoked"), dcap.Revoked, ""},
		{"QE is out of date", dcap.TDX, func(f *forge) { launchedOld(f); qeLevel(f, "OutOfDate") }, dcap.OutOfDate, ""},
		{"current module is as old", dcap.TDX, func(f *forge) { launchedOld(f); f.edit = func(b []byte) { b[0], b[584] = 4, 4 } }, dcap.OutOfDate, ""},
		{"current module is unknown", dcap.TDX, func(f *forge) { launchedOld(f); f.edit = func(b []byte) { b[585] = 9 } }, "", refusal.TDXModuleMismatch},
		{"TD 1.5 Ex", dcap.TDX, func(f *forge) { launchedOld(f); f.bodyType = dcap.BodyTD15Ex }, dcap.TDRelaunchAdvised, ""},
		{"TD 1.0 has no second evaluation", dcap.TDX, func(f *forge) { launchedOld(f); f.bodyType = dcap.BodyTD10 }, dcap.OutOfDate, ""},
	})
}

func TestRule07BodyDescriptorOfV5(t *testing.T) {
	t.Parallel()
	v5 := func(body dcap.BodyType, size uint32) func(f *forge) {
		return func(f *forge) { f.version, f.bodyType, f.bodySize = 5, body, size }
	}
	runVerdicts(t, []verdict{
		{"SGX", dcap.SGX, v5(dcap.BodySGX, 384), dcap.UpToDate, ""},
		{"TD 1.0", dcap.TDX, v5(dcap.BodyTD10, 584), dcap.UpToDate, ""},
		{"TD 1.5", dcap.TDX, v5(dcap.BodyTD15, 648), dcap.UpToDate, ""},
		{"TD 1.5 Ex", dcap.TDX, v5(dcap.BodyTD15Ex, 885), dcap.UpToDate, ""},
		{"SGX, one byte less", dcap.SGX, v5(dcap.BodySGX, 383), "", refusal.EvidenceMalformed},
		{"TD 1.0 with the size of 1.5", dcap.TDX, v5(dcap.BodyTD10, 648), "", refusal.EvidenceMalformed},
		{"TD 1.5 with the size of 1.0", dcap.TDX, v5(dcap.BodyTD15, 584), "", refusal.EvidenceMalformed},
		{"TD 1.5 Ex with the size of 1.5", dcap.TDX, v5(dcap.BodyTD15Ex, 648), "", refusal.EvidenceMalformed},
		{"size near 2³²", dcap.TDX, v5(dcap.BodyTD15, 0xffffffff), "", refusal.EvidenceMalformed},
		{"type 5", dcap.TDX, v5(5, 584), "", refusal.EvidenceUnsupported},
		{"type 0", dcap.TDX, v5(0, 584), "", refusal.EvidenceUnsupported},
		{"an SGX body in a TDX quote", dcap.TDX, v5(dcap.BodySGX, 384), "", refusal.EvidenceMalformed},
		{"a TD body in an SGX quote", dcap.SGX, v5(dcap.BodyTD10, 584), "", refusal.EvidenceMalformed},
	})

	// The descriptor is signed: 648 bytes of TD 1.5 may not become another type.
	f := newForge(t, dcap.TDX)
	f.version, f.bodyType = 5, dcap.BodyTD15
	quote, collateral := f.make()
	v := f.verifier()
	if _, err := v.Verify(quote, collateral, now); err != nil {
		t.Fatal(err)
	}
	parsed, err := dcap.ParseQuote(quote)
	if err != nil {
		t.Fatal(err)
	}
	unsignedDescriptor := slices.Concat(quote[:48], quote[54:54+648])
	forged := bytes.Clone(quote)
	copy(forged[54+648+4:], f.sign(f.attestationKey, unsignedDescriptor))
	if _, err := v.Verify(forged, collateral, now); refusal.Of(err) != refusal.QuoteSignatureInvalid {
		t.Errorf("a signature without the descriptor gives %v, want QuoteSignatureInvalid", err)
	}
	if parsed.BodyType != dcap.BodyTD15 {
		t.Errorf("body type = %d", parsed.BodyType)
	}
}

func TestRule08VersionsTypesKeyAndVendor(t *testing.T) {
	t.Parallel()
	runVerdicts(t, []verdict{
		{"v2", dcap.SGX, func(f *forge) { f.version = 2 }, "", refusal.EvidenceUnsupported},
		{"v6", dcap.SGX, func(f *forge) { f.version = 6 }, "", refusal.EvidenceUnsupported},
		{"v3 for a TD", dcap.TDX, func(f *forge) { f.version = 3 }, "", refusal.EvidenceUnsupported},
		{"v4 for SGX", dcap.SGX, func(f *forge) { f.version = 4 }, dcap.UpToDate, ""},
		{"v3 with type 6", dcap.SGX, func(f *forge) { f.certType = 6 }, "", refusal.EvidenceUnsupported},
		{"v3 with type 7", dcap.SGX, func(f *forge) { f.certType = 7 }, "", refusal.EvidenceUnsupported},
		{"v3 with type 0", dcap.SGX, func(f *forge) { f.certType = 0 }, "", refusal.EvidenceUnsupported},
		{"v4 with outer type 5", dcap.TDX, func(f *forge) { f.outerType = 5 }, "", refusal.EvidenceUnsupported},
		{"v4 with inner type 6", dcap.TDX, func(f *forge) { f.certType = 6 }, "", refusal.EvidenceUnsupported},
		{"ECDSA P-384", dcap.SGX, func(f *forge) { f.keyType = 3 }, "", refusal.EvidenceUnsupported},
		{"EPID", dcap.SGX, func(f *forge) { f.keyType = 0 }, "", refusal.EvidenceUnsupported},
		{"another vendor", dcap.SGX, func(f *forge) { f.vendor = strings.Repeat("00", 16) }, "", refusal.EvidenceUnsupported},
		{"another TEE", dcap.SGX, func(f *forge) { f.tee = 0x82; f.version, f.bodyType = 4, dcap.BodyTD10 }, "", refusal.EvidenceUnsupported},
	})
}

func TestRule09CertificationDataWithoutChain(t *testing.T) {
	t.Parallel()
	for certType := dcap.PPIDClear; certType <= dcap.PCKCertificate; certType++ {
		t.Run(fmt.Sprintf("type %d", certType), func(t *testing.T) {
			t.Parallel()
			f := newForge(t, dcap.SGX)
			f.certType = certType
			quote, collateral := f.make()
			v := f.verifier()
			result, err := v.Verify(quote, collateral, now)
			if err != nil {
				t.Fatal(err)
			}
			if got := result.PCK.FMSPC.String(); !strings.EqualFold(got, forgedFMSPC) {
				t.Errorf("FMSPC = %s", got)
			}
			collateral.PCKCertChain = nil
			if _, err := v.Verify(quote, collateral, now); refusal.Of(err) != refusal.CollateralMissing {
				t.Errorf("without a chain: %v, want CollateralMissing", err)
			}
		})
	}
}

func TestRule10PaddingAndAuthenticationData(t *testing.T) {
	t.Parallel()
	verdicts := []verdict{
		{"chain ends in NUL", dcap.SGX, func(f *forge) { f.chainTail = "\x00" }, dcap.UpToDate, ""},
		{"chain ends in many NULs", dcap.TDX, func(f *forge) { f.chainTail = strings.Repeat("\x00", 9) }, dcap.UpToDate, ""},
		{"text after the chain", dcap.SGX, func(f *forge) { f.chainTail = "more" }, "", refusal.CertificateInvalid},
		{"zeros after the quote", dcap.SGX, func(f *forge) { f.trailing = make([]byte, 4000) }, dcap.UpToDate, ""},
		{"anything after the quote", dcap.TDX, func(f *forge) { f.trailing = []byte("padding") }, dcap.UpToDate, ""},
		{"more than the bound after the quote", dcap.SGX, func(f *forge) { f.trailing = make([]byte, dcap.MaxQuoteSize) }, "", refusal.EvidenceMalformed},
	}
	for _, size := range []int{0, 1, 32, 33, 1000} {
		verdicts = append(verdicts, verdict{fmt.Sprintf("%d bytes of authentication data", size), dcap.SGX, func(f *forge) { f.authData = bytes.Repeat([]byte{7}, size) }, dcap.UpToDate, ""})
	}
	runVerdicts(t, verdicts)
}

func TestRule11QEReportDataIsHashAndZeros(t *testing.T) {
	t.Parallel()
	runVerdicts(t, []verdict{
		{"hash differs", dcap.SGX, func(f *forge) { f.editQE = func(b []byte) { b[320] ^= 1 } }, "", refusal.QuoteSignatureInvalid},
		{"last byte of the hash differs", dcap.SGX, func(f *forge) { f.editQE = func(b []byte) { b[351] ^= 1 } }, "", refusal.QuoteSignatureInvalid},
		{"first zero is not", dcap.SGX, func(f *forge) { f.qeRDSuffix[0] = 1 }, "", refusal.QuoteSignatureInvalid},
		{"last zero is not", dcap.TDX, func(f *forge) { f.qeRDSuffix[31] = 1 }, "", refusal.QuoteSignatureInvalid},
	})
}

func TestRule12QEIdentity(t *testing.T) {
	t.Parallel()
	edit := func(i int, v byte) func(f *forge) { return func(f *forge) { f.editQE = func(b []byte) { b[i] = v } } }
	runVerdicts(t, []verdict{
		{"MISCSELECT", dcap.SGX, edit(16, 1), "", refusal.QEIdentityMismatch},
		{"MISCSELECT outside its mask", dcap.SGX, func(f *forge) { edit(16, 1)(f); f.qeIdentity["miscselectMask"] = "FEFFFFFF" }, dcap.UpToDate, ""},
		{"ATTRIBUTES: debug", dcap.SGX, edit(48, 0x13), "", refusal.QEIdentityMismatch},
		{"ATTRIBUTES outside their mask", dcap.SGX, edit(48, 0x15), dcap.UpToDate, ""},
		{"XFRM under a mask", dcap.SGX, func(f *forge) {
			f.qeIdentity["attributesMask"] = "FBFFFFFFFFFFFFFF0300000000000000"
			edit(56, 3)(f)
		}, "", refusal.QEIdentityMismatch},
		{"MRSIGNER", dcap.SGX, edit(128, 0), "", refusal.QEIdentityMismatch},
		{"ISVPRODID", dcap.SGX, edit(256, 2), "", refusal.QEIdentityMismatch},
		{"ISVSVN of an older level", dcap.SGX, edit(258, 7), dcap.OutOfDate, ""},
		{"TD_QE for SGX", dcap.SGX, func(f *forge) { f.qeIdentity["id"] = "TD_QE" }, "", refusal.CollateralInvalid},
		{"QE for TDX", dcap.TDX, func(f *forge) { f.qeIdentity["id"] = "QE" }, "", refusal.CollateralInvalid},
		{"QVE", dcap.SGX, func(f *forge) { f.qeIdentity["id"] = "QVE" }, "", refusal.CollateralInvalid},
	})
	// CVE-2026-22696: a verifier that took the identity document unsigned.
	f := newForge(t, dcap.SGX)
	quote, collateral := f.make()
	collateral.QEIdentity = bytes.Replace(collateral.QEIdentity, []byte(`"isvsvn":8`), []byte(`"isvsvn":7`), 1)
	if _, err := f.verifier().Verify(quote, collateral, now); refusal.Of(err) != refusal.CollateralInvalid {
		t.Errorf("a changed identity document gives %v, want CollateralInvalid", err)
	}
}

func TestRule13TCBInfoFitsThePlatform(t *testing.T) {
	t.Parallel()
	set := func(key string, value any) func(f *forge) { return func(f *forge) { f.tcbInfo[key] = value } }
	v2 := func(f *forge) {
		tcb := map[string]any{"pcesvn": 13}
		for i := range 16 {
			tcb[fmt.Sprintf("sgxtcbcomp%02dsvn", i+1)] = 5
		}
		delete(f.tcbInfo, "id")
		f.tcbInfo["version"] = 2
		levels(f, map[string]any{"tcb": tcb, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "UpToDate"})
	}
	runVerdicts(t, []verdict{
		{"id SGX for a TD", dcap.TDX, set("id", "SGX"), "", refusal.CollateralInvalid},
		{"id TDX for an enclave", dcap.SGX, func(f *forge) { f.tcbInfo = newForge(f.t, dcap.TDX).tcbInfo }, "", refusal.CollateralInvalid},
		{"FMSPC in lower case", dcap.SGX, set("fmspc", strings.ToLower(forgedFMSPC)), dcap.UpToDate, ""},
		{"another FMSPC", dcap.SGX, set("fmspc", "00906ED50001"), "", refusal.CollateralInvalid},
		{"FMSPC of another length", dcap.SGX, set("fmspc", "00906ED5"), "", refusal.CollateralInvalid},
		{"another PCEID", dcap.SGX, set("pceId", "0100"), "", refusal.CollateralInvalid},
		{"tcbType 1", dcap.SGX, set("tcbType", 1), "", refusal.CollateralInvalid},
		{"no tcbType", dcap.SGX, func(f *forge) { delete(f.tcbInfo, "tcbType") }, "", refusal.CollateralInvalid},
		{"version 2 for SGX", dcap.SGX, v2, dcap.UpToDate, ""},
		{"version 2 for TDX", dcap.TDX, set("version", 2), "", refusal.CollateralInvalid},
		{"version 4", dcap.SGX, set("version", 4), "", refusal.CollateralInvalid},
		{"an unknown status", dcap.SGX, func(f *forge) { levels(f, forgedLevel(5, 5, 13, "Fine")) }, "", refusal.CollateralInvalid},
		{"NotSupported is not for documents", dcap.SGX, func(f *forge) { levels(f, forgedLevel(5, 5, 13, "NotSupported")) }, "", refusal.CollateralInvalid},
		{"15 components", dcap.SGX, func(f *forge) {
			level := forgedLevel(5, 5, 13, "UpToDate")
			tcb := level["tcb"].(map[string]any)
			tcb["sgxtcbcomponents"] = tcb["sgxtcbcomponents"].([]any)[1:]
			levels(f, level)
		}, "", refusal.CollateralInvalid},
		{"no levels", dcap.SGX, func(f *forge) { levels(f) }, "", refusal.CollateralInvalid},
	})
}

func TestRule14SignatureCoversTheBytesServed(t *testing.T) {
	t.Parallel()
	f := newForge(t, dcap.SGX)
	quote, good := f.make()
	body := string(f.marshal(f.tcbInfo))
	spaced := strings.ReplaceAll(body, `":`, `" : `)
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	for _, row := range []struct {
		name   string
		text   string
		reason refusal.Reason
	}{
		{"signed with spaces", string(f.signJSON("tcbInfo", []byte(spaced))), ""},
		{"spaces and signature first", func() string {
			text := string(f.signJSON("tcbInfo", []byte(body)))
			i := strings.Index(text, `,"signature"`)
			return "{ " + text[i+1:len(text)-1] + " , \n" + text[1:i] + " }\n"
		}(), ""},
		{"reformatted after signing", strings.Replace(string(good.TCBInfo), body, spaced, 1), refusal.CollateralInvalid},
		{"document twice", `{"tcbInfo":` + body + "," + string(good.TCBInfo)[1:], refusal.CollateralInvalid},
		{"document twice in another case", `{"tcbinfo":` + body + "," + string(good.TCBInfo)[1:], refusal.CollateralInvalid},
		{"something after the document", string(good.TCBInfo) + "{}", refusal.CollateralInvalid},
		{"truncated", string(good.TCBInfo[:len(good.TCBInfo)-1]), refusal.CollateralInvalid},
		{"not hex", strings.Replace(string(good.TCBInfo), `"signature":"`, `"signature":"xx`, 1), refusal.CollateralInvalid},
		{"a key twice, signed", string(f.signJSON("tcbInfo", []byte(`{"fmspc":"000000000000",`+body[1:]))), refusal.CollateralInvalid},
		{"a key twice in another case, signed", string(f.signJSON("tcbInfo", []byte(`{"FMSPC":"000000000000",`+body[1:]))), refusal.CollateralInvalid},
		{"40 levels deep, signed", string(f.signJSON("tcbInfo", []byte(`{"x":`+deep+`,`+body[1:]))), refusal.CollateralInvalid},
		{"unknown members are ignored", string(f.signJSON("tcbInfo", []byte(`{"x":[1,{"y":"\""}],`+body[1:]))), ""},
		{"larger than the bound, signed", string(f.signJSON("tcbInfo", []byte(strings.Repeat(" ", 256<<10)+body))), refusal.CollateralInvalid},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := *good
			c.TCBInfo = []byte(row.text)
			if _, err := f.verifier().Verify(quote, &c, now); refusal.Of(err) != row.reason || (err != nil) != (row.reason != "") {
				t.Errorf("error = %v, want reason %q", err, row.reason)
			}
		})
	}
}

func TestRule15RootIsPinnedByPublicKey(t *testing.T) {
	t.Parallel()
	f := newForge(t, dcap.SGX)
	quote, collateral := f.make()
	if _, err := newVerifier(t, dcap.VerifierOptions{}).Verify(quote, collateral, now); refusal.Of(err) != refusal.RootNotTrusted {
		t.Errorf("an unknown root gives %v, want RootNotTrusted", err)
	}
	// Another certificate for the same key and name, as Intel has made.
	v := f.verifier()
	again := f.cert("Test SGX Root CA", 99, f.rootKey, true, nil, nil, f.rootKey)
	collateral.TCBInfoIssuerChain = pemChain(f.signer, again)
	if _, err := v.Verify(quote, collateral, now); err != nil {
		t.Errorf("another certificate for the root key gives %v", err)
	}
	// A certificate with the root's name and another key.
	imposter := f.cert("Test SGX Root CA", 1, f.signerKey, true, nil, nil, f.signerKey)
	collateral.TCBInfoIssuerChain = pemChain(f.signer, imposter)
	if _, err := v.Verify(quote, collateral, now); refusal.Of(err) != refusal.RootNotTrusted {
		t.Errorf("an imposter gives %v, want RootNotTrusted", err)
	}
	// Both roots of the vectors chain to the pinned key: TestConformance.
}

func TestRule16ChainLengthsNamesAndExtension(t *testing.T) {
	t.Parallel()
	extension := func(change func(f *forge) []byte) func(f *forge) {
		return func(f *forge) { f.pckExtension = change(f) }
	}
	runVerdicts(t, []verdict{
		{"Platform CA", dcap.SGX, func(*forge) {}, dcap.UpToDate, ""},
		{"Processor CA", dcap.SGX, func(f *forge) { f.ca = "Processor" }, dcap.UpToDate, ""},
		{"another CA", dcap.SGX, func(f *forge) { f.ca = "Private" }, "", refusal.CertificateInvalid},
		{"2 certificates", dcap.SGX, func(f *forge) { f.chainLength = 2 }, "", refusal.CertificateInvalid},
		{"4 certificates", dcap.SGX, func(f *forge) { f.chainLength = 4 }, "", refusal.CertificateInvalid},
		{"leaf of another name", dcap.SGX, func(f *forge) { f.leafName = "Test SGX TCB Signing" }, "", refusal.CertificateInvalid},
		{"Processor CA with the Platform CA's fields", dcap.SGX, extension(func(f *forge) []byte {
			der := f.pckExtensionDER()
			f.ca = "Processor"
			return der
		}), "", refusal.CertificateInvalid},
		{"Platform CA with the Processor CA's fields", dcap.SGX, extension(func(f *forge) []byte {
			f.ca = "Processor"
			der := f.pckExtensionDER()
			f.ca = "Platform"
			return der
		}), "", refusal.CertificateInvalid},
		{"bytes after the extension", dcap.SGX, extension(func(f *forge) []byte { return append(f.pckExtensionDER(), 5, 0) }), "", refusal.CertificateInvalid},
		{"PPID of 15 bytes", dcap.SGX, extension(func(f *forge) []byte {
			return f.marshalAttributes([]attribute{{sgxOID(1), make([]byte, 15)}})
		}), "", refusal.CertificateInvalid},
		{"fields out of order", dcap.SGX, extension(func(f *forge) []byte {
			return f.marshalAttributes([]attribute{{sgxOID(3), []byte{0, 0}}, {sgxOID(1), make([]byte, 16)}})
		}), "", refusal.CertificateInvalid},
		{"no extension", dcap.SGX, extension(func(*forge) []byte { return []byte{} }), "", refusal.CertificateInvalid},
	})
	f := newForge(t, dcap.SGX)
	quote, good := f.make()
	for name, chain := range map[string][]byte{
		"signer alone":       pemChain(f.signer),
		"signer, root twice": pemChain(f.signer, f.root, f.root),
		"root, signer":       pemChain(f.root, f.signer),
		"a PCK CA as signer": pemChain(f.caCert, f.root),
		"a PCK as signer":    pemChain(f.leaf, f.root),
	} {
		c := *good
		c.TCBInfoIssuerChain = chain
		if _, err := f.verifier().Verify(quote, &c, now); refusal.Of(err) != refusal.CertificateInvalid && refusal.Of(err) != refusal.RootNotTrusted {
			t.Errorf("TCB signing chain %s gives %v", name, err)
		}
	}
	// A CA certificate that the signer issued, although it is no CA.
	rogue := f.cert("Test SGX PCK Platform CA", 2, f.caKey, true, nil, f.signer, f.signerKey)
	f.leaf = f.cert(f.leafName, 3, f.leafKey, false, f.pckExtensionDER(), rogue, f.caKey)
	f.caCert = rogue
	if _, err := f.verifier().Verify(f.quote(), good, now); refusal.Of(err) != refusal.CertificateInvalid {
		t.Errorf("a PCK CA issued by the TCB signer gives %v, want CertificateInvalid", err)
	}
}

func TestRule17RevocationLists(t *testing.T) {
	t.Parallel()
	serial := func(n int64) []*big.Int { return []*big.Int{big.NewInt(99), big.NewInt(n)} }
	runVerdicts(t, []verdict{
		{"the root revokes the intermediate", dcap.SGX, func(f *forge) { f.revokedByRoot = serial(2) }, "", refusal.CertificateRevoked},
		{"the root revokes the TCB signer", dcap.SGX, func(f *forge) { f.revokedByRoot = serial(4) }, "", refusal.CertificateRevoked},
		{"the CA revokes the PCK", dcap.TDX, func(f *forge) { f.revokedByCA = serial(3) }, "", refusal.CertificateRevoked},
		{"the CA's list does not speak of the root's certificates", dcap.SGX, func(f *forge) { f.revokedByCA = serial(4) }, dcap.UpToDate, ""},
		{"other serials", dcap.SGX, func(f *forge) { f.revokedByCA, f.revokedByRoot = serial(33), serial(44) }, dcap.UpToDate, ""},
		{"an expired list still revokes", dcap.SGX, func(f *forge) { f.crlUntil = now.AddDate(0, 0, -1); f.revokedByCA = serial(3) }, "", refusal.CertificateRevoked},
		{"a list from the future", dcap.SGX, func(f *forge) { f.crlFrom = now.Add(time.Second) }, "", refusal.CollateralNotYetValid},
	})
	f := newForge(t, dcap.SGX)
	quote, good := f.make()
	other := newForge(t, dcap.SGX)
	other.ca = "Processor"
	other.certificates()
	for name, change := range map[string]func(c *dcap.Collateral){
		"PCK CRL of the root":                  func(c *dcap.Collateral) { c.PCKCRL = c.RootCACRL },
		"root CRL of the CA":                   func(c *dcap.Collateral) { c.RootCACRL = c.PCKCRL },
		"PCK CRL of another CA":                func(c *dcap.Collateral) { c.PCKCRL = other.crl(other.caCert, other.caKey, nil) },
		"PCK CRL with the name, another key":   func(c *dcap.Collateral) { c.PCKCRL = f.crl(withKey(f, other), other.caKey, nil) },
		"PCK CRL with a changed byte":          func(c *dcap.Collateral) { c.PCKCRL = bytes.Clone(c.PCKCRL); c.PCKCRL[len(c.PCKCRL)-1] ^= 1 },
		"PCK CRL followed by something":        func(c *dcap.Collateral) { c.PCKCRL = append(bytes.Clone(c.PCKCRL), 0) },
		"root CRL that is larger than the cap": func(c *dcap.Collateral) { c.RootCACRL = make([]byte, 1<<20+1) },
	} {
		c := *good
		change(&c)
		if _, err := f.verifier().Verify(quote, &c, now); refusal.Of(err) != refusal.CollateralInvalid {
			t.Errorf("%s gives %v, want CollateralInvalid", name, err)
		}
	}
}

func TestRule18NotBeforeAndFutureIssueDates(t *testing.T) {
	t.Parallel()
	runVerdicts(t, []verdict{
		{"certificates", dcap.SGX, func(f *forge) { f.certFrom = now.Add(time.Second) }, "", refusal.CollateralNotYetValid},
		{"TCB info", dcap.SGX, func(f *forge) { f.tcbInfo["issueDate"] = "2026-06-15T12:00:01Z" }, "", refusal.CollateralNotYetValid},
		{"QE identity", dcap.TDX, func(f *forge) { f.qeIdentity["issueDate"] = "2026-06-15T12:00:01Z" }, "", refusal.CollateralNotYetValid},
		{"the very moment", dcap.SGX, func(f *forge) { f.tcbInfo["issueDate"] = "2026-06-15T12:00:00Z" }, dcap.UpToDate, ""},
		{"nextUpdate before issueDate", dcap.SGX, func(f *forge) { f.tcbInfo["nextUpdate"] = "2026-06-04T12:00:00Z" }, "", refusal.CollateralInvalid},
		{"no issueDate", dcap.SGX, func(f *forge) { delete(f.tcbInfo, "issueDate") }, "", refusal.CollateralInvalid},
	})
}

func TestRule19ExpiredCollateralNeedsGrace(t *testing.T) {
	t.Parallel()
	const dayAgo = "2026-06-14T12:00:00Z"
	for _, row := range []struct {
		name     string
		change   func(f *forge)
		document string
	}{
		{"TCB info", func(f *forge) { f.tcbInfo["nextUpdate"] = dayAgo }, "TCB info"},
		{"QE identity", func(f *forge) { f.qeIdentity["nextUpdate"] = dayAgo }, "QE identity"},
		{"CRLs", func(f *forge) { f.crlUntil = now.AddDate(0, 0, -1) }, "PCK CRL"},
		{"certificates", func(f *forge) { f.certUntil = now.AddDate(0, 0, -1) }, "PCK certificate"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := newForge(t, dcap.SGX)
			row.change(f)
			result, err := f.verify()
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(result.Expired, func(e dcap.Expiry) bool { return e.Document == row.document }) {
				t.Errorf("expired = %v, want %s", result.Expired, row.document)
			}
			if want := now.AddDate(0, 0, -1); !result.Expires.Equal(want) {
				t.Errorf("expires = %s, want %s", result.Expires, want)
			}
			for grace, want := range map[time.Duration]refusal.Reason{
				0: refusal.CollateralExpired, 24*time.Hour - 1: refusal.CollateralExpired, 24 * time.Hour: "",
			} {
				if err := (dcap.Policy{Roots: []string{"forged"}, CollateralGrace: grace}).Appraise(result); refusal.Of(err) != want {
					t.Errorf("grace %s: %v, want %q", grace, err, want)
				}
			}
		})
	}
}

func TestRule20EvaluationNumber(t *testing.T) {
	t.Parallel()
	result := func(tcb, qe int) *dcap.Result {
		t.Helper()
		f := newForge(t, dcap.SGX)
		f.tcbInfo["tcbEvaluationDataNumber"], f.qeIdentity["tcbEvaluationDataNumber"] = tcb, qe
		r, err := f.verify()
		if err != nil {
			t.Fatal(err)
		}
		if int(r.EvaluationNumber) != min(tcb, qe) {
			t.Errorf("evaluation number of %d and %d = %d", tcb, qe, r.EvaluationNumber)
		}
		return r
	}
	guard := new(dcap.RollbackGuard)
	policy := dcap.Policy{Roots: []string{"forged"}, MinEvaluationNumber: 18, Rollback: guard}
	for _, row := range []struct {
		tcb, qe int
		want    refusal.Reason
	}{
		{17, 19, refusal.CollateralRollback}, // below the floor
		{19, 17, refusal.CollateralRollback},
		{18, 20, ""},
		{19, 19, ""},
		{18, 20, refusal.CollateralRollback}, // 19 was seen
		{19, 20, ""},
	} {
		if err := policy.Appraise(result(row.tcb, row.qe)); refusal.Of(err) != row.want {
			t.Errorf("numbers %d and %d: %v, want %q", row.tcb, row.qe, err, row.want)
		}
	}
	// A result that is refused does not raise the guard.
	refused := result(30, 30)
	if err := (dcap.Policy{Rollback: guard}).Appraise(refused); refusal.Of(err) != refusal.SoftwareRootNotTrusted {
		t.Fatal(err)
	}
	if err := policy.Appraise(result(19, 19)); err != nil {
		t.Errorf("a refused result raised the guard: %v", err)
	}
	// update=early|standard: package pcs.
}

func TestRule21ClaimsForPolicyAreVisible(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	td := newForge(t, dcap.TDX)
	td.version, td.bodyType = 5, dcap.BodyTD15Ex
	td.edit = func(b []byte) {
		le.PutUint64(b[120:], 1<<0|1<<9) // debug, a reserved bit, no SEPT_VE_DISABLE
		b[600] = 0xaa                    // MRSERVICETD
		b[648] = 3                       // VMID
		b[884] = 0xee                    // the last byte
	}
	result, err := td.verify()
	if err != nil {
		t.Fatal(err)
	}
	report := result.Quote.TD
	if !result.Quote.Debug() || report.Attributes&dcap.TDSEPTVEDisable != 0 || report.Attributes.Reserved() != 1<<9 ||
		report.MRServiceTD[0] != 0xaa || report.Extended.VMID != 3 || report.Extended.CurrentServiceTDAttrs[7] != 0xee {
		t.Errorf("claims are lost: %+v", report)
	}
	roots := []string{"forged"}
	for name, row := range map[string]struct {
		policy dcap.Policy
		want   refusal.Reason
	}{
		"debug":           {dcap.Policy{Roots: roots}, refusal.DebugNotAllowed},
		"debug allowed":   {dcap.Policy{Roots: roots, AllowDebug: true}, ""},
		"SEPT_VE_DISABLE": {dcap.Policy{Roots: roots, AllowDebug: true, TDs: []dcap.TDIdentity{{RequireSEPTVEDisable: true}}}, refusal.IdentityMismatch},
		"reserved bits":   {dcap.Policy{Roots: roots, AllowDebug: true, TDs: []dcap.TDIdentity{{RefuseReserved: true}}}, refusal.IdentityMismatch},
		"MRSERVICETD":     {dcap.Policy{Roots: roots, AllowDebug: true, TDs: []dcap.TDIdentity{{MRServiceTD: new([48]byte)}}}, refusal.IdentityMismatch},
	} {
		if err := row.policy.Appraise(result); refusal.Of(err) != row.want {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}

	enclave := newForge(t, dcap.SGX)
	enclave.edit = func(b []byte) {
		b[48] = 0x80 | 5 // KSS, INIT, MODE64BIT
		b[32], b[192], b[304] = 0x11, 0x22, 0x33
		le.PutUint16(b[260:], 7)
	}
	if result, err = enclave.verify(); err != nil {
		t.Fatal(err)
	}
	if e := result.Quote.SGX; e.ISVExtProdID[0] != 0x11 || e.ConfigID[0] != 0x22 || e.ISVFamilyID[0] != 0x33 || e.ConfigSVN != 7 || uint64(e.Attributes.Flags) != 0x85 {
		t.Errorf("claims are lost: %+v", e)
	}
}

func TestRule22CollateralTransportIsNotTrusted(t *testing.T) {
	t.Parallel()
	f := newForge(t, dcap.TDX)
	quote, good := f.make()
	v := f.verifier()
	if _, err := v.Verify(quote, good, now); err != nil {
		t.Fatal(err)
	}
	fields := map[string]func(c *dcap.Collateral) *[]byte{
		"TCB info": func(c *dcap.Collateral) *[]byte { return &c.TCBInfo }, "TCB info chain": func(c *dcap.Collateral) *[]byte { return &c.TCBInfoIssuerChain },
		"QE identity": func(c *dcap.Collateral) *[]byte { return &c.QEIdentity }, "QE identity chain": func(c *dcap.Collateral) *[]byte { return &c.QEIdentityIssuerChain },
		"PCK CRL": func(c *dcap.Collateral) *[]byte { return &c.PCKCRL }, "root CRL": func(c *dcap.Collateral) *[]byte { return &c.RootCACRL },
	}
	for name, field := range fields {
		c := *good
		*field(&c) = nil
		if _, err := v.Verify(quote, &c, now); refusal.Of(err) != refusal.CollateralMissing {
			t.Errorf("no %s gives %v, want CollateralMissing", name, err)
		}
		if strings.HasSuffix(name, "chain") {
			continue // PEM has bits that do not count
		}
		for i := 0; i < len(*field(good)); i += 37 {
			c := *good
			changed := bytes.Clone(*field(good))
			changed[i] ^= 0x01
			*field(&c) = changed
			if _, err := v.Verify(quote, &c, now); err == nil && !sameHex((*field(good))[i], changed[i]) {
				t.Errorf("%s with byte %d changed is accepted", name, i)
			}
		}
	}
	if _, err := v.Verify(quote, nil, now); refusal.Of(err) != refusal.CollateralMissing {
		t.Errorf("no collateral gives %v, want CollateralMissing", err)
	}
	// Collateral of another root that is trusted too.
	other := newForge(t, dcap.TDX)
	_, foreign := other.make()
	both := newVerifier(t, dcap.VerifierOptions{Roots: []dcap.Root{
		{Name: "one", PublicKey: &f.rootKey.PublicKey, Software: true}, {Name: "two", PublicKey: &other.rootKey.PublicKey, Software: true},
	}})
	c := *good
	c.TCBInfo, c.TCBInfoIssuerChain = foreign.TCBInfo, foreign.TCBInfoIssuerChain
	if _, err := both.Verify(quote, &c, now); refusal.Of(err) != refusal.CollateralInvalid {
		t.Errorf("TCB info under another trusted root gives %v, want CollateralInvalid", err)
	}
}

// withKey gives a certificate with the name of f's CA and the key of other's.
func withKey(f, other *forge) *x509.Certificate {
	return other.cert("Test SGX PCK "+f.ca+" CA", 2, other.caKey, true, nil, other.root, other.rootKey)
}

// sameHex says whether two bytes are the same hex digit in another case.
func sameHex(a, b byte) bool { return bytes.EqualFold([]byte{a}, []byte{b}) }

func TestRule23EveryLengthIsChecked(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(f *forge){
		"SGX v3":    func(*forge) {},
		"TD v4":     func(f *forge) { f.tee = dcap.TDX; f.version, f.bodyType = 4, dcap.BodyTD10 },
		"TD 1.5 v5": func(f *forge) { f.tee = dcap.TDX; f.version, f.bodyType = 5, dcap.BodyTD15Ex },
	} {
		f := newForge(t, dcap.SGX)
		change(f)
		f.certificates()
		quote := f.quote()
		if _, err := dcap.ParseQuote(quote); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for n := range quote {
			if _, err := dcap.ParseQuote(quote[:n]); refusal.Of(err) != refusal.EvidenceMalformed {
				t.Fatalf("%s cut to %d bytes gives %v, want EvidenceMalformed", name, n, err)
			}
		}
		// The declared size of the signature data, one more and one less.
		at := len(quote) - signatureDataSize(f, quote) - 4
		for _, delta := range []int{-1, 1} {
			changed := append(bytes.Clone(quote), 0)
			binary.LittleEndian.PutUint32(changed[at:], uint32(signatureDataSize(f, quote)+delta))
			if _, err := dcap.ParseQuote(changed); refusal.Of(err) != refusal.EvidenceMalformed {
				t.Errorf("%s with a signature size off by %d gives %v, want EvidenceMalformed", name, delta, err)
			}
		}
	}
	// The fuzz targets look for the rest.
}

func signatureDataSize(f *forge, quote []byte) int {
	signed := map[dcap.BodyType]int{dcap.BodySGX: 48 + 384, dcap.BodyTD10: 48 + 584, dcap.BodyTD15Ex: 54 + 885}[f.bodyType]
	return len(quote) - signed - 4
}
