package assoc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/adyton-dev/adyton/examples/genomics/bgzf"
	"github.com/adyton-dev/adyton/examples/genomics/vcf"
)

// The files of a cohort.
const (
	genotypesFile  = "genotypes.vcf.gz"
	phenotypesFile = "phenotypes.tsv"
)

// maxPhenotypes bounds phenotypes.tsv in bytes.
const maxPhenotypes = 256 << 20

// The groups of samples; excluded ones are counted like the others and ignored.
const (
	excluded = iota
	control
	affected
	groups
)

// counts are what one group called of one allele.
type counts struct {
	allele int64 // chromosomes with the allele
	other  int64 // chromosomes with another one
	// dosage counts the samples with 0, 1 and 2 copies; haploid and half-missing
	// calls are not in it.
	dosage [3]int64
}

func (c *counts) add(o counts) {
	c.allele += o.allele
	c.other += o.other
	for i := range c.dosage {
		c.dosage[i] += o.dosage[i]
	}
}

// variant is one alternative allele in one cohort, or after merging in all.
type variant struct {
	contig   int // rank
	chrom    string
	pos      int64
	id       string
	ref, alt string
	cohorts  int
	cases    counts
	controls counts
}

// batch is some variants in order; the last of a cohort has an error, io.EOF at
// its proper end.
type batch struct {
	variants []variant
	err      error
}

const batchSize = 128

// reader counts the genotypes of one cohort.
type reader struct {
	file   *os.File
	bgzf   *bgzf.Reader
	vcf    *vcf.Reader
	group  []uint8 // of each sample
	cohort Cohort

	tally [groups]tally
}

// tally counts one record's calls in one group; the slices are by allele.
type tally struct {
	called   int64 // chromosomes
	complete int64 // diploid samples with both alleles called
	alleles  []int64
	diploid  []int64 // chromosomes of complete samples
	twice    []int64 // complete samples with two copies
}

func openCohort(dir string, workers int) (*reader, error) {
	status, err := readPhenotypes(filepath.Join(dir, phenotypesFile))
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, genotypesFile))
	if err != nil {
		return nil, err
	}
	r := &reader{file: f, bgzf: bgzf.NewReader(f, workers), cohort: Cohort{Name: filepath.Base(dir)}}
	if r.vcf, err = vcf.NewReader(r.bgzf); err != nil {
		r.close()
		return nil, fmt.Errorf("%s: %w", genotypesFile, err)
	}
	for _, sample := range r.vcf.Samples {
		group := status[sample]
		r.group = append(r.group, group)
		switch group {
		case affected:
			r.cohort.Cases++
		case control:
			r.cohort.Controls++
		default:
			r.cohort.Excluded++
		}
	}
	r.cohort.Samples = r.cohort.Cases + r.cohort.Controls
	if r.cohort.Samples == 0 {
		r.close()
		return nil, fmt.Errorf("no sample of %s has a line in %s", genotypesFile, phenotypesFile)
	}
	return r, nil
}

func (r *reader) close() {
	// Both were only read from.
	_ = r.bgzf.Close()
	_ = r.file.Close()
}

