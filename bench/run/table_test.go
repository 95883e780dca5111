package main

import (
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/bench/ratio"
)

func TestTheTableSaysRatioAndTarget(t *testing.T) {
	t.Parallel()
	result := table{
		Machine: machine{CPU: "Some CPU", Cores: 2, Go: "go1.26", System: "linux/amd64", Date: "today", LoadBefore: "0.1", LoadAfter: "0.2"},
		Rows: []ratio.Row{
			{Job: "a", Figure: "90 MB/s", Peer: "p", PeerFigure: "100 MB/s", Unit: ratio.Speed, Ratio: 0.9, Low: 0.8, High: 1, Target: 0.85},
			{Job: "b", Figure: "16 s", Peer: "q", PeerFigure: "1 s", Unit: ratio.Time, Ratio: 16, Low: 15, High: 17, Target: 15},
			{Job: "c", Peer: "r", Skipped: "no runsc"},
		},
	}
	got := result.markdown()
	for _, want := range []string{
		"Machine: Some CPU, 2 cores, go1.26 linux/amd64, today; load average 0.1 before, 0.2 after.\n",
		"| a | 90 MB/s | p | 100 MB/s | **0.90× the speed** | 0.80–1.00 | ≥ 0.85: met |\n",
		"| b | 16 s | q | 1 s | **16.00× the time** | 15.00–17.00 | ≤ 15: missed |\n",
		"| c | | r | | not measured: no runsc | | |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestOnlyTheTableOfAFileIsReplaced(t *testing.T) {
	t.Parallel()
	got, err := replace([]byte("# Title\n"+begin+"old\n"+end+"Reading.\n"), "new\n")
	if err != nil || string(got) != "# Title\n"+begin+"new\n"+end+"Reading.\n" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, text := range []string{"", begin, end, end + begin} {
		if got, err := replace([]byte(text), "new\n"); err == nil {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestOnlyNamesWhatIsCompared(t *testing.T) {
	t.Parallel()
	for only, want := range map[string]int{"": len(comparisons()), "seal": 1, "seal,quote": 2} {
		if got, err := choose(only); err != nil || len(got) != want {
			t.Errorf("-only %q: %d comparisons, %v", only, len(got), err)
		}
	}
	if _, err := choose("seal,nothing"); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("error = %v", err)
	}
}
