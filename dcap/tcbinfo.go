package dcap

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// tcbInfo is the TCB info of one platform family (PCS API, "TCB Info" model V2 and V3).
type tcbInfo struct {
	tee              TEE
	period           period
	fmspc            FMSPC
	pceid            PCEID
	evaluationNumber uint32
	module           moduleIdentity           // of TDX modules with major version 0
	modules          map[uint8]moduleIdentity // by major version
	levels           []tcbLevel               // in descending order
}

// tcbLevel is the least that a platform must have to be in a state.
type tcbLevel struct {
	sgx, tdx [16]uint8
	pcesvn   uint16
	tcb      TCB
}

// moduleIdentity describes the TDX modules of one major version.
type moduleIdentity struct {
	mrsigner   [48]byte
	attributes [8]byte
	levels     []svnLevel // in descending order
}

// svnLevel is the least ISVSVN of an enclave or module to be in a state.
type svnLevel struct {
	isvsvn uint16
	tcb    TCB
}

// platform gives the state of the first level that the platform reaches. teeSVN
// is a TD's TEE_TCB_SVN, nil for an enclave; its bytes 0 and 1 belong to the TDX
// module and are judged by module identity where byte 1 is not 0.
func (t *tcbInfo) platform(p *PCK, teeSVN *[16]byte) TCB {
	for i := range t.levels {
		level := &t.levels[i]
		if p.PCESVN < level.pcesvn || !reaches(p.Components[:], level.sgx[:]) {
			continue
		}
		if teeSVN != nil {
			from := 0
			if teeSVN[1] > 0 {
				from = 2
			}
			if !reaches(teeSVN[from:], level.tdx[from:]) {
				continue
			}
		}
		return level.tcb
	}
	return TCB{Status: NotSupported}
}

func reaches(have, want []uint8) bool {
	for i := range want {
		if have[i] < want[i] {
			return false
		}
	}
	return true
}

// moduleFor gives the identity that a TDX module with this TEE_TCB_SVN must have.
func (t *tcbInfo) moduleFor(teeSVN *[16]byte) (moduleIdentity, error) {
	if teeSVN[1] == 0 {
		return t.module, nil
	}
	module, ok := t.modules[teeSVN[1]]
	if !ok {
		return moduleIdentity{}, fmt.Errorf("TCB info has no TDX module identity TDX_%02X", teeSVN[1])
	}
	return module, nil
}

// stateOf gives the state of the first level that svn reaches.
func stateOf(levels []svnLevel, svn uint16) TCB {
	for i := range levels {
		if svn >= levels[i].isvsvn {
			return levels[i].tcb
		}
	}
	return TCB{Status: NotSupported}
}

