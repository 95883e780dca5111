// Package ui holds what every command of the adyton program shares in how it
// speaks to its user: output formats and exit codes. It imports cobra and the
// refusal reasons and nothing else of the project.
package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/adyton-dev/adyton/refusal"
)

// Exit codes of the adyton program. `adyton run` gives the application's own
// exit code once the application has started, and 125 before, as docker run does.
const (
	ExitOK      = 0
	ExitFailure = 1   // something went wrong
	ExitUsage   = 2   // the command line is wrong
	ExitRefused = 3   // a refusal with a stable reason
	ExitNotRun  = 125 // adyton run: the application was not started
)

// ExitError is an error that chooses the program's exit code. An ExitError
// without Err exits silently.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Usage makes an error for a wrong command line.
func Usage(format string, args ...any) error {
	return &ExitError{Code: ExitUsage, Err: fmt.Errorf(format, args...)}
}

// ExitCode gives the program's exit code for the error that its command returned.
func ExitCode(err error) int {
	var exit *ExitError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.Code
	case refusal.Of(err) != "":
		return ExitRefused
	default:
		return ExitFailure
	}
}

// Silent reports whether err only chooses an exit code and has nothing to say.
func Silent(err error) bool {
	var exit *ExitError
	return errors.As(err, &exit) && exit.Err == nil
}

// Output is the value of a -o/--output flag.
type Output struct{ format string }

// AddFlag gives cmd the -o/--output flag.
func (o *Output) AddFlag(cmd *cobra.Command) {
	o.format = "text"
	cmd.Flags().VarP(o, "output", "o", "output format: text or json")
	// The error is for a flag that does not exist; it was just made.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// String, Set and Type make Output a flag value.
func (o *Output) String() string { return o.format }

// Set accepts "text" and "json".
func (o *Output) Set(s string) error {
	if s != "text" && s != "json" {
		return errors.New("must be text or json")
	}
	o.format = s
	return nil
}

// Type names the flag's value in help texts.
func (o *Output) Type() string { return "format" }

// JSON reports whether the user asked for JSON.
func (o *Output) JSON() bool { return o.format == "json" }

// Print writes v as indented JSON if the user asked for JSON, else calls text.
func (o *Output) Print(cmd *cobra.Command, v any, text func(io.Writer) error) error {
	if !o.JSON() {
		return text(cmd.OutOrStdout())
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
