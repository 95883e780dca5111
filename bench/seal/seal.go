// Package seal compares how fast data is sealed and opened with age, a file
// encryption tool of the same promises, and with OpenSSL's bare AES-256-GCM,
// which is the limit of the cipher. All use one core. Adyton and age work in this
// process, from memory to memory; OpenSSL is its own `openssl speed`, which counts
// CPU time as the others do.
package seal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"time"

	"filippo.io/age"

	"github.com/adyton-dev/adyton/bench/ratio"
	"github.com/adyton-dev/adyton/data"
)

const (
	size = 64 << 20 // of the content
)

// tool is a format to measure.
type tool struct {
	name string
	seal func(io.Writer) (io.WriteCloser, error)
	open func(io.Reader) (io.Reader, error)
}

// Rows seals and opens 64 MiB in segments of 1 MiB and of 4 KiB.
func Rows(ctx context.Context, rounds int) ([]ratio.Row, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make an age key: %w", err)
	}
	tools := []tool{
		adyton("1 MiB segments", data.LargeSegment),
		adyton("4 KiB segments", data.SmallSegment),
		{
			name: "age (X25519, ChaCha20-Poly1305)",
			seal: func(w io.Writer) (io.WriteCloser, error) { return age.Encrypt(w, identity.Recipient()) },
			open: func(r io.Reader) (io.Reader, error) { return age.Decrypt(r, identity) },
		},
	}
	var turns []ratio.Turn
	for _, t := range tools {
		sealing, opening := t.turns()
		turns = append(turns, sealing, opening)
	}
	program, missing := exec.LookPath("openssl")
	if missing == nil {
		turns = append(turns, func(ctx context.Context) (time.Duration, error) { return openssl(ctx, program) })
	}
	times, err := ratio.Rounds(ctx, rounds, turns...)
	if err != nil {
		return nil, err
	}

	verbs := []string{"seal", "open"}
	var rows []ratio.Row
	add := func(tool, verb int, peer string, peers ratio.Times) {
		ours := times[2*tool+verb]
		row := ratio.Compare(ratio.Speed, ours, peers)
		row.Job, row.Figure = fmt.Sprintf("%s 64 MiB, %s", verbs[verb], tools[tool].name), ratio.Throughput(size, ours.Median())
		row.Peer, row.PeerFigure = peer, ratio.Throughput(size, peers.Median())
		rows = append(rows, row)
	}
	for tool := range tools[:2] {
		for verb := range verbs {
			add(tool, verb, tools[2].name, times[4+verb])
		}
	}
	const cipher = "the bare cipher: openssl speed -evp aes-256-gcm, 16 KiB blocks"
	if missing != nil {
		//nolint:nilerr // a missing peer is a row of the table, not a failure
		return append(rows, ratio.Row{Job: "seal 64 MiB, " + tools[0].name, Peer: cipher, Skipped: "openssl is not installed"}), nil
	}
	for verb := range verbs {
		add(0, verb, cipher, times[6])
	}
	return rows, nil
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

// turns seal a content, and open what was sealed last.
func (t tool) turns() (sealing, opening ratio.Turn) {
	cpu := ratio.CPU()
	// Written once before, so that the memory costs nothing in a turn. Rounds begins
	// with a sealing, so there is something to open.
	sealed := bytes.NewBuffer(bytes.Repeat([]byte{1}, size+size/64+4096))
	sealing = ratio.Each(cpu, 1, func(context.Context) error {
		sealed.Reset()
		if err := t.sealZeros(sealed); err != nil {
			return fmt.Errorf("%s: seal: %w", t.name, err)
		}
		return nil
	})
	opening = ratio.Each(cpu, 1, func(context.Context) error {
		r, err := t.open(bytes.NewReader(sealed.Bytes()))
		if err != nil {
			return fmt.Errorf("%s: open: %w", t.name, err)
		}
		n, err := io.CopyBuffer(onlyWriter{io.Discard}, r, make([]byte, 64<<10))
		if err == nil && n != size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("%s: open: %w", t.name, err)
		}
		return nil
	})
	return sealing, opening
}

func (t tool) sealZeros(dst io.Writer) error {
	w, err := t.seal(dst)
	if err != nil {
		return err
	}
	piece := make([]byte, 64<<10)
	for range size / len(piece) {
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	return w.Close()
}

// onlyWriter hides io.Discard's ReadFrom, so that the given buffer is used.
type onlyWriter struct{ io.Writer }

// openssl gives the time in which OpenSSL encrypts the content.
func openssl(ctx context.Context, program string) (time.Duration, error) {
	out, err := exec.CommandContext(ctx, program, "speed", "-evp", "aes-256-gcm", "-bytes", "16384", "-seconds", "1", "-mr").Output()
	if err != nil {
		return 0, fmt.Errorf("openssl speed: %w", err)
	}
	// A line such as +F:25:AES-256-GCM:6085771264.00, in bytes a second.
	line := regexp.MustCompile(`(?i)^\+F:\d+:aes-256-gcm:([0-9.]+)$`)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if m := line.FindStringSubmatch(lines.Text()); m != nil {
			speed, err := strconv.ParseFloat(m[1], 64)
			if err != nil || speed <= 0 {
				return 0, fmt.Errorf("openssl speed: result %q", m[1])
			}
			return time.Duration(size / speed * float64(time.Second)), nil
		}
	}
	return 0, errors.New("openssl speed: no result in its output")
}
