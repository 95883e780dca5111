package vcf_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/adyton-dev/adyton/examples/genomics/vcf"
)

const none = vcf.Missing

func phased(a, b int16) vcf.Genotype   { return vcf.Genotype{A: a, B: b, Phased: true} }
func unphased(a, b int16) vcf.Genotype { return vcf.Genotype{A: a, B: b} }
func haploid(a int16) vcf.Genotype     { return vcf.Genotype{A: a, B: none, Haploid: true} }

// row is what a record should be.
type row struct {
	Chrom, ID, Ref, Alt string
	Pos                 int64
	Passed              bool
	Calls               []vcf.Genotype
}

func readAll(r io.Reader) (*vcf.Reader, []row, error) {
	v, err := vcf.NewReader(r)
	if err != nil {
		return nil, nil, err
	}
	var rows []row
	for {
		rec, err := v.Next()
		if err == io.EOF {
			return v, rows, nil
		}
		if err != nil {
			return v, rows, err
		}
		calls, err := rec.Genotypes()
		if err != nil {
			return v, rows, err
		}
		rows = append(rows, row{
			string(rec.Chrom), string(rec.ID), string(rec.Ref), string(bytes.Join(rec.Alt, []byte(" "))),
			rec.Pos, rec.Passed(), slices.Clone(calls),
		})
	}
}

// The fixture has the header and each kind of record of the 1000 Genomes
// Project's phase 3 files.
func TestReads1000GenomesStyle(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/phase3.vcf")
	if err != nil {
		t.Fatal(err)
	}
	want := []row{
		{"22", "rs587697622", "A", "G", 16050075, true, []vcf.Genotype{phased(0, 0), phased(0, 0), phased(1, 0), phased(0, 1)}},
		{"22", ".", "G", "A", 16050115, true, []vcf.Genotype{phased(0, 0), phased(1, 1), phased(none, none), phased(0, 0)}},
		{"22", "esv3647175;esv3647176", "A", "<CN0> <CN2> <CN3> <CN4>", 16050654, true, []vcf.Genotype{phased(0, 0), phased(2, 1), phased(0, 4), phased(3, 0)}},
		{"22", "rs1", "T", "G TAAA", 16050922, true, []vcf.Genotype{phased(1, 2), phased(0, 0), phased(2, 2), unphased(none, none)}},
		{"22", "rs2", "T", "C", 16051249, false, []vcf.Genotype{phased(0, 1), unphased(0, 0), haploid(1), haploid(none)}},
		{"X", "rs3", "T", "TA", 60020, true, []vcf.Genotype{haploid(0), haploid(1), haploid(none), phased(0, 1)}},
		{"X", "rs4", "C", "", 60021, true, []vcf.Genotype{phased(0, 0), haploid(0), phased(0, 0), haploid(0)}},
		{"X", ".", "N", "]17:198982]A", 60022, true, slices.Repeat([]vcf.Genotype{unphased(none, none)}, 4)},
	}
	crlf := bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	for name, r := range map[string]io.Reader{
		"as it is":         bytes.NewReader(text),
		"byte by byte":     iotest.OneByteReader(bytes.NewReader(text)),
		"Windows lines":    bytes.NewReader(crlf),
		"no last line end": bytes.NewReader(bytes.TrimSuffix(text, []byte("\n"))),
	} {
		v, got, err := readAll(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: records differ (-want +got):\n%s", name, diff)
		}
		if v.Version != "VCFv4.1" || !slices.Equal(v.Contigs, []string{"1", "22", "X", "GL000207.1"}) ||
			!slices.Equal(v.Samples, []string{"HG00096", "HG00097", "HG00099", "NA19238"}) {
			t.Errorf("%s: header %q %q %q", name, v.Version, v.Contigs, v.Samples)
		}
	}
}

const header = "##fileformat=VCFv4.3\n##contig=<ID=1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\n"

func TestGenotypeSyntax(t *testing.T) {
	t.Parallel()
	manyAlleles := "C" + strings.Repeat(",G", 20)
	for call, want := range map[string]vcf.Genotype{
		"0/1": unphased(0, 1), "10|20": phased(10, 20), "9/10": unphased(9, 10), ".|0": phased(none, 0),
		"1/.:99": unphased(1, none), "5": haploid(5), "12": haploid(12), ".": haploid(none), "|0|1": phased(0, 1), "/1": haploid(1),
	} {
		_, rows, err := readAll(strings.NewReader(header + "1\t5\t.\tA\t" + manyAlleles + "\t.\t.\t.\tGT:DP\t" + call + "\t0|0\n"))
		if err != nil || rows[0].Calls[0] != want {
			t.Errorf("%s: %+v, %v", call, rows, err)
		}
	}
}