// parseTCBInfo reads the body of a TCB info document of version 2 (SGX) or 3.
func parseTCBInfo(body []byte) (*tcbInfo, error) {
	var w tcbInfoJSON
	if err := decodeBody(body, &w); err != nil {
		return nil, err
	}
	t := &tcbInfo{period: period{w.IssueDate, w.NextUpdate}}
	switch {
	case w.Version == 2 && w.ID == "", w.Version == 3 && w.ID == "SGX":
		t.tee = SGX
	case w.Version == 3 && w.ID == "TDX":
		t.tee = TDX
	default:
		return nil, fmt.Errorf("id %q with version %d is neither SGX (2, 3) nor TDX (3)", w.ID, w.Version)
	}
	if w.TCBType == nil || *w.TCBType != 0 {
		return nil, errors.New("tcbType is not 0")
	}
	if w.EvaluationNumber == nil {
		return nil, errors.New("tcbEvaluationDataNumber is missing")
	}
	t.evaluationNumber = *w.EvaluationNumber
	if err := errors.Join(t.period.check(), hexField("fmspc", w.FMSPC, t.fmspc[:]), hexField("pceId", w.PCEID, t.pceid[:])); err != nil {
		return nil, err
	}
	if err := t.parseLevels(&w); err != nil {
		return nil, err
	}
	if t.tee == TDX {
		if err := t.parseModules(&w); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *tcbInfo) parseLevels(w *tcbInfoJSON) error {
	if len(w.Levels) == 0 {
		return errors.New("no TCB levels")
	}
	t.levels = make([]tcbLevel, len(w.Levels))
	for i := range w.Levels {
		from, level := &w.Levels[i], &t.levels[i]
		if from.TCB.PCESVN == nil {
			return fmt.Errorf("TCB level %d: pcesvn is missing", i)
		}
		level.pcesvn = *from.TCB.PCESVN
		var err error
		if w.Version == 2 {
			err = from.TCB.componentsV2.read(&level.sgx)
		} else {
			err = from.TCB.SGX.read("sgxtcbcomponents", &level.sgx)
		}
		if err == nil && t.tee == TDX {
			err = from.TCB.TDX.read("tdxtcbcomponents", &level.tdx)
		}
		if err == nil {
			level.tcb, err = from.read()
		}
		if err != nil {
			return fmt.Errorf("TCB level %d: %w", i, err)
		}
	}
	return descending(t.levels, func(a, b tcbLevel) int {
		return cmp.Or(bytes.Compare(a.sgx[:], b.sgx[:]), bytes.Compare(a.tdx[:], b.tdx[:]), cmp.Compare(a.pcesvn, b.pcesvn))
	})
}

func (t *tcbInfo) parseModules(w *tcbInfoJSON) error {
	if w.Module == nil {
		return errors.New("tdxModule is missing")
	}
	if err := w.Module.read(&t.module); err != nil {
		return fmt.Errorf("tdxModule: %w", err)
	}
	t.modules = make(map[uint8]moduleIdentity, len(w.Modules))
	for i := range w.Modules {
		from := &w.Modules[i]
		major, err := moduleMajor(from.ID)
		if err != nil {
			return err
		}
		if _, twice := t.modules[major]; twice {
			return fmt.Errorf("TDX module identity %s comes twice", from.ID)
		}
		var m moduleIdentity
		err = from.read(&m)
		if err == nil {
			m.levels, err = readSVNLevels(from.Levels)
		}
		if err != nil {
			return fmt.Errorf("TDX module identity %s: %w", from.ID, err)
		}
		t.modules[major] = m
	}
	return nil
}

// moduleMajor reads the major version out of TDX_<two hex digits>, in any case.
func moduleMajor(id string) (uint8, error) {
	var major [1]byte
	if len(id) != 6 || !strings.EqualFold(id[:4], "TDX_") || hexField("", id[4:], major[:]) != nil {
		return 0, fmt.Errorf("TDX module identity %q is not TDX_ and two hex digits", id)
	}
	return major[0], nil
}

// descending sorts levels and refuses two for the same TCB, of which only one could be true.
func descending[T any](levels []T, compare func(a, b T) int) error {
	slices.SortFunc(levels, func(a, b T) int { return compare(b, a) })
	for i := 1; i < len(levels); i++ {
		if compare(levels[i-1], levels[i]) == 0 {
			return errors.New("two TCB levels are the same")
		}
	}
	return nil
}

// The JSON of TCB info. A pointer marks what must be there although zero is a value.
type tcbInfoJSON struct {
	ID               string           `json:"id"`
	Version          int              `json:"version"`
	IssueDate        time.Time        `json:"issueDate"`
	NextUpdate       time.Time        `json:"nextUpdate"`
	FMSPC            string           `json:"fmspc"`
	PCEID            string           `json:"pceId"`
	TCBType          *int             `json:"tcbType"`
	EvaluationNumber *uint32          `json:"tcbEvaluationDataNumber"`
	Module           *moduleJSON      `json:"tdxModule"`
	Modules          []moduleJSON     `json:"tdxModuleIdentities"`
	Levels           []tcbLevelOfJSON `json:"tcbLevels"`
}

type tcbLevelOfJSON struct {
	TCB struct {
		PCESVN *uint16    `json:"pcesvn"`
		SGX    components `json:"sgxtcbcomponents"`
		TDX    components `json:"tdxtcbcomponents"`
		componentsV2
	} `json:"tcb"`
	stateJSON
}

type moduleJSON struct {
	ID         string         `json:"id"`
	MRSIGNER   string         `json:"mrsigner"`
	Attributes string         `json:"attributes"`
	Mask       string         `json:"attributesMask"`
	Levels     []svnLevelJSON `json:"tcbLevels"`
}

func (m *moduleJSON) read(to *moduleIdentity) error {
	var mask [8]byte
	return errors.Join(
		hexField("mrsigner", m.MRSIGNER, to.mrsigner[:]),
		hexField("attributes", m.Attributes, to.attributes[:]),
		hexField("attributesMask", m.Mask, mask[:]), // the form only: SEAMATTRIBUTES must be equal in full
	)
}

type svnLevelJSON struct {
	TCB struct {
		ISVSVN *uint16 `json:"isvsvn"`
	} `json:"tcb"`
	stateJSON
}

func readSVNLevels(from []svnLevelJSON) ([]svnLevel, error) {
	if len(from) == 0 {
		return nil, errors.New("no TCB levels")
	}
	levels := make([]svnLevel, len(from))
	for i := range from {
		if from[i].TCB.ISVSVN == nil {
			return nil, fmt.Errorf("TCB level %d: isvsvn is missing", i)
		}
		tcb, err := from[i].read()
		if err != nil {
			return nil, fmt.Errorf("TCB level %d: %w", i, err)
		}
		levels[i] = svnLevel{*from[i].TCB.ISVSVN, tcb}
	}
	return levels, descending(levels, func(a, b svnLevel) int { return cmp.Compare(a.isvsvn, b.isvsvn) })
}

// stateJSON is the part that levels of every kind share.
type stateJSON struct {
	Date       time.Time `json:"tcbDate"`
	Status     Status    `json:"tcbStatus"`
	Advisories []string  `json:"advisoryIDs"`
}

func (s *stateJSON) read() (TCB, error) {
	if _, known := defectsOf(s.Status); !known || s.Status == NotSupported {
		return TCB{}, fmt.Errorf("unknown tcbStatus %q", s.Status)
	}
	if s.Date.IsZero() {
		return TCB{}, errors.New("tcbDate is missing")
	}
	return TCB{s.Status, s.Date, s.Advisories}, nil
}

type components []struct {
	SVN *uint8 `json:"svn"`
}

func (c components) read(name string, to *[16]uint8) error {
	if len(c) != len(to) {
		return fmt.Errorf("%s has %d entries, must have 16", name, len(c))
	}
	for i := range c {
		if c[i].SVN == nil {
			return fmt.Errorf("%s: entry %d has no svn", name, i)
		}
		to[i] = *c[i].SVN
	}
	return nil
}

// componentsV2 is how TCB info of version 2 writes the SGX components.
type componentsV2 struct {
	C01 *uint8 `json:"sgxtcbcomp01svn"`
	C02 *uint8 `json:"sgxtcbcomp02svn"`
	C03 *uint8 `json:"sgxtcbcomp03svn"`
	C04 *uint8 `json:"sgxtcbcomp04svn"`
	C05 *uint8 `json:"sgxtcbcomp05svn"`
	C06 *uint8 `json:"sgxtcbcomp06svn"`
	C07 *uint8 `json:"sgxtcbcomp07svn"`
	C08 *uint8 `json:"sgxtcbcomp08svn"`
	C09 *uint8 `json:"sgxtcbcomp09svn"`
	C10 *uint8 `json:"sgxtcbcomp10svn"`
	C11 *uint8 `json:"sgxtcbcomp11svn"`
	C12 *uint8 `json:"sgxtcbcomp12svn"`
	C13 *uint8 `json:"sgxtcbcomp13svn"`
	C14 *uint8 `json:"sgxtcbcomp14svn"`
	C15 *uint8 `json:"sgxtcbcomp15svn"`
	C16 *uint8 `json:"sgxtcbcomp16svn"`
}

func (c *componentsV2) read(to *[16]uint8) error {
	all := [16]*uint8{c.C01, c.C02, c.C03, c.C04, c.C05, c.C06, c.C07, c.C08, c.C09, c.C10, c.C11, c.C12, c.C13, c.C14, c.C15, c.C16}
	for i, svn := range all {
		if svn == nil {
			return fmt.Errorf("sgxtcbcomp%02dsvn is missing", i+1)
		}
		to[i] = *svn
	}
	return nil
}
