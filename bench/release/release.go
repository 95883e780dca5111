// Package release compares the broker with the least that its protocol takes: a
// TLS server that answers as many bytes and does the elliptic-curve operations,
// without deciding, recording or remembering anything. Broker, server and their
// clients run in this process and speak TLS 1.3 over the loopback device; the
// broker's storage is on the disk of the temporary directory.
package release

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/adyton-dev/adyton/attest/kbs"
	"github.com/adyton-dev/adyton/bench/ratio"
)

const (
	// clients ask at the same time, each on a connection of its own.
	clients = 32
	// slice is how long the clients ask in one turn.
	slice = 300 * time.Millisecond
	// unlocks in one turn, one after the other.
	unlocks = 10

	resource = "kbs:///bench/key/one"
)

// Rows fetches a key of 32 bytes, in open sessions and from the first connection
// on.
func Rows(ctx context.Context, rounds int) ([]ratio.Row, error) {
	dir, err := os.MkdirTemp("", "adyton-bench-release-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
	b, err := startBroker(ctx, filepath.Join(dir, "broker"), filepath.Join(dir, "softtee"))
	if err != nil {
		return nil, fmt.Errorf("start a broker: %w", err)
	}
	defer b.close()
	limit, err := startLimit(b.certificate)
	if err != nil {
		return nil, fmt.Errorf("start the server to compare with: %w", err)
	}
	defer limit.close()

	sessions := make([]func(context.Context) error, clients)
	for i := range sessions {
		c, err := b.client()
		if err != nil {
			return nil, err
		}
		defer c.Close()
		if _, err := c.Attest(ctx); err != nil {
			return nil, err
		}
		sessions[i] = func(ctx context.Context) error {
			_, err := c.Resource(ctx, resource)
			return err
		}
	}
	plain := limit.clients(echoPath)
	exchange := limit.clients(exchangePath)
	wall := ratio.Wall()
	times, err := ratio.Rounds(ctx, rounds,
		together(sessions), together(plain), together(exchange),
		ratio.Each(wall, unlocks, b.unlock), ratio.Each(wall, unlocks, limit.unlock))
	if err != nil {
		return nil, err
	}

	var rows []ratio.Row
	add := func(job string, ours int, peer string, peers int) {
		row := ratio.Compare(ratio.Speed, times[ours], times[peers])
		row.Job, row.Figure = job, perSecond(times[ours])
		row.Peer, row.PeerFigure = peer, perSecond(times[peers])
		rows = append(rows, row)
	}
	job := fmt.Sprintf("release a key in an attested session, %d clients", clients)
	add(job, 0, "TLS echo of as many bytes", 1)
	add(job, 0, "TLS echo and the P-256 operations of the release (2 at the server, 1 at the client)", 2)
	add("unlock: connect, attest by a quote, one key", 3, "a new TLS connection and three echoes, the last with the P-256 operations", 4)
	return rows, nil
}

// together is a turn in which all ask again and again until the slice is over. It
// gives the time between two answers.
func together(ask []func(context.Context) error) ratio.Turn {
	return func(ctx context.Context) (time.Duration, error) {
		begin := time.Now()
		answered, errs := make([]int, len(ask)), make([]error, len(ask))
		var all sync.WaitGroup
		for i, one := range ask {
			all.Go(func() {
				for errs[i] == nil && time.Since(begin) < slice {
					errs[i] = one(ctx)
					answered[i]++
				}
			})
		}
		all.Wait()
		took, sum := time.Since(begin), 0
		for i, err := range errs {
			if err != nil {
				return 0, err
			}
			sum += answered[i]
		}
		return took / time.Duration(sum), nil
	}
}

func perSecond(t ratio.Times) string {
	return fmt.Sprintf("%.0f/s", 1/t.Median().Seconds())
}

// unlock does what an enclave does at its start.
func (b *brokerUnderTest) unlock(ctx context.Context) error {
	c, err := b.client()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Resource(ctx, resource)
	return err
}

func (b *brokerUnderTest) client() (*kbs.Client, error) {
	return kbs.New(kbs.Options{URL: b.url, SPKI: b.pin, Attester: b.enclave})
}
