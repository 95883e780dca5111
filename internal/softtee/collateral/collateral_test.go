package collateral_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/dcap"
	"github.com/adyton-dev/adyton/internal/softtee/collateral"
	"github.com/adyton-dev/adyton/internal/vectors"
	"github.com/adyton-dev/adyton/sgx"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

var issued = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func documents(t *testing.T) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := collateral.Header{Issued: issued, NextUpdate: issued.AddDate(0, 0, 30), EvaluationNumber: 18}
	info := func(tee dcap.TEE, version int) *collateral.TCBInfo {
		return &collateral.TCBInfo{Header: h, TEE: tee, Version: version, FMSPC: dcap.FMSPC{0, 0xab, 2, 3, 4, 5}, Levels: collateral.PlatformLevels()}
	}
	out := map[string][]byte{}
	for name, document := range map[string]interface {
		Sign(*ecdsa.PrivateKey) ([]byte, error)
	}{
		"tcbinfo-sgx-v2": info(dcap.SGX, 2), "tcbinfo-sgx-v3": info(dcap.SGX, 3), "tcbinfo-tdx-v3": info(dcap.TDX, 3),
		"identity-qe":    &collateral.QEIdentity{Header: h, TEE: dcap.SGX, MRSIGNER: sgx.Measurement{0xcd}, ISVProdID: 1},
		"identity-td-qe": &collateral.QEIdentity{Header: h, TEE: dcap.TDX, MRSIGNER: sgx.Measurement{0xcd}, ISVProdID: 2},
		"numbers-sgx":    &collateral.EvaluationNumbers{Header: h, TEE: dcap.SGX},
	} {
		if out[name], err = document.Sign(key); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := info(dcap.TDX, 2).Sign(key); err == nil {
		t.Error("TCB info of version 2 for TDX is signed; there is none")
	}
	return out
}

// TestDocumentsAreAsTheyWere compares what is signed, byte by byte, with golden files.
func TestDocumentsAreAsTheyWere(t *testing.T) {
	t.Parallel()
	for name, document := range documents(t) {
		body, _, _ := strings.Cut(string(document), `,"signature":"`)
		path := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(path, []byte(body+"}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if body+"}\n" != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, body, want)
		}
	}
}

// TestDocumentsHaveTheMembersOfIntels compares the names of all members, at every
// depth, with those of the documents that Intel served.
func TestDocumentsHaveTheMembersOfIntels(t *testing.T) {
	t.Parallel()
	real := map[string]map[string]bool{}
	paths, err := filepath.Glob(filepath.Join(vectors.Dir(t), "dcap", "collateral", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		kind, members := describe(t, text)
		if real[kind] == nil {
			real[kind] = map[string]bool{}
		}
		for _, m := range members {
			real[kind][m] = true
		}
	}
	for name, text := range documents(t) {
		if name == "numbers-sgx" {
			continue // the vectors have none
		}
		kind, members := describe(t, text)
		if real[kind] == nil {
			t.Errorf("%s: no document of Intel's is of kind %q", name, kind)
		}
		for _, m := range members {
			// Intel's present TD_QE has no level with advisories; its schema has them.
			if !real[kind][m] && !strings.HasSuffix(m, ".advisoryIDs") {
				t.Errorf("%s has %s, Intel's %s have not", name, m, kind)
			}
		}
		for m := range real[kind] {
			// What components are made of is for people, and not in all documents.
			optional := strings.HasSuffix(m, ".category") || strings.HasSuffix(m, ".type") || strings.Contains(m, "advisoryIDs")
			if !optional && !slices.Contains(members, m) {
				t.Errorf("%s lacks %s of Intel's %s", name, m, kind)
			}
		}
	}
}

// describe gives the kind of a document (id and version) and its members' paths.
func describe(t *testing.T, text []byte) (kind string, members []string) {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	for name, body := range document {
		if object, ok := body.(map[string]any); ok {
			id, _ := object["id"].(string)
			version, _ := object["version"].(float64)
			kind = strings.Join([]string{name, id, string(rune('0' + int(version)))}, " ")
		}
	}
	collect(document, "", &members)
	slices.Sort(members)
	return kind, slices.Compact(members)
}

func collect(value any, path string, members *[]string) {
	switch v := value.(type) {
	case map[string]any:
		for name, child := range v {
			*members = append(*members, path+"."+name)
			collect(child, path+"."+name, members)
		}
	case []any:
		for _, child := range v {
			collect(child, path, members)
		}
	}
}

func TestLevelsDescendWithARungForEachStatus(t *testing.T) {
	t.Parallel()
	for name, levels := range map[string][]collateral.Level{
		"platform": collateral.PlatformLevels(), "enclave": collateral.EnclaveLevels(), "module": collateral.ModuleLevels(),
	} {
		for i := 1; i < len(levels); i++ {
			if levels[i].SVN >= levels[i-1].SVN || levels[i].Date > levels[i-1].Date {
				t.Errorf("%s: level %d is not below the one before", name, i)
			}
		}
		for _, level := range levels {
			if svn, err := collateral.SVN(levels, level.Status); err != nil || svn != level.SVN {
				t.Errorf("%s: SVN(%s) = %d, %v; want %d", name, level.Status, svn, err, level.SVN)
			}
		}
		if svn, err := collateral.SVN(levels, dcap.NotSupported); err != nil || svn >= levels[len(levels)-1].SVN {
			t.Errorf("%s: SVN(NotSupported) = %d, %v; want one below all", name, svn, err)
		}
	}
	if _, err := collateral.SVN(collateral.EnclaveLevels(), dcap.TDRelaunchAdvised); err == nil {
		t.Error("a status without a rung has an SVN")
	}
}