// readPhenotypes gives the group of each sample.
func readPhenotypes(name string) (map[string]uint8, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	limited := &io.LimitedReader{R: f, N: maxPhenotypes}
	lines := bufio.NewScanner(limited)
	status := map[string]uint8{}
	for n := 1; lines.Scan(); n++ {
		sample, word, ok := strings.Cut(strings.TrimSuffix(lines.Text(), "\r"), "\t")
		switch {
		case n == 1 && sample == "sample" && word == "status":
			continue
		case n == 1:
			return nil, fmt.Errorf("%s line 1: want the heading sample<TAB>status", phenotypesFile)
		case !ok || sample == "":
			return nil, fmt.Errorf("%s line %d: want sample<TAB>status", phenotypesFile, n)
		case status[sample] != excluded:
			return nil, fmt.Errorf("%s line %d: the sample %.64q has a line already", phenotypesFile, n, sample)
		case word == "case":
			status[sample] = affected
		case word == "control":
			status[sample] = control
		default:
			return nil, fmt.Errorf("%s line %d: status %.64q: want case or control", phenotypesFile, n, word)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", phenotypesFile, err)
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("%s is larger than %d bytes", phenotypesFile, maxPhenotypes)
	}
	return status, nil
}

// run sends the cohort's variants and closes out.
func (r *reader) run(ctx context.Context, contigs map[string]int, includeFiltered bool, out chan<- batch) {
	defer close(out)
	for {
		b := r.batch(contigs, includeFiltered)
		select {
		case out <- b:
		case <-ctx.Done():
			return
		}
		if b.err != nil {
			return
		}
	}
}

func (r *reader) batch(contigs map[string]int, includeFiltered bool) batch {
	b := batch{variants: make([]variant, 0, batchSize)}
	for len(b.variants) < batchSize {
		rec, err := r.vcf.Next()
		if err == io.EOF {
			b.err = io.EOF
			return b
		}
		if err != nil {
			return batch{err: r.wrap(err)}
		}
		r.cohort.Records++
		if !includeFiltered && !rec.Passed() {
			r.cohort.Filtered++
			continue
		}
		rank, ok := contigs[contigKey(string(rec.Chrom))]
		if !ok {
			return batch{err: r.wrap(fmt.Errorf("line %d: the header has no ##contig line for %.64q; add it with bcftools reheader", r.vcf.Line(), rec.Chrom))}
		}
		if b.variants, err = r.append(b.variants, rec, rank); err != nil {
			return batch{err: r.wrap(fmt.Errorf("line %d: %w", r.vcf.Line(), err))}
		}
	}
	return b
}

func (r *reader) wrap(err error) error {
	return fmt.Errorf("cohort %s: %s: %w", r.cohort.Name, genotypesFile, err)
}

// append counts the calls of a record and appends a variant for each
// alternative allele.
func (r *reader) append(to []variant, rec *vcf.Record, rank int) ([]variant, error) {
	calls, err := rec.Genotypes()
	if err != nil {
		return nil, err
	}
	for g := range r.tally {
		r.tally[g].reset(len(rec.Alt) + 1)
	}
	for i, call := range calls {
		r.tally[r.group[i]].count(call)
	}
	for i, alt := range rec.Alt {
		if notAnAllele(string(alt)) {
			continue
		}
		to = append(to, variant{
			contig: rank, chrom: string(rec.Chrom), pos: rec.Pos, id: string(rec.ID),
			ref: string(rec.Ref), alt: string(alt), cohorts: 1,
			cases: r.tally[affected].of(i + 1), controls: r.tally[control].of(i + 1),
		})
	}
	return to, nil
}

// notAnAllele tells the placeholders of ALT from alleles: a deletion that
// another record describes, and "any other allele" (VCF 4.3, 1.6.1 and 5.5).
func notAnAllele(alt string) bool {
	return alt == "*" || alt == "<*>" || alt == "<NON_REF>"
}

func (t *tally) reset(alleles int) {
	if cap(t.alleles) < alleles {
		t.alleles, t.diploid, t.twice = make([]int64, alleles), make([]int64, alleles), make([]int64, alleles)
	}
	t.called, t.complete = 0, 0
	t.alleles, t.diploid, t.twice = t.alleles[:alleles], t.diploid[:alleles], t.twice[:alleles]
	clear(t.alleles)
	clear(t.diploid)
	clear(t.twice)
}

func (t *tally) count(g vcf.Genotype) {
	if g.A != vcf.Missing && g.B != vcf.Missing {
		t.called += 2
		t.complete++
		t.alleles[g.A]++
		t.alleles[g.B]++
		t.diploid[g.A]++
		t.diploid[g.B]++
		if g.A == g.B {
			t.twice[g.A]++
		}
		return
	}
	for _, a := range [...]int16{g.A, g.B} {
		if a != vcf.Missing {
			t.called++
			t.alleles[a]++
		}
	}
}

// of gives the counts of allele a against all others.
func (t *tally) of(a int) counts {
	once := t.diploid[a] - 2*t.twice[a]
	return counts{
		allele: t.alleles[a],
		other:  t.called - t.alleles[a],
		dosage: [3]int64{t.complete - once - t.twice[a], once, t.twice[a]},
	}
}

// errUnsorted says what to do; the caller adds where.
var errUnsorted = errors.New("the cohorts must be sorted alike by chromosome and position; sort with bcftools sort")
