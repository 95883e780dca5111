// Command demo runs Adyton's main job on one machine, end to end: two hospitals
// that may not show each other their patients' genotypes, and a research
// institute whose enclave computes over both.
//
// It calls the adyton program as its users would and prints each step in a line.
// `make demo` builds what it needs and runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() {
	binary := flag.String("adyton", "bin/adyton", "the adyton program; adyton-init lies beside it")
	samples := flag.Int("samples", 1000, "samples in each hospital")
	variants := flag.Int("variants", 50000, "variants in each hospital")
	sandbox := flag.String("sandbox", "gvisor", "sandbox of the enclaves: gvisor or none")
	keep := flag.Bool("keep", false, "keep the demo's folder")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *binary, *samples, *variants, *sandbox, *keep); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary string, samples, variants int, sandbox string, keep bool) (err error) {
	binary, err = filepath.Abs(binary)
	if err != nil {
		return fmt.Errorf("find the adyton program: %w", err)
	}
	if _, err := os.Stat(binary); err != nil {
		return fmt.Errorf("the adyton program is not built (run `make build`): %w", err)
	}
	dir, err := os.MkdirTemp("", "adyton-demo-")
	if err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	if keep {
		defer fmt.Println("\nthe demo's folder:", dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	d := &demo{
		console:  console{w: os.Stdout, start: time.Now(), color: term.IsTerminal(int(os.Stdout.Fd()))},
		adyton:   adyton{binary: binary, dir: dir},
		samples:  samples,
		variants: variants,
		sandbox:  sandbox,
	}
	defer d.stopServers()
	for _, chapter := range []func(context.Context) error{
		d.platform,
		d.institute,
		d.hospitals,
		d.compute,
		d.refusals,
		d.whatRootSees,
	} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("\n%s in %.1f s\n", d.paint("1;32", "done"), time.Since(d.start).Seconds())
	return nil
}
