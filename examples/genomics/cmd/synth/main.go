// Command synth makes the demo's cohorts: the directories hospital-a, hospital-b
// and so on, and planted.tsv, which says what an association test should find.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/adyton-dev/adyton/examples/genomics/synth"
)

func main() {
	dir := flag.String("o", "", "directory to make the cohorts in")
	cohorts := flag.Int("cohorts", 2, "number of cohorts, at most 20")
	samples := flag.Int("samples", 1000, "samples of each cohort")
	variants := flag.Int("variants", 50_000, "variants of each cohort")
	seed := flag.Uint64("seed", 5, "seed of the study")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	spec := synth.Spec{Seed: *seed, Samples: *samples, Variants: *variants}
	if err := run(ctx, *dir, *cohorts, spec); err != nil {
		fmt.Fprintf(os.Stderr, "synth: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, cohorts int, spec synth.Spec) error {
	if dir == "" || flag.NArg() > 0 {
		return fmt.Errorf("name the directory to make the cohorts in: -o DIR")
	}
	if cohorts < 1 || cohorts > synth.MaxCohorts {
		return fmt.Errorf("%d cohorts: want 1 to %d", cohorts, synth.MaxCohorts)
	}
	for spec.Cohort = range cohorts {
		name := filepath.Join(dir, fmt.Sprintf("hospital-%c", 'a'+rune(spec.Cohort)))
		if err := synth.Write(ctx, name, spec); err != nil {
			return err
		}
		fmt.Printf("%s: %d samples × %d variants\n", name, spec.Samples, spec.Variants)
	}
	var planted strings.Builder
	fmt.Fprintf(&planted, "chrom\tpos\tid\tref\talt\tfrequency\todds_ratio\n")
	for _, a := range spec.Planted() {
		fmt.Fprintf(&planted, "%s\t%d\t%s\t%s\t%s\t%g\t%g\n", a.Chrom, a.Pos, a.ID, a.Ref, a.Alt, a.Frequency, a.OddsRatio)
	}
	if err := renameio.WriteFile(filepath.Join(dir, "planted.tsv"), []byte(planted.String()), 0o644); err != nil {
		return fmt.Errorf("write planted.tsv: %w", err)
	}
	return nil
}
