package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/adyton-dev/adyton/internal/launch/rundir"
	"github.com/adyton-dev/adyton/internal/sandbox"
)

// engineFile, in a run directory, tells how to end the sandbox there.
const engineFile = "engine.json"

type engineSetup struct {
	ID string
	sandbox.Options
}

// CleanStale ends and removes the enclaves below base whose launcher died, for
// instance by SIGKILL, without doing so. It gives the names of those removed.
func CleanStale(ctx context.Context, base string) ([]string, error) {
	stale, err := rundir.Stale(base)
	if err != nil {
		return nil, err
	}
	var removed []string
	var errs []error
	for _, dir := range stale {
		if err := cleanOne(ctx, dir); err != nil {
			errs = append(errs, fmt.Errorf("clean up after the enclave %s: %w", dir.Name(), err))
			continue
		}
		removed = append(removed, dir.Name())
	}
	return removed, errors.Join(errs...)
}

func cleanOne(ctx context.Context, dir *rundir.Dir) error {
	text, err := os.ReadFile(dir.Join(engineFile))
	if errors.Is(err, fs.ErrNotExist) {
		return dir.Remove() // it was never started
	}
	var setup engineSetup
	if err == nil {
		err = json.Unmarshal(text, &setup)
	}
	if err != nil {
		return errors.Join(err, dir.Release())
	}
	engine, err := sandbox.New(setup.Options)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
		defer cancel()
		err = engine.Delete(ctx, setup.ID)
	}
	if err != nil {
		return errors.Join(err, dir.Release())
	}
	return dir.Remove()
}
