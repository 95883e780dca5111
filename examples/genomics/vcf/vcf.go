// Package vcf reads VCF 4.0 to 4.5 (https://samtools.github.io/hts-specs/VCFv4.3.pdf),
// as much of it as counting genotypes needs, at the speed of the disk.
//
// It reads what real files hold: several alternative alleles, symbolic ones
// (<CN0>), haploid calls (X, Y, MT), phased, unphased and missing genotypes,
// INFO of any content, FORMAT with more than GT. It does not interpret INFO and
// the other FORMAT fields.
//
// Input comes from outside: lines, samples and alleles are bounded, and every
// error names its line. The package imports the standard library only.
package vcf

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of one file.
const (
	MaxLine    = 64 << 20 // bytes
	MaxSamples = 1 << 20
	MaxAlleles = 1 << 10 // of a record, with REF
	maxHeader  = 64 << 20
)

// fixedColumns precede the samples: CHROM POS ID REF ALT QUAL FILTER INFO FORMAT.
const fixedColumns = 9

// Reader reads the records of one file.
type Reader struct {
	// Version is the file's, such as "VCFv4.3".
	Version string
	// Contigs are the names of the ##contig lines, in their order.
	Contigs []string
	// Samples are the names of the samples.
	Samples []string

	r    *bufio.Reader
	long []byte // a line that does not fit r's buffer
	line int    // number of the line read last, from 1
	rec  Record
}

// NewReader reads the header of the file r.
func NewReader(r io.Reader) (*Reader, error) {
	v := &Reader{r: bufio.NewReaderSize(r, 256<<10)}
	line, err := v.next()
	if err != nil {
		return nil, v.wrap(noEOF(err))
	}
	version, ok := bytes.CutPrefix(line, []byte("##fileformat="))
	if !ok || !bytes.HasPrefix(version, []byte("VCFv4.")) {
		return nil, v.wrap(fmt.Errorf("the file does not begin with ##fileformat=VCFv4"))
	}
	v.Version = string(version)
	seen := map[string]bool{}
	for total := 0; ; {
		line, err := v.next()
		if err != nil {
			return nil, v.wrap(noEOF(err))
		}
		if total += len(line); total > maxHeader {
			return nil, v.wrap(fmt.Errorf("header of more than %d bytes", maxHeader))
		}
		if name, ok := contig(line); ok && !seen[name] {
			seen[name] = true
			v.Contigs = append(v.Contigs, name)
		}
		if !bytes.HasPrefix(line, []byte("##")) {
			return v, v.wrap(v.columns(line))
		}
	}
}

// contig gives the ID of a ##contig line.
func contig(line []byte) (string, bool) {
	fields, ok := bytes.CutPrefix(line, []byte("##contig=<"))
	if !ok {
		return "", false
	}
	for field := range bytes.SplitSeq(fields, []byte(",")) {
		if id, ok := bytes.CutPrefix(field, []byte("ID=")); ok {
			return string(bytes.TrimSuffix(id, []byte(">"))), true
		}
	}
	return "", false
}

// columns reads the line #CHROM.
func (v *Reader) columns(line []byte) error {
	const fixed = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
	rest, ok := bytes.CutPrefix(line, []byte(fixed))
	if !ok {
		return errors.New("a header line begins with ##, and the last one with #CHROM and the eight fixed columns, separated by tabs")
	}
	rest, ok = bytes.CutPrefix(rest, []byte("\tFORMAT\t"))
	if !ok {
		return errors.New("the file has no genotypes")
	}
	if bytes.Count(rest, []byte("\t")) >= MaxSamples {
		return fmt.Errorf("more than %d samples", MaxSamples)
	}
	v.Samples = strings.Split(string(rest), "\t")
	seen := make(map[string]bool, len(v.Samples))
	for _, s := range v.Samples {
		if s == "" || seen[s] {
			return fmt.Errorf("the sample name %q is empty or given twice", s)
		}
		seen[s] = true
	}
	return nil
}

// Next reads the next record, or gives io.EOF. The record and all it holds are
// valid until the next call.
func (v *Reader) Next() (*Record, error) {
	for {
		line, err := v.next()
		if err == io.EOF {
			return nil, io.EOF
		}
		if err != nil {
			return nil, v.wrap(err)
		}
		if len(line) == 0 {
			continue // bcftools accepts empty lines at the end
		}
		if err := v.rec.parse(line, len(v.Samples)); err != nil {
			return nil, v.wrap(err)
		}
		return &v.rec, nil
	}
}

// Line gives the number of the line that was read last, from 1.
func (v *Reader) Line() int { return v.line }

// next gives a line without its end.
func (v *Reader) next() ([]byte, error) {
	v.line++
	line, err := v.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		v.long = v.long[:0]
		for err == bufio.ErrBufferFull {
			if len(v.long)+len(line) > MaxLine {
				return nil, fmt.Errorf("longer than %d bytes", MaxLine)
			}
			v.long = append(v.long, line...)
			line, err = v.r.ReadSlice('\n')
		}
		v.long = append(v.long, line...)
		line = v.long
	}
	if err != nil && (err != io.EOF || len(line) == 0) {
		return nil, err
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), nil
}

func (v *Reader) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("VCF line %d: %w", v.line, err)
}

func noEOF(err error) error {
	if err == io.EOF {
		return errors.New("the file ends inside its header")
	}
	return err
}
