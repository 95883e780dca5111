// Command genomics computes allele frequencies and a case-control association
// test across cohorts (package assoc) and prints the result. It is the
// application of the genomics enclave; outside an enclave it computes the same,
// bit for bit.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/adyton-dev/adyton/examples/genomics/assoc"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintf(os.Stderr, "genomics: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	opts := assoc.Options{Workers: runtime.GOMAXPROCS(0)}
	flags := flag.NewFlagSet("genomics", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Func("cohort", "directory with genotypes.vcf.gz and phenotypes.tsv; repeat it for each cohort", func(dir string) error {
		opts.Cohorts = append(opts.Cohorts, dir)
		return nil
	})
	flags.Int64Var(&opts.MinCount, "min-count", 5, "suppress an allele if a cell of its 2×2 table is below this")
	flags.IntVar(&opts.Top, "top", 20, "show this many hits")
	flags.Float64Var(&opts.Alpha, "alpha", 0.05, "family-wise error rate for Bonferroni's threshold")
	flags.BoolVar(&opts.IncludeFiltered, "include-filtered", false, "also count records that failed a filter")
	format := flags.String("o", "text", "format of the result: text or json")
	frequencies := flags.String("frequencies", "", "also write the frequencies of all alleles that are not suppressed to this file (TSV)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || len(opts.Cohorts) == 0 {
		return errors.New("name at least one cohort with --cohort DIR, and nothing else; see --help")
	}
	if *format != "text" && *format != "json" {
		return fmt.Errorf("-o %s: want text or json", *format)
	}
	finish := func() error { return nil }
	if *frequencies != "" {
		f, err := renameio.NewPendingFile(*frequencies, renameio.WithTempDir(filepath.Dir(*frequencies)), renameio.WithPermissions(0o644))
		if err != nil {
			return fmt.Errorf("write frequencies: %w", err)
		}
		defer func() { err = errors.Join(err, f.Cleanup()) }()
		opts.Frequencies = f
		finish = f.CloseAtomicallyReplace
	}
	result, err := assoc.Run(ctx, opts)
	if err != nil {
		return err
	}
	if err := finish(); err != nil {
		return fmt.Errorf("write frequencies: %w", err)
	}
	if *format == "json" {
		return result.WriteJSON(stdout)
	}
	return result.WriteText(stdout)
}
