package sgx

// The sizes of the enclave control structures in bytes.
const (
	SECSSize     = 4096
	TCSSize      = 4096
	SecInfoSize  = 64
	PageInfoSize = 32
)

// SECS is the enclave control structure (SDM "SGX Enclave Control Structure").
type SECS struct {
	Size                uint64 // of the enclave's address range in bytes; a power of two
	BaseAddr            uint64 // linear address of the range; aligned to Size
	SSAFrameSize        uint32 // in pages
	MiscSelect          uint32
	CETLegBitmapOffset  uint64
	CETAttributes       byte
	Attributes          Attributes
	MRENCLAVE, MRSIGNER Measurement // set by EINIT
	ConfigID            [64]byte    // set by whoever launches; needs AttributeKSS
	ISVProdID, ISVSVN   uint16      // set by EINIT
	ConfigSVN           uint16
}

// ParseSECS reads the 4,096 bytes of SECS.
func ParseSECS(b []byte) (*SECS, error) {
	if err := checkSize("SECS", b, SECSSize); err != nil {
		return nil, err
	}
	if err := checkReserved("SECS", b, [2]int{33, 48}, [2]int{96, 128}, [2]int{160, 192}, [2]int{262, 4096}); err != nil {
		return nil, err
	}
	return &SECS{
		Size:               le.Uint64(b[0:]),
		BaseAddr:           le.Uint64(b[8:]),
		SSAFrameSize:       le.Uint32(b[16:]),
		MiscSelect:         le.Uint32(b[20:]),
		CETLegBitmapOffset: le.Uint64(b[24:]),
		CETAttributes:      b[32],
		Attributes:         attributesAt(b, 48),
		MRENCLAVE:          Measurement(b[64:96]),
		MRSIGNER:           Measurement(b[128:160]),
		ConfigID:           [64]byte(b[192:256]),
		ISVProdID:          le.Uint16(b[256:]),
		ISVSVN:             le.Uint16(b[258:]),
		ConfigSVN:          le.Uint16(b[260:]),
	}, nil
}

// Bytes gives the 4,096 bytes of SECS.
func (s *SECS) Bytes() []byte {
	b := make([]byte, SECSSize)
	le.PutUint64(b[0:], s.Size)
	le.PutUint64(b[8:], s.BaseAddr)
	le.PutUint32(b[16:], s.SSAFrameSize)
	le.PutUint32(b[20:], s.MiscSelect)
	le.PutUint64(b[24:], s.CETLegBitmapOffset)
	b[32] = s.CETAttributes
	s.Attributes.put(b, 48)
	copy(b[64:], s.MRENCLAVE[:])
	copy(b[128:], s.MRSIGNER[:])
	copy(b[192:], s.ConfigID[:])
	le.PutUint16(b[256:], s.ISVProdID)
	le.PutUint16(b[258:], s.ISVSVN)
	le.PutUint16(b[260:], s.ConfigSVN)
	return b
}

// The TCS.FLAGS bits.
const (
	TCSDebugOptIn uint64 = 1 << 0
	TCSAEXNotify  uint64 = 1 << 1
)

// TCS is a thread control structure (SDM "Thread Control Structure"). Offsets are
// relative to the enclave's base.
type TCS struct {
	State       uint64 // used by the CPU; zero in an enclave's image
	Flags       uint64
	OSSA        uint64 // offset of the first SSA frame
	CSSA        uint32 // current SSA frame; zero in an enclave's image
	NSSA        uint32 // number of SSA frames
	OEntry      uint64 // offset of the entry point
	AEP         uint64 // used by the CPU; zero in an enclave's image
	OFSBase     uint64
	OGSBase     uint64
	FSLimit     uint32
	GSLimit     uint32
	OCETSSA     uint64
	PreviousSSP uint64
}

// ParseTCS reads the 4,096 bytes of TCS.
func ParseTCS(b []byte) (*TCS, error) {
	if err := checkSize("TCS", b, TCSSize); err != nil {
		return nil, err
	}
	if err := checkZero("TCS", b[88:], 88); err != nil {
		return nil, err
	}
	return &TCS{
		State:       le.Uint64(b[0:]),
		Flags:       le.Uint64(b[8:]),
		OSSA:        le.Uint64(b[16:]),
		CSSA:        le.Uint32(b[24:]),
		NSSA:        le.Uint32(b[28:]),
		OEntry:      le.Uint64(b[32:]),
		AEP:         le.Uint64(b[40:]),
		OFSBase:     le.Uint64(b[48:]),
		OGSBase:     le.Uint64(b[56:]),
		FSLimit:     le.Uint32(b[64:]),
		GSLimit:     le.Uint32(b[68:]),
		OCETSSA:     le.Uint64(b[72:]),
		PreviousSSP: le.Uint64(b[80:]),
	}, nil
}

