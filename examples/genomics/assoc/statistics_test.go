package assoc

import (
	"math"
	"testing"
)

func near(got, want, relative float64) bool { return math.Abs(got-want) <= relative*math.Abs(want) }

// R: pchisq(x, 1, lower.tail = FALSE).
func TestPValue(t *testing.T) {
	t.Parallel()
	for chi2, want := range map[float64]float64{
		0: 1, 0.454936423119572: 0.5, 3.841458820694124: 0.05, 6.634896601021213: 0.01, 10.82756617046527: 0.001, 29.71678534: 5e-8,
	} {
		if got := pValue(chi2); !near(got, want, 1e-6) {
			t.Errorf("pValue(%g) = %g, want %g", chi2, got, want)
		}
	}
}

// The Physicians' Health Study, in A. Agresti, Categorical Data Analysis: heart
// attacks under placebo and aspirin; odds ratio 1.83 (1.44 to 2.33), X² = 25.01.
func TestKnownTable(t *testing.T) {
	t.Parallel()
	const a, b, c, d = 189, 10845, 104, 10933
	if got := allelic(a, b, c, d); !near(got, 25.01, 1e-3) {
		t.Errorf("allelic = %g", got)
	}
	ratio, lower, upper := oddsRatio(a, b, c, d)
	if !near(ratio, 1.83, 2e-3) || !near(lower, 1.44, 2e-3) || !near(upper, 2.33, 2e-3) {
		t.Errorf("odds ratio %g (%g to %g)", ratio, lower, upper)
	}
}

// Pearson's statistic is the sum of (observed-expected)²/expected.
func TestAllelicIsPearsons(t *testing.T) {
	t.Parallel()
	for _, o := range [][4]float64{{12, 5, 7, 9}, {1000, 2000, 900, 2100}, {5, 1995, 30, 1970}} {
		n := o[0] + o[1] + o[2] + o[3]
		rows, columns := [2]float64{o[0] + o[1], o[2] + o[3]}, [2]float64{o[0] + o[2], o[1] + o[3]}
		want := 0.0
		for i, observed := range o {
			expected := rows[i/2] * columns[i%2] / n
			want += (observed - expected) * (observed - expected) / expected
		}
		if got := allelic(o[0], o[1], o[2], o[3]); !near(got, want, 1e-12) {
			t.Errorf("%v: %g, want %g", o, got, want)
		}
	}
}

// The trend statistic is n times the squared correlation of copies and status.
func TestTrendIsTheCorrelation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ cases, controls [3]int64 }{
		{[3]int64{19, 29, 24}, [3]int64{31, 37, 10}},
		{[3]int64{500, 0, 3}, [3]int64{490, 12, 0}},
		{[3]int64{0, 7, 9}, [3]int64{3, 2, 1}},
	} {
		var n, sx, sy, sxx, syy, sxy float64
		for copies := range 3 {
			for status, count := range [2]int64{c.controls[copies], c.cases[copies]} {
				k, x, y := float64(count), float64(copies), float64(status)
				n, sx, sy = n+k, sx+k*x, sy+k*y
				sxx, syy, sxy = sxx+k*x*x, syy+k*y*y, sxy+k*x*y
			}
		}
		r := (n*sxy - sx*sy) / math.Sqrt((n*sxx-sx*sx)*(n*syy-sy*sy))
		if got, want := trend(c.cases, c.controls), n*r*r; !near(got, want, 1e-9) {
			t.Errorf("%+v: %g, want %g", c, got, want)
		}
	}
	// Of two dosages only, it is the test of the 2×2 table of carriers.
	if got, want := trend([3]int64{10, 20, 0}, [3]int64{25, 15, 0}), allelic(20, 10, 15, 25); !near(got, want, 1e-12) {
		t.Errorf("two dosages: %g, want %g", got, want)
	}
	if got := trend([3]int64{5, 0, 0}, [3]int64{5, 0, 0}); got != 0 {
		t.Errorf("without variation: %g", got)
	}
}
