package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestTableHasEveryTool(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out, 1<<20, 1); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"adyton, 1 MiB", "adyton, 4 KiB", "age, X25519", "openssl aes-256-gcm"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("no %s in:\n%s", name, out.String())
		}
	}
}
