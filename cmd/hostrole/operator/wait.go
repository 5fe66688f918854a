package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/cmd/hostrole/screen"
)

const (
	// lookEvery is how often wait asks.
	lookEvery = 200 * time.Millisecond
	// quiet is how long it waits without a word.
	quiet = time.Second
)

func waitCommand() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "wait", Short: "Wait until a role is live", Args: noArgs,
		Long: `Wait returns when the daemon serves live credentials of a role: of any role, or
of the one that --role names. It waits for a daemon that has not started yet as
well. In a unit that needs credentials from its first moment:

  ExecStartPre=hostrole wait --timeout 2m

A user who may not read status waits for a role that the rules give to that
user; the audit has a record of each time that it was asked for.

Exit status: 69 when time is up, 77 when the user has no such role, 1 when there
is no such role or the upstream refuses it.`,
	}
	client := socket(c)
	role := roleFlag(c, client, "the `role`; default any")
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait")
	c.RunE = func(c *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(c.Context(), timeout)
		defer cancel()
		p := patience{client: client(), role: *role}
		p.say = func(state string) {
			_, _ = fmt.Fprintf(c.ErrOrStderr(), "hostrole wait: %s\n", screen.Printable(state))
		}
		if err := p.wait(ctx); err != nil {
			if c.Context().Err() != nil {
				return errors.New("interrupted")
			}
			return told(err)
		}
		return nil
	}
	return c
}

// A patience is one wait.
type patience struct {
	client *admin.Client
	role   string
	say    func(state string)
}

// wait asks until a role is live. It says what it waits for once a second is
// over, and again when that changes.
func (p patience) wait(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	looks, said := 0, ""
	for {
		state, err := p.look(ctx)
		if err == nil && state == "" {
			return nil
		}
		if err != nil && !errors.Is(err, admin.ErrNoDaemon) && !errors.Is(err, admin.ErrNotReady) && ctx.Err() == nil {
			return err
		}
		if err != nil && ctx.Err() == nil {
			state = err.Error()
		}
		if looks++; time.Duration(looks)*lookEvery > quiet && state != said && state != "" {
			said = state
			p.say(state)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			what := "no role is live"
			if p.role != "" {
				what = "the role " + p.role + " is not live"
			}
			if state == "" {
				state = said
			}
			return fmt.Errorf("%w in time: %s: %s", admin.ErrNotReady, what, state)
		}
	}
}

// look returns "" when the role is live, and else what it is.
func (p patience) look(ctx context.Context) (state string, err error) {
	s, err := p.client.Await(ctx, p.role)
	if errors.Is(err, admin.ErrDenied) {
		_, err = p.client.Process(ctx, p.role)
		return "", err
	}
	if err != nil {
		return "", err
	}
	mine := func(r admin.Role) bool { return p.role == "" || r.Name == p.role || r.ServedAs == p.role }
	if !slices.ContainsFunc(s.Roles, mine) {
		return "", admin.Fail(admin.ErrUnknown, "there is no role %q in the configuration of the daemon", p.role)
	}
	var states []string
	for _, r := range s.Roles {
		if !mine(r) {
			continue
		}
		if r.State.Served() {
			return "", nil
		}
		text := r.Name + " is " + string(r.State)
		if r.Error != "" {
			text += ": " + r.Error
		}
		states = append(states, text)
	}
	return strings.Join(states, "; "), nil
}
