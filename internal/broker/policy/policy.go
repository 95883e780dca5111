// Package policy decides whether a resource may be released to what was attested.
//
// A release policy is YAML of kind ReleasePolicy: CEL expressions over the claims
// that appraisal made of the evidence, all of which must be true. What is not
// allowed is refused: a policy without validations, an expression that is false
// and one that cannot be evaluated all refuse.
//
//	apiVersion: adyton.dev/v1alpha1
//	kind: ReleasePolicy
//	spec:
//	  validations:
//	  - expression: tee == "sgx" && sgx.mrsigner == "8f2c…"
//	    reason: SignerNotApproved
//	    message: only enclaves of the institute may compute on this
//
// The variables are the top-level names of the claims' JSON, `resource`
// (repository, type, tag, uri) and `now`. Expressions are type-checked against
// the claims when a policy is compiled, so that a misspelt name is an error then
// and not a silent refusal later.
//
// The package imports cel-go, strictyaml and the refusal reasons. A new claim
// needs no change here: the schema is read from the Go type of the claims.
package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"

	"github.com/adyton-dev/adyton/internal/strictyaml"
	"github.com/adyton-dev/adyton/refusal"
)

// Bounds of a policy.
const (
	MaxSize        = 64 << 10 // bytes of YAML
	MaxValidations = 64
	maxExpression  = 4 << 10 // bytes
	// maxCost bounds the work of one expression, in CEL's units: about 10 ms.
	maxCost = 1_000_000
)

// APIVersion and Kind are those of a release policy.
const (
	APIVersion = "adyton.dev/v1alpha1"
	Kind       = "ReleasePolicy"
)

// Validation is one condition of a policy.
type Validation struct {
	// Expression is CEL of type bool; the release is refused unless it is true.
	Expression string `yaml:"expression" json:"expression"`
	// Reason is the refusal's reason if it is false; PolicyDenied if empty.
	Reason refusal.Reason `yaml:"reason,omitempty" json:"reason,omitempty"`
	// Message is the refusal's text for people.
	Message string `yaml:"message,omitempty" json:"message,omitempty"`
}

type document struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name string `yaml:"name,omitempty"`
	} `yaml:"metadata,omitempty"`
	Spec struct {
		Validations []Validation `yaml:"validations"`
	} `yaml:"spec"`
}

// Resource is the `resource` of expressions.
type Resource struct {
	Repository string `json:"repository"`
	Type       string `json:"type"`
	Tag        string `json:"tag"`
	URI        string `json:"uri"`
}

// Input is what a policy decides on.
type Input struct {
	// Claims is the JSON of the compiler's claims type.
	Claims   json.RawMessage
	Resource Resource
	Now      time.Time
}

// Compiler compiles policies over one type of claims. It may be used concurrently.
type Compiler struct {
	env    *cel.Env
	schema *schema
}

// NewCompiler makes a compiler for claims whose JSON is that of a value of type
// claims, a struct.
func NewCompiler(claims reflect.Type) (*Compiler, error) {
	s, err := newSchema(claims)
	if err != nil {
		return nil, fmt.Errorf("policy schema: %w", err)
	}
	opts := []cel.EnvOption{
		cel.CustomTypeProvider(s), cel.CustomTypeAdapter(s),
		cel.Variable("now", cel.TimestampType),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(64),
		ext.Strings(), ext.Sets(),
	}
	for name, t := range s.variables() {
		opts = append(opts, cel.Variable(name, t))
	}
	env, err := cel.NewEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("policy environment: %w", err)
	}
	return &Compiler{env: env, schema: s}, nil
}

// Policy is a compiled release policy. It may be used concurrently.
type Policy struct {
	validations []compiled
	schema      *schema
	digest      string
}

type compiled struct {
	Validation
	ast     *cel.Ast
	program cel.Program
	// trace is program with the values of its parts kept.
	trace cel.Program
}

// Compile reads a policy in YAML. The error is a refusal of reason PolicyInvalid
// that says where in the text it is.
func (c *Compiler) Compile(text []byte) (*Policy, error) {
	return c.CompileFile("policy", text)
}

