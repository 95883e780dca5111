// Command seal measures how fast data is sealed and opened, beside age and
// OpenSSL on the same machine in one run, and prints a table.
//
// Adyton (package data, segments of 1 MiB and 4 KiB) and age (X25519 recipient)
// run in this process on the same stream from memory. OpenSSL is
// `openssl speed -evp aes-256-gcm` with blocks of 16 KiB: the cipher alone,
// without a format; it is left out if openssl is not installed.
//
// Each number is the fastest of several runs on one core, since whatever else
// runs on the machine only slows it down. The tools take turns. Each number is
// the median of several runs on one core.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"filippo.io/age"

	"github.com/adyton-dev/adyton/data"
)

func main() {
	size := flag.Int64("mib", 512, "MiB of content in a run")
	runs := flag.Int("runs", 3, "runs of each measurement")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *size<<20, *runs); err != nil {
		fmt.Fprintf(os.Stderr, "bench/seal: %v\n", err)
		os.Exit(1)
	}
}

// tool is a format to measure.
type tool struct {
	name string
	seal func(io.Writer) (io.WriteCloser, error)
	open func(io.Reader) (io.Reader, error)
}

// speeds are in bytes a second.
type speeds struct{ seal, open float64 }

func run(ctx context.Context, w io.Writer, size int64, runs int) error {
	if size < 1 || runs < 1 {
		return errors.New("want at least 1 MiB and one run")
	}
	runtime.GOMAXPROCS(1)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return fmt.Errorf("make age key: %w", err)
	}
	tools := []tool{
		adyton("adyton, 1 MiB segments", data.LargeSegment),
		adyton("adyton, 4 KiB segments", data.SmallSegment),
		{
			name: "age, X25519",
			seal: func(w io.Writer) (io.WriteCloser, error) { return age.Encrypt(w, identity.Recipient()) },
			open: func(r io.Reader) (io.Reader, error) { return age.Decrypt(r, identity) },
		},
	}
	fastest := make([]speeds, len(tools))
	// Written once before, so that no tool pays for the memory.
	buffer := bytes.Repeat([]byte{1}, int(size+size/64+4096))
	for range runs {
		for i, t := range tools {
			if err := ctx.Err(); err != nil {
				return err
			}
			s, err := t.measure(bytes.NewBuffer(buffer[:0]), size)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			fastest[i] = speeds{max(fastest[i].seal, s.seal), max(fastest[i].open, s.open)}
		}
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "%d MiB, 1 core\tseal MB/s\topen MB/s\tseal / age\topen / age\t\n", size>>20)
	other := fastest[len(tools)-1]
	for i, t := range tools {
		fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.2f\t%.2f\t\n", t.name, fastest[i].seal/1e6, fastest[i].open/1e6,
			fastest[i].seal/other.seal, fastest[i].open/other.open)
	}
	cipher, err := openssl(ctx)
	if err != nil {
		return err
	}
	if cipher == 0 {
		fmt.Fprintf(table, "openssl aes-256-gcm, 16 KiB\tnot installed\t\t\t\t\n")
		return table.Flush()
	}
	fmt.Fprintf(table, "openssl aes-256-gcm, 16 KiB\t%.0f\t\t%.2f\t\t\n", cipher/1e6, cipher/other.seal)
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "adyton reaches %.2f (seal) and %.2f (open) of the bare cipher of OpenSSL\n",
		fastest[0].seal/cipher, fastest[0].open/cipher)
	return err
}

func adyton(name string, segment int) tool {
	kek := bytes.Repeat([]byte{1}, data.KeySize)
	return tool{
		name: name,
		seal: func(w io.Writer) (io.WriteCloser, error) {
			return data.NewWriter(w, kek, data.Header{SegmentSize: segment})
		},
		open: func(r io.Reader) (io.Reader, error) { return data.NewReader(r, kek) },
	}
}

// measure seals and opens once.
func (t tool) measure(sealed *bytes.Buffer, size int64) (speeds, error) {
	begin := time.Now()
	if err := t.sealZeros(sealed, size); err != nil {
		return speeds{}, err
	}
	sealing := time.Since(begin)
	begin = time.Now()
	r, err := t.open(bytes.NewReader(sealed.Bytes()))
	if err != nil {
		return speeds{}, err
	}
	n, err := io.CopyBuffer(onlyWriter{io.Discard}, r, make([]byte, 64<<10))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return speeds{}, fmt.Errorf("open: %w", err)
	}
	opening := time.Since(begin)
	return speeds{float64(size) / sealing.Seconds(), float64(size) / opening.Seconds()}, nil
}

func (t tool) sealZeros(dst io.Writer, size int64) error {
	w, err := t.seal(dst)
	if err != nil {
		return err
	}
	piece := make([]byte, 64<<10)
	for left := size; left > 0; left -= int64(len(piece)) {
		if _, err := w.Write(piece[:min(left, int64(len(piece)))]); err != nil {
			return err
		}
	}
	return w.Close()
}

// onlyWriter hides io.Discard's ReadFrom, so that the given buffer is used.
type onlyWriter struct{ io.Writer }

// openssl gives the speed of its AES-256-GCM in bytes a second, 0 if it is not
// installed.
func openssl(ctx context.Context) (float64, error) {
	program, err := exec.LookPath("openssl")
	if err != nil {
		return 0, nil
	}
	out, err := exec.CommandContext(ctx, program, "speed", "-evp", "aes-256-gcm", "-bytes", "16384", "-seconds", "3", "-mr").Output()
	if err != nil {
		return 0, fmt.Errorf("openssl speed: %w", err)
	}
	// A line such as +F:25:AES-256-GCM:6085771264.00
	line := regexp.MustCompile(`(?i)^\+F:\d+:aes-256-gcm:([0-9.]+)$`)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if m := line.FindStringSubmatch(lines.Text()); m != nil {
			return strconv.ParseFloat(m[1], 64)
		}
	}
	return 0, errors.New("openssl speed: no result in its output")
}
