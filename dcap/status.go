package dcap

import (
	"slices"
	"time"

	"github.com/adyton-dev/adyton/refusal"
)

// Status is a TCB status in Intel's words.
type Status string

// The TCB statuses.
const (
	UpToDate                          Status = "UpToDate"
	SWHardeningNeeded                 Status = "SWHardeningNeeded"
	ConfigurationNeeded               Status = "ConfigurationNeeded"
	ConfigurationAndSWHardeningNeeded Status = "ConfigurationAndSWHardeningNeeded"
	OutOfDate                         Status = "OutOfDate"
	OutOfDateConfigurationNeeded      Status = "OutOfDateConfigurationNeeded"
	// Revoked: the level is known to be compromised.
	Revoked Status = "Revoked"
	// NotSupported: no level of the collateral is at or below the platform.
	NotSupported Status = "NotSupported"
	// TDRelaunchAdvised: the TDX module is current, but was updated after the TD
	// had been launched on an out-of-date one.
	TDRelaunchAdvised                    Status = "TDRelaunchAdvised"
	TDRelaunchAdvisedConfigurationNeeded Status = "TDRelaunchAdvisedConfigurationNeeded"
)

// Reason gives the refusal reason for a status that a policy does not accept; ""
// for UpToDate.
func (s Status) Reason() refusal.Reason {
	switch s {
	case UpToDate:
		return ""
	case SWHardeningNeeded:
		return refusal.TCBSWHardeningNeeded
	case ConfigurationNeeded, ConfigurationAndSWHardeningNeeded:
		return refusal.TCBConfigurationNeeded
	case OutOfDate, OutOfDateConfigurationNeeded:
		return refusal.TCBOutOfDate
	case Revoked:
		return refusal.TCBRevoked
	case TDRelaunchAdvised, TDRelaunchAdvisedConfigurationNeeded:
		return refusal.TCBRelaunchAdvised
	}
	return refusal.TCBNotSupported
}

// TCB is the state of a component, or of several merged.
type TCB struct {
	Status Status
	// Date is when the level was defined: the component has every fix published before it.
	Date time.Time
	// Advisories are the Intel advisory ids (INTEL-SA-…) that the level is open to, sorted.
	Advisories []string
}

// defects are what a status of a single component says is wrong with it. They can be added up.
type defects uint8

const (
	swHardening defects = 1 << iota
	configuration
	outOfDate
	notSupported
	revoked
)

// defectsOf knows the statuses that TCB info and QE identity may use.
func defectsOf(s Status) (d defects, known bool) {
	switch s {
	case UpToDate:
		return 0, true
	case SWHardeningNeeded:
		return swHardening, true
	case ConfigurationNeeded:
		return configuration, true
	case ConfigurationAndSWHardeningNeeded:
		return configuration | swHardening, true
	case OutOfDate:
		return outOfDate, true
	case OutOfDateConfigurationNeeded:
		return outOfDate | configuration, true
	case Revoked:
		return revoked, true
	case NotSupported:
		return notSupported, true
	}
	return notSupported, false
}

func (d defects) status() Status {
	switch {
	case d&revoked != 0:
		return Revoked
	case d&notSupported != 0:
		return NotSupported
	case d&outOfDate != 0 && d&configuration != 0:
		return OutOfDateConfigurationNeeded
	case d&outOfDate != 0:
		return OutOfDate
	case d&configuration != 0 && d&swHardening != 0:
		return ConfigurationAndSWHardeningNeeded
	case d&configuration != 0:
		return ConfigurationNeeded
	case d&swHardening != 0:
		return SWHardeningNeeded
	}
	return UpToDate
}

// merge gives the state of several components together: all their defects, the
// oldest date, the union of their advisories. The result shares no memory with
// the parts.
func merge(parts ...TCB) TCB {
	var all TCB
	var d defects
	size := 0
	for _, p := range parts {
		size += len(p.Advisories)
	}
	if size > 0 {
		all.Advisories = make([]string, 0, size)
	}
	for _, p := range parts {
		more, _ := defectsOf(p.Status)
		d |= more
		if all.Date.IsZero() || !p.Date.IsZero() && p.Date.Before(all.Date) {
			all.Date = p.Date
		}
		all.Advisories = append(all.Advisories, p.Advisories...)
	}
	all.Status = d.status()
	slices.Sort(all.Advisories)
	all.Advisories = slices.Compact(all.Advisories)
	return all
}

// relaunch gives the status of a TD 1.5 that was launched with one TCB and now
// runs on another: if only the launch was out of date, launching again cures it.
func relaunch(launch, current Status) Status {
	was, _ := defectsOf(launch)
	is, _ := defectsOf(current)
	if was&(outOfDate|notSupported|revoked) != outOfDate || is&(outOfDate|notSupported|revoked) != 0 {
		return launch
	}
	if (was|is)&configuration != 0 {
		return TDRelaunchAdvisedConfigurationNeeded
	}
	return TDRelaunchAdvised
}
