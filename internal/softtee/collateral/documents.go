package collateral

import (
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee/pki"
	"github.com/adyton-dev/adyton/sgx"
)

// Header is what all documents begin with.
type Header struct {
	Issued, NextUpdate time.Time
	// EvaluationNumber is tcbEvaluationDataNumber.
	EvaluationNumber uint32
}

// Shift moves both dates.
func (h *Header) Shift(by time.Duration) {
	h.Issued, h.NextUpdate = h.Issued.Add(by), h.NextUpdate.Add(by)
}

// TCBInfo says which TCB levels a platform family can have.
type TCBInfo struct {
	Header
	TEE dcap.TEE
	// Version is 2 (SGX only, as PCS v3 serves it) or 3.
	Version int
	FMSPC   dcap.FMSPC
	PCEID   dcap.PCEID
	Levels  []Level
}

// Sign gives {"tcbInfo":{…},"signature":"…"}.
func (t *TCBInfo) Sign(key *ecdsa.PrivateKey) ([]byte, error) {
	info := tcbInfoJSON{
		Version: t.Version, IssueDate: stamp(t.Issued), NextUpdate: stamp(t.NextUpdate),
		FMSPC: upper(t.FMSPC[:]), PCEID: upper(t.PCEID[:]), EvaluationNumber: t.EvaluationNumber,
	}
	switch {
	case t.Version == 2 && t.TEE == dcap.SGX: // has no id
	case t.Version == 3:
		info.ID = t.TEE.String()
	default:
		return nil, fmt.Errorf("TCB info of version %d for %s does not exist", t.Version, t.TEE)
	}
	for _, level := range t.Levels {
		info.Levels = append(info.Levels, t.level(level))
	}
	if t.TEE == dcap.TDX {
		module := moduleJSON{
			MRSIGNER:   strings.Repeat("0", 96),
			Attributes: strings.Repeat("0", 16),
			Mask:       strings.Repeat("F", 16),
		}
		info.Module = &module
		identity := module
		identity.ID, identity.Levels = "TDX_01", svnLevels(ModuleLevels())
		info.Modules = []moduleJSON{identity}
	}
	return signed("tcbInfo", info, key)
}

func (t *TCBInfo) level(level Level) levelJSON {
	components := Components(level.SVN)
	tcb := map[string]any{"pcesvn": PCESVN} // encoding/json sorts the keys: reproducible
	if t.Version == 2 {
		for i, svn := range components {
			tcb[fmt.Sprintf("sgxtcbcomp%02dsvn", i+1)] = svn
		}
	} else {
		tcb["sgxtcbcomponents"] = componentsJSON(components)
	}
	if t.TEE == dcap.TDX {
		tcb["tdxtcbcomponents"] = componentsJSON(TDComponents())
	}
	out := levelJSON{TCB: tcb, Date: level.Date, Status: level.Status}
	if t.Version > 2 { // V2 has no advisories
		out.Advisories = level.Advisories
	}
	return out
}

// QEIdentity says what a genuine quoting enclave is.
type QEIdentity struct {
	Header
	TEE       dcap.TEE
	MRSIGNER  sgx.Measurement
	ISVProdID uint16
}

// Sign gives {"enclaveIdentity":{…},"signature":"…"}.
func (q *QEIdentity) Sign(key *ecdsa.PrivateKey) ([]byte, error) {
	id := "QE"
	if q.TEE == dcap.TDX {
		id = "TD_QE"
	}
	return signed("enclaveIdentity", identityJSON{
		ID: id, Version: 2, IssueDate: stamp(q.Issued), NextUpdate: stamp(q.NextUpdate),
		EvaluationNumber: q.EvaluationNumber,
		MiscSelect:       "00000000", MiscSelectMask: "FFFFFFFF",
		// Initialized and PROVISION_KEY; everything compared but MODE64BIT and XFRM.
		Attributes: "11000000000000000000000000000000", AttributesMask: "FBFFFFFFFFFFFFFF0000000000000000",
		MRSIGNER: upper(q.MRSIGNER[:]), ISVProdID: q.ISVProdID,
		Levels: svnLevels(EnclaveLevels()),
	}, key)
}

