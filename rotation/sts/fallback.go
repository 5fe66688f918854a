package sts

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// leaveAlone is for how long the first STS is not asked after it did not answer,
// unless the second does not, either: each look at one that is away may take as
// long as all of its retries.
const leaveAlone = 5 * time.Minute

// A Fallback is the STS that is asked while the first one cannot be reached or
// answers with a fault of its own. What the first refuses, or turns away for
// want of a quota, is not asked again elsewhere. All clients of the same two
// share one, so that what one role finds out counts for all. It must not be
// copied after its first use.
type Fallback struct {
	Region   string
	Endpoint string // "" is AWS's regional endpoint
	HTTP     *upstream.Client
	// Moved is told when the second takes the place of the first, and why; and
	// with nil when the first answers again. nil: nobody is told.
	Moved func(to string, why error)

	mu    sync.Mutex
	alone time.Duration // guarded by mu: boot time until which the first is not asked
	moved bool          // guarded by mu: the second gave the newest answer
}

// ask asks one STS and, if that is away, the other: each once in an attempt, so
// that the budget of attempts bounds the calls of both.
func (c *Client) ask(ctx context.Context, op string, call func(*end) (credential.Credential, error)) (credential.Credential, error) {
	if c.over == nil {
		return call(c.first)
	}
	one, other := c.first, c.second
	if c.over.leaves(c.boot()) {
		one, other = other, one
	}
	got, err := call(one)
	if !away(err) {
		c.over.answered(c, one, nil)
		return got, err
	}
	if one == c.first {
		c.over.leave(c.boot())
	}
	if ctx.Err() != nil {
		return got, err
	}
	got, again := call(other)
	if !away(again) {
		c.over.answered(c, other, err)
		return got, again
	}
	if other == c.first {
		c.over.leave(c.boot())
	}
	return got, &source.Error{
		Op: op, Message: "neither STS answers: " + one.name + ": " + brief(err) + "; " + other.name + ": " + brief(again),
		RetryAfter: max(source.RetryAfter(err), source.RetryAfter(again)), Err: errors.Join(err, again),
	}
}

// Skew is the clock of the STS that answered last, minus ours.
func (c *Client) Skew() time.Duration {
	if c.over != nil && c.over.isMoved() {
		return c.second.http.Skew()
	}
	return c.first.http.Skew()
}

// Timeout is the limit of one attempt.
func (c *Client) Timeout() time.Duration {
	if c.over != nil {
		return c.first.http.Timeout() + c.second.http.Timeout()
	}
	return c.first.http.Timeout()
}

// away reports whether err is of an STS that gave no answer to the question. A
// region that is not activated has none, either.
func away(err error) bool {
	var e *source.Error
	switch {
	case !errors.As(err, &e):
		return false
	case e.Code == "RegionDisabledException":
		return true
	case e.Kind != nil || throttling[e.Code]:
		return false
	}
	return e.Status < 400 || e.Status >= 500 // below: no answer, or a page of who knows whom
}

// throttling are the codes of an STS that has enough to do, whatever the status.
var throttling = map[string]bool{
	"Throttling": true, "ThrottlingException": true, "RequestLimitExceeded": true, "TooManyRequestsException": true, "SlowDown": true,
}

// brief is an error without what was asked.
func brief(err error) string {
	var e *source.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	if e.Code != "" && e.Message != "" {
		return e.Code + ": " + e.Message
	}
	if text := e.Code + e.Message; text != "" {
		return text
	}
	return e.Error()
}

func (f *Fallback) leaves(boot time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return boot < f.alone
}

func (f *Fallback) leave(boot time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alone = boot + leaveAlone
}

// answered notes who did, and why not the first.
func (f *Fallback) answered(c *Client, who *end, why error) {
	f.mu.Lock()
	was := f.moved
	if f.moved = who == c.second; !f.moved {
		f.alone = 0
	}
	now := f.moved
	f.mu.Unlock()
	switch {
	case f.Moved == nil || was == now:
	case now:
		f.Moved(who.name, why)
	default:
		f.Moved(who.name, nil)
	}
}

func (f *Fallback) isMoved() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.moved
}
