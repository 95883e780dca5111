package cpu_test

import (
	"sync"
	"testing"

	"github.com/adyton-dev/adyton/internal/softtee/cpu"
	"github.com/adyton-dev/adyton/sgx"
)

var reportData = sgx.ReportData{1, 2, 3}

func TestAReportSaysWhoTheEnclaveIs(t *testing.T) {
	t.Parallel()
	e := enclave(t)
	want := e.Identity()
	want.ReportData = reportData
	if got := e.EREPORT(e.TargetInfo(), reportData).Body; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTheTargetVerifiesAReport(t *testing.T) {
	t.Parallel()
	from, to := enclave(t), enclave(t, another)
	report := from.EREPORT(to.TargetInfo(), reportData)
	if err := to.VerifyReport(report); err != nil {
		t.Error(err)
	}
	parsed, err := sgx.ParseReport(report.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := to.VerifyReport(parsed); err != nil {
		t.Errorf("after encoding: %v", err)
	}
}

// The seed, not the running program, is the processor: a quoting enclave in
// another process verifies reports of this one.
func TestAReportVerifiesInAnotherProcessOfTheSameCPU(t *testing.T) {
	t.Parallel()
	from, to := enclave(t), enclave(t, another, func(l *launch) { l.cpu = cpu.New(seed, svn) })
	if err := to.VerifyReport(from.EREPORT(to.TargetInfo(), reportData)); err != nil {
		t.Error(err)
	}
}

func another(l *launch) {
	l.mrenclave, l.sig.EnclaveHash = sgx.Measurement{0xe2}, sgx.Measurement{0xe2}
}

func TestAReportIsRefusedByAllButItsTarget(t *testing.T) {
	t.Parallel()
	from, to := enclave(t), enclave(t, another)
	report := from.EREPORT(to.TargetInfo(), reportData)
	for other, change := range map[string]func(*launch){
		"another MRENCLAVE":       func(*launch) {},
		"another CPU":             func(l *launch) { another(l); l.cpu = cpu.New([32]byte{2}, svn) },
		"another CPUSVN":          func(l *launch) { another(l); l.cpu = cpu.New(seed, sgx.CPUSVN{1, 2, 2}) },
		"another owner epoch":     func(l *launch) { another(l); l.cpu = l.cpu.WithOwnerEpoch([16]byte{1}) },
		"the target in debug":     func(l *launch) { another(l); withFlags(sgx.AttributeDebug)(l) },
		"the target's MISCSELECT": func(l *launch) { another(l); l.secs.MiscSelect = 0 },
		"the target's CONFIGID":   func(l *launch) { another(l); l.secs.ConfigID[0]++ },
		"the target's CONFIGSVN":  func(l *launch) { another(l); l.secs.ConfigSVN++ },
		"the target's CET": func(l *launch) {
			another(l)
			withFlags(sgx.AttributeCET)(l)
			l.secs.CETAttributes = 1
		},
	} {
		if enclave(t, change).VerifyReport(report) == nil {
			t.Errorf("%s verifies it", other)
		}
	}
}

func TestAnyChangedByteOfAReportIsRefused(t *testing.T) {
	t.Parallel()
	e := enclave(t)
	raw := e.EREPORT(e.TargetInfo(), reportData).Bytes()
	for offset := range raw {
		raw[offset] ^= 1
		if report, err := sgx.ParseReport(raw); err == nil && e.VerifyReport(report) == nil {
			t.Errorf("byte %d may be changed", offset)
		}
		raw[offset] ^= 1
	}
}

// A report whose target is wrong in one field is of no use to the real target.
func TestAReportForAWrongTargetIsRefused(t *testing.T) {
	t.Parallel()
	e := enclave(t)
	for field, change := range map[string]func(*sgx.TargetInfo){
		"MRENCLAVE":      func(ti *sgx.TargetInfo) { ti.MRENCLAVE[0]++ },
		"ATTRIBUTES":     func(ti *sgx.TargetInfo) { ti.Attributes.Flags &^= sgx.AttributeInit },
		"XFRM":           func(ti *sgx.TargetInfo) { ti.Attributes.XFRM = 7 },
		"CET_ATTRIBUTES": func(ti *sgx.TargetInfo) { ti.CETAttributes++ },
		"CONFIGSVN":      func(ti *sgx.TargetInfo) { ti.ConfigSVN++ },
		"MISCSELECT":     func(ti *sgx.TargetInfo) { ti.MiscSelect++ },
		"CONFIGID":       func(ti *sgx.TargetInfo) { ti.ConfigID[63]++ },
	} {
		target := e.TargetInfo()
		change(target)
		if e.VerifyReport(e.EREPORT(target, reportData)) == nil {
			t.Errorf("%s: verifies", field)
		}
	}
}

func TestAnEnclaveServesManyGoroutines(t *testing.T) {
	t.Parallel()
	e := enclave(t)
	want, err := e.EGETKEY(sealRequest())
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			report := e.EREPORT(e.TargetInfo(), sgx.ReportData{byte(i)})
			if err := e.VerifyReport(report); err != nil || report.Body.ReportData[0] != byte(i) {
				t.Errorf("report %d: %v", i, err)
			}
			if got, err := e.EGETKEY(sealRequest()); err != nil || got != want {
				t.Errorf("key %d: %v", i, err)
			}
		})
	}
	group.Wait()
}
