package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"reflect"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// schema is the shape of the claims, told to CEL's type checker. Values stay
// plain JSON maps at run time, so that a claim which the evidence does not have
// is an error of the expression and never a zero value.
type schema struct {
	*types.Registry
	// structs holds the fields of each struct by the name of its type.
	structs map[string]map[string]*cel.Type
	names   map[reflect.Type]string
	root    string
}

const resourceType = "adyton.Resource"

func newSchema(claims reflect.Type) (*schema, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	s := &schema{Registry: registry, structs: make(map[string]map[string]*cel.Type), names: make(map[reflect.Type]string)}
	t, err := s.declare(claims)
	if err != nil {
		return nil, err
	}
	s.root = t.TypeName()
	if s.structs[s.root] == nil {
		return nil, fmt.Errorf("claims of type %v are not a struct", claims)
	}
	fields, err := s.fields(reflect.TypeFor[Resource]())
	if err != nil {
		return nil, err
	}
	s.structs[resourceType] = fields
	return s, nil
}

// variables gives the names of expressions with their types.
func (s *schema) variables() iter.Seq2[string, *cel.Type] {
	vars := maps.Clone(s.structs[s.root])
	vars["resource"] = cel.ObjectType(resourceType)
	return maps.All(vars)
}

// declare gives the CEL type of a Go type's JSON.
func (s *schema) declare(t reflect.Type) (*cel.Type, error) {
	if t.Kind() == reflect.Pointer {
		return s.declare(t.Elem())
	}
	if t == reflect.TypeFor[time.Time]() || t.Implements(reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()) {
		return cel.StringType, nil
	}
	switch t.Kind() {
	case reflect.Bool:
		return cel.BoolType, nil
	case reflect.String:
		return cel.StringType, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return cel.IntType, nil
	case reflect.Float32, reflect.Float64:
		return cel.DoubleType, nil
	case reflect.Interface:
		return cel.DynType, nil
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			return cel.StringType, nil // base64
		}
		elem, err := s.declare(t.Elem())
		if err != nil {
			return nil, err
		}
		return cel.ListType(elem), nil
	case reflect.Map:
		elem, err := s.declare(t.Elem())
		if err != nil {
			return nil, err
		}
		return cel.MapType(cel.StringType, elem), nil
	case reflect.Struct:
		name, done := s.names[t]
		if !done {
			// Numbered, because types of two packages may share a name.
			name = fmt.Sprintf("adyton.%s%d", t.Name(), len(s.names))
			s.names[t] = name
			fields, err := s.fields(t)
			if err != nil {
				return nil, err
			}
			s.structs[name] = fields
		}
		return cel.ObjectType(name), nil
	default:
		return nil, fmt.Errorf("type %v has no CEL type", t)
	}
}

func (s *schema) fields(t reflect.Type) (map[string]*cel.Type, error) {
	fields := make(map[string]*cel.Type)
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || name == "-" || field.Anonymous && name == "" {
			continue
		}
		if name == "" {
			name = field.Name
		}
		typ, err := s.declare(field.Type)
		if err != nil {
			return nil, fmt.Errorf("%v.%s: %w", t, field.Name, err)
		}
		fields[name] = typ
	}
	return fields, nil
}

// FindStructType implements types.Provider.
func (s *schema) FindStructType(name string) (*types.Type, bool) {
	if _, ok := s.structs[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return s.Registry.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (s *schema) FindStructFieldNames(name string) ([]string, bool) {
	if fields, ok := s.structs[name]; ok {
		names := make([]string, 0, len(fields))
		for f := range fields {
			names = append(names, f)
		}
		return names, true
	}
	return s.Registry.FindStructFieldNames(name)
}

// FindStructFieldType implements types.Provider. Without accessors in its answer,
// CEL reads the field as a key of a map.
func (s *schema) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if fields, ok := s.structs[name]; ok {
		t, ok := fields[field]
		return &types.FieldType{Type: t}, ok
	}
	return s.Registry.FindStructFieldType(name, field)
}

// activation gives the values of the variables. JSON numbers become int, or
// double where they are no integers.
func (s *schema) activation(in Input) (map[string]any, error) {
	vars, err := decodeObject(in.Claims)
	if err != nil {
		return nil, err
	}
	for name := range vars {
		if _, ok := s.structs[s.root][name]; !ok {
			return nil, fmt.Errorf("unknown claim %q", name)
		}
	}
	vars["resource"] = map[string]any{
		"repository": in.Resource.Repository, "type": in.Resource.Type,
		"tag": in.Resource.Tag, "uri": in.Resource.URI,
	}
	vars["now"] = in.Now
	return vars, nil
}

func decodeObject(data []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("there is more after the JSON object")
	}
	if object == nil {
		return nil, fmt.Errorf("not a JSON object")
	}
	for k, v := range object {
		converted, err := convert(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		object[k] = converted
	}
	return object, nil
}

func convert(v any) (any, error) {
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			return v.Int64()
		}
		return v.Float64()
	case []any:
		for i := range v {
			c, err := convert(v[i])
			if err != nil {
				return nil, err
			}
			v[i] = c
		}
	case map[string]any:
		for k := range v {
			c, err := convert(v[k])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
			v[k] = c
		}
	}
	return v, nil
}
