package build_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/internal/build"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

func fullYAML(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "full.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestConfigHasEveryField(t *testing.T) {
	t.Parallel()
	c, err := build.LoadConfig(filepath.Join("testdata", "full.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Dir != "testdata" || c.Memory != 512<<20 || c.Mounts[1].Size != 64<<20 || c.ExtProductID[15] != 15 || c.FamilyID[0] != 0xf0 {
		t.Errorf("config is %+v", c)
	}
	if c.ProductID != 7 || c.SVN != 2 || c.Unlock[2].Open.To != "/run/data/a.vcf.gz" || c.Env["MODE"] != "prod" || c.Args[1] != "10" {
		t.Errorf("config is %+v", c)
	}
}

func TestConfigHasDefaults(t *testing.T) {
	t.Parallel()
	c, err := build.ParseConfig("f", []byte("apiVersion: adyton.dev/v1alpha1\nkind: EnclaveBuild\nname: a\nimage: oci:x\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Memory != 256<<20 || c.Threads != 4 {
		t.Errorf("memory is %d, threads %d", c.Memory, c.Threads)
	}
}

// TestConfigErrors compares the message for each broken file with
// testdata/errors.golden.
func TestConfigErrors(t *testing.T) {
	t.Parallel()
	full := fullYAML(t)
	replace := func(old, new string) string {
		t.Helper()
		if !strings.Contains(full, old) {
			t.Fatalf("full.yaml has no %q", old)
		}
		return strings.Replace(full, old, new, 1)
	}
	var have bytes.Buffer
	for _, c := range []struct{ name, text string }{
		{"empty", ""},
		{"comment only", "# nothing\n"},
		{"a list", "- a\n"},
		{"a scalar", "hello\n"},
		{"tab", "a:\n\tb: 1\n"},
		{"unclosed", "args: [a\n"},
		{"unclosed quote", "name: \"a\n"},
		{"unknown field", replace("passEnv:", "passEnvironment:")},
		{"unknown nested field", replace("readOnly: true}", "readonly: true}")},
		{"duplicate field", full + "svn: 3\n"},
		{"second document", full + "---\nname: other\n"},
		{"alias", replace("args: [--top, \"10\"]", "args: [&a x, *a]")},
		{"wrong type", replace("threads: 8", "threads: many")},
		{"negative", replace("svn: 2", "svn: -1")},
		{"too large", replace("productID: 7", "productID: 65536")},
		{"list for text", replace("name: genomics", "name: [a]")},
		{"text for list", replace("entrypoint: [/app]", "entrypoint: /app")},
		{"apiVersion", replace("v1alpha1", "v1")},
		{"kind", replace("EnclaveBuild", "Enclave")},
		{"no kind", replace("kind: EnclaveBuild\n", "")},
		{"name", replace("name: genomics", "name: Genomics!")},
		{"no image", replace("image: oci:./image\n", "")},
		{"init", replace("init: sha256:2b", "init: sha256:2B")},
		{"workingDir", replace("workingDir: /work", "workingDir: work")},
		{"memory unit", replace("memory: 512Mi", "memory: 512MB")},
		{"memory small", replace("memory: 512Mi", "memory: 1")},
		{"memory overflow", replace("memory: 512Mi", "memory: 99999999999999Ti")},
		{"threads", replace("threads: 8", "threads: 0")},
		{"id", replace("0e0f", "0e")},
		{"env name", replace("MODE: prod", "\"MO DE\": prod")},
		{"passEnv", replace("[LOG_LEVEL]", "[LOG_LEVEL, \"A=B\"]")},
		{"mount path", replace("path: /data", "path: data")},
		{"mount over dev", replace("path: /tmp", "path: /dev/shm")},
		{"mount size", replace("{path: /data, readOnly: true}", "{path: /data, size: 1Mi}")},
		{"broker URL", replace("https://127.0.0.1", "http://127.0.0.1")},
		{"broker spki", replace("spki: \"sha256:3c", "spki: \"sha256:zz")},
		{"no broker", replace("broker: {", "# {")},
		{"resource", replace("kbs:///hospital-a/secret/token", "hospital-a/token")},
		{"unlock on disk", replace("file: /run/secrets/a", "file: /etc/a")},
		{"unlock to two places", replace("env: TOKEN", "env: TOKEN, file: /run/b")},
		{"unlock to no place", replace(", env: TOKEN", "")},
		{"unlock from", replace("from: /data/a.sealed", "from: a.sealed")},
		{"too long", strings.Repeat("# comment\n", 10000)},
		{"brackets", strings.Repeat("[", 5000)},
		{"not UTF-8", "name: \xff\xfe\n"},
	} {
		_, err := build.ParseConfig("enclave.yaml", []byte(c.text))
		if err == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		if strings.ContainsRune(err.Error(), '\n') {
			t.Errorf("%s: %q is not one line", c.name, err)
		}
		fmt.Fprintf(&have, "%s\n\t%s\n", c.name, err)
	}
	file := filepath.Join("testdata", "errors.golden")
	if *update {
		if err := os.WriteFile(file, have.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if have.String() != string(want) {
		t.Errorf("messages are\n%s\nwant\n%s", have.String(), want)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(fullYAML(f)))
	f.Add([]byte("a: &x [1]\nb: *x\n"))
	f.Add([]byte("mounts: [{path: /a, size: 1Ki}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := build.ParseConfig("f", text); err != nil && strings.ContainsRune(err.Error(), '\n') {
			t.Errorf("%q is not one line", err)
		}
	})
}
