package synth_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/adyton-dev/adyton/examples/genomics/bgzf"
	"github.com/adyton-dev/adyton/examples/genomics/synth"
	"github.com/adyton-dev/adyton/examples/genomics/vcf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// genotypes makes a cohort and gives the text of its VCF.
func genotypes(t *testing.T, spec synth.Spec) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := synth.Write(t.Context(), dir, spec); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, synth.GenotypesFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := bgzf.NewReader(f, 2)
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestCohortDependsOnTheSpecOnly(t *testing.T) {
	t.Parallel()
	const want = "f94a7d6bd93dbe78695c9962d325612f143fbb2625e83c4d44e33019fb5eb025"
	spec := synth.Spec{Seed: 1, Samples: 50, Variants: 1000}
	for range 2 {
		if got := fmt.Sprintf("%x", sha256.Sum256(genotypes(t, spec))); got != want {
			t.Errorf("digest %s, want %s", got, want)
		}
	}
	spec.Cohort = 1
	if fmt.Sprintf("%x", sha256.Sum256(genotypes(t, spec))) == want {
		t.Error("two cohorts are equal")
	}
}

func TestShapeIsRealistic(t *testing.T) {
	t.Parallel()
	spec := synth.Spec{Seed: 1, Samples: 500, Variants: 3000}
	v, err := vcf.NewReader(bytes.NewReader(genotypes(t, spec)))
	if err != nil {
		t.Fatal(err)
	}
	if v.Version != "VCFv4.3" || len(v.Samples) != spec.Samples {
		t.Fatalf("%s, %d samples", v.Version, len(v.Samples))
	}
	var records, filtered, indels, multiallelic, rare, missing, calls, unphased int
	var het, hetExpected float64
	last := int64(0)
	for {
		rec, err := v.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if rec.Pos <= last {
			t.Errorf("position %d after %d", rec.Pos, last)
		}
		last = rec.Pos
		genotypes, err := rec.Genotypes()
		if err != nil {
			t.Fatal(err)
		}
		records++
		if !rec.Passed() {
			filtered++
		}
		if len(rec.Alt) > 1 {
			multiallelic++
		}
		if len(rec.Ref) != len(rec.Alt[0]) {
			indels++
		}
		var counts [4]int
		hets := 0
		for _, g := range genotypes {
			calls++
			if g.A == vcf.Missing {
				missing++
				continue
			}
			if !g.Phased {
				unphased++
			}
			counts[g.A]++
			counts[g.B]++
			if g.A != g.B {
				hets++
			}
		}
		an := counts[0] + counts[1] + counts[2]
		if info := fmt.Sprintf(";AN=%d", an); !strings.HasSuffix(string(rec.Info), info) {
			t.Errorf("position %d: INFO %s, counted %s", rec.Pos, rec.Info, info)
		}
		if info := fmt.Sprintf("AC=%d", counts[1]); !strings.HasPrefix(string(rec.Info), info) {
			t.Errorf("position %d: INFO %s, counted %s", rec.Pos, rec.Info, info)
		}
		if p := float64(counts[1]) / float64(an); len(rec.Alt) == 1 {
			het += float64(hets)
			hetExpected += 2 * p * (1 - p) * float64(an) / 2
			if p < 0.01 {
				rare++
			}
		}
	}
	if records != spec.Variants {
		t.Errorf("%d records, want %d", records, spec.Variants)
	}
	share := func(name string, n, of int, low, high float64) {
		if s := float64(n) / float64(of); s < low || s > high {
			t.Errorf("%s: %.4f, want %.3f to %.3f", name, s, low, high)
		}
	}
	share("filtered", filtered, records, 0.03, 0.05)
	share("indels", indels, records, 0.06, 0.10)
	share("multiallelic", multiallelic, records, 0.01, 0.03)
	share("below 1 %", rare, records, 0.35, 0.5)
	share("missing", missing, calls, 0.004, 0.006)
	share("unphased", unphased, calls, 0.1, 0.3)
	if r := het / hetExpected; math.Abs(r-1) > 0.02 {
		t.Errorf("heterozygotes over Hardy-Weinberg proportion: %.3f", r)
	}
}

func TestEveryCohortHasThePlantedSites(t *testing.T) {
	t.Parallel()
	spec := synth.Spec{Seed: 3, Samples: 2, Variants: synth.MinVariants}
	planted := spec.Planted()
	if len(planted) != 12 {
		t.Fatalf("%d planted", len(planted))
	}
	for spec.Cohort = range synth.MaxCohorts {
		text := string(genotypes(t, spec))
		for _, a := range planted {
			if !strings.Contains(text, fmt.Sprintf("\n%s\t%d\t%s\t%s\t%s\t", a.Chrom, a.Pos, a.ID, a.Ref, a.Alt)) {
				t.Errorf("cohort %d lacks %+v", spec.Cohort, a)
			}
		}
	}
}

func TestCancelledWriteLeavesNoGenotypes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := synth.Write(ctx, dir, synth.Spec{Samples: 10, Variants: 100_000})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if names, err := filepath.Glob(filepath.Join(dir, "*genotypes*")); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestImpossibleSpecsAreRefused(t *testing.T) {
	t.Parallel()
	for _, spec := range []synth.Spec{{}, {Samples: 2, Variants: 999}, {Samples: 1, Variants: 1000}, {Samples: 2, Variants: 1000, Cohort: 20}, {Samples: 2, Variants: 1 << 40}} {
		if err := synth.Write(t.Context(), t.TempDir(), spec); err == nil {
			t.Errorf("%+v was made", spec)
		}
	}
}
