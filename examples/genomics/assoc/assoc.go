// Package assoc computes allele frequencies and a case-control association test
// across the genotypes of several cohorts, and gives only aggregates.
//
// A cohort is a directory with genotypes.vcf.gz (VCF 4, bgzip, sorted) and
// phenotypes.tsv (a line "sample<TAB>status", then a line a sample; status is
// case or control). Samples without a phenotype are left out.
//
// Cohorts are read side by side and merged by chromosome, position, REF and ALT,
// in the manner of `bcftools merge`: a site that a cohort does not have counts as
// not called there. Each alternative allele is tested against all other alleles
// of its site. Memory is constant: no more than some hundred variants a cohort.
//
// The result depends on the input only, bit for bit: counts are integers, each
// statistic is one expression over them, hits are ordered by statistic and place,
// and what math.Exp touched (it may use FMA, where the processor has it) is
// rounded to 9 digits.
//
// Statistics: the allelic test is Pearson's chi-squared test of the 2×2 table
// allele × status (as in plink --assoc); the trend test is Cochran and
// Armitage's, with weights 0, 1, 2, which does not presume Hardy-Weinberg
// proportion; odds ratio with Woolf's 95 % interval; threshold by Bonferroni.
//
// Privacy: an allele with any cell of its 2×2 table below [Options.MinCount] is
// neither tested nor shown, in no output. Nothing about a single sample leaves.
//
// The package imports vcf and bgzf, which lie beside it, and the standard library.
package assoc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// Options says what is computed.
type Options struct {
	// Cohorts are directories, at least one.
	Cohorts []string
	// MinCount is the least cell of a 2×2 table that is tested and shown; at least 1.
	MinCount int64
	// Top is how many hits the result holds at most; 1 to MaxTop.
	Top int
	// Alpha is the family-wise error rate that Bonferroni's threshold keeps.
	Alpha float64
	// IncludeFiltered also counts records that failed a filter.
	IncludeFiltered bool
	// Workers are the goroutines that decompress a cohort.
	Workers int
	// Frequencies, if not nil, gets a line for every allele that is shown.
	Frequencies io.Writer
}

// MaxTop bounds Options.Top.
const MaxTop = 10_000

// Result is what leaves the enclave.
type Result struct {
	Cohorts  []Cohort `json:"cohorts"`
	Samples  int      `json:"samples"`
	Cases    int      `json:"cases"`
	Controls int      `json:"controls"`

	Alleles    int64 `json:"alleles"`    // distinct alternative alleles
	Tested     int64 `json:"tested"`     // of them
	Suppressed int64 `json:"suppressed"` // of them, since a cell was below MinCount
	MinCount   int64 `json:"minCount"`

	Alpha       float64 `json:"alpha"`
	Threshold   float64 `json:"threshold"`   // Alpha / Tested
	Significant int64   `json:"significant"` // hits below Threshold; Hits may hold fewer
	// LambdaGC is the genomic inflation factor: the median of the allelic test's
	// statistic over the one of its distribution. About 1 without confounding.
	LambdaGC float64 `json:"lambdaGC"`

	// Hits are the alleles with the greatest allelic statistic, the greatest first.
	Hits []Hit `json:"hits"`
}

// Cohort tells what was read of one cohort.
type Cohort struct {
	Name       string `json:"name"`
	Samples    int    `json:"samples"` // that have a phenotype
	Cases      int    `json:"cases"`
	Controls   int    `json:"controls"`
	Excluded   int    `json:"excluded"` // samples without a phenotype
	Records    int64  `json:"records"`
	Filtered   int64  `json:"filtered"`   // records left out since they failed a filter
	Duplicates int64  `json:"duplicates"` // alleles left out since they came twice
}

// Hit is one alternative allele and its tests.
type Hit struct {
	Chrom   string `json:"chrom"`
	Pos     int64  `json:"pos"`
	ID      string `json:"id"`
	Ref     string `json:"ref"`
	Alt     string `json:"alt"`
	Cohorts int    `json:"cohorts"` // that have it

	AlleleCount      int64   `json:"alleleCount"`
	AlleleNumber     int64   `json:"alleleNumber"`
	Frequency        float64 `json:"frequency"`
	CaseFrequency    float64 `json:"caseFrequency"`
	ControlFrequency float64 `json:"controlFrequency"`

	ChiSquared float64 `json:"chiSquared"` // allelic, 1 degree of freedom
	P          float64 `json:"p"`
	TrendP     float64 `json:"trendP"`
	OddsRatio  float64 `json:"oddsRatio"`
	Lower95    float64 `json:"lower95"`
	Upper95    float64 `json:"upper95"`
}

// Run reads the cohorts and computes the result.
func Run(ctx context.Context, opts Options) (*Result, error) {
	if len(opts.Cohorts) == 0 || opts.MinCount < 1 || opts.Top < 1 || opts.Top > MaxTop ||
		!(opts.Alpha > 0 && opts.Alpha < 1) || opts.Workers < 1 {
		return nil, errors.New("want a cohort, a minimum count of 1, a top of 1 to 10000, an alpha between 0 and 1, and a worker")
	}
	var readers []*reader
	defer func() {
		for _, r := range readers {
			r.close()
		}
	}()
	contigs := map[string]int{}
	for _, dir := range opts.Cohorts {
		r, err := openCohort(dir, opts.Workers)
		if err != nil {
			return nil, fmt.Errorf("cohort %s: %w", dir, err)
		}
		readers = append(readers, r)
		for _, name := range r.vcf.Contigs {
			if name = contigKey(name); contigs[name] == 0 {
				contigs[name] = len(contigs) + 1
			}
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer func() {
		cancel()
		reading.Wait()
	}()
	streams := make([]*stream, len(readers))
	for i, r := range readers {
		batches := make(chan batch, 4)
		streams[i] = &stream{batches: batches}
		reading.Go(func() { r.run(ctx, contigs, opts.IncludeFiltered, batches) })
	}
	t := newTests(opts)
	if err := merge(streams, t.add); err != nil {
		// A cohort that was cancelled ended because of the context.
		return nil, errors.Join(ctx.Err(), err)
	}
	reading.Wait()
	result := t.result()
	for _, r := range readers {
		result.Cohorts = append(result.Cohorts, r.cohort)
		result.Samples += r.cohort.Samples
		result.Cases += r.cohort.Cases
		result.Controls += r.cohort.Controls
	}
	for i, s := range streams {
		result.Cohorts[i].Duplicates = s.duplicates
	}
	return result, t.err
}

// contigKey lets chr22 and 22 be the same chromosome.
func contigKey(name string) string {
	name = strings.TrimPrefix(name, "chr")
	if name == "M" {
		return "MT"
	}
	return name
}
