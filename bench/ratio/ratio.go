// Package ratio compares ways to do a job on a machine that is not quiet. The
// ways take turns, each turn of one is divided by the turn of the other that is
// next to it, and the median of these ratios counts: what slows the machine for a
// while slows both and cancels. It imports golang.org/x/sys for the CPU's clock.
//
// The packages beside it in bench/ each compare one thing and give [Row]s;
// bench/run makes a table of them. To add a comparison, write such a package and
// a line in bench/run.
package ratio

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Turn does a job once or several times and gives the time of one.
type Turn func(context.Context) (time.Duration, error)

// Clock tells a time since some fixed moment.
type Clock func() (time.Duration, error)

// Wall is the time of the day, for jobs that wait or use several cores.
func Wall() Clock {
	start := time.Now()
	return func() (time.Duration, error) { return time.Since(start), nil }
}

// CPU is the time that this process has computed, in all its threads: other
// programs that want the same core do not count.
func CPU() Clock {
	return func() (time.Duration, error) {
		var t unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
			return 0, fmt.Errorf("read the CPU clock: %w", err)
		}
		return time.Duration(t.Nano()), nil
	}
}

// Each is a turn that does the job n times.
func Each(clock Clock, n int, job func(context.Context) error) Turn {
	return func(ctx context.Context) (time.Duration, error) {
		begin, err := clock()
		if err != nil {
			return 0, err
		}
		for range n {
			if err := job(ctx); err != nil {
				return 0, err
			}
		}
		end, err := clock()
		return (end - begin) / time.Duration(n), err
	}
}

// Times are those of one contender, in the order of the rounds.
type Times []time.Duration

// Median is the middle one.
func (t Times) Median() time.Duration {
	sorted := slices.Sorted(slices.Values(t))
	return sorted[len(sorted)/2]
}

// Rounds lets each contender have one turn in each round, and a first one that
// does not count. Who begins changes from round to round.
func Rounds(ctx context.Context, rounds int, contenders ...Turn) ([]Times, error) {
	times := make([]Times, len(contenders))
	for i := range times {
		times[i] = make(Times, rounds)
	}
	for round := -1; round < rounds; round++ {
		for k := range contenders {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			i := (k + max(round, 0)) % len(contenders)
			took, err := contenders[i](ctx)
			if err != nil {
				return nil, err
			}
			if round >= 0 {
				times[i][round] = max(took, 1)
			}
		}
	}
	return times, nil
}

// Unit says what a ratio is of.
type Unit string

// Speed is the peer's time by ours: more is better. Time is ours by the peer's:
// less is better.
const (
	Speed Unit = "speed"
	Time  Unit = "time"
)

// Row is one comparison.
type Row struct {
	Job        string  `json:"job"`
	Figure     string  `json:"figure"`     // ours, absolute
	Peer       string  `json:"peer"`       // a program or a limit
	PeerFigure string  `json:"peerFigure"` // absolute, of the same run
	Unit       Unit    `json:"unit"`
	Ratio      float64 `json:"ratio"` // the median of the rounds' ratios
	// Low and High hold the middle half of the rounds' ratios.
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Rounds int     `json:"rounds"`
	// Target is the least speed or the most time that the project asks for; 0: none.
	Target float64 `json:"target,omitempty"`
	// Skipped, if not empty, says why there are no figures.
	Skipped string `json:"skipped,omitempty"`
}

// Met says whether the ratio holds the target.
func (r *Row) Met() bool {
	return r.Skipped == "" && (r.Target == 0 || r.Unit == Speed && r.Ratio >= r.Target || r.Unit == Time && r.Ratio <= r.Target)
}

// Compare makes a row of the times of one job and its peer, of the same rounds.
func Compare(unit Unit, ours, peers Times) Row {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = float64(ours[i]) / float64(peers[i])
		if unit == Speed {
			ratios[i] = 1 / ratios[i]
		}
	}
	slices.Sort(ratios)
	n := len(ratios)
	return Row{Unit: unit, Ratio: ratios[n/2], Low: ratios[n/4], High: ratios[n-1-n/4], Rounds: n}
}

// Throughput writes the speed at which a job of size bytes is done.
func Throughput(size int64, took time.Duration) string {
	return fmt.Sprintf("%.0f MB/s", float64(size)/took.Seconds()/1e6)
}
