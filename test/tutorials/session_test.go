package tutorials

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestSessionStopsAtTheFirstFailure(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		steps  []step
		passed int // steps
		fails  bool
	}{
		"all succeed":         {[]step{{commands: "x=1\n"}, {commands: "[ $x = 1 ]\n"}}, 2, false},
		"one fails":           {[]step{{commands: "true\n"}, {commands: "false\ntrue\n"}, {commands: "true\n"}}, 1, true},
		"one fails as wanted": {[]step{{commands: "(exit 3)\n", exit: 3}, {commands: "true\n"}}, 2, false},
		"another exit code":   {[]step{{commands: "(exit 2)\n", exit: 3}}, 0, true},
		"no failure":          {[]step{{commands: "true\n", exit: 3}}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			script, err := write(dir, test.steps)
			if err != nil {
				t.Fatal(err)
			}
			output, err := session(t.Context(), script, dir)
			if (err != nil) != test.fails {
				t.Errorf("error %v, want one: %v", err, test.fails)
			}
			if got := strings.Count(output, mark); got != test.passed {
				t.Errorf("%d steps passed, want %d: %q", got, test.passed, output)
			}
		})
	}
}

func TestSessionEndsTheServersOfAPageThatFailed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// The session waits until nobody holds its output any more.
	script, err := write(dir, []step{{commands: "sleep 600 & echo started\nfalse\n"}})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	output, err := session(t.Context(), script, dir)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || output != "started\n" {
		t.Errorf("error %v, output %q", err, output)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("the session waited %v for the server", took)
	}
}