// CompileFile is Compile of the text of the file name, which errors begin with.
func (c *Compiler) CompileFile(name string, text []byte) (*Policy, error) {
	doc, file, err := parse(name, text)
	if err != nil {
		return nil, refusal.New(refusal.PolicyInvalid, "%w", err)
	}
	sum := sha256.Sum256(text)
	p := &Policy{schema: c.schema, digest: hex.EncodeToString(sum[:])}
	for i, v := range doc.Spec.Validations {
		compiled, err := c.compile(v)
		if err != nil {
			at := fmt.Sprintf("$.spec.validations[%d].expression", i)
			return nil, refusal.New(refusal.PolicyInvalid, "%w", file.ErrorAt(at, err))
		}
		p.validations = append(p.validations, compiled)
	}
	return p, nil
}

// Digest gives the lower-case hex SHA-256 of the policy's text.
func (p *Policy) Digest() string { return p.digest }

// Decide gives nil if every validation is true, else a refusal: with the first
// failing validation's reason, PolicyDenied if it has none or if the policy has
// no validations, or PolicyInvalid if one could not be evaluated.
func (p *Policy) Decide(ctx context.Context, in Input) error {
	vars, err := p.schema.activation(in)
	if err != nil {
		return refusal.New(refusal.PolicyInvalid, "claims: %w", err)
	}
	if len(p.validations) == 0 {
		return refusal.New(refusal.PolicyDenied, "the policy has no validations, which refuses everything")
	}
	for i, v := range p.validations {
		ok, _, err := evaluate(ctx, v.program, vars)
		if err := v.verdict(i, ok, err); err != nil {
			return err
		}
	}
	return nil
}

// verdict turns the value of validation i into nil or a refusal.
func (v *compiled) verdict(i int, ok bool, err error) error {
	switch {
	case err != nil:
		return refusal.New(refusal.PolicyInvalid, "validation %d (%s) could not be evaluated: %w", i+1, oneLine(v.Expression), err)
	case ok:
		return nil
	}
	reason, message := v.Reason, v.Message
	if reason == "" {
		reason = refusal.PolicyDenied
	}
	if message == "" {
		message = "it is false that " + oneLine(v.Expression)
	}
	return refusal.New(reason, "%s", message)
}

func evaluate(ctx context.Context, program cel.Program, vars map[string]any) (bool, *cel.EvalDetails, error) {
	value, details, err := program.ContextEval(ctx, vars)
	if err != nil {
		return false, details, err
	}
	ok, isBool := value.Value().(bool)
	if !isBool {
		return false, details, fmt.Errorf("the value is of type %s, not bool", value.Type().TypeName())
	}
	return ok, details, nil
}

func (c *Compiler) compile(v Validation) (compiled, error) {
	if strings.TrimSpace(v.Expression) == "" {
		return compiled{}, errors.New("there is none")
	}
	if v.Reason != "" && !reasonPattern.MatchString(string(v.Reason)) {
		return compiled{}, fmt.Errorf("reason %q: write it as one word in CamelCase", v.Reason)
	}
	checked, issues := c.env.Compile(v.Expression)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return compiled{}, fmt.Errorf("CEL %d:%d: %s", first.Location.Line(), first.Location.Column()+1, oneLine(first.Message))
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) {
		return compiled{}, fmt.Errorf("its type is %s, it must be bool", t)
	}
	program, err := c.env.Program(checked, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(100))
	if err != nil {
		return compiled{}, err
	}
	trace, err := c.env.Program(checked, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(100), cel.EvalOptions(cel.OptExhaustiveEval))
	if err != nil {
		return compiled{}, err
	}
	return compiled{Validation: v, ast: checked, program: program, trace: trace}, nil
}

var reasonPattern = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{2,63}$`)

// parse decodes the YAML strictly and checks what is not an expression.
func parse(name string, text []byte) (*document, *strictyaml.Document, error) {
	file, err := strictyaml.Parse(name, text, MaxSize)
	if err != nil {
		return nil, nil, err
	}
	var doc document
	if err := file.Decode(&doc); err != nil {
		return nil, nil, err
	}
	switch {
	case doc.APIVersion != APIVersion:
		return nil, nil, file.ErrorAt("$.apiVersion", fmt.Errorf("%q, want %s", doc.APIVersion, APIVersion))
	case doc.Kind != Kind:
		return nil, nil, file.ErrorAt("$.kind", fmt.Errorf("%q, want %s", doc.Kind, Kind))
	case len(doc.Spec.Validations) > MaxValidations:
		return nil, nil, file.ErrorAt("$.spec.validations", fmt.Errorf("%d of them; the limit is %d", len(doc.Spec.Validations), MaxValidations))
	}
	return &doc, file, nil
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
