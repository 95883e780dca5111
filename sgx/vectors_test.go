package sgx_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/adyton-dev/adyton/internal/vectors"
	"github.com/adyton-dev/adyton/sgx"
)

// sigStructVector is an entry of sigstruct/manifest.json. Numbers of several bytes
// that the manifest has as hexadecimal strings are in memory order, except date.
//
// debug_allowed is the manifest's conclusion, not a field, and says whether
// ATTRIBUTES has DEBUG. Three samples leave DEBUG out of their mask too, and those
// EINIT does admit in debug mode: see TestDebugIsAllowedAsEINITDecides.
type sigStructVector struct {
	File         string
	SHA256       string
	Vendor       string
	Date         string
	SWDefined    string
	MiscSelect   string
	MiscMask     string
	Attributes   string
	AttrMask     string
	MRENCLAVE    string
	MRSIGNER     string
	ISVProdID    uint16
	ISVSVN       uint16
	DebugAllowed bool `json:"debug_allowed"`
}

func TestSigStructVectorsDecodeVerifyAndReencode(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(vectors.Dir(t), "sigstruct")
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []sigStructVector
	if err := json.Unmarshal(manifest, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) == 0 {
		t.Fatal("the manifest is empty")
	}
	for _, want := range vectors {
		t.Run(want.File, func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(filepath.Join(dir, want.File))
			if err != nil {
				t.Fatal(err)
			}
			s, err := sgx.ParseSigStruct(raw)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(s.Bytes(), raw) {
				t.Error("re-encoding gives other bytes")
			}
			if err := s.Verify(); err != nil {
				t.Error(err)
			}
			got := sigStructVector{
				File:         want.File,
				SHA256:       fmt.Sprintf("%x", sha256.Sum256(raw)),
				Vendor:       littleEndianHex(s.Vendor),
				Date:         fmt.Sprintf("%08x", s.Date),
				SWDefined:    littleEndianHex(s.SWDefined),
				MiscSelect:   littleEndianHex(s.MiscSelect),
				MiscMask:     littleEndianHex(s.MiscMask),
				Attributes:   hex.EncodeToString(s.Attributes.Bytes()),
				AttrMask:     hex.EncodeToString(s.AttributeMask.Bytes()),
				MRENCLAVE:    s.EnclaveHash.String(),
				MRSIGNER:     s.MRSIGNER().String(),
				ISVProdID:    s.ISVProdID,
				ISVSVN:       s.ISVSVN,
				DebugAllowed: s.Attributes.Flags&sgx.AttributeDebug != 0,
			}
			if got != want {
				t.Errorf("decoded\n%+v, want\n%+v", got, want)
			}
		})
	}
}

// The body of a real quote is a REPORT body: 384 bytes at offset 48.
func TestReportBodiesOfRealQuotesReencode(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(vectors.Dir(t), "dcap")
	index, err := os.ReadFile(filepath.Join(dir, "quotes.json"))
	if err != nil {
		t.Fatal(err)
	}
	var quotes []struct {
		File, TEE, MRENCLAVE, MRSIGNER string
		Genuine                        bool
		ISVProdID, ISVSVN              uint16
		Debug                          bool
	}
	if err := json.Unmarshal(index, &quotes); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, q := range quotes {
		if q.TEE != "SGX" || !q.Genuine {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, q.File))
		if err != nil {
			t.Fatal(err)
		}
		raw = raw[48:][:sgx.ReportBodySize]
		body, err := sgx.ParseReportBody(raw)
		if err != nil {
			t.Errorf("%s: %v", q.File, err)
			continue
		}
		checked++
		if !bytes.Equal(body.Bytes(), raw) {
			t.Errorf("%s: re-encoding gives other bytes", q.File)
		}
		debug := body.Attributes.Flags&sgx.AttributeDebug != 0
		if body.MRENCLAVE.String() != q.MRENCLAVE || body.MRSIGNER.String() != q.MRSIGNER ||
			body.ISVProdID != q.ISVProdID || body.ISVSVN != q.ISVSVN || debug != q.Debug {
			t.Errorf("%s: decoded %+v, want %+v", q.File, body, q)
		}
	}
	if checked == 0 {
		t.Error("no quote was checked")
	}
}

func littleEndianHex(v uint32) string {
	return hex.EncodeToString([]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)})
}
