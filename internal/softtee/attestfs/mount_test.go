package attestfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMissingFUSEIsExplained(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no fusermount3
	device := filepath.Join(t.TempDir(), "fuse")
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, device string
		root         bool
		want         string
	}{
		{"no device, root", device + "-missing", true, "modprobe fuse"},
		{"no device, user", device + "-missing", false, "modprobe fuse"},
		{"no helper", device, false, "install the package fuse3"},
		{"all there", device, true, ""},
	} {
		err := checkFUSE(test.device, test.root)
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", test.name, err, test.want)
		}
	}
}