func TestMalformedFilesAreRefusedWithTheirLine(t *testing.T) {
	t.Parallel()
	record := func(fixed, calls string) string { return header + fixed + "\t" + calls + "\n" }
	const fixed = "1\t5\t.\tA\tG\t.\tPASS\t.\tGT"
	for name, c := range map[string]struct {
		text string
		line int
	}{
		"empty":              {"", 1},
		"other format":       {"BCF\x02\x02", 1},
		"old version":        {"##fileformat=VCFv3.3\n", 1},
		"no end of header":   {"##fileformat=VCFv4.3\n##x\n", 3},
		"wrong header line":  {"##fileformat=VCFv4.3\nx\n", 2},
		"no genotypes":       {"##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n", 2},
		"sample twice":       {strings.Replace(header, "\tb", "\ta", 1), 3},
		"too few columns":    {header + "1\t5\t.\tA\tG\n", 4},
		"empty column":       {record("1\t5\t\tA\tG\t.\tPASS\t.\tGT", "0|0\t0|0"), 4},
		"bad position":       {record("1\tx\t.\tA\tG\t.\tPASS\t.\tGT", "0|0\t0|0"), 4},
		"negative position":  {record("1\t-5\t.\tA\tG\t.\tPASS\t.\tGT", "0|0\t0|0"), 4},
		"huge position":      {record("1\t99999999999\t.\tA\tG\t.\tPASS\t.\tGT", "0|0\t0|0"), 4},
		"empty allele":       {record("1\t5\t.\tA\tG,\t.\tPASS\t.\tGT", "0|0\t0|0"), 4},
		"too many alleles":   {record("1\t5\t.\tA\tG"+strings.Repeat(",C", vcf.MaxAlleles)+"\t.\tPASS\t.\tGT", "0|0\t0|0"), 4},
		"too few samples":    {record(fixed, "0|0"), 4},
		"too few long":       {record(fixed, "0|0:3"), 4},
		"too many samples":   {record(fixed, "0|0\t0|0\t0|0"), 4},
		"trailing tab":       {record(fixed, "0|0\t0|0\t"), 4},
		"too many long":      {record(fixed, "0|0:1\t0|0:2\t0|0:3"), 4},
		"unknown allele":     {record(fixed, "0|0\t0|2"), 4},
		"unknown allele, 2":  {record(fixed, "0|0\t0|999999999999999999999"), 4},
		"not an allele":      {record(fixed, "0|0\tx|0"), 4},
		"empty call":         {record(fixed, "0|0\t:3"), 4},
		"three chromosomes":  {record(fixed, "0|0\t0|0|0"), 4},
		"separator, no call": {record(fixed, "0|0\t0|"), 4},
	} {
		v, _, err := readAll(strings.NewReader(c.text))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		// Genotypes are read by the caller, who asks for the line.
		if want := fmt.Sprintf("VCF line %d: ", c.line); !strings.HasPrefix(err.Error(), want) && (v == nil || v.Line() != c.line) {
			t.Errorf("%s: %v, want line %d", name, err, c.line)
		}
	}
}

func TestLinesLongerThanTheBufferAreRead(t *testing.T) {
	t.Parallel()
	info := strings.Repeat("x", 3<<20)
	_, rows, err := readAll(strings.NewReader(header + "1\t5\t.\tA\tG\t.\tPASS\t" + info + "\tGT\t0|1\t1|1\n1\t6\t.\tA\tG\t.\tPASS\t.\tGT\t0|0\t0|0\n"))
	if err != nil || len(rows) != 2 || rows[0].Calls[1] != phased(1, 1) {
		t.Errorf("%d records, %v", len(rows), err)
	}
}

func TestLinesAreBounded(t *testing.T) {
	t.Parallel()
	endless := io.MultiReader(strings.NewReader(header+"1\t5\t"), zeros{})
	if _, _, err := readAll(endless); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("error %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func FuzzReader(f *testing.F) {
	text, err := os.ReadFile("testdata/phase3.vcf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(header + "1\t5\t.\tA\tG\t.\tPASS\t.\tGT\t0|1\t.\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := vcf.NewReader(bytes.NewReader(text))
		if err != nil {
			return
		}
		for {
			rec, err := v.Next()
			if err != nil {
				return
			}
			calls, err := rec.Genotypes()
			if err != nil {
				return
			}
			if len(calls) != len(v.Samples) {
				t.Fatalf("%d calls of %d samples", len(calls), len(v.Samples))
			}
			for _, g := range calls {
				if min(g.A, g.B) < none || int(max(g.A, g.B)) > len(rec.Alt) || g.Haploid && g.B != none {
					t.Fatalf("call %+v of %d alternative alleles", g, len(rec.Alt))
				}
			}
		}
	})
}

func BenchmarkReader(b *testing.B) {
	var text bytes.Buffer
	text.WriteString("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT")
	for i := range 1000 {
		fmt.Fprintf(&text, "\ts%d", i)
	}
	text.WriteByte('\n')
	for i := range 2000 {
		fmt.Fprintf(&text, "22\t%d\t.\tA\tG\t.\tPASS\tAC=1;AN=2\tGT%s\n", i, strings.Repeat("\t0|1\t0|0\t0/0\t.|.", 250))
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		v, err := vcf.NewReader(bytes.NewReader(text.Bytes()))
		if err != nil {
			b.Fatal(err)
		}
		for {
			rec, err := v.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			if _, err := rec.Genotypes(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
