// Package measure compares the measuring of an enclave with its bound: the CPU
// hashes 320 bytes with SHA-256 for each 256 bytes of enclave, so no measurer can
// be faster than crypto/sha256 over 320/256 of the enclave.
package measure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/adyton-dev/adyton/bench/ratio"
	"github.com/adyton-dev/adyton/sgx"
)

const (
	size = 8 << 20 // of the enclave
	// target is the part of the bound that the project asks for.
	target = 0.85
	flags  = sgx.PageTypeREG | sgx.SecInfoR | sgx.SecInfoX
)

// Rows measures an enclave from memory and as an SGX stream.
func Rows(ctx context.Context, rounds int) ([]ratio.Row, error) {
	hashed := make([]byte, size/256*320)
	for i := range hashed {
		hashed[i] = byte(i * 7)
	}
	enclave := hashed[:size]
	stream := sgxs(enclave)
	cpu := ratio.CPU()
	times, err := ratio.Rounds(ctx, rounds,
		ratio.Each(cpu, 1, func(context.Context) error {
			sha256.Sum256(hashed)
			return nil
		}),
		ratio.Each(cpu, 1, func(context.Context) error {
			_, err := pages(enclave)
			return err
		}),
		ratio.Each(cpu, 1, func(context.Context) error {
			_, err := sgx.MeasureSGXS(bytes.NewReader(stream))
			return err
		}))
	if err != nil {
		return nil, fmt.Errorf("measure an enclave: %w", err)
	}
	var rows []ratio.Row
	for i, job := range []string{"measure an enclave of 8 MiB, pages in memory", "measure an enclave of 8 MiB, SGX stream"} {
		row := ratio.Compare(ratio.Speed, times[i+1], times[0])
		row.Job, row.Figure = job, ratio.Throughput(size, times[i+1].Median())
		row.Peer, row.PeerFigure = "the bound: crypto/sha256, 320 bytes per 256", ratio.Throughput(size, times[0].Median())
		row.Target = target
		rows = append(rows, row)
	}
	return rows, nil
}

func pages(enclave []byte) (sgx.Measurement, error) {
	m, err := sgx.NewMeasurer(1, 1<<40)
	if err != nil {
		return sgx.Measurement{}, err
	}
	for offset := 0; offset < len(enclave); offset += sgx.PageSize {
		page := (*[sgx.PageSize]byte)(enclave[offset:])
		if err := m.AddPage(uint64(offset), flags, page); err != nil {
			return sgx.Measurement{}, err
		}
	}
	return m.Sum(), nil
}

// sgxs gives the enclave as an SGX stream.
func sgxs(enclave []byte) []byte {
	var stream bytes.Buffer
	block := func(tag string, fields []byte) {
		var b [64]byte
		copy(b[:], tag)
		copy(b[8:], fields)
		stream.Write(b[:])
	}
	u64 := binary.LittleEndian.AppendUint64
	block("ECREATE", u64([]byte{1, 0, 0, 0}, 1<<40))
	for offset := 0; offset < len(enclave); offset += 256 {
		if offset%sgx.PageSize == 0 {
			block("EADD", u64(u64(nil, uint64(offset)), uint64(flags)))
		}
		block("EEXTEND", u64(nil, uint64(offset)))
		stream.Write(enclave[offset : offset+256])
	}
	return stream.Bytes()
}
