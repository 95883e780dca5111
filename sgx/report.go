package sgx

// The sizes of the report structures in bytes.
const (
	TargetInfoSize = 512
	ReportBodySize = 384
	ReportSize     = 432
)

// TargetInfo is TARGETINFO: the enclave that a report is made for (SDM "Report
// Target Info").
type TargetInfo struct {
	MRENCLAVE     Measurement
	Attributes    Attributes
	CETAttributes byte
	ConfigSVN     uint16
	MiscSelect    uint32
	ConfigID      [64]byte
}

// ParseTargetInfo reads the 512 bytes of TARGETINFO.
func ParseTargetInfo(b []byte) (*TargetInfo, error) {
	if err := checkSize("TARGETINFO", b, TargetInfoSize); err != nil {
		return nil, err
	}
	if err := checkReserved("TARGETINFO", b, [2]int{49, 50}, [2]int{56, 64}, [2]int{128, 512}); err != nil {
		return nil, err
	}
	return &TargetInfo{
		MRENCLAVE:     Measurement(b[0:32]),
		Attributes:    attributesAt(b, 32),
		CETAttributes: b[48],
		ConfigSVN:     le.Uint16(b[50:]),
		MiscSelect:    le.Uint32(b[52:]),
		ConfigID:      [64]byte(b[64:128]),
	}, nil
}

// Bytes gives the 512 bytes of TARGETINFO.
func (t *TargetInfo) Bytes() []byte {
	b := make([]byte, TargetInfoSize)
	copy(b, t.MRENCLAVE[:])
	t.Attributes.put(b, 32)
	b[48] = t.CETAttributes
	le.PutUint16(b[50:], t.ConfigSVN)
	le.PutUint32(b[52:], t.MiscSelect)
	copy(b[64:], t.ConfigID[:])
	return b
}

// ReportBody is the part of a REPORT that its MAC covers: who the enclave is and
// what it says. It is also the body of an SGX quote.
type ReportBody struct {
	CPUSVN        CPUSVN
	MiscSelect    uint32
	CETAttributes byte
	ISVExtProdID  [16]byte
	Attributes    Attributes
	MRENCLAVE     Measurement
	MRSIGNER      Measurement
	ConfigID      [64]byte
	ISVProdID     uint16
	ISVSVN        uint16
	ConfigSVN     uint16
	ISVFamilyID   [16]byte
	ReportData    ReportData
}

// ParseReportBody reads the first 384 bytes of a REPORT (SDM "REPORT").
func ParseReportBody(b []byte) (*ReportBody, error) {
	if err := checkSize("REPORT body", b, ReportBodySize); err != nil {
		return nil, err
	}
	if err := checkReserved("REPORT body", b, [2]int{21, 32}, [2]int{96, 128}, [2]int{160, 192}, [2]int{262, 304}); err != nil {
		return nil, err
	}
	return &ReportBody{
		CPUSVN:        CPUSVN(b[0:16]),
		MiscSelect:    le.Uint32(b[16:]),
		CETAttributes: b[20],
		ISVExtProdID:  [16]byte(b[32:48]),
		Attributes:    attributesAt(b, 48),
		MRENCLAVE:     Measurement(b[64:96]),
		MRSIGNER:      Measurement(b[128:160]),
		ConfigID:      [64]byte(b[192:256]),
		ISVProdID:     le.Uint16(b[256:]),
		ISVSVN:        le.Uint16(b[258:]),
		ConfigSVN:     le.Uint16(b[260:]),
		ISVFamilyID:   [16]byte(b[304:320]),
		ReportData:    ReportData(b[320:384]),
	}, nil
}

// Bytes gives the 384 bytes of the report's body.
func (r *ReportBody) Bytes() []byte {
	b := make([]byte, ReportBodySize)
	copy(b, r.CPUSVN[:])
	le.PutUint32(b[16:], r.MiscSelect)
	b[20] = r.CETAttributes
	copy(b[32:], r.ISVExtProdID[:])
	r.Attributes.put(b, 48)
	copy(b[64:], r.MRENCLAVE[:])
	copy(b[128:], r.MRSIGNER[:])
	copy(b[192:], r.ConfigID[:])
	le.PutUint16(b[256:], r.ISVProdID)
	le.PutUint16(b[258:], r.ISVSVN)
	le.PutUint16(b[260:], r.ConfigSVN)
	copy(b[304:], r.ISVFamilyID[:])
	copy(b[320:], r.ReportData[:])
	return b
}

// Report is REPORT: what EREPORT makes for another enclave on the same CPU.
type Report struct {
	Body  ReportBody
	KeyID [32]byte // the KEYID to give EGETKEY to get the report key
	MAC   [16]byte // AES-CMAC over the body, under the target's report key
}

// ParseReport reads the 432 bytes of REPORT.
func ParseReport(b []byte) (*Report, error) {
	if err := checkSize("REPORT", b, ReportSize); err != nil {
		return nil, err
	}
	body, err := ParseReportBody(b[:ReportBodySize])
	if err != nil {
		return nil, err
	}
	return &Report{Body: *body, KeyID: [32]byte(b[384:416]), MAC: [16]byte(b[416:432])}, nil
}

// Bytes gives the 432 bytes of REPORT.
func (r *Report) Bytes() []byte {
	b := append(r.Body.Bytes(), r.KeyID[:]...)
	return append(b, r.MAC[:]...)
}
