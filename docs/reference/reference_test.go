// Package reference holds the pages of docs/reference against the code: tables
// are generated or compared with the structs, examples are compiled, and what a
// page says of bytes is carried out by nothing but the page and a standard library.
// `go test ./docs/reference -update` writes the generated tables.
package reference

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/adyton-dev/adyton/appraise"
	"github.com/adyton-dev/adyton/internal/broker"
	"github.com/adyton-dev/adyton/internal/build"
)

var update = flag.Bool("update", false, "write the generated tables instead of comparing with them")

// TestClaimsTables holds the tables of claims.md against the fields of
// appraise.Claims, their JSON names and their comments.
func TestClaimsTables(t *testing.T) {
	t.Parallel()
	const file = "claims.md"
	structs := structsOf(t, "../../appraise/claims.go")
	page := read(t, file)
	want := regexp.MustCompile(`(?s)<!-- table: (\w+) ?(\S*) -->\n.*?<!-- end -->`).ReplaceAllStringFunc(page, func(table string) string {
		var name, prefix string
		// The pattern above has matched already.
		_, _ = fmt.Sscanf(table, "<!-- table: %s %s -->", &name, &prefix)
		if prefix == "-->" {
			prefix = ""
		}
		fields, found := structs[name]
		if !found {
			t.Errorf("there is no type %s", name)
			return table
		}
		delete(structs, name)
		head, _, _ := strings.Cut(table, "\n")
		return head + "\n" + claimsTable(fields, prefix) + "<!-- end -->"
	})
	for _, name := range slices.Sorted(maps.Keys(structs)) {
		t.Errorf("%s has no table of %s: add <!-- table: %[2]s PREFIX --> and <!-- end -->", file, name)
	}
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if page != want {
		t.Errorf("%s is not what the comments in appraise/claims.go say: run `make docs`", file)
	}
}

func claimsTable(fields []field, prefix string) string {
	var table strings.Builder
	table.WriteString("\n| claim | type | meaning |\n|---|---|---|\n")
	for _, f := range fields {
		doc := f.doc
		for _, other := range fields {
			// Names of the Go struct become those of the JSON: a field's own at the
			// beginning, and others unless they are a plain term such as SGX too.
			if doc == f.doc && strings.HasPrefix(doc, other.name+" ") {
				doc = "`" + other.tag + "`" + strings.TrimPrefix(doc, other.name)
			}
			if strings.ToUpper(other.name) != other.name {
				doc = regexp.MustCompile(`([^.\x60]|^)\b`+other.name+`\b`).ReplaceAllString(doc, "$1`"+other.tag+"`")
			}
		}
		fmt.Fprintf(&table, "| `%s%s` | %s | %s |\n", prefix, f.tag, f.typ, doc)
	}
	return table.String() + "\n"
}

// TestYAMLTables holds the tables of fields against the YAML tags of the structs
// that are read: no field is missing and none is invented.
func TestYAMLTables(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		page, section, source, typ string
		omit                       []string
	}{
		{"enclave-yaml.md", "# enclave.yaml", "../../internal/build/config.go", "Config", nil},
		{"policies.md", "## Trust policy", "../../appraise/trustpolicy.go", "trustPolicyDocument", []string{"apiVersion", "kind"}},
		{"policies.md", "## Release policy", "../../internal/broker/policy/policy.go", "document", []string{"apiVersion", "kind"}},
	} {
		t.Run(test.section, func(t *testing.T) {
			t.Parallel()
			_, section, found := strings.Cut("\n"+read(t, test.page), "\n"+test.section+"\n")
			if !found {
				t.Fatalf("%s has no section %q", test.page, test.section)
			}
			if strings.HasPrefix(test.section, "## ") {
				section, _, _ = strings.Cut(section, "\n## ")
			}
			var have []string
			for _, row := range regexp.MustCompile("(?m)^\\| `([\\w.\\[\\]]+)` \\|").FindAllStringSubmatch(section, -1) {
				have = append(have, row[1])
			}
			want := slices.DeleteFunc(paths(structsOf(t, test.source), test.typ, ""), func(p string) bool { return slices.Contains(test.omit, p) })
			for _, p := range want {
				if !slices.Contains(have, p) {
					t.Errorf("%s has no row for `%s`", test.page, p)
				}
			}
			for _, p := range have {
				// A row for an object explains what its fields have in common.
				if !slices.Contains(want, p) && !slices.ContainsFunc(want, func(w string) bool {
					return strings.HasPrefix(w, p+".") || strings.HasPrefix(w, p+"[].")
				}) {
					t.Errorf("%s has a row for `%s`, which is no field", test.page, p)
				}
			}
		})
	}
}

