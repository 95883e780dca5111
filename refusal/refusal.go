// Package refusal names why Adyton said no.
//
// Every refusal carries a [Reason]: a short CamelCase word that never changes
// meaning once released. The same word appears in the command line's error, the
// log, the Kubernetes event, the metric label and the audit entry, so that a
// script, an alert and a person all match on one string.
//
// The package imports only the standard library and is imported by every room.
// To add a reason, add a constant to reasons.go with a comment that says when it
// is given and what to do about it; docs/reference/reasons.md is generated from
// those comments.
package refusal

import (
	"errors"
	"fmt"
)

// Reason is a stable machine-readable word for a refusal.
type Reason string

// Error is a refusal: a stable reason and a sentence for a person.
type Error struct {
	// Reason is the stable word.
	Reason Reason
	// Detail says what was compared with what, and what to do next. It includes
	// the cause's text, if there is a cause, and never holds a secret.
	Detail string
	// Err is the cause for errors.Is and errors.As, or nil.
	Err error
}

// New makes a refusal whose detail is formatted as by fmt.Errorf; a cause given
// with %w is kept.
func New(reason Reason, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Reason: reason, Detail: err.Error(), Err: errors.Unwrap(err)}
}

// Error gives "Reason: detail".
func (e *Error) Error() string {
	if e.Detail == "" {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Detail
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Of gives the reason of the outermost refusal in err's chain, or "" if err is
// not a refusal.
func Of(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}
