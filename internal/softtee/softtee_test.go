package softtee_test

import (
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee"
	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/refusal"
	"github.com/adyton-dev/adyton/sgx"
)

const rootName = "test"

// installation makes a software TEE in a new directory. Its clock is fixed.
func installation(t *testing.T) *softtee.Installation {
	t.Helper()
	inst, err := softtee.Create(filepath.Join(t.TempDir(), "tee"), softtee.WithClock(func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	return inst
}

var now = time.Date(2026, 9, 1, 12, 34, 56, 0, time.UTC)

func verifier(t *testing.T, inst *softtee.Installation) *dcap.Verifier {
	t.Helper()
	v, err := dcap.NewVerifier(dcap.VerifierOptions{Roots: []dcap.Root{inst.TrustRoot(rootName)}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// enclave launches a minimal enclave on a platform.
func enclave(t *testing.T, p *softtee.Platform, flags sgx.AttributeFlags) *cpu.Enclave {
	t.Helper()
	secs := &sgx.SECS{Size: 2 * 4096, SSAFrameSize: 1, Attributes: sgx.Attributes{Flags: sgx.AttributeMode64Bit | flags, XFRM: 3}}
	sig := &sgx.SigStruct{Date: 0x20260901, ISVProdID: 7, ISVSVN: 2, Attributes: secs.Attributes,
		AttributeMask: sgx.Attributes{Flags: ^sgx.AttributeFlags(0), XFRM: ^uint64(0)}, EnclaveHash: sgx.Measurement{1, 2, 3}}
	if err := sig.Sign(signingKey()); err != nil {
		t.Fatal(err)
	}
	e, err := p.CPU().EINIT(secs, sig.EnclaveHash, sig)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// signingKey is made once: finding primes takes time.
var signingKey = sync.OnceValue(newSigningKey)

func quoteOf(t *testing.T, p *softtee.Platform, e *cpu.Enclave) []byte {
	t.Helper()
	quote, err := p.Quote(e.EREPORT(p.QETargetInfo(), sgx.ReportData{0xaa, 63: 0xbb}))
	if err != nil {
		t.Fatal(err)
	}
	return quote
}

// TestEveryVerdict has a quote of each kind of platform verified by package dcap.
func TestEveryVerdict(t *testing.T) {
	t.Parallel()
	type evidence int
	const (
		sgxV3 evidence = iota
		sgxV5
		tdV4
		tdV5
		tdV5Ex
	)
	tests := []struct {
		name       string
		spec       softtee.PlatformSpec
		evidence   evidence
		status     dcap.Status
		reason     refusal.Reason // of Verify, else of Policy
		advisories []string
		number     uint32
	}{
		{name: "UpToDate", status: dcap.UpToDate},
		{name: "SWHardeningNeeded", spec: softtee.PlatformSpec{TCB: dcap.SWHardeningNeeded}, status: dcap.SWHardeningNeeded,
			advisories: []string{"INTEL-SA-00334", "INTEL-SA-00615"}, reason: refusal.TCBSWHardeningNeeded},
		{name: "ConfigurationNeeded", spec: softtee.PlatformSpec{TCB: dcap.ConfigurationNeeded}, status: dcap.ConfigurationNeeded, reason: refusal.TCBConfigurationNeeded},
		{name: "ConfigurationAndSWHardeningNeeded", spec: softtee.PlatformSpec{TCB: dcap.ConfigurationAndSWHardeningNeeded}, status: dcap.ConfigurationAndSWHardeningNeeded, reason: refusal.TCBConfigurationNeeded},
		{name: "OutOfDate", spec: softtee.PlatformSpec{TCB: dcap.OutOfDate}, status: dcap.OutOfDate, reason: refusal.TCBOutOfDate},
		{name: "OutOfDateConfigurationNeeded", spec: softtee.PlatformSpec{TCB: dcap.OutOfDateConfigurationNeeded}, status: dcap.OutOfDateConfigurationNeeded, reason: refusal.TCBOutOfDate},
		{name: "Revoked", spec: softtee.PlatformSpec{TCB: dcap.Revoked}, status: dcap.Revoked, reason: refusal.TCBRevoked},
		{name: "NotSupported", spec: softtee.PlatformSpec{TCB: dcap.NotSupported}, status: dcap.NotSupported, reason: refusal.TCBNotSupported},
		{name: "processor CA", spec: softtee.PlatformSpec{CA: dcap.ProcessorCA}, status: dcap.UpToDate},
		{name: "own advisories", spec: softtee.PlatformSpec{TCB: dcap.OutOfDate, Advisories: []string{"INTEL-SA-09999"}}, status: dcap.OutOfDate,
			advisories: []string{"INTEL-SA-09999"}, reason: refusal.TCBOutOfDate},
		{name: "lower evaluation number", spec: softtee.PlatformSpec{EvaluationNumber: 5}, status: dcap.UpToDate, number: 5},
		{name: "higher evaluation number is capped by the QE identity", spec: softtee.PlatformSpec{EvaluationNumber: 999}, status: dcap.UpToDate, number: softtee.EvaluationNumber},
		{name: "QE OutOfDate", spec: softtee.PlatformSpec{QE: dcap.OutOfDate}, status: dcap.OutOfDate, reason: refusal.TCBOutOfDate},
		{name: "QE OutOfDate on ConfigurationNeeded", spec: softtee.PlatformSpec{TCB: dcap.ConfigurationNeeded, QE: dcap.OutOfDate}, status: dcap.OutOfDateConfigurationNeeded, reason: refusal.TCBOutOfDate},
		{name: "QE Revoked", spec: softtee.PlatformSpec{QE: dcap.Revoked}, status: dcap.Revoked, reason: refusal.TCBRevoked},
		{name: "QE NotSupported", spec: softtee.PlatformSpec{QE: dcap.NotSupported}, status: dcap.NotSupported, reason: refusal.TCBNotSupported},
		{name: "TCB info expired", spec: softtee.PlatformSpec{TCBInfo: softtee.Expired}, status: dcap.UpToDate, reason: refusal.CollateralExpired},
		{name: "TCB info not yet valid", spec: softtee.PlatformSpec{TCBInfo: softtee.NotYetValid}, reason: refusal.CollateralNotYetValid},
		{name: "TCB info of another FMSPC", spec: softtee.PlatformSpec{TCBInfo: softtee.WrongFMSPC}, reason: refusal.CollateralInvalid},
		{name: "TCB info with a bad signature", spec: softtee.PlatformSpec{TCBInfo: softtee.BadSignature}, reason: refusal.CollateralInvalid},
		{name: "TCB info missing", spec: softtee.PlatformSpec{TCBInfo: softtee.Missing}, reason: refusal.CollateralMissing},
		{name: "PCK revoked", spec: softtee.PlatformSpec{RevokedPCK: true}, reason: refusal.CertificateRevoked},
		{name: "CA revoked", spec: softtee.PlatformSpec{RevokedCA: true}, reason: refusal.CertificateRevoked},
		{name: "TCB signer revoked", spec: softtee.PlatformSpec{RevokedTCBSigner: true}, reason: refusal.CertificateRevoked},

		{name: "SGX in quote v5", evidence: sgxV5, status: dcap.UpToDate},
		{name: "SGX in quote v5 OutOfDate", evidence: sgxV5, spec: softtee.PlatformSpec{TCB: dcap.OutOfDate}, status: dcap.OutOfDate, reason: refusal.TCBOutOfDate},
		{name: "TD 1.5 Ex UpToDate", evidence: tdV5Ex, status: dcap.UpToDate},
		{name: "TD 1.5 Ex relaunch", evidence: tdV5Ex, spec: softtee.PlatformSpec{TCB: dcap.TDRelaunchAdvised}, status: dcap.TDRelaunchAdvised, reason: refusal.TCBRelaunchAdvised},
		{name: "TD UpToDate", evidence: tdV4, status: dcap.UpToDate},
		{name: "TD on OutOfDate platform", evidence: tdV4, spec: softtee.PlatformSpec{TCB: dcap.OutOfDate}, status: dcap.OutOfDate, reason: refusal.TCBOutOfDate},
		{name: "TD on Revoked platform", evidence: tdV4, spec: softtee.PlatformSpec{TCB: dcap.Revoked}, status: dcap.Revoked, reason: refusal.TCBRevoked},
		{name: "TDX module OutOfDate", evidence: tdV4, spec: softtee.PlatformSpec{TDXModule: dcap.OutOfDate}, status: dcap.OutOfDate, reason: refusal.TCBOutOfDate},
		{name: "TDX module Revoked", evidence: tdV4, spec: softtee.PlatformSpec{TDXModule: dcap.Revoked}, status: dcap.Revoked, reason: refusal.TCBRevoked},
		{name: "TD QE OutOfDate", evidence: tdV4, spec: softtee.PlatformSpec{QE: dcap.OutOfDate}, status: dcap.OutOfDate, reason: refusal.TCBOutOfDate},
		{name: "TD 1.5 UpToDate", evidence: tdV5, status: dcap.UpToDate},
		{name: "TD 1.5 OutOfDate before and now", evidence: tdV5, spec: softtee.PlatformSpec{TDXModule: dcap.OutOfDate}, status: dcap.OutOfDate, reason: refusal.TCBOutOfDate},
		{name: "TDRelaunchAdvised", evidence: tdV5, spec: softtee.PlatformSpec{TCB: dcap.TDRelaunchAdvised}, status: dcap.TDRelaunchAdvised, reason: refusal.TCBRelaunchAdvised},
		{name: "TDRelaunchAdvisedConfigurationNeeded", evidence: tdV5, spec: softtee.PlatformSpec{TCB: dcap.TDRelaunchAdvisedConfigurationNeeded}, status: dcap.TDRelaunchAdvisedConfigurationNeeded, reason: refusal.TCBRelaunchAdvised},
		{name: "TD 1.0 cannot know of the update", evidence: tdV4, spec: softtee.PlatformSpec{TCB: dcap.TDRelaunchAdvised}, status: dcap.OutOfDate, reason: refusal.TCBOutOfDate},
		{name: "TD TCB info expired", evidence: tdV4, spec: softtee.PlatformSpec{TCBInfo: softtee.Expired}, status: dcap.UpToDate, reason: refusal.CollateralExpired},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inst := shared(t)
			if test.spec.RevokedCA || test.spec.RevokedTCBSigner {
				inst = installation(t) // these concern all platforms of an installation
			}
			if err := inst.CreatePlatform(nameOf(test.name), test.spec); err != nil {
				t.Fatal(err)
			}
			p, err := inst.Platform(nameOf(test.name))
			if err != nil {
				t.Fatal(err)
			}
			tee, quote := dcap.TDX, []byte(nil)
			switch test.evidence {
			case sgxV3:
				tee, quote = dcap.SGX, quoteOf(t, p, enclave(t, p, 0))
			case sgxV5:
				tee = dcap.SGX
				quote, err = p.QuoteV5(enclave(t, p, 0).EREPORT(p.QETargetInfo(), sgx.ReportData{1}))
			case tdV4:
				quote, err = p.TDQuote(softtee.TD{MRTD: [48]byte{5}}, [64]byte{9})
			case tdV5:
				quote, err = p.TDQuote(softtee.TD{MRTD: [48]byte{5}, Body: dcap.BodyTD15}, [64]byte{9})
			case tdV5Ex:
				quote, err = p.TDQuote(softtee.TD{MRTD: [48]byte{5}, Body: dcap.BodyTD15Ex, Extended: &dcap.TDExtended{VMID: 1}}, [64]byte{9})
			}
			if err != nil {
				t.Fatal(err)
			}
			documents, err := inst.Collateral(nameOf(test.name), tee)
			if err != nil {
				t.Fatal(err)
			}
			result, err := verifier(t, inst).Verify(quote, documents, now)
			if test.status == "" {
				if refusal.Of(err) != test.reason {
					t.Fatalf("Verify = %v, want %s", err, test.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if result.Status != test.status {
				t.Errorf("status = %s, want %s", result.Status, test.status)
			}
			if test.advisories != nil && !slices.Equal(result.Advisories, test.advisories) {
				t.Errorf("advisories = %q, want %q", result.Advisories, test.advisories)
			}
			if test.number != 0 && result.EvaluationNumber != test.number {
				t.Errorf("evaluation number = %d, want %d", result.EvaluationNumber, test.number)
			}
			if err := (dcap.Policy{Roots: []string{rootName}}).Appraise(result); refusal.Of(err) != test.reason {
				t.Errorf("Appraise = %v, want %q", err, test.reason)
			}
		})
	}
}

func nameOf(test string) string {
	return strings.ToLower(strings.NewReplacer(" ", "-", ".", "-").Replace(test))
}

func TestSoftwareRootIsRefusedUnlessGiven(t *testing.T) {
	t.Parallel()
	inst := shared(t)
	p := platform(t, inst)
	quote := quoteOf(t, p, enclave(t, p, 0))
	documents := collateralOf(t, inst, dcap.SGX)

	intel, err := dcap.NewVerifier(dcap.VerifierOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := intel.Verify(quote, documents, now); refusal.Of(err) != refusal.RootNotTrusted {
		t.Errorf("Verify without the root = %v, want RootNotTrusted", err)
	}
	result, err := verifier(t, inst).Verify(quote, documents, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := (dcap.Policy{}).Appraise(result); refusal.Of(err) != refusal.SoftwareRootNotTrusted {
		t.Errorf("Appraise by the default policy = %v, want SoftwareRootNotTrusted", err)
	}
}

func TestQuoteSaysWhatTheEnclaveIs(t *testing.T) {
	t.Parallel()
	inst := shared(t)
	p := platform(t, inst)
	e := enclave(t, p, sgx.AttributeDebug)
	quote, err := dcap.ParseQuote(quoteOf(t, p, e))
	if err != nil {
		t.Fatal(err)
	}
	want := e.Identity()
	want.ReportData = sgx.ReportData{0xaa, 63: 0xbb}
	if *quote.SGX != want {
		t.Errorf("body = %+v, want %+v", *quote.SGX, want)
	}
	if quote.Version != 3 || quote.CertificationData.Type != dcap.PCKChain || len(quote.QEAuthData) != 32 {
		t.Errorf("version %d, certification data %d, %d bytes of auth data; want 3, 5, 32", quote.Version, quote.CertificationData.Type, len(quote.QEAuthData))
	}
	binding := sha256.Sum256(append(quote.AttestationKey[:], quote.QEAuthData...))
	if quote.QEReport.ReportData != (sgx.ReportData)(append(binding[:], make([]byte, 32)...)) {
		t.Error("the QE's report data is not SHA-256(key ‖ auth data) ‖ 32 zeros")
	}
	if !quote.Debug() {
		t.Error("the debug attribute is lost")
	}
}

func TestTDQuoteSaysWhatTheTDIs(t *testing.T) {
	t.Parallel()
	p := platform(t, shared(t))
	td := softtee.TD{
		Attributes: dcap.TDSEPTVEDisable, XFAM: 0xe7, MRTD: [48]byte{1}, MRCONFIGID: [48]byte{2}, MROWNER: [48]byte{3},
		MROWNERCONFIG: [48]byte{4}, RTMR: [4][48]byte{{5}, {6}, {7}, {8}}, MRServiceTD: [48]byte{9},
		Extended: &dcap.TDExtended{VMID: 11, TDID: [32]byte{12}, InitTEEFMSPC: [12]byte{13}, CurrentServiceTDAttrs: [8]byte{14}},
	}
	for body, version := range map[dcap.BodyType]uint16{dcap.BodyTD10: 4, dcap.BodyTD15: 5, dcap.BodyTD15Ex: 5} {
		td.Body = body
		raw, err := p.TDQuote(td, [64]byte{10})
		if err != nil {
			t.Fatal(err)
		}
		quote, err := dcap.ParseQuote(raw)
		if err != nil {
			t.Fatal(err)
		}
		got := quote.TD
		if quote.Version != version || quote.BodyType != body || got.Attributes != td.Attributes || got.XFAM != td.XFAM || got.MRTD != td.MRTD || got.MRCONFIGID != td.MRCONFIGID ||
			got.MROWNER != td.MROWNER || got.MROWNERCONFIG != td.MROWNERCONFIG || got.RTMR != td.RTMR || got.ReportData != [64]byte{10} {
			t.Errorf("body %d: v%d %+v, want v%d %+v", body, quote.Version, got, version, td)
		}
		if body != dcap.BodyTD10 && got.MRServiceTD != td.MRServiceTD {
			t.Errorf("body %d: MRSERVICETD %x", body, got.MRServiceTD)
		}
		if body == dcap.BodyTD15Ex && *got.Extended != *td.Extended {
			t.Errorf("body %d: %+v, want %+v", body, got.Extended, td.Extended)
		}
	}
	if _, err := p.TDQuote(softtee.TD{Body: dcap.BodyTD15Ex}, [64]byte{}); err == nil {
		t.Error("a TD 1.5 Ex body without its fields is quoted")
	}
	if _, err := p.TDQuote(softtee.TD{Body: dcap.BodySGX}, [64]byte{}); err == nil {
		t.Error("a TD with an SGX body is quoted")
	}
}

func TestOnlyReportsForTheQuotingEnclaveAreQuoted(t *testing.T) {
	t.Parallel()
	inst := shared(t)
	p := platform(t, inst)
	e := enclave(t, p, 0)
	if err := inst.CreatePlatform("other-cpu", softtee.PlatformSpec{}); err != nil {
		t.Fatal(err)
	}
	other, err := inst.Platform("other-cpu")
	if err != nil {
		t.Fatal(err)
	}
	changed := e.EREPORT(p.QETargetInfo(), sgx.ReportData{})
	changed.Body.ISVSVN++
	for name, report := range map[string]*sgx.Report{
		"for another enclave": e.EREPORT(e.TargetInfo(), sgx.ReportData{}),
		"of another CPU":      enclave(t, other, 0).EREPORT(p.QETargetInfo(), sgx.ReportData{}),
		"changed":             changed,
	} {
		if _, err := p.Quote(report); err == nil {
			t.Errorf("a report %s is quoted", name)
		}
	}
}

func TestPlatformIsTheSameAfterReopening(t *testing.T) {
	t.Parallel()
	inst := shared(t)
	p := platform(t, inst)
	again, err := softtee.Open(inst.Dir())
	if err != nil {
		t.Fatal(err)
	}
	p2 := platform(t, again)
	if !again.Root().Equal(inst.Root()) || *p.QETargetInfo() != *p2.QETargetInfo() {
		t.Error("root or quoting enclave differ after reopening")
	}
	request := &sgx.KeyRequest{KeyName: sgx.KeyNameSeal, KeyPolicy: sgx.KeyPolicyMRENCLAVE}
	k1, err1 := enclave(t, p, 0).EGETKEY(request)
	k2, err2 := enclave(t, p2, 0).EGETKEY(request)
	if err1 != nil || err2 != nil || k1 != k2 {
		t.Errorf("seal keys differ after reopening (%v, %v)", err1, err2)
	}
	// Made by one process, quoted by another.
	if _, err := p2.Quote(enclave(t, p, 0).EREPORT(p2.QETargetInfo(), sgx.ReportData{})); err != nil {
		t.Error(err)
	}
}

func TestCreateNeedsAnEmptyPlace(t *testing.T) {
	t.Parallel()
	inst := shared(t)
	if _, err := softtee.Create(inst.Dir()); !errors.Is(err, softtee.ErrExists) || !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create on an installation = %v, want ErrExists", err)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := softtee.Create(full); err == nil || errors.Is(err, softtee.ErrExists) {
		t.Errorf("Create in a directory with files = %v, want an error that is not ErrExists", err)
	}
	if _, err := softtee.Create(t.TempDir()); err != nil {
		t.Errorf("Create in an empty directory = %v", err)
	}
	if _, err := softtee.Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of nothing = %v, want fs.ErrNotExist", err)
	}
}

func TestKeysAreForTheOwnerOnly(t *testing.T) {
	t.Parallel()
	inst := shared(t)
	err := filepath.WalkDir(inst.Dir(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // another test's platform in the making
		}
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		switch {
		case entry.IsDir():
			want = 0o700
		case entry.Name() == softtee.RootCertificateFile:
			want = 0o644
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(inst.Dir()))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d entries are left beside the installation (%v), want none", len(entries)-1, err)
	}
}

func TestPlatformNameIsTakenOnce(t *testing.T) {
	t.Parallel()
	inst := shared(t)
	var group sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		group.Go(func() { errs[i] = inst.CreatePlatform("same", softtee.PlatformSpec{}) })
	}
	group.Wait()
	made := 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, fs.ErrExist):
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("%d of %d concurrent creations succeeded, want 1", made, len(errs))
	}
}

func TestBadPlatformsAreRefused(t *testing.T) {
	t.Parallel()
	inst := shared(t)
	for name, spec := range map[string]softtee.PlatformSpec{
		"":                      {},
		"../evil":               {},
		"Upper":                 {},
		"-dash":                 {},
		strings.Repeat("a", 64): {},
		"status":                {TCB: "Splendid"},
		"qe":                    {QE: dcap.TDRelaunchAdvised},
		"ca":                    {CA: "root"},
		"fault":                 {TCBInfo: "sad"},
		"twice":                 {TCB: dcap.TDRelaunchAdvised, TDXModule: dcap.Revoked},
		"none":                  {TCB: dcap.NotSupported, Advisories: []string{"INTEL-SA-1"}},
	} {
		if err := inst.CreatePlatform(name, spec); err == nil {
			t.Errorf("platform %q with %+v is accepted", name, spec)
		}
	}
}

func TestRootSaysThatItIsSoftware(t *testing.T) {
	t.Parallel()
	inst := shared(t)
	root := inst.Root()
	if name := root.Subject.CommonName; !strings.Contains(name, "Adyton Software TEE") || !strings.Contains(name, inst.ID()) {
		t.Errorf("root is named %q", name)
	}
	text, err := os.ReadFile(filepath.Join(inst.Dir(), softtee.RootCertificateFile))
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(text); block == nil || string(block.Bytes) != string(root.Raw) {
		t.Error("root.pem is not the root")
	}
}

func TestDocumentsAreTheSameWithinTheHour(t *testing.T) {
	t.Parallel()
	clock := now
	inst, err := softtee.Create(filepath.Join(t.TempDir(), "tee"), softtee.WithClock(func() time.Time { return clock }))
	if err != nil {
		t.Fatal(err)
	}
	first := collateralOf(t, inst, dcap.SGX)
	clock = now.Add(20 * time.Minute)
	second := collateralOf(t, inst, dcap.SGX)
	clock = now.Add(60 * 24 * time.Hour)
	third := collateralOf(t, inst, dcap.SGX)
	if string(first.TCBInfo) != string(second.TCBInfo) || string(first.RootCACRL) != string(second.RootCACRL) || string(first.PCKCRL) != string(second.PCKCRL) {
		t.Error("documents change within the hour")
	}
	p := platform(t, inst)
	quote := quoteOf(t, p, enclave(t, p, 0))
	result, err := verifier(t, inst).Verify(quote, third, clock)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Expired) != 0 || result.Expires.Sub(clock) < 29*24*time.Hour {
		t.Errorf("60 days on: expired %v, expires %s; want fresh documents for 30 days", result.Expired, result.Expires)
	}
	if result, err = verifier(t, inst).Verify(quote, first, clock); err != nil || len(result.Expired) == 0 {
		t.Errorf("documents of 60 days ago are not seen as expired (%v)", err)
	}
}

func platform(t *testing.T, inst *softtee.Installation) *softtee.Platform {
	t.Helper()
	p, err := inst.Platform(softtee.DefaultPlatform)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func collateralOf(t *testing.T, inst *softtee.Installation, tee dcap.TEE) *dcap.Collateral {
	t.Helper()
	c, err := inst.Collateral(softtee.DefaultPlatform, tee)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
