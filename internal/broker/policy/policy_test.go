package policy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/adyton-dev/adyton/internal/broker/policy"
	"github.com/adyton-dev/adyton/refusal"
)

// claims has the shape of appraise.Claims, small.
type claims struct {
	TEE   string `json:"tee"`
	Debug bool   `json:"debug"`
	SGX   *struct {
		MRSIGNER string `json:"mrsigner"`
		ISVSVN   uint16 `json:"isv_svn"`
	} `json:"sgx,omitempty"`
	TDX *struct {
		MRTD string `json:"mr_td"`
	} `json:"tdx,omitempty"`
	TCB struct {
		Status     string    `json:"status"`
		Date       time.Time `json:"date"`
		Advisories []string  `json:"advisories"`
	} `json:"tcb"`
	InitData map[string]string `json:"init_data,omitempty"`
}

const (
	sgxClaims = `{"tee":"sgx","debug":false,"sgx":{"mrsigner":"aa","isv_svn":2},"tcb":{"status":"UpToDate","date":"2025-01-01T00:00:00Z","advisories":["INTEL-SA-1"]},"init_data":{"sandbox":"gvisor"}}`
	tdxClaims = `{"tee":"tdx","debug":true,"tdx":{"mr_td":"bb"},"tcb":{"status":"OutOfDate","date":"2020-01-01T00:00:00Z","advisories":[]}}`
)

func compiler(t testing.TB) *policy.Compiler {
	t.Helper()
	c, err := policy.NewCompiler(reflect.TypeFor[claims]())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func header(validations string) string {
	return "apiVersion: adyton.dev/v1alpha1\nkind: ReleasePolicy\nspec:\n  validations:\n" + validations
}

func input(c string) policy.Input {
	return policy.Input{
		Claims:   json.RawMessage(c),
		Resource: policy.Resource{Repository: "hospital-a", Type: "key", Tag: "cohort", URI: "kbs:///hospital-a/key/cohort"},
		Now:      time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func TestDecision(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy, claims string
		want           refusal.Reason
	}{
		"all true releases":                        {"  - expression: tee == 'sgx'\n  - expression: sgx.isv_svn >= 2 && !debug\n", sgxClaims, ""},
		"no validations refuses":                   {"  []\n", sgxClaims, refusal.PolicyDenied},
		"the first failing reason is given":        {"  - expression: 'true'\n  - {expression: sgx.isv_svn > 2, reason: SVNTooLow}\n  - {expression: 'false', reason: Other}\n", sgxClaims, refusal.SVNTooLow},
		"a reason of one's own is given":           {"  - {expression: debug, reason: HospitalSaysNo, message: no}\n", sgxClaims, "HospitalSaysNo"},
		"without a reason it is PolicyDenied":      {"  - expression: debug\n", sgxClaims, refusal.PolicyDenied},
		"a claim the evidence lacks refuses":       {"  - expression: sgx.isv_svn >= 0\n", tdxClaims, refusal.PolicyInvalid},
		"also where a zero value would be true":    {"  - expression: \"!(sgx.isv_svn > 5)\"\n", tdxClaims, refusal.PolicyInvalid},
		"a test of the kind of TEE guards a claim": {"  - expression: tee == 'tdx' || sgx.isv_svn >= 2\n", tdxClaims, ""},
		"a missing map key refuses":                {"  - expression: init_data.sandbox == 'gvisor'\n", tdxClaims, refusal.PolicyInvalid},
		"map keys are read":                        {"  - expression: init_data.sandbox == 'gvisor'\n", sgxClaims, ""},
		"has is false for a missing field":         {"  - expression: has(tcb.date) && !has(tcb.advisories)\n", sgxClaims, refusal.PolicyDenied},
		"the resource is known":                    {"  - expression: resource.repository == 'hospital-a' && resource.uri.startsWith('kbs:///')\n", sgxClaims, ""},
		"dates compare":                            {"  - expression: now - timestamp(tcb.date) < duration('9000h')\n", sgxClaims, ""},
		"lists are searched":                       {"  - expression: tcb.advisories.all(a, a in ['INTEL-SA-1'])\n", sgxClaims, ""},
		"work is bounded":                          {"  - expression: '" + bomb + "'\n", sgxClaims, refusal.PolicyInvalid},
		"an unknown claim refuses":                 {"  - expression: 'true'\n", `{"tee":"sgx","other":1}`, refusal.PolicyInvalid},
		"claims that are no object refuse":         {"  - expression: 'true'\n", `null`, refusal.PolicyInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := compiler(t).Compile([]byte(header(c.policy)))
			if err != nil {
				t.Fatal(err)
			}
			err = p.Decide(t.Context(), input(c.claims))
			if refusal.Of(err) != c.want || (c.want == "") != (err == nil) {
				t.Errorf("got %v, want reason %q", err, c.want)
			}
			e, err := p.Explain(t.Context(), input(c.claims))
			if err == nil && (e.Reason != c.want || e.Allowed != (c.want == "")) {
				t.Errorf("explanation %+v differs", e)
			}
		})
	}
}

// bomb visits a billion combinations.
const bomb = "[1,2,3,4,5,6,7,8,9,10].all(a,[1,2,3,4,5,6,7,8,9,10].all(b,[1,2,3,4,5,6,7,8,9,10].all(c,[1,2,3,4,5,6,7,8,9,10].all(d,[1,2,3,4,5,6,7,8,9,10].all(e,[1,2,3,4,5,6,7,8,9,10].all(f,[1,2,3,4,5,6,7,8,9,10].all(g,[1,2,3,4,5,6,7,8,9,10].all(h,[1,2,3,4,5,6,7,8,9,10].all(i,true)))))))))"

func TestCompileRefusesAndSaysWhere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"unknown variable":  {header("  - expression: tee == 'sgx'\n  - expression: sgxx.isv_svn > 1\n"), "policy:6:17: spec.validations[1].expression: CEL 1:1: undeclared reference to 'sgxx'"},
		"unknown field":     {header("  - expression: sgx.isvsvn > 1\n"), "CEL 1:4: undefined field 'isvsvn'"},
		"wrong type":        {header("  - expression: sgx.isv_svn > '1'\n"), "no matching overload"},
		"not a bool":        {header("  - expression: tee\n"), "its type is string, it must be bool"},
		"syntax":            {header("  - expression: tee ==\n"), "policy:5:"},
		"no expression":     {header("  - reason: X\n"), "policy:5:"},
		"bad reason":        {header("  - {expression: debug, reason: not camel}\n"), "CamelCase"},
		"unknown yaml key":  {header("  - {expression: debug, reasn: X}\n"), "policy:5:25: unknown field"},
		"broken yaml":       {"kind: [", "policy:1:"},
		"wrong kind":        {"apiVersion: adyton.dev/v1alpha1\nkind: Pod\n", `policy:2:7: kind: "Pod"`},
		"wrong version":     {"apiVersion: v1\nkind: ReleasePolicy\n", "apiVersion"},
		"two documents":     {header("  []\n---\na: b\n"), "second document"},
		"tags and aliases":  {header("  - expression: !x debug\n"), "tags, anchors and aliases"},
		"too large":         {strings.Repeat("#", policy.MaxSize+1), "longer than"},
		"too many":          {header(strings.Repeat("  - expression: debug\n", policy.MaxValidations+1)), "limit"},
		"expression length": {header("  - expression: \"'" + strings.Repeat("x", 5000) + "' == tee\"\n"), "policy:5:"},
		"empty":             {"", "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := compiler(t).Compile([]byte(c.text))
			if refusal.Of(err) != refusal.PolicyInvalid || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want PolicyInvalid with %q on one line", err, c.want)
			}
		})
	}
}

