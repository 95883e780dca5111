package release_test

import (
	"testing"

	"github.com/adyton-dev/adyton/bench/release"
)

// Each turn fails if the broker refuses or the server answers otherwise.
func TestBrokerAndLimitAnswer(t *testing.T) {
	rows, err := release.Rows(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if row.Ratio <= 0 {
			t.Errorf("%+v", row)
		}
	}
}
