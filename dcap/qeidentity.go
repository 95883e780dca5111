package dcap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/adyton-dev/adyton/sgx"
)

// qeIdentity describes Intel's quoting enclave (PCS API, "Enclave Identity" model V2).
type qeIdentity struct {
	tee                            TEE // QE for SGX, TD_QE for TDX
	period                         period
	evaluationNumber               uint32
	miscSelect, miscSelectMask     uint32
	flags, flagsMask, xfrm, xfMask uint64
	mrsigner                       sgx.Measurement
	isvProdID                      uint16
	levels                         []svnLevel // in descending order
}

// match says how a quoting enclave's report differs from the identity, or nil.
func (q *qeIdentity) match(r *sgx.ReportBody) error {
	switch {
	case r.MiscSelect&q.miscSelectMask != q.miscSelect:
		return fmt.Errorf("MISCSELECT %#x, want %#x under mask %#x", r.MiscSelect, q.miscSelect, q.miscSelectMask)
	case uint64(r.Attributes.Flags)&q.flagsMask != q.flags:
		return fmt.Errorf("ATTRIBUTES %#x, want %#x under mask %#x", uint64(r.Attributes.Flags), q.flags, q.flagsMask)
	case r.Attributes.XFRM&q.xfMask != q.xfrm:
		return fmt.Errorf("XFRM %#x, want %#x under mask %#x", r.Attributes.XFRM, q.xfrm, q.xfMask)
	case r.MRSIGNER != q.mrsigner:
		return fmt.Errorf("MRSIGNER %s, want %s", r.MRSIGNER, q.mrsigner)
	case r.ISVProdID != q.isvProdID:
		return fmt.Errorf("ISVPRODID %d, want %d", r.ISVProdID, q.isvProdID)
	}
	return nil
}

// parseQEIdentity reads the body of a QE or TD_QE identity document of version 2.
func parseQEIdentity(body []byte) (*qeIdentity, error) {
	var w qeIdentityJSON
	if err := decodeBody(body, &w); err != nil {
		return nil, err
	}
	q := &qeIdentity{period: period{w.IssueDate, w.NextUpdate}}
	switch w.ID {
	case "QE":
		q.tee = SGX
	case "TD_QE":
		q.tee = TDX
	default:
		return nil, fmt.Errorf("id %q is neither QE nor TD_QE", w.ID)
	}
	if w.Version != 2 {
		return nil, fmt.Errorf("version %d: only 2 is known", w.Version)
	}
	if w.EvaluationNumber == nil || w.ISVProdID == nil {
		return nil, errors.New("tcbEvaluationDataNumber or isvprodid is missing")
	}
	q.evaluationNumber, q.isvProdID = *w.EvaluationNumber, *w.ISVProdID
	// MISCSELECT and ATTRIBUTES are written as their bytes in memory.
	var misc, miscMask [4]byte
	var attributes, attributesMask [16]byte
	err := errors.Join(
		q.period.check(),
		hexField("miscselect", w.MiscSelect, misc[:]),
		hexField("miscselectMask", w.MiscSelectMask, miscMask[:]),
		hexField("attributes", w.Attributes, attributes[:]),
		hexField("attributesMask", w.AttributesMask, attributesMask[:]),
		hexField("mrsigner", w.MRSIGNER, q.mrsigner[:]),
	)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	q.miscSelect, q.miscSelectMask = le.Uint32(misc[:]), le.Uint32(miscMask[:])
	q.flags, q.flagsMask = le.Uint64(attributes[:]), le.Uint64(attributesMask[:])
	q.xfrm, q.xfMask = le.Uint64(attributes[8:]), le.Uint64(attributesMask[8:])
	q.levels, err = readSVNLevels(w.Levels)
	return q, err
}

type qeIdentityJSON struct {
	ID               string         `json:"id"`
	Version          int            `json:"version"`
	IssueDate        time.Time      `json:"issueDate"`
	NextUpdate       time.Time      `json:"nextUpdate"`
	EvaluationNumber *uint32        `json:"tcbEvaluationDataNumber"`
	MiscSelect       string         `json:"miscselect"`
	MiscSelectMask   string         `json:"miscselectMask"`
	Attributes       string         `json:"attributes"`
	AttributesMask   string         `json:"attributesMask"`
	MRSIGNER         string         `json:"mrsigner"`
	ISVProdID        *uint16        `json:"isvprodid"`
	Levels           []svnLevelJSON `json:"tcbLevels"`
}
