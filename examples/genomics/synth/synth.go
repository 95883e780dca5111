// Package synth makes cohorts of realistic shape out of nothing: for the demo,
// the tests and the benchmarks. No real person's data is in them.
//
// A cohort is a directory with genotypes.vcf.gz (VCF 4.3, bgzip) and
// phenotypes.tsv. Sites lie along GRCh38's chr22 with allele frequencies of
// density 1/x; genotypes are in Hardy-Weinberg proportion; some sites have
// several alternative alleles, are indels or failed a filter; 0.5 % of the calls
// are missing. At the sites that [Spec.Planted] gives, the cases' odds of the
// alternative allele are raised.
//
// The files depend on nothing but the [Spec]: a site's calls are drawn from a
// generator seeded with the site's number, so that sites can be made in parallel.
//
// The package imports bgzf, which lies beside it, renameio and the standard library.
package synth

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/renameio/v2"

	"github.com/adyton-dev/adyton/examples/genomics/bgzf"
)

// The names of a cohort's files.
const (
	GenotypesFile  = "genotypes.vcf.gz"
	PhenotypesFile = "phenotypes.tsv"
)

// Spec says what is made. All cohorts of a study have the same Spec but Cohort.
type Spec struct {
	Seed     uint64 // of the study: its sites
	Cohort   int    // number of the cohort, from 0
	Samples  int    // of the cohort; half of them are cases
	Variants int    // records of the cohort; about 98 % are the other cohorts' too
}

// The bounds of a Spec.
const (
	MaxCohorts  = 20
	MinVariants = 1000
	MaxSize     = 10_000_000 // of Samples and of Variants
)

// Association is a planted site.
type Association struct {
	Chrom     string
	Pos       int64
	ID        string
	Ref, Alt  string
	Frequency float64 // of Alt among the controls
	OddsRatio float64 // of Alt for the cases
}

// Write makes the directory dir, unless it exists, and the cohort's files in it.
func Write(ctx context.Context, dir string, spec Spec) error {
	if spec.Samples < 2 || spec.Samples > MaxSize || spec.Variants < MinVariants || spec.Variants > MaxSize ||
		spec.Cohort < 0 || spec.Cohort >= MaxCohorts {
		return fmt.Errorf("make cohort %d of %d samples × %d variants: want less than %d cohorts, 2 samples and %d variants; at most %d of each",
			spec.Cohort, spec.Samples, spec.Variants, MaxCohorts, MinVariants, MaxSize)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make cohort: %w", err)
	}
	c := newCohort(spec)
	if err := replace(filepath.Join(dir, PhenotypesFile), c.writePhenotypes); err != nil {
		return fmt.Errorf("make cohort: %w", err)
	}
	err := replace(filepath.Join(dir, GenotypesFile), func(w io.Writer) error { return c.writeGenotypes(ctx, w) })
	if err != nil {
		return fmt.Errorf("make cohort: %w", err)
	}
	return nil
}

// replace writes a file atomically.
func replace(name string, write func(io.Writer) error) (err error) {
	f, err := renameio.NewPendingFile(name, renameio.WithTempDir(filepath.Dir(name)), renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Cleanup()) }()
	if err := write(f); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// cohort is what all records of one cohort have in common.
type cohort struct {
	spec     Spec
	sites    []site
	names    []string
	cases    []int  // samples
	controls []int  // samples
	template []byte // the calls of a record in which everybody has the reference
}

func newCohort(spec Spec) *cohort {
	c := &cohort{spec: spec}
	for i, s := range makeSites(spec) {
		if in(i, spec.Cohort) {
			c.sites = append(c.sites, s)
		}
	}
	c.sites = c.sites[:spec.Variants]
	rng := spec.source(streamSamples, uint64(spec.Cohort))
	order := rng.Perm(spec.Samples)
	c.cases, c.controls = order[:spec.Samples/2], order[spec.Samples/2:]
	for i := range spec.Samples {
		c.names = append(c.names, fmt.Sprintf("%c%05d", 'A'+rune(spec.Cohort), i+1))
		separator := byte('|')
		if rng.IntN(5) == 0 {
			separator = '/' // not phased
		}
		c.template = append(c.template, '\t', '0', separator, '0')
	}
	return c
}

func (c *cohort) writePhenotypes(w io.Writer) error {
	status := make([]string, len(c.names))
	for _, i := range c.cases {
		status[i] = "case"
	}
	for _, i := range c.controls {
		status[i] = "control"
	}
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "sample\tstatus\n")
	for i, name := range c.names {
		fmt.Fprintf(b, "%s\t%s\n", name, status[i])
	}
	return b.Flush()
}

