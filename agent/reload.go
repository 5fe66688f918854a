package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/systemd"
)

// reloads puts a new configuration to work each time that it is asked for one.
func (a *Agent) reloads(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.o.Reload:
		}
		_ = a.reload(ctx) // told already, to the log and the service manager
	}
}

// reload reads the configuration and puts it to work, and tells the log and the
// service manager what came of it. One that is bad changes nothing. Of two at
// once, the later one reads later.
func (a *Agent) reload(ctx context.Context) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	a.tell(systemd.Reloading())
	a.recording.reopen()
	a.learn()
	cfg, err := a.o.Load()
	if err == nil {
		a.mu.Lock()
		a.newest = cfg
		a.mu.Unlock()
		a.learn()
		err = a.Apply(ctx, cfg)
	}
	const kept = "the configuration was not reloaded: the old one serves"
	a.troubles.Clear("config")
	if err != nil {
		first, _, more := strings.Cut(strings.TrimSpace(err.Error()), "\n")
		if more {
			first += "; and more"
		}
		a.troubles.Set("config", fmt.Sprintf("the configuration on disk is not at work, and the one before it is: %s; `hostrole check` says what to mend, and `hostrole reload` tries again", first), Now())
	}
	var faults config.Faults
	switch {
	case err == nil:
		a.tell(systemd.Ready(a.current.summary()))
	case errors.As(err, &faults):
		for _, f := range faults {
			a.log.Error(kept, logError, f.String())
		}
		a.tell(systemd.Ready(fmt.Sprintf("%s; %d faults, the first: %v", kept, len(faults), faults[0])))
	default:
		a.log.Error(kept, logError, err.Error())
		a.tell(systemd.Ready(kept + "; " + err.Error()))
	}
	return err
}

// settle is how long the old rules serve on while roles that are new or have
// changed get their first credentials. What an operator takes away must be gone
// within a second.
const settle = 900 * time.Millisecond

// Apply puts cfg to work without a request lost: rules, roles and the metadata
// tree change at once for all requests that begin later. A role whose session
// stays the same keeps its credential. What cannot change while the daemon runs
// is logged, and waits for a restart. An error has changed nothing.
func (a *Agent) Apply(ctx context.Context, cfg *config.Config) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next, err := a.build(cfg)
	if err != nil {
		return err
	}
	was := a.current
	fresh := next.jobs()
	both := slices.Clone(fresh)
	for _, j := range was.jobs() {
		if !slices.ContainsFunc(fresh, func(n rotation.Job) bool { return n.Key == j.Key }) {
			both = append(both, j)
		}
	}
	a.manager.Update(both)
	a.awaitOutcomes(ctx, append(a.sessions.Move(next.roles), fresh...))
	a.asking.Store(next) // first: what the new rules ask for is known when they decide
	for name, srv := range a.servers {
		if c, ok := next.conduct[name]; ok {
			srv.Change(c)
		}
	}
	a.current = next
	a.manager.Update(fresh)
	a.sessions.Moved(next.roles)
	a.warn(cfg)
	for _, what := range needRestart(was.cfg, cfg) {
		a.log.Warn("a change in the configuration needs a restart", "at", what)
	}
	a.log.Info("the configuration was reloaded", "roles", len(next.roles), "rules", len(cfg.Allow))
	return nil
}

// awaitOutcomes waits a moment for the first outcome of every job.
func (a *Agent) awaitOutcomes(ctx context.Context, jobs []rotation.Job) {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	for _, j := range jobs {
		_, _ = a.manager.Credential(ctx, j.Key)
	}
}

// needRestart names what differs between two configurations and cannot change
// while the daemon runs.
func needRestart(was, now *config.Config) (what []string) {
	for name, pair := range map[string][2]any{
		"log": {was.Log, now.Log}, "admin": {was.Admin, now.Admin}, "audit": {was.Audit, now.Audit}, "rotation": {was.Rotation, now.Rotation},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			what = append(what, name)
		}
	}
	sockets := func(c *config.Config) map[string]config.Listener {
		all := map[string]config.Listener{}
		for _, l := range c.Listeners {
			l.Tokens, l.StrictHeaders, l.HopLimit = "", nil, 0 // these change at once
			all[l.Name] = l
		}
		return all
	}
	before, after := sockets(was), sockets(now)
	for name, l := range after {
		if !reflect.DeepEqual(before[name], l) {
			what = append(what, "listener "+name)
		}
	}
	for name := range before {
		if _, still := after[name]; !still {
			what = append(what, "listener "+name)
		}
	}
	slices.SortFunc(what, strings.Compare)
	return what
}
