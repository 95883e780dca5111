package appraise_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"reflect"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/refusal"
)

const initDataDocument = `version = "0.1.0"
algorithm = "sha384"

[data]
sandbox = "gvisor"
network = "none"
`

func TestInitDataDigestCoversTheExactBytes(t *testing.T) {
	t.Parallel()
	document := func(algorithm string) string { return strings.Replace(initDataDocument, "sha384", algorithm, 1) }
	pad := func(digest []byte, size int) string { return string(append(digest, make([]byte, 64)...)[:size]) }
	s256 := sha256.Sum256([]byte(document("sha256")))
	s384 := sha512.Sum384([]byte(document("sha384")))
	s384b := sha512.Sum384([]byte(document("sha-384")))
	s512 := sha512.Sum512([]byte(document("sha512")))
	for algorithm, digest := range map[string][]byte{"sha256": s256[:], "sha384": s384[:], "sha-384": s384b[:], "sha512": s512[:]} {
		parsed, err := appraise.ParseInitData([]byte(document(algorithm)))
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{32, 48, 64} {
			if got := string(parsed.Bind(size)); got != pad(digest, size) {
				t.Errorf("%s in %d bytes: %x", algorithm, size, got)
			}
		}
	}
}

func TestInitDataClaims(t *testing.T) {
	t.Parallel()
	parsed, err := appraise.ParseInitData([]byte(initDataDocument + `
"aa.toml" = '''
[token]
url = "https://broker"
'''
"agent.json" = '{"a": [1, "b"]}'
"broken.json" = '{'
"policy.rego" = 'package agent_policy'
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"sandbox": "gvisor", "network": "none",
		"aa.toml":     map[string]any{"token": map[string]any{"url": "https://broker"}},
		"agent.json":  map[string]any{"a": []any{1.0, "b"}},
		"broken.json": "{",
		"policy.rego": "package agent_policy",
	}
	if !reflect.DeepEqual(parsed.Data, want) {
		t.Errorf("Data = %#v", parsed.Data)
	}
}

func TestBrokenInitDataIsRefused(t *testing.T) {
	t.Parallel()
	for document, want := range map[string]refusal.Reason{
		"":                           refusal.EvidenceUnsupported,
		"version = ":                 refusal.EvidenceMalformed,
		"\xff":                       refusal.EvidenceMalformed,
		"version = 1":                refusal.EvidenceMalformed,
		"version = \"0.2.0\"":        refusal.EvidenceUnsupported,
		"version = \"0.1.0\"":        refusal.EvidenceUnsupported,
		initDataDocument + "x = 1\n": refusal.EvidenceMalformed,
		strings.Replace(initDataDocument, "sha384", "md5", 1):     refusal.EvidenceUnsupported,
		strings.Repeat("#", appraise.MaxInitData+1):               refusal.EvidenceMalformed,
		"x = " + strings.Repeat("[", appraise.MaxInitData-10):     refusal.EvidenceMalformed,
		strings.Repeat("a.", appraise.MaxInitData/2-10) + "a = 1": refusal.EvidenceUnsupported,
	} {
		if _, err := appraise.ParseInitData([]byte(document)); refusal.Of(err) != want {
			t.Errorf("%.40q: %v, want %s", document, err, want)
		}
	}
}

func FuzzInitData(f *testing.F) {
	f.Add([]byte(initDataDocument))
	f.Add([]byte("version = \"0.1.0\"\nalgorithm = \"sha256\"\ndata = {\"a.json\" = \"{}\", \"b.toml\" = \"c=1\"}"))
	f.Fuzz(func(t *testing.T, document []byte) {
		parsed, err := appraise.ParseInitData(document)
		if err != nil {
			if refusal.Of(err) == "" {
				t.Errorf("no refusal: %v", err)
			}
			return
		}
		if parsed.Data == nil || len(parsed.Bind(64)) != 64 {
			t.Error("incomplete")
		}
	})
}
