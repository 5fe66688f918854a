// Package live asks the upstreams of a configuration whether they would give
// what it wants of them.
//
// # Why not
//
// Not through a daemon: what is asked about is not at work yet. Not one answer
// for all: who reads it wants to know which part of the way fails.
package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/hostrole/hostrole/agent"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/agent/report"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/cmd/hostrole/screen"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

// ErrAway matches an upstream that did not answer.
var ErrAway = errors.New("an upstream does not answer")

// Try asks the upstream of each role of a configuration once, a role after the
// one that it is assumed from, and writes what came of it. It needs no daemon
// and changes nothing. An error says that not all roles work; it matches
// [ErrAway] when an upstream did not answer.
func Try(ctx context.Context, cfg *config.Config, environ []string, w io.Writer) error {
	got := map[credential.Key]outcome{}
	all, err := roles.Build(roles.Options{Config: cfg, Env: environ, Host: facts.Read(), Log: slog.New(slog.DiscardHandler), Now: agent.Now, Boot: agent.Boot,
		Live: func(_ context.Context, k credential.Key) (credential.Credential, error) {
			return got[k].c, got[k].err // there: a role comes after its parent
		}})
	if err != nil {
		return err
	}
	roles.Environment(environ).Forget() // as the daemon does before its first call
	terminal, _ := screen.Terminal(w)
	failed, away := 0, false
	for _, name := range report.Order(all) {
		r := all[name]
		if got[r.Job.Needs].err != nil {
			o := outcome{err: errors.New("its parent failed")}
			got[r.Job.Key] = o
			_, _ = fmt.Fprintf(w, "%s, from %v: not tried: %s, from which it is assumed, failed\n", name, cfg.Roles[name].From, nameOf(all, r.Job.Needs))
			failed++
			continue
		}
		o, asked := got[r.Job.Key]
		if !asked {
			if terminal {
				_, _ = fmt.Fprintf(w, "%s: asking …", name)
			}
			o = try(ctx, r, cfg.Roles[name])
			got[r.Job.Key] = o
			if terminal {
				_, _ = fmt.Fprint(w, "\r\x1b[K")
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		_, _ = fmt.Fprintf(w, "%s, from %v: %s\n", name, cfg.Roles[name].From, screen.Printable(o.String()))
		if o.err != nil {
			failed++
			away = away || !errors.Is(o.err, source.ErrRefused)
		}
	}
	if failed == 0 {
		return nil
	}
	err = fmt.Errorf("%d of %d roles cannot be had from their upstreams", failed, len(all))
	if away {
		err = &awayError{err}
	}
	return err
}

// nameOf is a role with that key.
func nameOf(all map[string]*roles.Role, k credential.Key) string {
	for _, name := range report.Order(all) {
		if all[name].Job.Key == k {
			return name
		}
	}
	return "the role"
}

// An outcome is what came of one role.
type outcome struct {
	c    credential.Credential
	skew time.Duration
	took time.Duration
	err  error
	why  string // in one sentence; "" where only err tells
}

func (o outcome) String() string {
	switch {
	case o.why != "":
		return "FAILED: " + o.why + " (" + bare(o.err) + ")"
	case o.err != nil:
		return "FAILED: " + o.err.Error()
	}
	life := "which never expires"
	if !o.c.Expires.IsZero() {
		life = "good for " + screen.Span(o.c.Expires.Sub(o.c.Issued).Seconds())
	}
	text := fmt.Sprintf("good: %s, %s, after %v", o.c.ID(), life, o.took.Round(time.Millisecond))
	if o.skew != 0 {
		text += "; " + clock(o.skew)
	}
	return text
}

// bare is an error without what it says to do, which has been said.
func bare(err error) string {
	text := err.Error()
	var e *source.Error
	if errors.As(err, &e) && e.Hint != "" {
		text = strings.Replace(text, "; "+e.Hint, "", 1)
	}
	return text
}

// try asks once, or once for each length where the longest is wanted.
func try(ctx context.Context, r *roles.Role, cfg config.Role) (o outcome) {
	from := agent.Boot()
	if r.Job.Longest == nil {
		o.c, o.err = fetch(ctx, r, r.Job.Source)
	} else {
		for _, d := range rotation.Lengths(r.Job.Needs != credential.Key{}) {
			if o.c, o.err = fetch(ctx, r, r.Job.Longest(d)); rotation.Classify(o.err) != rotation.Misconfigured {
				break
			}
		}
	}
	o.took = agent.Boot() - from
	if o.err == nil {
		o.err = credential.Check(o.c)
	}
	if r.Job.Skew != nil {
		o.skew = r.Job.Skew()
	}
	if o.err != nil {
		o.why = explain(cfg, o.err, o.skew)
	}
	return o
}

func fetch(ctx context.Context, r *roles.Role, from source.Source) (credential.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Job.Timeout)
	defer cancel()
	return from.Fetch(ctx)
}

// An awayError matches ErrAway, and says no more than what it wraps.
type awayError struct{ error }

func (e *awayError) Unwrap() []error { return []error{ErrAway, e.error} }
