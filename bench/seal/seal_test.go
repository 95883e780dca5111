package seal_test

import (
	"testing"

	"github.com/adyton-dev/adyton/bench/seal"
)

func TestWhatEachToolSealsItOpens(t *testing.T) {
	rows, err := seal.Rows(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if row.Skipped == "" && row.Ratio <= 0 {
			t.Errorf("%s beside %s: %+v", row.Job, row.Peer, row)
		}
	}
}