// TestExamplesAreAccepted compiles every example of the pages.
func TestExamplesAreAccepted(t *testing.T) {
	t.Parallel()
	compiler, err := broker.NewPolicyCompiler()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeRoot(t, filepath.Join(dir, "root.pem"))
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, page := range pages {
		for _, block := range regexp.MustCompile("(?sm)^```(cel|yaml)\n(.*?)^```$").FindAllStringSubmatch(read(t, page), -1) {
			var err error
			switch text := block[2]; {
			case block[1] == "cel":
				for expression := range strings.Lines(text) {
					if _, err := compiler.Compile([]byte(releasePolicy(strings.TrimSpace(expression)))); err != nil {
						t.Errorf("%s: %s: %v", page, expression, err)
					}
				}
			case strings.Contains(text, "kind: EnclaveBuild"):
				_, err = build.ParseConfig(page, []byte(text))
			case strings.Contains(text, "kind: TrustPolicy"):
				_, err = appraise.ParseTrustPolicy([]byte(text), dir)
			case strings.Contains(text, "kind: ReleasePolicy"):
				_, err = compiler.Compile([]byte(text))
			default:
				err = fmt.Errorf("an example of no known kind: %.80s", text)
			}
			if err != nil {
				t.Errorf("%s: %v", page, err)
			}
			count++
		}
	}
	if count == 0 {
		t.Error("no examples found")
	}
}

func releasePolicy(expression string) string {
	return fmt.Sprintf("apiVersion: adyton.dev/v1alpha1\nkind: ReleasePolicy\nspec:\n  validations:\n  - expression: %s\n", strconv.Quote(expression))
}

func writeRoot(t *testing.T, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// field is a field of a struct that is read or written.
type field struct {
	name, tag string
	typ       string   // for people
	doc       string   // one line
	of        ast.Expr // its type
}

// structsOf gives the fields of a source file's structs that have a tag.
func structsOf(t *testing.T, source string) map[string][]field {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	structs := map[string][]field{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			if fields := fieldsOf(s); len(fields) > 0 {
				structs[spec.Name.Name] = fields
			}
		}
		return false
	})
	return structs
}

func fieldsOf(s *ast.StructType) []field {
	var fields []field
	for _, f := range s.Fields.List {
		if f.Tag == nil || len(f.Names) == 0 {
			continue
		}
		tags := reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
		tag, _, _ := strings.Cut(tags.Get("json")+tags.Get("yaml"), ",")
		if yaml, ok := tags.Lookup("yaml"); ok {
			tag, _, _ = strings.Cut(yaml, ",")
		}
		if tag == "" || tag == "-" {
			continue
		}
		doc := strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
		fields = append(fields, field{name: f.Names[0].Name, tag: tag, typ: typeName(f.Type), doc: doc, of: f.Type})
	}
	return fields
}

// typeName names a Go type as CEL and JSON users do.
func typeName(of ast.Expr) string {
	switch of := of.(type) {
	case *ast.StarExpr:
		return typeName(of.X)
	case *ast.ArrayType:
		if size, ok := of.Len.(*ast.BasicLit); ok {
			return "list of " + size.Value + " " + typeName(of.Elt) + "s"
		}
		return "list of " + typeName(of.Elt) + "s"
	case *ast.MapType:
		return "map"
	case *ast.Ident:
		switch {
		case strings.HasPrefix(of.Name, "uint"):
			return "int"
		case of.Name == "string" || of.Name == "bool":
			return of.Name
		}
	}
	return "object"
}

// paths gives the paths of all values below the struct of a name.
func paths(structs map[string][]field, name, prefix string) []string {
	return fieldPaths(structs, structs[name], prefix)
}

func fieldPaths(structs map[string][]field, fields []field, prefix string) []string {
	var list []string
	for _, f := range fields {
		path, of := prefix+f.tag, f.of
		if star, ok := of.(*ast.StarExpr); ok {
			of = star.X
		}
		inner := path + "."
		if array, ok := of.(*ast.ArrayType); ok {
			of, inner = array.Elt, path+"[]."
		}
		below := []string(nil)
		switch of := of.(type) {
		case *ast.StructType:
			below = fieldPaths(structs, fieldsOf(of), inner)
		case *ast.Ident:
			below = paths(structs, of.Name, inner)
		}
		if len(below) == 0 {
			below = []string{path}
		}
		list = append(list, below...)
	}
	return list
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
