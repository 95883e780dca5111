// Package collateral writes the signed JSON documents by which DCAP verifiers
// judge a software TEE: TCB info, quoting enclave identities and evaluation
// numbers, in the exact forms of Intel's PCS.
//
// All software platforms have one ladder of TCB levels, [PlatformLevels], with a
// rung for every status that Intel uses. A platform is in a status because its
// PCK certificate has the SVNs of that rung, so that verifiers come to the
// verdict by the same comparison as on hardware.
//
// The package may import dcap, sgx and softtee/pki. To add a document, add a
// type with its JSON to documents.go.
//
// Source: Intel PCS API v3 and v4, "Get TCB Info" (models V2 and V3), "Get QE
// identity" and "Get TDX QE identity".
package collateral

import (
	"fmt"

	"github.com/adyton-dev/adyton/dcap"
)

// Level is a rung: whoever has at least its SVN, and not that of a higher rung,
// is in its status.
type Level struct {
	SVN        uint8
	Status     dcap.Status
	Date       string // of the TCB recovery, as the documents write it
	Advisories []string
}

// PlatformLevels gives the ladder of platforms, in descending order.
func PlatformLevels() []Level {
	return []Level{
		{20, dcap.UpToDate, "2025-05-14T00:00:00Z", nil},
		{18, dcap.SWHardeningNeeded, "2025-05-14T00:00:00Z", []string{"INTEL-SA-00334", "INTEL-SA-00615"}},
		{16, dcap.ConfigurationNeeded, "2025-05-14T00:00:00Z", []string{"INTEL-SA-00219"}},
		{14, dcap.ConfigurationAndSWHardeningNeeded, "2024-11-13T00:00:00Z", []string{"INTEL-SA-00219", "INTEL-SA-00334", "INTEL-SA-00615"}},
		{12, dcap.OutOfDate, "2024-03-13T00:00:00Z", []string{"INTEL-SA-01153"}},
		{10, dcap.OutOfDateConfigurationNeeded, "2023-08-09T00:00:00Z", []string{"INTEL-SA-00219", "INTEL-SA-01153"}},
		{8, dcap.Revoked, "2018-01-04T00:00:00Z", []string{"INTEL-SA-00088", "INTEL-SA-00233"}},
	}
}

// EnclaveLevels gives the ladder of quoting enclaves by their ISVSVN.
func EnclaveLevels() []Level {
	return []Level{
		{8, dcap.UpToDate, "2025-05-14T00:00:00Z", nil},
		{6, dcap.OutOfDate, "2021-11-10T00:00:00Z", []string{"INTEL-SA-00615"}},
		{2, dcap.Revoked, "2019-05-15T00:00:00Z", []string{"INTEL-SA-00293"}},
	}
}

// ModuleLevels gives the ladder of TDX modules of major version 1 by their SVN.
func ModuleLevels() []Level {
	return []Level{
		{5, dcap.UpToDate, "2025-05-14T00:00:00Z", nil},
		{4, dcap.OutOfDate, "2024-03-13T00:00:00Z", []string{"INTEL-SA-01036"}},
		{2, dcap.Revoked, "2023-08-09T00:00:00Z", []string{"INTEL-SA-01099"}},
	}
}

// below is the SVN of what no rung describes.
const below = 1

// SVN gives the SVN that is in a status on a ladder; NotSupported is below it.
func SVN(levels []Level, status dcap.Status) (uint8, error) {
	if status == dcap.NotSupported {
		return below, nil
	}
	for _, level := range levels {
		if level.Status == status {
			return level.SVN, nil
		}
	}
	return 0, fmt.Errorf("no level has status %q", status)
}

// Components gives the 16 SGX TCB components of a rung: early and late microcode
// follow the SVN, the others are constant.
func Components(svn uint8) [16]uint8 {
	return [16]uint8{svn, svn, 2, 4, 1, 128, 14}
}

// PCESVN of all software platforms.
const PCESVN = 13

// TDComponents gives the TDX TCB components of all levels: 0 and 1 are left to
// the identity of the TDX module, 2 is the SEAM loader's.
func TDComponents() [16]uint8 { return [16]uint8{0, 0, 5} }

// TEETCBSVN gives the TEE_TCB_SVN of a TD under a TDX module of major version 1.
func TEETCBSVN(module uint8) [16]uint8 { return [16]uint8{module, 1, 5} }
