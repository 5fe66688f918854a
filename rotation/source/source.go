// Package source is the contract with every upstream of credentials; each kind
// has a folder below it, and sourcetest holds the suite that all of them pass.
//
// # Why not
//
// Not the SDK's aws.CredentialsProvider: its contract leaves open whether an
// answer is fresh or remembered, which of its errors are worth a retry, and
// whether an error text may hold a secret. Not one interface per consumer:
// nine kinds implement it and several packages use it, so it lives with its
// contract, like io.Reader.
package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
)

// A Source asks an upstream for a new credential.
//
// Fetch makes one attempt, within ctx, and never answers from memory. What it
// returns is complete, has Issued and Received set, and Expires either zero or
// after Issued. An error matches [ErrRefused] when the upstream understood and
// said no, so that asking again soon is pointless; any other error is worth a
// retry. No error text contains a secret. Fetch may be called concurrently.
type Source interface {
	Fetch(ctx context.Context) (credential.Credential, error)
}

// Func is a Source made of one function.
type Func func(ctx context.Context) (credential.Credential, error)

// Fetch calls f.
func (f Func) Fetch(ctx context.Context) (credential.Credential, error) { return f(ctx) }

var (
	// ErrRefused matches an upstream's definite no.
	ErrRefused = errors.New("the upstream refused")
	// ErrAccessDenied matches a no about rights; it matches ErrRefused as well.
	ErrAccessDenied = fmt.Errorf("%w: access denied", ErrRefused)
)

// An Error says what an upstream answered, in its own words.
type Error struct {
	Op        string // what was asked, such as "AssumeRole arn:aws:iam::111122223333:role/app"
	Code      string // the upstream's error code, such as "AccessDenied"; "" when there was none
	Message   string // the upstream's message, cleaned and cut
	Status    int    // HTTP status; 0 when there was no answer
	RequestID string // the upstream's request id; "" when it gave none
	// RetryAfter is how long the upstream wants to be left alone; 0 when it did not say.
	RetryAfter time.Duration
	Hint       string // what the operator can do about it; "" when we do not know
	Kind       error  // ErrRefused, ErrAccessDenied, or nil for an error worth a retry
	Err        error  // the cause, never shown when Code is set
}

// Delay is RetryAfter.
func (e *Error) Delay() time.Duration { return e.RetryAfter }

// RetryAfter is how long those that err is of want to be left alone: the longest
// Delay of any error in it, and 0 when none says so.
func RetryAfter(err error) (wait time.Duration) {
	if e, ok := err.(interface{ Delay() time.Duration }); ok {
		wait = e.Delay()
	}
	switch e := err.(type) { //nolint:errorlint // likewise
	case interface{ Unwrap() error }:
		wait = max(wait, RetryAfter(e.Unwrap()))
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			wait = max(wait, RetryAfter(inner))
		}
	}
	return wait
}

// Error describes the failure in one line.
func (e *Error) Error() string {
	s := e.Op + ": "
	switch {
	case e.Code != "" && e.Message != "":
		s += e.Code + ": " + e.Message
	case e.Code != "":
		s += e.Code
	case e.Message != "":
		s += e.Message
	case e.Err != nil:
		s += e.Err.Error()
	default:
		s += "failed"
	}
	if e.RequestID != "" {
		s += " (request " + e.RequestID + ")"
	}
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Kind != nil {
		errs = append(errs, e.Kind)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}