// EvaluationNumbers lists the tcbEvaluationDataNumbers that are served: one.
type EvaluationNumbers struct {
	Header
	TEE dcap.TEE
}

// Sign gives {"tcbEvaluationDataNumbers":{…},"signature":"…"}.
func (e *EvaluationNumbers) Sign(key *ecdsa.PrivateKey) ([]byte, error) {
	date := PlatformLevels()[0].Date
	return signed("tcbEvaluationDataNumbers", numbersJSON{
		ID: e.TEE.String(), Version: 1, IssueDate: stamp(e.Issued), NextUpdate: stamp(e.NextUpdate),
		Numbers: []numberJSON{{e.EvaluationNumber, date, date}},
	}, key)
}

type tcbInfoJSON struct {
	ID               string       `json:"id,omitempty"`
	Version          int          `json:"version"`
	IssueDate        string       `json:"issueDate"`
	NextUpdate       string       `json:"nextUpdate"`
	FMSPC            string       `json:"fmspc"`
	PCEID            string       `json:"pceId"`
	TCBType          int          `json:"tcbType"`
	EvaluationNumber uint32       `json:"tcbEvaluationDataNumber"`
	Module           *moduleJSON  `json:"tdxModule,omitempty"`
	Modules          []moduleJSON `json:"tdxModuleIdentities,omitempty"`
	Levels           []levelJSON  `json:"tcbLevels"`
}

type levelJSON struct {
	TCB        map[string]any `json:"tcb"`
	Date       string         `json:"tcbDate"`
	Status     dcap.Status    `json:"tcbStatus"`
	Advisories []string       `json:"advisoryIDs,omitempty"`
}

type componentJSON struct {
	SVN uint8 `json:"svn"`
}

type moduleJSON struct {
	ID         string      `json:"id,omitempty"`
	MRSIGNER   string      `json:"mrsigner"`
	Attributes string      `json:"attributes"`
	Mask       string      `json:"attributesMask"`
	Levels     []levelJSON `json:"tcbLevels,omitempty"`
}

type identityJSON struct {
	ID               string      `json:"id"`
	Version          int         `json:"version"`
	IssueDate        string      `json:"issueDate"`
	NextUpdate       string      `json:"nextUpdate"`
	EvaluationNumber uint32      `json:"tcbEvaluationDataNumber"`
	MiscSelect       string      `json:"miscselect"`
	MiscSelectMask   string      `json:"miscselectMask"`
	Attributes       string      `json:"attributes"`
	AttributesMask   string      `json:"attributesMask"`
	MRSIGNER         string      `json:"mrsigner"`
	ISVProdID        uint16      `json:"isvprodid"`
	Levels           []levelJSON `json:"tcbLevels"`
}

type numbersJSON struct {
	ID         string       `json:"id"`
	Version    int          `json:"version"`
	IssueDate  string       `json:"issueDate"`
	NextUpdate string       `json:"nextUpdate"`
	Numbers    []numberJSON `json:"tcbEvalNumbers"`
}

type numberJSON struct {
	Number    uint32 `json:"tcbEvaluationDataNumber"`
	EventDate string `json:"tcbRecoveryEventDate"`
	Date      string `json:"tcbDate"`
}

func componentsJSON(svns [16]uint8) []componentJSON {
	out := make([]componentJSON, len(svns))
	for i, svn := range svns {
		out[i].SVN = svn
	}
	return out
}

func svnLevels(levels []Level) []levelJSON {
	out := make([]levelJSON, len(levels))
	for i, level := range levels {
		out[i] = levelJSON{map[string]any{"isvsvn": level.SVN}, level.Date, level.Status, level.Advisories}
	}
	return out
}

// signed wraps a body with the signature over its exact bytes.
func signed(name string, body any, key *ecdsa.PrivateKey) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	signature, err := pki.Sign(key, text)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", name, err)
	}
	return fmt.Appendf(nil, `{"%s":%s,"signature":"%x"}`, name, text, signature), nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
func upper(b []byte) string    { return strings.ToUpper(hex.EncodeToString(b)) }
