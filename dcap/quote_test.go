package dcap_test

import (
	"encoding/hex"
	"path/filepath"
	"slices"
	"testing"

	"github.com/adyton-dev/adyton/dcap"
)

// TestParseQuoteAgreesWithIndependentDecoding holds every public quote against
// fields that another program decoded.
func TestParseQuoteAgreesWithIndependentDecoding(t *testing.T) {
	t.Parallel()
	dir := vectorsDir(t)
	var quotes []struct {
		File         string
		QuoteVersion uint16 `json:"quote_version"`
		TEE          string
		CertDataType []int `json:"cert_data_type"` // absent if the quote is corrupted
		Debug        bool
		MRENCLAVE    string
		MRSIGNER     string
		ISVProdID    uint16
		ISVSVN       uint16
		MRTD         string
		TEETCBSVN    string `json:"tee_tcb_svn"`
	}
	readJSON(t, filepath.Join(dir, "quotes.json"), &quotes)
	for _, want := range quotes {
		t.Run(filepath.Base(want.File), func(t *testing.T) {
			t.Parallel()
			q, err := dcap.ParseQuote(readFile(t, filepath.Join(dir, want.File)))
			if want.CertDataType == nil || notIntels[filepath.Base(want.File)] != "" {
				if err == nil {
					t.Error("a quote that is corrupted or not Intel's is accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if q.Version != want.QuoteVersion || q.Debug() != want.Debug {
				t.Errorf("version %d, debug %t; want %d, %t", q.Version, q.Debug(), want.QuoteVersion, want.Debug)
			}
			if last := want.CertDataType[len(want.CertDataType)-1]; int(q.CertificationData.Type) != last {
				t.Errorf("certification data type = %d, want %d", q.CertificationData.Type, last)
			}
			if want.TEE == "SGX" {
				e := q.SGX
				have := []any{e.MRENCLAVE.String(), e.MRSIGNER.String(), e.ISVProdID, e.ISVSVN}
				if expect := []any{want.MRENCLAVE, want.MRSIGNER, want.ISVProdID, want.ISVSVN}; !slices.Equal(have, expect) {
					t.Errorf("identity = %v, want %v", have, expect)
				}
				return
			}
			if got := hex.EncodeToString(q.TD.MRTD[:]); got != want.MRTD {
				t.Errorf("MRTD = %s, want %s", got, want.MRTD)
			}
			if got := hex.EncodeToString(q.TD.TEETCBSVN[:]); got != want.TEETCBSVN {
				t.Errorf("TEE_TCB_SVN = %s, want %s", got, want.TEETCBSVN)
			}
			if (q.BodyType == dcap.BodyTD15) != (want.TEE == "TDX1.5") {
				t.Errorf("body type = %d of a %s quote", q.BodyType, want.TEE)
			}
		})
	}
}

// notIntels are test quotes that other tools made, which Intel's vendor id or the
// structure of a report rules out.
var notIntels = map[string]string{}
