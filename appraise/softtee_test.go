package appraise_test

import (
	"context"
	"errors"
	"testing"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/appraise/appraisetest"
	"github.com/adyton-dev/adyton/attest"
	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee"
	"github.com/adyton-dev/adyton/refusal"
)

// TestSoftwareTEE shows on real quotes with real collateral what no public vector
// can: init-data, own roots, and platforms in every state.
func TestSoftwareTEE(t *testing.T) {
	t.Parallel()
	lab := appraisetest.New(t)
	for name, spec := range map[string]softtee.PlatformSpec{
		"stale":       {TCB: dcap.OutOfDate},
		"revoked":     {TCB: dcap.Revoked},
		"unknown":     {TCB: dcap.NotSupported},
		"revoked-pck": {RevokedPCK: true},
	} {
		if err := lab.Installation.CreatePlatform(name, spec); err != nil {
			t.Fatal(err)
		}
	}
	unsandboxed := []byte("version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\nsandbox = \"none\"\n")
	requireSandbox := func(p *appraise.TrustPolicy) { p.RequireSandbox = true }
	tests := []struct {
		name     string
		enclave  appraisetest.Enclave
		policy   func(*appraise.TrustPolicy)
		initData []byte
		want     refusal.Reason
	}{
		{name: "the policy names the root"},
		{name: "software roots are refused unless named", policy: func(p *appraise.TrustPolicy) { *p = *appraise.DefaultTrustPolicy() }, want: refusal.SoftwareRootNotTrusted},
		{name: "debug", enclave: appraisetest.Enclave{Debug: true}, want: refusal.DebugNotAllowed},
		{name: "debug is allowed", enclave: appraisetest.Enclave{Debug: true}, policy: func(p *appraise.TrustPolicy) { p.AllowDebug = true }},
		{name: "out of date", enclave: appraisetest.Enclave{Platform: "stale"}, want: refusal.TCBOutOfDate},
		{name: "revoked TCB", enclave: appraisetest.Enclave{Platform: "revoked"}, policy: acceptEverything, want: refusal.TCBRevoked},
		{name: "no TCB level", enclave: appraisetest.Enclave{Platform: "unknown"}, policy: acceptEverything, want: refusal.TCBNotSupported},
		{name: "revoked PCK", enclave: appraisetest.Enclave{Platform: "revoked-pck"}, policy: acceptEverything, want: refusal.CertificateRevoked},
		{name: "init-data is bound", enclave: appraisetest.Enclave{InitData: []byte(initDataDocument)}, initData: []byte(initDataDocument)},
		{name: "init-data is not shown", enclave: appraisetest.Enclave{InitData: []byte(initDataDocument)}},
		{name: "other init-data is shown", enclave: appraisetest.Enclave{InitData: unsandboxed}, initData: []byte(initDataDocument), want: refusal.InitDataMismatch},
		{name: "init-data that CONFIGID does not bind", initData: []byte(initDataDocument), want: refusal.InitDataMismatch},
		{name: "sandboxed", enclave: appraisetest.Enclave{InitData: []byte(initDataDocument)}, initData: []byte(initDataDocument), policy: requireSandbox},
		{name: "sandbox none", enclave: appraisetest.Enclave{InitData: unsandboxed}, initData: unsandboxed, policy: requireSandbox, want: refusal.SandboxRequired},
		{name: "the sandbox is not shown", enclave: appraisetest.Enclave{InitData: []byte(initDataDocument)}, policy: requireSandbox, want: refusal.SandboxRequired},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			policy := lab.Policy()
			if test.policy != nil {
				test.policy(policy)
			}
			want := appraise.Expect{ReportData: [64]byte{1, 2, 3}, InitData: test.initData}
			evidence, err := lab.Attester(test.enclave).Evidence(t.Context(), want.ReportData)
			if err != nil {
				t.Fatal(err)
			}
			claims, err := lab.Appraiser(policy).Appraise(t.Context(), evidence, want)
			if refusal.Of(err) != test.want || (err == nil) != (claims != nil) {
				t.Fatalf("%v, want %q", err, test.want)
			}
			if err == nil && (!claims.Root.Software || claims.Root.Name != appraisetest.RootName || claims.TEE != attest.SGX || claims.TCB.Status != "UpToDate") {
				t.Errorf("%+v", claims)
			}
			if err == nil && test.initData != nil && claims.InitData["sandbox"] != "gvisor" {
				t.Errorf("init-data %v", claims.InitData)
			}
		})
	}
}

func TestSoftwareTD(t *testing.T) {
	t.Parallel()
	lab := appraisetest.New(t)
	initData, err := appraise.ParseInitData([]byte(initDataDocument))
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []dcap.BodyType{dcap.BodyTD10, dcap.BodyTD15} {
		td := softtee.TD{MRTD: [48]byte{7}, MRCONFIGID: [48]byte(initData.Bind(48)), Attributes: dcap.TDSEPTVEDisable, Body: body}
		want := appraise.Expect{ReportData: [64]byte{9}, InitData: []byte(initDataDocument)}
		evidence, err := lab.TD(softtee.DefaultPlatform, td).Evidence(t.Context(), want.ReportData)
		if err != nil {
			t.Fatal(err)
		}
		claims, err := lab.Appraiser(lab.Policy()).Appraise(t.Context(), evidence, want)
		if err != nil {
			t.Fatal(err)
		}
		if claims.TDX.MRTD[:2] != "07" || !claims.TDX.SEPTVEDisable || claims.InitData["sandbox"] != "gvisor" {
			t.Errorf("%+v", claims)
		}
		want.InitData = append(want.InitData, '\n')
		if _, err := lab.Appraiser(lab.Policy()).Appraise(t.Context(), evidence, want); refusal.Of(err) != refusal.InitDataMismatch {
			t.Errorf("other init-data: %v", err)
		}
	}
}

// Anyone can make a PCK certificate with any FMSPC: it must not make the appraiser
// ask the collateral service for it.
func TestNoCollateralIsFetchedForAChainThatIsNotTrusted(t *testing.T) {
	t.Parallel()
	lab, stranger := appraisetest.New(t), appraisetest.New(t)
	evidence, err := stranger.Attester(appraisetest.Enclave{}).Evidence(t.Context(), [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	appraiser, err := appraise.New(lab.Policy(), fetched{t}, appraise.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appraiser.Appraise(t.Context(), evidence, appraise.Expect{}); refusal.Of(err) != refusal.SoftwareRootNotTrusted {
		t.Errorf("got %v", err)
	}
}

// fetched is a collateral service that must not be asked.
type fetched struct{ t *testing.T }

func (f fetched) Collateral(context.Context, *dcap.Quote) (*dcap.Collateral, error) {
	f.t.Error("collateral was fetched")
	return nil, errors.New("not to be asked")
}

func TestAnotherLabsRootIsRefused(t *testing.T) {
	t.Parallel()
	lab, other := appraisetest.New(t), appraisetest.New(t)
	evidence, err := lab.Attester(appraisetest.Enclave{}).Evidence(t.Context(), [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	// The other lab's policy with this lab's collateral.
	if _, err := lab.Appraiser(other.Policy()).Appraise(t.Context(), evidence, appraise.Expect{}); refusal.Of(err) != refusal.SoftwareRootNotTrusted {
		t.Errorf("Appraise: %v", err)
	}
}

func acceptEverything(p *appraise.TrustPolicy) {
	p.TCB.AcceptedStatuses = []dcap.Status{dcap.OutOfDate, dcap.ConfigurationNeeded, dcap.SWHardeningNeeded}
	p.TCB.AcceptedAdvisories = []string{"*"}
}
