package vcf

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Missing is the allele of a call that was not made (".").
const Missing = -1

// Genotype is the call of one sample: indices into the alleles, 0 for REF.
type Genotype struct {
	A, B int16 // B is Missing if the call is haploid
	// Haploid is a call of one allele only.
	Haploid bool
	// Phased tells that A and B are in the order of the chromosomes.
	Phased bool
}

// Record is a line. Its slices point into the line.
type Record struct {
	Chrom  []byte
	Pos    int64 // from 1; 0 is the telomere
	ID     []byte
	Ref    []byte
	Alt    [][]byte // empty for "."
	Filter []byte
	Info   []byte

	gt        bool   // the record has genotypes
	calls     []byte // the columns of the samples
	samples   int
	genotypes []Genotype
}

// Passed tells that no filter was failed: FILTER is PASS or was not applied.
func (r *Record) Passed() bool {
	return string(r.Filter) == "PASS" || string(r.Filter) == "."
}

// parse reads the fixed columns; the genotypes are read when they are asked for.
func (r *Record) parse(line []byte, samples int) error {
	var columns [fixedColumns][]byte
	for i := range columns {
		end := bytes.IndexByte(line, '\t')
		if end <= 0 {
			return fmt.Errorf("column %d is empty or the last; a record has 9 columns and %d samples", i+1, samples)
		}
		columns[i], line = line[:end], line[end+1:]
	}
	pos, err := strconv.ParseInt(string(columns[1]), 10, 32)
	if err != nil || pos < 0 {
		return fmt.Errorf("POS %.32q is not a position", columns[1])
	}
	r.Chrom, r.Pos, r.ID, r.Ref = columns[0], pos, columns[2], columns[3]
	r.Filter, r.Info = columns[6], columns[7]
	r.Alt = r.Alt[:0]
	if alt := columns[4]; string(alt) != "." {
		if bytes.Count(alt, []byte(",")) >= MaxAlleles-1 {
			return fmt.Errorf("more than %d alleles", MaxAlleles)
		}
		for a := range bytes.SplitSeq(alt, []byte(",")) {
			if len(a) == 0 {
				return errors.New("ALT has an empty allele")
			}
			r.Alt = append(r.Alt, a)
		}
	}
	// GT is the first key of FORMAT if it is there (VCF 4.3, section 1.6.2).
	key, _, _ := bytes.Cut(columns[8], []byte(":"))
	r.gt, r.calls, r.samples = string(key) == "GT", line, samples
	return nil
}

// Genotypes reads the calls of all samples, in their order.
func (r *Record) Genotypes() ([]Genotype, error) {
	if cap(r.genotypes) < r.samples {
		r.genotypes = make([]Genotype, r.samples)
	}
	out := r.genotypes[:r.samples]
	if !r.gt {
		for i := range out {
			out[i] = Genotype{A: Missing, B: Missing}
		}
		return out, nil
	}
	alleles := int16(len(r.Alt) + 1)
	calls := r.calls
	for i := range out {
		// Nearly all calls are three bytes such as 0|1.
		if len(calls) >= 3 && (len(calls) == 3 || calls[3] == '\t') && (calls[1] == '|' || calls[1] == '/') {
			a, b := digit(calls[0]), digit(calls[2])
			if a < alleles && b < alleles && a >= Missing && b >= Missing {
				out[i] = Genotype{A: a, B: b, Phased: calls[1] == '|'}
				calls = calls[3:]
				if (len(calls) > 0) != (i < len(out)-1) {
					return nil, r.wrongCount()
				}
				if len(calls) > 0 {
					calls = calls[1:]
				}
				continue
			}
		}
		column, rest, more := bytes.Cut(calls, []byte("\t"))
		if more != (i < len(out)-1) {
			return nil, r.wrongCount()
		}
		call, _, _ := bytes.Cut(column, []byte(":"))
		g, err := parseGenotype(call, alleles)
		if err != nil {
			return nil, fmt.Errorf("sample %d: %w", i+1, err)
		}
		out[i], calls = g, rest
	}
	return out, nil
}

func (r *Record) wrongCount() error {
	return fmt.Errorf("%d columns of samples; the header has %d", bytes.Count(r.calls, []byte("\t"))+1, r.samples)
}

// digit gives the allele of a call's byte, or less than Missing if it is none.
func digit(c byte) int16 {
	switch {
	case c == '.':
		return Missing
	case '0' <= c && c <= '9':
		return int16(c - '0')
	}
	return Missing - 1
}

// parseGenotype reads a call such as 0|1, ./., 1 or 12/3. Since VCF 4.4 the
// phase of the first allele may precede it.
func parseGenotype(call []byte, alleles int16) (Genotype, error) {
	if len(call) > 1 && (call[0] == '|' || call[0] == '/') {
		call = call[1:]
	}
	i := bytes.IndexAny(call, "|/")
	if i < 0 {
		a, err := parseAllele(call, alleles)
		return Genotype{A: a, B: Missing, Haploid: true}, err
	}
	a, err := parseAllele(call[:i], alleles)
	if err != nil {
		return Genotype{}, err
	}
	if bytes.ContainsAny(call[i+1:], "|/") {
		return Genotype{}, fmt.Errorf("genotype %.32q has more than two alleles; ploidy 1 and 2 are supported", call)
	}
	b, err := parseAllele(call[i+1:], alleles)
	return Genotype{A: a, B: b, Phased: call[i] == '|'}, err
}

func parseAllele(s []byte, alleles int16) (int16, error) {
	if string(s) == "." {
		return Missing, nil
	}
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' || n > MaxAlleles {
			return 0, fmt.Errorf("%.32q is not an allele", s)
		}
		n = 10*n + int(c-'0')
	}
	if len(s) == 0 || n >= int(alleles) {
		return 0, fmt.Errorf("allele %.32q; the record has %d", s, alleles)
	}
	return int16(n), nil
}
