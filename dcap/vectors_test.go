package dcap_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/vectors"
)

// vectorsDir gives the directory of the quotes and their collateral.
func vectorsDir(t testing.TB) string {
	t.Helper()
	return filepath.Join(vectors.Dir(t), "dcap")
}

// run is an entry of runs.json.
type run struct {
	Expected struct {
		CurrentAdvisories, CurrentStatus string
		CurrentTCBDate                   int64 `json:"currentTcbDate"`
		EvalNum                          uint32
		LaunchAdvisories, LaunchStatus   string
		LaunchTCBDate                    int64 `json:"launchTcbDate"`
		PCK, TCBInfo, QEID, Quote        string
	}
	Quote        string
	TEE          string
	Time         time.Time
	TCBInfo      string `json:"tcb_info"`
	TCBInfoChain string `json:"tcb_info_issuer_chain"`
	QEIdentity   string `json:"qe_identity"`
	QEIDChain    string `json:"qe_identity_issuer_chain"`
	PCKCRL       string `json:"pck_crl"`
	PCKCRLChain  string `json:"pck_crl_issuer_chain"`
	RootCACRL    string `json:"root_ca_crl"`

	quote      []byte
	collateral *dcap.Collateral
}

func loadRuns(t testing.TB) []run {
	t.Helper()
	dir := vectorsDir(t)
	var runs []run
	readJSON(t, filepath.Join(dir, "runs.json"), &runs)
	files := map[string][]byte{}
	read := func(name string) []byte {
		if files[name] == nil {
			files[name] = readFile(t, filepath.Join(dir, name))
		}
		return files[name]
	}
	for i := range runs {
		r := &runs[i]
		r.quote = read(r.Quote)
		r.collateral = &dcap.Collateral{
			TCBInfo: read(r.TCBInfo), TCBInfoIssuerChain: read(r.TCBInfoChain),
			QEIdentity: read(r.QEIdentity), QEIdentityIssuerChain: read(r.QEIDChain),
			PCKCRL: read(r.PCKCRL), PCKCRLIssuerChain: read(r.PCKCRLChain), RootCACRL: read(r.RootCACRL),
		}
	}
	return runs
}

func readJSON(t testing.TB, file string, into any) {
	t.Helper()
	if err := json.Unmarshal(readFile(t, file), into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func readFile(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newVerifier(t testing.TB, options dcap.VerifierOptions) *dcap.Verifier {
	t.Helper()
	v, err := dcap.NewVerifier(options)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