// chunk is how many records one goroutine makes at a time.
const chunk = 100

func (c *cohort) writeGenotypes(ctx context.Context, w io.Writer) (err error) {
	workers := runtime.GOMAXPROCS(0)
	z, err := bgzf.NewWriter(w, 1, workers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	if err := c.writeHeader(z); err != nil {
		return err
	}
	// Each goroutine makes every workers-th chunk; they are written in turn.
	ctx, cancel := context.WithCancel(ctx)
	outputs := make([]chan []byte, workers)
	for k := range outputs {
		outputs[k] = make(chan []byte, 2)
		go func() {
			defer close(outputs[k])
			for first := k * chunk; first < len(c.sites); first += workers * chunk {
				select {
				case outputs[k] <- c.records(first, min(first+chunk, len(c.sites))):
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	defer func() {
		cancel()
		for _, out := range outputs {
			for range out { // until the goroutine has closed it
			}
		}
	}()
	for first := 0; first < len(c.sites); first += chunk {
		records, ok := <-outputs[first/chunk%workers]
		if !ok {
			return ctx.Err()
		}
		if _, err := z.Write(records); err != nil {
			return err
		}
	}
	return nil
}

func (c *cohort) writeHeader(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, `##fileformat=VCFv4.3
##source=adyton-synth (synthetic: no real person's data)
##reference=GRCh38
##contig=<ID=%s,length=%d,assembly=GRCh38,species="Homo sapiens">
##FILTER=<ID=PASS,Description="All filters passed">
##FILTER=<ID=LowQual,Description="Low quality">
##FILTER=<ID=ExcessHet,Description="More heterozygotes than Hardy-Weinberg proportion allows">
##INFO=<ID=AC,Number=A,Type=Integer,Description="Count of each ALT allele">
##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency of each ALT allele">
##INFO=<ID=AN,Number=1,Type=Integer,Description="Count of called alleles">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
#CHROM	POS	ID	REF	ALT	QUAL	FILTER	INFO	FORMAT`, chromosome, chromosomeLength)
	for _, name := range c.names {
		b.WriteByte('\t')
		b.WriteString(name)
	}
	b.WriteByte('\n')
	return b.Flush()
}

// records makes the lines of the sites first to last-1.
func (c *cohort) records(first, last int) []byte {
	lines := make([]byte, 0, (last-first)*(len(c.template)+128))
	calls := make([]byte, len(c.template))
	for _, s := range c.sites[first:last] {
		copy(calls, c.template)
		rng := c.spec.source(streamCalls+uint64(c.spec.Cohort), uint64(s.pos))
		for k, p := range s.frequencies {
			draw(rng, calls, c.controls, p, byte('1'+k))
			draw(rng, calls, c.cases, raise(p, s.oddsRatio), byte('1'+k))
		}
		order(calls)
		drop(rng, calls)
		lines = s.append(lines, calls)
		lines = append(append(lines, calls...), '\n')
	}
	return lines
}

// raise gives the frequency whose odds are ratio times those of p.
func raise(p, ratio float64) float64 { return ratio * p / (1 - p + ratio*p) }

// draw gives each chromosome of the samples the allele with probability p.
func draw(rng *rand.Rand, calls []byte, samples []int, p float64, allele byte) {
	// The gaps between carriers are geometric.
	scale := 1 / math.Log1p(-p)
	for h := 0; ; h++ {
		gap := math.Log(1-rng.Float64()) * scale
		if gap >= float64(2*len(samples)-h) {
			return
		}
		h += int(gap)
		calls[4*samples[h/2]+1+2*(h%2)] = allele
	}
}

// order puts the alleles of calls that are not phased into ascending order.
func order(calls []byte) {
	for i := 0; i < len(calls); i += 4 {
		if call := calls[i:][:4]; call[2] == '/' && call[1] > call[3] {
			call[1], call[3] = call[3], call[1]
		}
	}
}

// drop makes 0.5 % of the calls missing.
func drop(rng *rand.Rand, calls []byte) {
	const missing = 0.005
	scale := 1 / math.Log1p(-missing)
	for i := 0; ; i++ {
		gap := math.Log(1-rng.Float64()) * scale
		if gap >= float64(len(calls)/4-i) {
			return
		}
		i += int(gap)
		calls[4*i+1], calls[4*i+3] = '.', '.'
	}
}
