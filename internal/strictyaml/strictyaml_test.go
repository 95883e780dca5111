package strictyaml_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/internal/strictyaml"
)

type sample struct {
	Name string `yaml:"name"`
	Spec struct {
		Roots []struct {
			Name string `yaml:"name"`
		} `yaml:"roots"`
	} `yaml:"spec"`
}

func read(text string) (*strictyaml.Document, error) {
	d, err := strictyaml.Parse("f.yaml", []byte(text), 1024)
	if err != nil {
		return nil, err
	}
	var s sample
	return d, d.Decode(&s)
}

func TestErrorsAreOneLineWithPosition(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"unknown field":   {"name: x\nspek: {}\n", `f.yaml:2:1: unknown field "spek"`},
		"wrong type":      {"name: x\nspec: 3\n", "f.yaml:2:7: int was used where mapping is expected"},
		"syntax":          {"name: [x\n", "f.yaml:1:"},
		"duplicate key":   {"name: x\nname: y\n", "f.yaml:2:1: "},
		"empty":           {"# nothing\n", "f.yaml:1:1: the file is empty"},
		"second document": {"name: x\n---\nname: y\n", "f.yaml:3:5: there is a second document"},
		"tag":             {"spec:\n  roots: !0000\n", "f.yaml:2:10: tags, anchors and aliases"},
		"alias":           {"name: &a x\nspec: *a\n", "f.yaml:1:7: tags, anchors and aliases"},
		"too long":        {"name: " + strings.Repeat("x", 2000), "f.yaml:1:1: longer than 1024 bytes"},
		"too deep":        {strings.Repeat("[", 1001), "f.yaml:1:1: more than 1000 brackets"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := read(c.text)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q, want one line that begins with %q", err, c.want)
			}
		})
	}
}

func TestErrorAtFindsValueOrNearestParent(t *testing.T) {
	t.Parallel()
	d, err := read("name: x\nspec:\n  roots:\n    - name: a\n    - name: b\n")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"$.spec.roots[1].name": "f.yaml:5:13: spec.roots[1].name: bad",
		"$.spec.roots[1].key":  "f.yaml:5:7: spec.roots[1].key: bad",
		"$.other":              "f.yaml:1:1: other: bad",
	} {
		if got := d.ErrorAt(path, errors.New("bad")).Error(); got != want {
			t.Errorf("ErrorAt(%s) = %q, want %q", path, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"name: x", "spec: {roots: [{name: a}]}", "a: !!b c", "- &a *a", "name: |\n  x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := read(text)
		if err == nil {
			_ = d.ErrorAt("$.spec.roots[0].name", errors.New("x"))
		}
	})
}
