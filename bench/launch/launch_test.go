package launch_test

import (
	"os"
	"testing"

	"github.com/adyton-dev/adyton/bench/launch"
)

// Each turn fails if the program does not run to its end.
func TestTheProgramRunsBothWays(t *testing.T) {
	rows, err := launch.Rows(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if row.Skipped != "" && os.Getenv("CI") == "true" {
			t.Errorf("%s: %s", row.Job, row.Skipped)
		}
	}
}
