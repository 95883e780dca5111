// Package vectors finds the public test vectors — real quotes and SIGSTRUCTs with
// the verdicts of Intel's own tools — for tests and benchmarks. They are not part
// of the repository. The package imports the standard library only and is linked
// into nothing that ships.
package vectors

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// ErrMissing: there are no vectors here.
var ErrMissing = errors.New("no test vectors: set $ADYTON_VECTORS or put them at shared/vectors beside the checkout")

// Find gives the directory of the vectors: $ADYTON_VECTORS, else shared/vectors in
// the working directory or in one above it; else ErrMissing.
func Find() (string, error) {
	if dir := os.Getenv("ADYTON_VECTORS"); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the test vectors: %w", err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		found := filepath.Join(dir, "shared", "vectors")
		if info, err := os.Stat(found); err == nil && info.IsDir() {
			return found, nil
		}
	}
	return "", ErrMissing
}

// Dir gives the directory of the vectors to a test. Without them the test is
// skipped, and with CI=true it fails.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := Find()
	if errors.Is(err, ErrMissing) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
