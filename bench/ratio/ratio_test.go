package ratio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/bench/ratio"
)

func TestDriftOfTheMachineCancels(t *testing.T) {
	t.Parallel()
	// The machine is three times as slow from the middle on.
	ours := ratio.Times{20, 20, 20, 60, 60, 60, 60}
	peers := ratio.Times{10, 10, 10, 30, 30, 30, 30}
	for unit, want := range map[ratio.Unit]float64{ratio.Time: 2, ratio.Speed: 0.5} {
		row := ratio.Compare(unit, ours, peers)
		if row.Ratio != want || row.Low != want || row.High != want || row.Rounds != 7 {
			t.Errorf("%s: %+v, want %v throughout", unit, row, want)
		}
	}
}

func TestATargetIsALeastSpeedOrAMostTime(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		row  ratio.Row
		want bool
	}{
		{ratio.Row{Unit: ratio.Speed, Ratio: 0.9, Target: 0.85}, true},
		{ratio.Row{Unit: ratio.Speed, Ratio: 0.8, Target: 0.85}, false},
		{ratio.Row{Unit: ratio.Time, Ratio: 14, Target: 15}, true},
		{ratio.Row{Unit: ratio.Time, Ratio: 16, Target: 15}, false},
		{ratio.Row{Unit: ratio.Time, Ratio: 16}, true},
		{ratio.Row{Unit: ratio.Time, Target: 15, Skipped: "no runsc"}, false},
	} {
		if got := test.row.Met(); got != test.want {
			t.Errorf("%+v: met = %t", test.row, got)
		}
	}
}

func TestEachContenderHasOneTurnARound(t *testing.T) {
	t.Parallel()
	var order string
	turn := func(name string, took time.Duration) ratio.Turn {
		return func(context.Context) (time.Duration, error) {
			order += name
			return took, nil
		}
	}
	times, err := ratio.Rounds(t.Context(), 3, turn("a", 5), turn("b", 7))
	if err != nil {
		t.Fatal(err)
	}
	if order != "ab"+"ab"+"ba"+"ab" {
		t.Errorf("turns: %s", order)
	}
	if len(times[0]) != 3 || times[0].Median() != 5 || times[1].Median() != 7 {
		t.Errorf("times: %v", times)
	}
	failure := errors.New("broken")
	_, err = ratio.Rounds(t.Context(), 1, func(context.Context) (time.Duration, error) { return 0, failure })
	if !errors.Is(err, failure) {
		t.Errorf("error = %v", err)
	}
}
