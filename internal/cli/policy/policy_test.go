package policy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/internal/cli/policy"
	"github.com/adyton-dev/adyton/internal/cli/ui"
)

func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := policy.New()
	var out bytes.Buffer
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExplainsADecisionAndExitsByIt(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "release.yaml")
	signer := strings.Repeat("aa", 32)
	if out, err := run(t, "init", "--signer", signer, "--product", "7", "--svn", "2", "--file", file); err != nil {
		t.Fatal(err, out)
	}
	if out, err := run(t, "check", file); err != nil || !strings.Contains(out, "valid") {
		t.Fatal(err, out)
	}
	claims := func(svn, sandbox string) string {
		return write(t, "claims.json", `{"tee":"sgx","debug":false,"sgx":{"mrsigner":"`+signer+`","isv_prod_id":7,"isv_svn":`+svn+`},"init_data":{"sandbox":"`+sandbox+`"}}`)
	}
	if out, err := run(t, "test", "--policy", file, "--claims", claims("2", "gvisor")); err != nil || !strings.HasSuffix(out, "released\n") {
		t.Errorf("allowed: %v\n%s", err, out)
	}
	out, err := run(t, "test", "--policy", file, "--claims", claims("1", "none"))
	if ui.ExitCode(err) != ui.ExitRefused || !ui.Silent(err) || !strings.Contains(out, "sgx.isv_svn = 1") || !strings.Contains(out, "refused: SVNTooLow") {
		t.Errorf("refused: %v\n%s", err, out)
	}
	out, err = run(t, "test", "--policy", file, "--claims", claims("2", "none"), "-o", "json")
	var e struct {
		Allowed bool   `json:"allowed"`
		Reason  string `json:"reason"`
	}
	if json.Unmarshal([]byte(out), &e) != nil || e.Allowed || e.Reason != "SandboxRequired" || ui.ExitCode(err) != ui.ExitRefused {
		t.Errorf("json: %v\n%s", err, out)
	}
}

func TestBadInputIsOneLine(t *testing.T) {
	t.Parallel()
	policyFile := write(t, "p.yaml", "apiVersion: adyton.dev/v1alpha1\nkind: ReleasePolicy\nspec:\n  validations:\n  - expression: sgx.isvsvn > 1\n")
	good := write(t, "g.yaml", "apiVersion: adyton.dev/v1alpha1\nkind: ReleasePolicy\nspec:\n  validations:\n  - expression: debug\n")
	claims := write(t, "c.json", "{")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown field":   {[]string{"check", policyFile}, "p.yaml:5:17: spec.validations[0].expression: CEL 1:4: undefined field 'isvsvn'"},
		"missing file":    {[]string{"check", "none"}, "no such file"},
		"broken claims":   {[]string{"test", "--policy", good, "--claims", claims}, "claims"},
		"bad resource":    {[]string{"test", "--policy", good, "--claims", claims, "--resource", "x"}, "kbs:///"},
		"bad time":        {[]string{"test", "--policy", good, "--claims", claims, "--now", "x"}, "2006-01-02"},
		"no policy named": {[]string{"test"}, "required"},
	} {
		_, err := run(t, c.args...)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", name, err, c.want)
		}
	}
}
