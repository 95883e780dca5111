// Package toolcache says where programs that are built from their Go modules are
// kept: outside every checkout, keyed by version. It imports only the standard
// library, since the installer that fills the cache uses it too.
package toolcache

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Root is the cache's folder: $ADYTON_CACHE, else adyton below the user's cache
// folder ($XDG_CACHE_HOME or ~/.cache).
func Root() (string, error) {
	if dir := os.Getenv("ADYTON_CACHE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (set ADYTON_CACHE): %w", err)
	}
	return filepath.Join(dir, "adyton"), nil
}

// Path is where the named program is kept in the given version.
func Path(name, version string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "tools", name+"-"+version, name), nil
}

// Find gives the newest cached build of the named program, by the time it was
// built, or an error that satisfies errors.Is(err, fs.ErrNotExist).
func Find(name string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(root, "tools", name+"-*", name))
	if err != nil {
		return "", fmt.Errorf("look for %s in the cache: %w", name, err)
	}
	built := func(file string) int64 {
		info, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	slices.SortFunc(found, func(a, b string) int { return cmp.Compare(built(b), built(a)) })
	if len(found) == 0 {
		return "", fmt.Errorf("%s in the cache %s: %w", name, root, os.ErrNotExist)
	}
	return found[0], nil
}
