// Package strictyaml reads the small YAML files that people write for Adyton —
// enclave.yaml, trust and release policies — and says in one line where they are
// wrong.
//
// It accepts one document of plain YAML: unknown fields are errors, and tags,
// anchors and aliases are refused, since no such file needs them, the parser's
// decoder panics on some tags, and aliases make a small file large. Every error
// begins with "name:line:column: ". It imports goccy/go-yaml only.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxBrackets bounds flow collections, on whose nesting the parser recurses.
const maxBrackets = 1000

// Document is one YAML document that knows where its values are.
type Document struct {
	name string
	file *ast.File
	body ast.Node
}

// Parse reads the text of one document of at most max bytes. The name, a path,
// begins every error.
func Parse(name string, text []byte, max int) (*Document, error) {
	if len(text) > max {
		return nil, fmt.Errorf("%s:1:1: longer than %d bytes", name, max)
	}
	if n := bytes.Count(text, []byte("[")) + bytes.Count(text, []byte("{")); n > maxBrackets {
		return nil, fmt.Errorf("%s:1:1: more than %d brackets", name, maxBrackets)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, oneLine(name, err)
	}
	d := &Document{name: name, file: file}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if d.body != nil {
			return nil, at(name, doc.Body.GetToken(), errors.New("there is a second document"))
		}
		d.body = doc.Body
	}
	if d.body == nil {
		return nil, fmt.Errorf("%s:1:1: the file is empty", name)
	}
	var plain plainness
	ast.Walk(&plain, d.body)
	if plain.fault != nil {
		return nil, at(name, plain.fault.GetToken(), errors.New("tags, anchors and aliases are not accepted: write the value out"))
	}
	return d, nil
}

// Decode fills the struct that v points to; a field that it does not have is an
// error.
func (d *Document) Decode(v any) error {
	if err := yaml.NodeToValue(d.body, v, yaml.Strict()); err != nil {
		return oneLine(d.name, err)
	}
	return nil
}

// ErrorAt adds to err the position of a value by its YAML path, such as
// $.spec.roots[0].name, or of the nearest parent that the document has.
func (d *Document) ErrorAt(path string, err error) error {
	return at(d.name, d.find(path), fmt.Errorf("%s: %w", strings.TrimPrefix(path, "$."), err))
}

// Line gives the line of the value at a YAML path, or of its nearest parent.
func (d *Document) Line(path string) int { return d.find(path).Position.Line }

func (d *Document) find(path string) *token.Token {
	for ; path != "" && path != "$"; path = path[:max(strings.LastIndexAny(path, ".["), 0)] {
		compiled, err := yaml.PathString(path)
		if err != nil {
			continue
		}
		if node, err := compiled.FilterFile(d.file); err == nil && node != nil && node.GetToken() != nil {
			return firstToken(node)
		}
	}
	return firstToken(d.body)
}

// firstToken gives the token at which a node begins; that of a mapping is else
// the ":" after its first key.
func firstToken(node ast.Node) *token.Token {
	switch n := node.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 && !n.IsFlowStyle {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return node.GetToken()
}

// oneLine reduces an error of the YAML library, which quotes the source over
// many lines.
func oneLine(name string, err error) error {
	var y yaml.Error
	if !errors.As(err, &y) || y.GetToken() == nil {
		line, _, _ := strings.Cut(err.Error(), "\n")
		return fmt.Errorf("%s:1:1: %s", name, line)
	}
	message := strings.Join(strings.Fields(y.GetMessage()), " ")
	var wrongType *yaml.TypeError
	var overflow *yaml.OverflowError
	switch {
	case errors.As(err, &wrongType):
		message = "want " + describe(wrongType.DstType)
	case errors.As(err, &overflow):
		message = fmt.Sprintf("%s is out of range, want %s", overflow.SrcNum, describe(overflow.DstType))
	}
	return at(name, y.GetToken(), errors.New(message))
}

// describe says in words what a field takes.
func describe(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf("a whole number from 0 to %d", uint64(1)<<t.Bits()-1)
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct, reflect.Pointer:
		return "a mapping"
	default:
		return "a text"
	}
}

func at(name string, t *token.Token, err error) error {
	return fmt.Errorf("%s:%d:%d: %w", name, t.Position.Line, t.Position.Column, err)
}

// plainness finds the first tag, anchor, alias or merge key.
type plainness struct{ fault ast.Node }

// Visit looks at one node.
func (p *plainness) Visit(node ast.Node) ast.Visitor {
	switch node.Type() {
	case ast.TagType, ast.AnchorType, ast.AliasType, ast.MergeKeyType:
		if p.fault == nil {
			p.fault = node
		}
		return nil
	}
	return p
}
