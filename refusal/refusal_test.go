package refusal_test

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adyton-dev/adyton/refusal"
)

var update = flag.Bool("update", false, "write the reference page instead of comparing with it")

func TestReasonSurvivesWrapping(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("launch genomics: %w", refusal.New(refusal.MeasurementMismatch, "read image: %w", fs.ErrNotExist))
	if got := refusal.Of(err); got != refusal.MeasurementMismatch {
		t.Errorf("Of = %q, want MeasurementMismatch", got)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the cause is lost")
	}
	if want := "launch genomics: MeasurementMismatch: read image: file does not exist"; err.Error() != want {
		t.Errorf("text = %q, want %q", err, want)
	}
}

func TestOtherErrorsHaveNoReason(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, fs.ErrNotExist} {
		if got := refusal.Of(err); got != "" {
			t.Errorf("Of(%v) = %q, want none", err, got)
		}
	}
}

// TestReferencePage holds docs/reference/reasons.md against the constants and
// their comments, and holds each constant's value against its name.
func TestReferencePage(t *testing.T) {
	t.Parallel()
	var page strings.Builder
	page.WriteString("# Reasons\n\nEvery refusal begins with one of these words. The same word is in the command line's\nerror (exit code 3), the log, the metric label, the broker's answer (`reason`) and the\naudit entry. A release policy may add words of its own.\n")
	room := ""
	for _, r := range reasons(t) {
		if r.room != room {
			room = r.room
			fmt.Fprintf(&page, "\n## %s\n\n| reason | meaning and what to do |\n|---|---|\n", room)
		}
		if r.value != r.name {
			t.Errorf("%s has the value %q: a reason's word is its name", r.name, r.value)
		}
		doc := strings.TrimPrefix(r.doc, r.name+": ")
		if doc == r.doc {
			t.Errorf("the comment of %s does not begin with %q", r.name, r.name+": ")
			continue
		}
		fmt.Fprintf(&page, "| `%s` | %s%s |\n", r.name, strings.ToUpper(doc[:1]), doc[1:])
	}
	file := filepath.Join("..", "docs", "reference", "reasons.md")
	if *update {
		if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page.String() {
		t.Errorf("%s is not what the comments in reasons.go say: run `make docs`", file)
	}
}

type reason struct{ room, name, value, doc string }

// reasons reads the constants of reasons.go in their order. A comment that
// stands alone names the room of those that follow.
func reasons(t *testing.T) []reason {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "reasons.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var out []reason
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range group.Specs {
			value := spec.(*ast.ValueSpec)
			room := ""
			for _, c := range file.Comments {
				if c.Pos() > group.Lparen && c.End() < value.Pos() && c != value.Doc && !isDoc(group, c) {
					room = strings.TrimSpace(c.Text())
				}
			}
			out = append(out, reason{
				room:  room,
				name:  value.Names[0].Name,
				value: strings.Trim(value.Values[0].(*ast.BasicLit).Value, `"`),
				doc:   strings.Join(strings.Fields(value.Doc.Text()), " "),
			})
		}
	}
	return out
}

func isDoc(group *ast.GenDecl, c *ast.CommentGroup) bool {
	for _, spec := range group.Specs {
		if spec.(*ast.ValueSpec).Doc == c {
			return true
		}
	}
	return false
}
