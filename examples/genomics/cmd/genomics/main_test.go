package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/examples/genomics/synth"
)

func TestOutputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cohort := filepath.Join(dir, "hospital-a")
	if err := synth.Write(t.Context(), cohort, synth.Spec{Seed: 5, Samples: 100, Variants: 1000}); err != nil {
		t.Fatal(err)
	}
	frequencies := filepath.Join(dir, "alleles.tsv")
	for format, want := range map[string]string{"text": "hospital-a", "json": `"name": "hospital-a"`} {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"--cohort", cohort, "-o", format, "--frequencies", frequencies}, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s", format, out.String())
		}
	}
	if text, err := os.ReadFile(frequencies); err != nil || bytes.Count(text, []byte("\n")) < 100 {
		t.Errorf("frequencies: %d lines, %v", bytes.Count(text, []byte("\n")), err)
	}
}

func TestWrongUse(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"dir"}, {"--cohort", "x", "-o", "xml"}, {"--cohort", "missing"}, {"--cohort", "x", "--min-count", "0"}, {"--unknown"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
	if err := run(t.Context(), []string{"--help"}, io.Discard, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}
