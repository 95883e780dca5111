package dcap

import "encoding/binary"

const (
	td10Size   = 584
	td15Size   = 648
	td15ExSize = 885
)

// TDAttributes is a TD's TDATTRIBUTES, bit 0 first (Intel TDX module base
// specification, "ATTRIBUTES").
type TDAttributes uint64

// The named bits of TDATTRIBUTES. All others are reserved.
const (
	TDDebug         TDAttributes = 1 << 0  // the host can read the TD
	TDSEPTVEDisable TDAttributes = 1 << 28 // EPT violations never reach the guest as #VE
	TDMigratable    TDAttributes = 1 << 29
	TDPKS           TDAttributes = 1 << 30 // supervisor protection keys
	TDKL            TDAttributes = 1 << 31 // key locker
	TDPerfmon       TDAttributes = 1 << 63
)

// tdUntrusted is the TUD group of bits (7:0): with any of them set, the TD is
// under debug and must not be trusted.
const tdUntrusted TDAttributes = 0xff

const tdKnown = TDDebug | TDSEPTVEDisable | TDMigratable | TDPKS | TDKL | TDPerfmon | 1<<27 // LASS

// Debug says whether any bit of the TUD group is set.
func (a TDAttributes) Debug() bool { return a&tdUntrusted != 0 }

// Reserved gives the set bits that have no meaning yet.
func (a TDAttributes) Reserved() TDAttributes { return a &^ tdKnown }

// TDReport is a TD's report as a quote carries it (TDX DCAP Quoting Library API,
// A.3.2; sgx_report2_body_t). Byte arrays are in their order on the wire.
type TDReport struct {
	// TEETCBSVN: [0] module minor SVN, [1] module major version, [2] SEAM loader
	// or late microcode SVN, and so on; at the TD's launch.
	TEETCBSVN      [16]byte
	MRSEAM         [48]byte
	MRSIGNERSEAM   [48]byte
	SEAMAttributes [8]byte
	Attributes     TDAttributes
	XFAM           uint64
	MRTD           [48]byte
	MRCONFIGID     [48]byte
	MROWNER        [48]byte
	MROWNERCONFIG  [48]byte
	RTMR           [4][48]byte
	ReportData     [64]byte

	// TEETCBSVN2 is the TCB of the module that runs now, and MRServiceTD the hash
	// of bound service TDs. Only in TD 1.5 bodies; else zero.
	TEETCBSVN2  [16]byte
	MRServiceTD [48]byte

	// Extended is only in TD 1.5 Ex bodies; else nil.
	Extended *TDExtended
}

// TDExtended is what body type 4 adds (sgx_report2_body_v1_5_ex_t): the TD's
// instance and where it was created before migration.
type TDExtended struct {
	VMID                  uint8
	TDID                  [32]byte
	DeviceInfo            [48]byte
	InitServiceTDHash     [48]byte
	InitServiceTDAttr     [8]byte
	InitCPUSVN            [16]byte
	InitTEETCBSVN         [16]byte
	InitTEEFMSPC          [12]byte
	CurrentServiceTDHash  [48]byte
	CurrentServiceTDAttrs [8]byte
}

// parseTDReport reads a body whose length has been checked to be one of the three.
func parseTDReport(b []byte) *TDReport {
	r := new(TDReport)
	f := fields{b}
	f.next(r.TEETCBSVN[:])
	f.next(r.MRSEAM[:])
	f.next(r.MRSIGNERSEAM[:])
	f.next(r.SEAMAttributes[:])
	r.Attributes = TDAttributes(f.u64())
	r.XFAM = f.u64()
	f.next(r.MRTD[:])
	f.next(r.MRCONFIGID[:])
	f.next(r.MROWNER[:])
	f.next(r.MROWNERCONFIG[:])
	for i := range r.RTMR {
		f.next(r.RTMR[i][:])
	}
	f.next(r.ReportData[:])
	if len(b) < td15Size {
		return r
	}
	f.next(r.TEETCBSVN2[:])
	f.next(r.MRServiceTD[:])
	if len(b) < td15ExSize {
		return r
	}
	x := new(TDExtended)
	x.VMID = f.rest[0]
	f.rest = f.rest[1:]
	f.next(x.TDID[:])
	f.next(x.DeviceInfo[:])
	f.next(x.InitServiceTDHash[:])
	f.next(x.InitServiceTDAttr[:])
	f.next(x.InitCPUSVN[:])
	f.next(x.InitTEETCBSVN[:])
	f.next(x.InitTEEFMSPC[:])
	f.next(x.CurrentServiceTDHash[:])
	f.next(x.CurrentServiceTDAttrs[:])
	r.Extended = x
	return r
}

// fields copies fixed-size fields out of a body of known length.
type fields struct{ rest []byte }

func (f *fields) next(field []byte) { f.rest = f.rest[copy(field, f.rest):] }

func (f *fields) u64() uint64 {
	v := binary.LittleEndian.Uint64(f.rest)
	f.rest = f.rest[8:]
	return v
}
