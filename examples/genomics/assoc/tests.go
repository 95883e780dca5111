package assoc

import (
	"bufio"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// tests runs the tests and keeps the best.
type tests struct {
	opts        Options
	alleles     int64
	tested      int64
	suppressed  int64
	significant []float64 // the P of every hit that may be significant
	histogram   [histogramBins + 1]int64
	hits        []Hit // at most 2·Top, see keep
	frequencies *bufio.Writer
	err         error // of frequencies
}

// The median of the statistic is read from a histogram of constant size.
const (
	histogramBins  = 1 << 16
	histogramWidth = 1.0 / 4096
	// medianChiSquared is the median of the chi-squared distribution with one
	// degree of freedom.
	medianChiSquared = 0.454936423119572
)

func newTests(opts Options) *tests {
	t := &tests{opts: opts}
	if opts.Frequencies != nil {
		t.frequencies = bufio.NewWriter(opts.Frequencies)
		fmt.Fprintf(t.frequencies, "chrom\tpos\tid\tref\talt\tcohorts\tallele_count\tallele_number\tfrequency\tcase_frequency\tcontrol_frequency\tp\n")
	}
	return t
}

// add tests one allele.
func (t *tests) add(v *variant) {
	t.alleles++
	if min(v.cases.allele, v.cases.other, v.controls.allele, v.controls.other) < t.opts.MinCount {
		t.suppressed++
		return
	}
	t.tested++
	h := test(v)
	t.histogram[min(int(h.ChiSquared/histogramWidth), histogramBins)]++
	// Bonferroni's threshold only falls as more is tested.
	if h.P < t.opts.Alpha/float64(t.tested) {
		t.significant = append(t.significant, h.P)
	}
	if t.frequencies != nil {
		fmt.Fprintf(t.frequencies, "%s\t%d\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", h.Chrom, h.Pos, h.ID, h.Ref, h.Alt, h.Cohorts,
			h.AlleleCount, h.AlleleNumber, digits(h.Frequency), digits(h.CaseFrequency), digits(h.ControlFrequency), digits(h.P))
	}
	t.hits = append(t.hits, h)
	if len(t.hits) >= 2*t.opts.Top {
		t.keep()
	}
}

func digits(f float64) string { return strconv.FormatFloat(f, 'g', 6, 64) }

// keep keeps the Top best hits. Hits come in the order of their places, and the
// sort is stable, so equal ones stay in that order.
func (t *tests) keep() {
	slices.SortStableFunc(t.hits, func(a, b Hit) int { return cmp.Compare(b.ChiSquared, a.ChiSquared) })
	t.hits = t.hits[:min(len(t.hits), t.opts.Top)]
}

func (t *tests) result() *Result {
	t.keep()
	if t.frequencies != nil {
		if err := t.frequencies.Flush(); err != nil {
			t.err = fmt.Errorf("write frequencies: %w", err)
		}
	}
	r := &Result{
		Alleles: t.alleles, Tested: t.tested, Suppressed: t.suppressed, MinCount: t.opts.MinCount,
		Alpha: t.opts.Alpha, Threshold: t.opts.Alpha / float64(max(t.tested, 1)),
		LambdaGC: round(t.median() / medianChiSquared),
		Hits:     t.hits,
	}
	if r.Hits == nil {
		r.Hits = []Hit{}
	}
	for _, p := range t.significant {
		if p < r.Threshold {
			r.Significant++
		}
	}
	return r
}

// median gives the median of the statistic, to half a bin.
func (t *tests) median() float64 {
	if t.tested == 0 {
		return 0
	}
	below := int64(0)
	for i, n := range t.histogram {
		if below += n; 2*below >= t.tested {
			return (float64(i) + 0.5) * histogramWidth
		}
	}
	return 0
}

// test runs the tests on one allele whose 2×2 table has no empty cell.
func test(v *variant) Hit {
	a, b := float64(v.cases.allele), float64(v.cases.other)
	c, d := float64(v.controls.allele), float64(v.controls.other)
	chi2 := allelic(a, b, c, d)
	ratio, lower, upper := oddsRatio(a, b, c, d)
	return Hit{
		Chrom: v.chrom, Pos: v.pos, ID: v.id, Ref: v.ref, Alt: v.alt, Cohorts: v.cohorts,
		AlleleCount:      v.cases.allele + v.controls.allele,
		AlleleNumber:     v.cases.allele + v.cases.other + v.controls.allele + v.controls.other,
		Frequency:        round((a + c) / (a + b + c + d)),
		CaseFrequency:    round(a / (a + b)),
		ControlFrequency: round(c / (c + d)),
		ChiSquared:       round(chi2),
		P:                round(pValue(chi2)),
		TrendP:           round(pValue(trend(v.cases.dosage, v.controls.dosage))),
		OddsRatio:        round(ratio),
		Lower95:          round(lower),
		Upper95:          round(upper),
	}
}

// allelic is Pearson's statistic of the table (a b; c d), without Yates's
// correction.
func allelic(a, b, c, d float64) float64 {
	n, det := a+b+c+d, a*d-b*c
	return n * det * det / ((a + b) * (c + d) * (a + c) * (b + d))
}

// trend is the statistic of Cochran and Armitage for the number of copies; 0 if
// all samples have the same number or the same status.
func trend(cases, controls [3]int64) float64 {
	var n, r, weighted, squared, casesWeighted float64
	for copies := range 3 {
		w, both := float64(copies), float64(cases[copies]+controls[copies])
		n += both
		r += float64(cases[copies])
		weighted += w * both
		squared += w * w * both
		casesWeighted += w * float64(cases[copies])
	}
	t := n*casesWeighted - r*weighted
	spread := r * (n - r) * (n*squared - weighted*weighted)
	if spread == 0 {
		return 0
	}
	return n * t * t / spread
}

// pValue is the upper tail of the chi-squared distribution with one degree of
// freedom.
func pValue(chi2 float64) float64 { return math.Erfc(math.Sqrt(chi2 / 2)) }

// oddsRatio gives the odds ratio of the table (a b; c d) without empty cells and
// Woolf's 95 % interval.
func oddsRatio(a, b, c, d float64) (ratio, lower, upper float64) {
	const z = 1.959963984540054
	ratio = a * d / (b * c)
	factor := math.Exp(z * math.Sqrt(1/a+1/b+1/c+1/d))
	return ratio, ratio / factor, ratio * factor
}

// round rounds to 9 significant digits.
func round(f float64) float64 {
	// The text that FormatFloat makes always parses.
	r, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 9, 64), 64)
	return r
}
