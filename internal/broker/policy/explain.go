package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/adyton-dev/adyton/refusal"
)

// Explanation says how a policy came to its decision.
type Explanation struct {
	Allowed bool `json:"allowed"`
	// Reason and Detail are the refusal's.
	Reason      refusal.Reason `json:"reason,omitempty"`
	Detail      string         `json:"detail,omitempty"`
	Validations []Step         `json:"validations"`
}

// Step is the value of one validation.
type Step struct {
	Validation
	// Result is "true", "false" or "error".
	Result string `json:"result"`
	// Error says why it could not be evaluated.
	Error string `json:"error,omitempty"`
	// Values are the claims that the expression reads, in the order of the text.
	Values []Value `json:"values"`
}

// Value is a claim and what it was.
type Value struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Explain decides as Decide does and gives the value of every validation, also of
// those after the first that fails.
func (p *Policy) Explain(ctx context.Context, in Input) (*Explanation, error) {
	vars, err := p.schema.activation(in)
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	e := &Explanation{Validations: []Step{}}
	for i, v := range p.validations {
		step := Step{Validation: v.Validation, Values: []Value{}}
		ok, _, err := evaluate(ctx, v.program, vars)
		step.Result = fmt.Sprint(ok)
		if err != nil {
			step.Result, step.Error = "error", err.Error()
		}
		// The traced evaluation only tells values; it decides nothing.
		if _, details, _ := evaluate(ctx, v.trace, vars); details != nil {
			step.Values = values(v.ast, details)
		}
		e.Validations = append(e.Validations, step)
		if refused := v.verdict(i, ok, err); refused != nil && e.Reason == "" {
			e.Reason, e.Detail = refusal.Of(refused), detail(refused)
		}
	}
	if refused := p.Decide(ctx, in); refused != nil {
		e.Reason, e.Detail = refusal.Of(refused), detail(refused)
	}
	e.Allowed = e.Reason == ""
	return e, nil
}

func detail(err error) string {
	return strings.TrimPrefix(err.Error(), string(refusal.Of(err))+": ")
}

// values gives the value of each variable and field that the expression reads.
func values(checked *cel.Ast, details *cel.EvalDetails) []Value {
	out := []Value{}
	celast.PreOrderVisit(checked.NativeRep().Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		name := path(e)
		if name == "" {
			return
		}
		value, ok := details.State().Value(e.ID())
		if !ok || slices.ContainsFunc(out, func(v Value) bool { return v.Name == name }) {
			return
		}
		// sgx is not told of beside sgx.isv_svn.
		for _, v := range out {
			if strings.HasPrefix(v.Name, name+".") {
				return
			}
		}
		out = append(out, Value{Name: name, Value: show(value)})
	}))
	return out
}

// path gives "sgx.isv_svn" for such an expression, else "".
func path(e celast.Expr) string {
	switch e.Kind() {
	case celast.IdentKind:
		return e.AsIdent()
	case celast.SelectKind:
		sel := e.AsSelect()
		if parent := path(sel.Operand()); parent != "" && !sel.IsTestOnly() {
			return parent + "." + sel.FieldName()
		}
	}
	return ""
}

func show(v ref.Val) string {
	if types.IsError(v) || types.IsUnknown(v) {
		return "missing"
	}
	switch native := v.Value().(type) {
	case string:
		return fmt.Sprintf("%q", native)
	default:
		return fmt.Sprint(native)
	}
}
