package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/adyton-dev/adyton/bench/ratio"
)

// machine says where and when the figures were made.
type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Go     string `json:"go"`
	System string `json:"system"`
	Date   string `json:"date"`
	// The load averages of one minute: how many programs wanted a core.
	LoadBefore string `json:"loadBefore"`
	LoadAfter  string `json:"loadAfter"`
}

type table struct {
	Machine machine     `json:"machine"`
	Rows    []ratio.Row `json:"rows"`
}

func thisMachine() machine {
	return machine{
		CPU: cpuModel(), Cores: runtime.NumCPU(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Date: time.Now().UTC().Format("2006-01-02 15:04 MST"), LoadBefore: load(),
	}
}

func (t *table) json(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(t); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

func (t *table) markdown() string {
	var b strings.Builder
	m := &t.Machine
	fmt.Fprintf(&b, "Machine: %s, %d cores, %s %s, %s; load average %s before, %s after.\n\n",
		m.CPU, m.Cores, m.Go, m.System, m.Date, m.LoadBefore, m.LoadAfter)
	b.WriteString("| job | Adyton | beside | its figure | ratio | middle half | target |\n")
	b.WriteString("|---|--:|---|--:|--:|--:|--:|\n")
	for i := range t.Rows {
		r := &t.Rows[i]
		if r.Skipped != "" {
			fmt.Fprintf(&b, "| %s | | %s | | not measured: %s | | |\n", r.Job, r.Peer, r.Skipped)
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | **%.2f× the %s** | %.2f–%.2f | %s |\n",
			r.Job, r.Figure, r.Peer, r.PeerFigure, r.Ratio, r.Unit, r.Low, r.High, target(r))
	}
	return b.String()
}

func target(r *ratio.Row) string {
	if r.Target == 0 {
		return ""
	}
	sign, outcome := "≥", "met"
	if r.Unit == ratio.Time {
		sign = "≤"
	}
	if !r.Met() {
		outcome = "missed"
	}
	return fmt.Sprintf("%s %.4g: %s", sign, r.Target, outcome)
}

// The table stands between these lines of a file.
const (
	begin = "<!-- table: go run ./bench/run -write docs/benchmarks.md -->\n"
	end   = "<!-- end of table -->\n"
)

// checkFile says early that a file has no place for the table.
func checkFile(file string) error {
	_, err := withTable(file, "")
	return err
}

// replaceIn puts the table into a file in place of the one there.
func (t *table) replaceIn(file string) error {
	text, err := withTable(file, t.markdown())
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, text, 0o644)
}

func withTable(file, table string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if text, err = replace(text, table); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return text, nil
}

func replace(text []byte, table string) ([]byte, error) {
	before, rest, found := bytes.Cut(text, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		return nil, fmt.Errorf("want the lines %q and %q around the table", begin[:len(begin)-1], end[:len(end)-1])
	}
	return []byte(string(before) + begin + table + end + string(after)), nil
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}
