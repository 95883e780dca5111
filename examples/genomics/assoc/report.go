package assoc

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
)

// WriteJSON writes the result as indented JSON.
func (r *Result) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// WriteText writes the result as a table for people.
func (r *Result) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "cohort\tsamples\tcases\tcontrols\trecords\tfiltered\t\n")
	for _, c := range r.Cohorts {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t\n", c.Name, c.Samples, c.Cases, c.Controls, c.Records, c.Filtered)
	}
	fmt.Fprintf(t, "all\t%d\t%d\t%d\t\t\t\n", r.Samples, r.Cases, r.Controls)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	fmt.Fprintf(w, "\n%d alleles: %d tested, %d suppressed (a cell below %d); genomic inflation %.3f\n",
		r.Alleles, r.Tested, r.Suppressed, r.MinCount, r.LambdaGC)
	fmt.Fprintf(w, "%d significant: p < %.3g (Bonferroni, alpha %g)\n\n", r.Significant, r.Threshold, r.Alpha)
	fmt.Fprintf(t, "\tplace\tid\tallele\tcases\tcontrols\todds ratio (95 %%)\tp allelic\tp trend\t\n")
	for _, h := range r.Hits {
		mark := ""
		if h.P < r.Threshold {
			mark = "*"
		}
		fmt.Fprintf(t, "%s\t%s:%d\t%s\t%s>%s\t%.4f\t%.4f\t%.2f (%.2f-%.2f)\t%.2e\t%.2e\t\n", mark, h.Chrom, h.Pos, h.ID,
			shorten(h.Ref), shorten(h.Alt), h.CaseFrequency, h.ControlFrequency, h.OddsRatio, h.Lower95, h.Upper95, h.P, h.TrendP)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

// shorten keeps a long indel from widening the table.
func shorten(allele string) string {
	const most = 12
	if len(allele) <= most {
		return allele
	}
	return allele[:most-1] + "…"
}