func TestExplainGivesEveryValidationWithItsValues(t *testing.T) {
	t.Parallel()
	p, err := compiler(t).Compile([]byte(header("  - {expression: tee == 'sgx' && sgx.mrsigner == 'zz', reason: SignerNotApproved, message: not approved}\n  - expression: init_data.sandbox == 'gvisor'\n  - expression: tdx.mr_td == 'bb'\n")))
	if err != nil {
		t.Fatal(err)
	}
	e, err := p.Explain(t.Context(), input(sgxClaims))
	if err != nil {
		t.Fatal(err)
	}
	want := &policy.Explanation{
		Reason: refusal.SignerNotApproved, Detail: "not approved",
		Validations: []policy.Step{
			{
				Validation: policy.Validation{Expression: "tee == 'sgx' && sgx.mrsigner == 'zz'", Reason: refusal.SignerNotApproved, Message: "not approved"},
				Result:     "false",
				Values:     []policy.Value{{Name: "tee", Value: `"sgx"`}, {Name: "sgx.mrsigner", Value: `"aa"`}},
			},
			{
				Validation: policy.Validation{Expression: "init_data.sandbox == 'gvisor'"},
				Result:     "true",
				Values:     []policy.Value{{Name: "init_data.sandbox", Value: `"gvisor"`}},
			},
			{
				Validation: policy.Validation{Expression: "tdx.mr_td == 'bb'"},
				Result:     "error", Error: "no such attribute(s): tdx",
				Values: []policy.Value{{Name: "tdx.mr_td", Value: "missing"}},
			},
		},
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
}

func FuzzCompile(f *testing.F) {
	c := compiler(f)
	f.Add([]byte(header("  - {expression: tee == 'sgx', reason: No, message: m}\n")))
	f.Add([]byte(header("  - expression: \"sgx.isv_svn >= 1 && tcb.advisories.all(a, a != '')\"\n")))
	f.Add([]byte("a: &a [*a]"))
	if seeds, err := filepath.Glob("testdata/*.yaml"); err == nil {
		for _, s := range seeds {
			if data, err := os.ReadFile(s); err == nil {
				f.Add(data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := c.Compile(text)
		if err != nil {
			if refusal.Of(err) != refusal.PolicyInvalid {
				t.Errorf("not PolicyInvalid: %v", err)
			}
			return
		}
		_ = p.Decide(t.Context(), input(sgxClaims))
	})
}
