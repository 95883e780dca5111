// Command measure compares the speed of measuring an enclave with its bound: the
// CPU hashes 320 bytes with SHA-256 for each 256 bytes of enclave, so no measurer
// can be faster than 256/320 of the hash alone. It prints a table and fails if the
// measurement is below -min of the bound.
//
// It measures the hash and the measurement in turns, in one run, and takes the best
// turn of each, for other programs only ever make a turn slower; the turns are many
// and short, so that some are undisturbed.
//
//	go run ./bench/measure [-turns 100] [-size 8] [-min 0.85]
package main

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/adyton-dev/adyton/sgx"
)

func main() {
	turns := flag.Int("turns", 100, "turns of each measurement; the best counts")
	mebibytes := flag.Int("size", 8, "size of the enclave in MiB")
	least := flag.Float64("min", 0.85, "least part of the bound that passes")
	flag.Parse()
	if err := run(*turns, *mebibytes<<20, *least); err != nil {
		fmt.Fprintln(os.Stderr, "bench/measure:", err)
		os.Exit(1)
	}
}

// contender is one way to use the bytes of an enclave.
type contender struct {
	name string
	run  func() error
	best time.Duration
}

func run(turns, size int, least float64) error {
	if turns < 1 || size < 1 {
		return fmt.Errorf("-turns %d and -size %d must be at least 1", turns, size>>20)
	}
	enclave := make([]byte, size)
	for i := range enclave {
		enclave[i] = byte(i * 7)
	}
	stream := sgxs(enclave)
	contenders := []*contender{
		{name: "crypto/sha256", run: func() error {
			sha256.Sum256(enclave)
			return nil
		}},
		{name: "sgx.Measurer", run: func() error { return measure(enclave) }},
		{name: "sgx.MeasureSGXS", run: func() error {
			_, err := sgx.MeasureSGXS(bytes.NewReader(stream))
			return err
		}},
	}
	for range turns {
		for _, c := range contenders {
			begin := time.Now()
			if err := c.run(); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if took := time.Since(begin); c.best == 0 || took < c.best {
				c.best = took
			}
		}
	}
	return report(contenders, size, least)
}

// report prints the table. The first contender is the hash that bounds the others.
func report(contenders []*contender, size int, least float64) error {
	rate := func(c *contender) float64 { return float64(size) / c.best.Seconds() / 1e6 }
	bound := rate(contenders[0]) * 256 / 320
	fmt.Printf("%-20s %8s  %s\n", fmt.Sprintf("enclave of %d MiB", size>>20), "MB/s", "of the bound")
	fmt.Printf("%-20s %8.0f\n", contenders[0].name, rate(contenders[0]))
	fmt.Printf("%-20s %8.0f  %.2f\n", "bound (256/320)", bound, 1.0)
	for _, c := range contenders[1:] {
		fmt.Printf("%-20s %8.0f  %.2f\n", c.name, rate(c), rate(c)/bound)
	}
	for _, c := range contenders[1:] {
		if rate(c) < least*bound {
			return fmt.Errorf("%s reaches %.2f of the bound, want at least %.2f", c.name, rate(c)/bound, least)
		}
	}
	return nil
}

const flags = sgx.PageTypeREG | sgx.SecInfoR | sgx.SecInfoX

func measure(enclave []byte) error {
	m, err := sgx.NewMeasurer(1, 1<<40)
	if err != nil {
		return err
	}
	for offset := 0; offset < len(enclave); offset += sgx.PageSize {
		page := (*[sgx.PageSize]byte)(enclave[offset:])
		if err := m.AddPage(uint64(offset), flags, page); err != nil {
			return err
		}
	}
	m.Sum()
	return nil
}

// sgxs gives the enclave as an SGX stream.
func sgxs(enclave []byte) []byte {
	var stream bytes.Buffer
	block := func(tag string, fields ...byte) {
		var b [64]byte
		copy(b[:], tag)
		copy(b[8:], fields)
		stream.Write(b[:])
	}
	u64 := func(v uint64) []byte {
		return []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24), byte(v >> 32), byte(v >> 40), byte(v >> 48), byte(v >> 56)}
	}
	block("ECREATE", append([]byte{1, 0, 0, 0}, u64(1<<40)...)...)
	for offset := 0; offset < len(enclave); offset += 256 {
		if offset%sgx.PageSize == 0 {
			block("EADD", append(u64(uint64(offset)), u64(uint64(flags))...)...)
		}
		block("EEXTEND", u64(uint64(offset))...)
		stream.Write(enclave[offset : offset+256])
	}
	return stream.Bytes()
}
