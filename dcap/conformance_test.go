package dcap_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/refusal"
)

// stricter lists the runs, by number, that Intel's library accepts and this package
// refuses on purpose: it also checks notBefore and issue dates (rule 18).
var stricter = map[int]struct {
	reason refusal.Reason
	why    string
}{}

// statusOfQVL gives the status behind Intel's verdict. Relaunch has no case of its
// own with configuration among the vectors.
var statusOfQVL = map[string]dcap.Status{
	"STATUS_OK":                      dcap.UpToDate,
	"STATUS_TCB_SW_HARDENING_NEEDED": dcap.SWHardeningNeeded,
	"STATUS_TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED": dcap.ConfigurationAndSWHardeningNeeded,
	"STATUS_TCB_OUT_OF_DATE":                           dcap.OutOfDate,
	"STATUS_TCB_OUT_OF_DATE_CONFIGURATION_NEEDED":      dcap.OutOfDateConfigurationNeeded,
	"STATUS_TCB_NOT_SUPPORTED":                         dcap.NotSupported,
	"STATUS_TCB_TD_RELAUNCH_ADVISED":                   dcap.TDRelaunchAdvised,
}

// TestConformance holds every verdict of Intel's Quote Verification Library, once
// with nothing remembered and once with everything.
func TestConformance(t *testing.T) {
	runs := loadRuns(t)
	warm := newVerifier(t, dcap.VerifierOptions{})
	var passed atomic.Int32
	for i, r := range runs {
		name := fmt.Sprintf("%03d/%s/%s/%s", i, r.TEE, strings.TrimSuffix(filepath.Base(r.Quote), ".bin"), r.Expected.Quote)
		t.Run(name, func(t *testing.T) {
			for _, v := range []*dcap.Verifier{newVerifier(t, dcap.VerifierOptions{}), warm, warm} {
				result, err := v.Verify(r.quote, r.collateral, r.Time)
				if s, ok := stricter[i]; ok {
					if refusal.Of(err) != s.reason {
						t.Fatalf("error = %v, want %s: %s", err, s.reason, s.why)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				compareWithQVL(t, &r, result)
			}
			if !t.Failed() {
				passed.Add(1)
			}
		})
	}
	t.Logf("%d of %d runs give Intel's verdict; %d of them are refused on purpose", passed.Load(), len(runs), len(stricter))
	if int(passed.Load()) != len(runs) || len(runs) != 198 {
		t.Fail()
	}
}

func compareWithQVL(t *testing.T, r *run, have *dcap.Result) {
	t.Helper()
	want := &r.Expected
	if want.PCK != "STATUS_OK" || want.TCBInfo != "STATUS_OK" || want.QEID != "STATUS_OK" {
		t.Errorf("the vectors have a document status that this test does not know: %+v", want)
	}
	status, known := statusOfQVL[want.Quote]
	if !known || have.Status != status {
		t.Errorf("status = %s, want %s", have.Status, want.Quote)
	}
	if len(have.Expired) != 0 {
		t.Errorf("expired: %v", have.Expired)
	}
	if status == dcap.NotSupported {
		return // QVL gives nothing further
	}
	if string(have.Status) != want.LaunchStatus {
		t.Errorf("launch status = %s, want %s", have.Status, want.LaunchStatus)
	}
	if got := strings.Join(have.Advisories, ","); got != want.LaunchAdvisories {
		t.Errorf("launch advisories = %s, want %s", got, want.LaunchAdvisories)
	}
	if have.TCBDate.Unix() != want.LaunchTCBDate {
		t.Errorf("launch TCB date = %d, want %d", have.TCBDate.Unix(), want.LaunchTCBDate)
	}
	if have.EvaluationNumber != want.EvalNum {
		t.Errorf("evaluation number = %d, want %d", have.EvaluationNumber, want.EvalNum)
	}
	current := dcap.TCB{Status: have.Status, Date: have.TCBDate, Advisories: have.Advisories}
	if have.Current != nil {
		current = *have.Current
	}
	if string(current.Status) != want.CurrentStatus {
		t.Errorf("current status = %s, want %s", current.Status, want.CurrentStatus)
	}
	if got := strings.Join(current.Advisories, ","); got != want.CurrentAdvisories {
		t.Errorf("current advisories = %s, want %s", got, want.CurrentAdvisories)
	}
	if current.Date.Unix() != want.CurrentTCBDate {
		t.Errorf("current TCB date = %d, want %d", current.Date.Unix(), want.CurrentTCBDate)
	}
}
