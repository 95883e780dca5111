// Command run makes the table of docs/benchmarks.md: each figure of Adyton beside
// a peer or a limit that is measured in the same run, in turns with it.
//
//	go run ./bench/run                             the table on standard output
//	go run ./bench/run -o json
//	go run ./bench/run -only quote,seal
//	go run ./bench/run -write docs/benchmarks.md   replaces the table in the file
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/adyton-dev/adyton/bench/launch"
	"github.com/adyton-dev/adyton/bench/measure"
	"github.com/adyton-dev/adyton/bench/quote"
	"github.com/adyton-dev/adyton/bench/ratio"
	"github.com/adyton-dev/adyton/bench/release"
	"github.com/adyton-dev/adyton/bench/seal"
)

// comparison makes some rows of the table.
type comparison struct {
	name   string
	rows   func(ctx context.Context, rounds int) ([]ratio.Row, error)
	rounds int
}

func comparisons() []comparison {
	return []comparison{
		{"measure", measure.Rows, 151},
		{"quote", quote.Rows, 81},
		{"seal", seal.Rows, 15},
		{"release", release.Rows, 21},
		{"launch", launch.Rows, 21},
	}
}

func main() {
	format := flag.String("o", "markdown", "output `format`: markdown or json")
	only := flag.String("only", "", "comma-separated `names` of what to compare: "+strings.Join(names(), ", ")+" (default all)")
	write := flag.String("write", "", "replace the table in this `file`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := fmt.Errorf("%q is not a flag: see -help", flag.Arg(0))
	if flag.NArg() == 0 {
		err = run(ctx, *format, *only, *write)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/run:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, format, only, file string) error {
	if format != "markdown" && format != "json" {
		return fmt.Errorf("-o %s: want markdown or json", format)
	}
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	if file != "" {
		if only != "" {
			return errors.New("-write replaces the whole table: leave out -only")
		}
		if err := checkFile(file); err != nil {
			return err
		}
	}
	t := table{Machine: thisMachine()}
	for _, c := range chosen {
		fmt.Fprintf(os.Stderr, "comparing: %s\n", c.name)
		rows, err := c.rows(ctx, c.rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		t.Rows = append(t.Rows, rows...)
	}
	t.Machine.LoadAfter = load()
	if file != "" {
		if err := t.replaceIn(file); err != nil {
			return err
		}
	}
	if format == "json" {
		return t.json(os.Stdout)
	}
	_, err = io.WriteString(os.Stdout, t.markdown())
	return err
}

func choose(only string) ([]comparison, error) {
	all := comparisons()
	if only == "" {
		return all, nil
	}
	wanted := strings.Split(only, ",")
	for _, name := range wanted {
		if !slices.Contains(names(), name) {
			return nil, fmt.Errorf("-only %s: there is no %q, but %s", only, name, strings.Join(names(), ", "))
		}
	}
	return slices.DeleteFunc(all, func(c comparison) bool { return !slices.Contains(wanted, c.name) }), nil
}

func names() []string {
	var list []string
	for _, c := range comparisons() {
		list = append(list, c.name)
	}
	return list
}
