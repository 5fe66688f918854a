package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hostrole/hostrole/agent"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/agent/report"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/cmd/hostrole/screen"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

// Live asks the upstream of each role of a configuration once, a role after the
// one that it is assumed from, and writes what came of it. It needs no daemon
// and changes nothing. An error says that not all roles work; it matches
// [ErrUnavailable] when an upstream did not answer.
func Live(ctx context.Context, cfg *config.Config, environ []string, w io.Writer) error {
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
			o = try(ctx, r)
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
		err = &unavailable{err}
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
}

func (o outcome) String() string {
	if o.err != nil {
		return "FAILED: " + o.err.Error()
	}
	life := "which never expires"
	if !o.c.Expires.IsZero() {
		life = "good for " + screen.Span(o.c.Expires.Sub(o.c.Issued).Seconds())
	}
	text := fmt.Sprintf("good: %s, %s, after %v", o.c.ID(), life, o.took.Round(time.Millisecond))
	if o.skew != 0 {
		text += fmt.Sprintf("; this host's clock is off by %v", o.skew.Abs().Round(time.Second))
	}
	return text
}

// try asks once.
func try(ctx context.Context, r *roles.Role) (o outcome) {
	ctx, cancel := context.WithTimeout(ctx, r.Job.Timeout)
	defer cancel()
	from := agent.Boot()
	o.c, o.err = r.Job.Source.Fetch(ctx)
	o.took = agent.Boot() - from
	if o.err == nil {
		o.err = credential.Check(o.c)
	}
	if r.Job.Skew != nil {
		o.skew = r.Job.Skew()
	}
	return o
}