// Bytes gives the 4,096 bytes of TCS.
func (t *TCS) Bytes() []byte {
	b := make([]byte, TCSSize)
	le.PutUint64(b[0:], t.State)
	le.PutUint64(b[8:], t.Flags)
	le.PutUint64(b[16:], t.OSSA)
	le.PutUint32(b[24:], t.CSSA)
	le.PutUint32(b[28:], t.NSSA)
	le.PutUint64(b[32:], t.OEntry)
	le.PutUint64(b[40:], t.AEP)
	le.PutUint64(b[48:], t.OFSBase)
	le.PutUint64(b[56:], t.OGSBase)
	le.PutUint32(b[64:], t.FSLimit)
	le.PutUint32(b[68:], t.GSLimit)
	le.PutUint64(b[72:], t.OCETSSA)
	le.PutUint64(b[80:], t.PreviousSSP)
	return b
}

// SecInfoFlags is SECINFO.FLAGS: a page's permissions, state and type.
type SecInfoFlags uint64

// The SECINFO.FLAGS bits; the page type is in bits 8 to 15.
const (
	SecInfoR        SecInfoFlags = 1 << 0
	SecInfoW        SecInfoFlags = 1 << 1
	SecInfoX        SecInfoFlags = 1 << 2
	SecInfoPending  SecInfoFlags = 1 << 3
	SecInfoModified SecInfoFlags = 1 << 4
	SecInfoPR       SecInfoFlags = 1 << 5

	SecInfoPermissions = SecInfoR | SecInfoW | SecInfoX

	PageTypeMask    SecInfoFlags = 0xff << 8
	PageTypeSECS    SecInfoFlags = 0 << 8
	PageTypeTCS     SecInfoFlags = 1 << 8
	PageTypeREG     SecInfoFlags = 2 << 8
	PageTypeVA      SecInfoFlags = 3 << 8
	PageTypeTRIM    SecInfoFlags = 4 << 8
	PageTypeSSFirst SecInfoFlags = 5 << 8
	PageTypeSSRest  SecInfoFlags = 6 << 8
)

// PageType gives the type alone.
func (f SecInfoFlags) PageType() SecInfoFlags { return f & PageTypeMask }

// SecInfo is SECINFO: the flags; the other 56 bytes are reserved.
type SecInfo struct{ Flags SecInfoFlags }

// ParseSecInfo reads the 64 bytes of SECINFO.
func ParseSecInfo(b []byte) (*SecInfo, error) {
	if err := checkSize("SECINFO", b, SecInfoSize); err != nil {
		return nil, err
	}
	if err := checkZero("SECINFO", b[8:], 8); err != nil {
		return nil, err
	}
	return &SecInfo{Flags: SecInfoFlags(le.Uint64(b))}, nil
}

// Bytes gives the 64 bytes of SECINFO.
func (s *SecInfo) Bytes() []byte {
	b := make([]byte, SecInfoSize)
	le.PutUint64(b, uint64(s.Flags))
	return b
}

// PageInfo is PAGEINFO: the operands of EADD and its kin, as linear addresses.
type PageInfo struct {
	LinAddr, SrcPage, SecInfo, SECS uint64
}

// ParsePageInfo reads the 32 bytes of PAGEINFO.
func ParsePageInfo(b []byte) (*PageInfo, error) {
	if err := checkSize("PAGEINFO", b, PageInfoSize); err != nil {
		return nil, err
	}
	return &PageInfo{LinAddr: le.Uint64(b[0:]), SrcPage: le.Uint64(b[8:]), SecInfo: le.Uint64(b[16:]), SECS: le.Uint64(b[24:])}, nil
}

// Bytes gives the 32 bytes of PAGEINFO.
func (p *PageInfo) Bytes() []byte {
	b := make([]byte, PageInfoSize)
	for i, v := range []uint64{p.LinAddr, p.SrcPage, p.SecInfo, p.SECS} {
		le.PutUint64(b[8*i:], v)
	}
	return b
}
