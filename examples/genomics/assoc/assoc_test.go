package assoc_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/adyton-dev/adyton/examples/genomics/assoc"
	"github.com/adyton-dev/adyton/examples/genomics/bgzf"
	"github.com/adyton-dev/adyton/examples/genomics/synth"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m)
}

func options(cohorts ...string) assoc.Options {
	return assoc.Options{Cohorts: cohorts, MinCount: 5, Top: 20, Alpha: 0.05, Workers: 2}
}

// study makes two cohorts.
func study(t *testing.T, samples, variants int) (dirs []string, spec synth.Spec) {
	t.Helper()
	root := t.TempDir()
	spec = synth.Spec{Seed: 5, Samples: samples, Variants: variants}
	for spec.Cohort = range 2 {
		dir := filepath.Join(root, fmt.Sprintf("hospital-%c", 'a'+spec.Cohort))
		if err := synth.Write(t.Context(), dir, spec); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	return dirs, spec
}

func TestPlantedAssociationsAreFoundAndNothingElse(t *testing.T) {
	t.Parallel()
	dirs, spec := study(t, 1000, 5000)
	result, err := assoc.Run(t.Context(), options(dirs...))
	if err != nil {
		t.Fatal(err)
	}
	planted := map[string]synth.Association{}
	for _, a := range spec.Planted() {
		planted[fmt.Sprintf("%s:%d %s>%s", a.Chrom, a.Pos, a.Ref, a.Alt)] = a
	}
	if int(result.Significant) != len(planted) {
		t.Errorf("%d significant, %d planted", result.Significant, len(planted))
	}
	for i, h := range result.Hits {
		a, ok := planted[fmt.Sprintf("%s:%d %s>%s", h.Chrom, h.Pos, h.Ref, h.Alt)]
		if significant := h.P < result.Threshold; significant != ok || ok != (i < len(planted)) {
			t.Errorf("hit %d, %s:%d: p %g, planted: %v", i, h.Chrom, h.Pos, h.P, ok)
		}
		if ok && (h.Lower95 > a.OddsRatio*1.1 || h.Upper95 < a.OddsRatio/1.1) {
			t.Errorf("%s:%d: odds ratio %g to %g; planted %g", h.Chrom, h.Pos, h.Lower95, h.Upper95, a.OddsRatio)
		}
	}
}

func TestTogetherCohortsShowMoreThanAlone(t *testing.T) {
	t.Parallel()
	dirs, _ := study(t, 1000, 5000)
	both, err := assoc.Run(t.Context(), options(dirs...))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		alone, err := assoc.Run(t.Context(), options(dir))
		if err != nil {
			t.Fatal(err)
		}
		if alone.Significant >= both.Significant {
			t.Errorf("%s alone has %d, both together %d", filepath.Base(dir), alone.Significant, both.Significant)
		}
	}
}

