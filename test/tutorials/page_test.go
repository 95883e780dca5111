package tutorials

import (
	"slices"
	"strings"
	"testing"
)

func TestBlocksBecomeSteps(t *testing.T) {
	t.Parallel()
	page := "# Title\n```sh\none\ntwo\n```\nprose\n```text\nout\n```\n```yaml\nshown: only\n```\n```sh exit=3\nthree\n```\n"
	steps, err := parse(page)
	if err != nil {
		t.Fatal(err)
	}
	want := []step{
		{line: 3, commands: "one\ntwo\n", want: []string{"out"}},
		{line: 14, commands: "three\n", exit: 3},
	}
	if !slices.EqualFunc(steps, want, func(a, b step) bool {
		return a.line == b.line && a.commands == b.commands && a.exit == b.exit && slices.Equal(a.want, b.want)
	}) {
		t.Errorf("steps = %+v, want %+v", steps, want)
	}
}

func TestPageMistakesAreErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ page, want string }{
		"unknown language":  {"```shell\nx\n```\n", `language "shell"`},
		"no language":       {"```\nx\n```\n", `language ""`},
		"unknown attribute": {"```sh fails\nx\n```\n", `"fails" behind sh`},
		"exit zero":         {"```sh exit=0\nx\n```\n", `"exit=0" behind sh`},
		"text first":        {"```text\nx\n```\n", "text without commands"},
		"open block":        {"\n```sh\nx\n", "line 2: the block is not closed"},
	} {
		if _, err := parse(test.page); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one that says %q", name, err, test.want)
		}
	}
}

func TestWantedLinesAppearInOrder(t *testing.T) {
	t.Parallel()
	output := "seq  who\n1    alice  released\nnoise\n2    (bob)  refused  \n"
	for _, test := range []struct {
		want    []string
		missing string
	}{
		{[]string{"seq  who", "1    alice  released"}, ""},
		{[]string{"1 …  released", "…", "2    (bob)  refused"}, ""},
		{[]string{"…refused"}, ""},
		{[]string{"2    (bob)  refused", "seq  who"}, "seq  who"},
		{[]string{"alice"}, "alice"},
		{[]string{"noise", "noise"}, "noise"},
	} {
		got, lacks := missing(test.want, output)
		if got != test.missing || lacks != (test.missing != "") {
			t.Errorf("missing(%q) = %q, %v, want %q", test.want, got, lacks, test.missing)
		}
	}
}