func TestResultIsTheGoldenOneBitForBit(t *testing.T) {
	t.Parallel()
	dirs, _ := study(t, 300, 2000)
	var frequencies bytes.Buffer
	opts := options(dirs...)
	opts.Frequencies = &frequencies
	for workers := range 3 {
		opts.Workers = workers + 1
		frequencies.Reset()
		result, err := assoc.Run(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		var text, json bytes.Buffer
		if err := errors.Join(result.WriteText(&text), result.WriteJSON(&json)); err != nil {
			t.Fatal(err)
		}
		golden(t, "result.txt", text.Bytes())
		golden(t, "result.json", json.Bytes())
		golden(t, "frequencies.tsv", []byte(strings.Join(strings.SplitAfter(frequencies.String(), "\n")[:50], "")))
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", name, diff)
	}
}

const contigs = "##contig=<ID=1>\n##contig=<ID=2>\n##contig=<ID=X>\n##contig=<ID=MT>\n"

// cohort writes a cohort of samples s1, s2, …; status has a letter a sample: a
// case, b control, - without a line. A record is CHROM POS REF ALT FILTER and the
// calls, separated by blanks.
func cohort(t *testing.T, status string, records ...string) string {
	t.Helper()
	vcf := "##fileformat=VCFv4.3\n" + contigs + "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT"
	phenotypes := "sample\tstatus\n"
	for i, c := range status {
		vcf += fmt.Sprintf("\ts%d", i+1)
		switch c {
		case 'a':
			phenotypes += fmt.Sprintf("s%d\tcase\n", i+1)
		case 'b':
			phenotypes += fmt.Sprintf("s%d\tcontrol\n", i+1)
		}
	}
	for _, r := range records {
		f := strings.Fields(r)
		vcf += fmt.Sprintf("\n%s\t%s\t.\t%s\t%s\t.\t%s\t.\tGT\t%s", f[0], f[1], f[2], f[3], f[4], strings.Join(f[5:], "\t"))
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "genotypes.vcf.gz"), vcf+"\n")
	if err := os.WriteFile(filepath.Join(dir, "phenotypes.tsv"), []byte(phenotypes), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	var b bytes.Buffer
	w, err := bgzf.NewWriter(&b, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// alleles gives one line an allele: place, alleles, cohorts, AC/AN, and the
// frequencies among cases and controls.
func alleles(r *assoc.Result) map[string]string {
	out := map[string]string{}
	for _, h := range r.Hits {
		out[fmt.Sprintf("%s:%d %s>%s", h.Chrom, h.Pos, h.Ref, h.Alt)] =
			fmt.Sprintf("%d cohorts, %d/%d, %.4g %.4g", h.Cohorts, h.AlleleCount, h.AlleleNumber, h.CaseFrequency, h.ControlFrequency)
	}
	return out
}

func TestCohortsAreMergedByAllele(t *testing.T) {
	t.Parallel()
	a := cohort(t, "aabb-",
		"1 100 A G PASS 0|1 1|1 0|0 0|1 1|1",
		"1 200 A G,T PASS 1|2 0|1 0|2 0/1 2|2",
		"1 300 A G LowQual 0|1 1|1 0|0 0|1 0|0",
		"2 100 A G . 0|1 .|. 0|. 0|1 0|0",
		"X 50 AT A PASS 1 0|1 0|1 0 1",
	)
	b := cohort(t, "ab",
		"chr1 100 A G PASS 0|1 0|1",
		"chr1 100 A C PASS 0|1 0|1",
		"chr1 200 A T PASS 0|1 0|1",
		"chr2 100 A <CN0> PASS 0|1 0|1",
		"chr2 100 A * PASS 0|1 0|1",
		"chrM 7 A G PASS 1 0|1",
	)
	// b's contigs are named otherwise.
	text := "##fileformat=VCFv4.3\n" + strings.ReplaceAll(strings.ReplaceAll(contigs, "ID=", "ID=chr"), "chrMT", "chrM") +
		"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\n" +
		"chr1\t100\trs9\tA\tG\t.\tPASS\t.\tGT\t0|1\t0|1\n" +
		"chr1\t100\t.\tA\tC\t.\tPASS\t.\tGT\t0|1\t0|1\n" +
		"chr1\t100\t.\tA\tC\t.\tPASS\t.\tGT\t1|1\t1|1\n" + // a duplicate
		"chr1\t200\t.\tA\tT\t.\tPASS\t.\tGT\t0|1\t0|1\n" +
		"chr2\t100\t.\tA\t<CN0>\t.\tPASS\t.\tGT\t0|1\t0|1\n" +
		"chr2\t100\t.\tA\t*\t.\tPASS\t.\tGT\t0|1\t0|1\n" +
		"chrM\t7\t.\tA\tG\t.\tPASS\t.\tGT\t0|1\t0|1\n"
	write(t, filepath.Join(b, "genotypes.vcf.gz"), text)
	opts := options(a, b)
	opts.MinCount = 1
	r, err := assoc.Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"1:100 A>G":        "2 cohorts, 6/12, 0.6667 0.3333",
		"chr1:100 A>C":     "1 cohorts, 2/4, 0.5 0.5",
		"1:200 A>G":        "1 cohorts, 3/8, 0.5 0.25",
		"1:200 A>T":        "2 cohorts, 4/12, 0.3333 0.3333",
		"2:100 A>G":        "1 cohorts, 2/5, 0.5 0.3333",
		"chr2:100 A><CN0>": "1 cohorts, 2/4, 0.5 0.5",
		"X:50 AT>A":        "1 cohorts, 3/6, 0.6667 0.3333",
		"chrM:7 A>G":       "1 cohorts, 2/4, 0.5 0.5",
	}
	if diff := cmp.Diff(want, alleles(r)); diff != "" {
		t.Errorf("alleles (-want +got):\n%s", diff)
	}
	if c := r.Cohorts[0]; c.Samples != 4 || c.Cases != 2 || c.Controls != 2 || c.Excluded != 1 || c.Records != 5 || c.Filtered != 1 {
		t.Errorf("first cohort: %+v", c)
	}
	if c := r.Cohorts[1]; c.Duplicates != 1 {
		t.Errorf("second cohort: %+v", c)
	}
	opts.IncludeFiltered = true
	if r, err = assoc.Run(t.Context(), opts); err != nil || alleles(r)["1:300 A>G"] == "" {
		t.Errorf("filtered record is not included: %v", err)
	}
}

func TestSmallCellsAreSuppressed(t *testing.T) {
	t.Parallel()
	// Alternative alleles: 3 among cases, 2 among controls.
	dir := cohort(t, "aaabbb", "1 100 A G PASS 0|1 0|1 0|1 0|1 0|1 0|0")
	for k, shown := range map[int64]bool{1: true, 2: true, 3: false} {
		var frequencies bytes.Buffer
		opts := options(dir)
		opts.MinCount, opts.Frequencies = k, &frequencies
		r, err := assoc.Run(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if (len(r.Hits) == 1) != shown || (r.Suppressed == 0) != shown || strings.Contains(frequencies.String(), "100") != shown {
			t.Errorf("minimum %d: %+v, %q", k, r, frequencies.String())
		}
	}
}

func TestBadCohortsAreRefused(t *testing.T) {
	t.Parallel()
	good := cohort(t, "ab", "1 100 A G PASS 0|1 0|1")
	change := func(name, text string) string {
		dir := cohort(t, "ab", "1 100 A G PASS 0|1 0|1")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, c := range map[string]struct{ dir, says string }{
		"no directory":       {filepath.Join(good, "missing"), "no such file"},
		"not bgzip":          {change("genotypes.vcf.gz", "##fileformat=VCFv4.3\n"), "bgzip"},
		"not sorted":         {cohort(t, "ab", "1 200 A G PASS 0|1 0|1", "1 100 A G PASS 0|1 0|1"), "sort"},
		"contigs not sorted": {cohort(t, "ab", "2 100 A G PASS 0|1 0|1", "1 100 A G PASS 0|1 0|1"), "sort"},
		"unknown contig":     {cohort(t, "ab", "17 100 A G PASS 0|1 0|1"), "line 7: the header has no ##contig"},
		"bad call":           {cohort(t, "ab", "1 100 A G PASS 0|1 0|7"), "line 7: sample 2"},
		"no phenotypes":      {change("phenotypes.tsv", "sample\tstatus\n"), "no sample"},
		"no heading":         {change("phenotypes.tsv", "s1\tcase\n"), "line 1"},
		"unknown status":     {change("phenotypes.tsv", "sample\tstatus\ns1\tsick\n"), "line 2"},
		"sample twice":       {change("phenotypes.tsv", "sample\tstatus\ns1\tcase\ns1\tcase\n"), "line 3"},
	} {
		_, err := assoc.Run(t.Context(), options(good, c.dir))
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := assoc.Run(t.Context(), options(good, filepath.Join(good, "x"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestCancelledRunEnds(t *testing.T) {
	t.Parallel()
	dirs, _ := study(t, 10, 5000)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := assoc.Run(ctx, options(dirs...)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
