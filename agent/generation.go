package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/instance"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/agent/session"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/runtime"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/imds/metadata"
	"github.com/hostrole/hostrole/imds/policy"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

// A generation is all that is made of one configuration. It never changes; a
// reload makes the next one.
type generation struct {
	cfg      *config.Config
	roles    map[string]*roles.Role
	rules    policy.Policy
	memory   *policy.Memory    // of what rules decide
	names    *runtime.Enricher // of containers
	gate     *gate.Gate
	instance *instance.Instance
	conduct  map[string]imds.Conduct // by the names of the listeners

	revoked sync.Map // credential.Key to true: the one thing that an operator changes
}

// build makes a generation. It starts nothing and changes nothing.
func (a *Agent) build(cfg *config.Config) (*generation, error) {
	g := &generation{cfg: cfg, conduct: map[string]imds.Conduct{}}
	var err error
	g.roles, err = roles.Build(roles.Options{Config: cfg, Env: a.o.Environ, Host: a.host, Log: a.log, Now: Now, Boot: Boot,
		Own: cfg.Listens, OwnToken: func(text string) bool { return a.issued(cfg, text) },
		Live: func(ctx context.Context, k credential.Key) (credential.Credential, error) {
			return a.manager.Credential(ctx, k)
		}})
	if err != nil {
		return nil, err
	}
	g.instance, err = instance.New(instance.Options{Config: cfg, Host: a.host, Network: &a.network, Site: a.site, Booted: a.started.Add(-Boot()),
		Notices: notices(cfg.Metadata), RoleARN: g.roles[cfg.Allow[0].Roles[0]].ARN})
	if err != nil {
		return nil, err
	}
	var known []gate.Role
	for _, r := range g.roles {
		known = append(known, gate.Role{ID: r.ID, Name: r.Name, ARN: r.ARN})
	}
	if g.rules, err = a.rulesOf(cfg); err != nil {
		return nil, err
	}
	g.memory = policy.NewMemory(g.rules)
	if g.names, err = a.namesOf(cfg); err != nil {
		return nil, err
	}
	g.gate = gate.New(gate.Options{
		Policy:      func(who caller.Caller) gate.Verdict { return gate.Verdict(g.memory.Decide(who)) },
		Roles:       known,
		Keys:        func(role string, who caller.Caller) (credential.Key, error) { return a.key(g, g.roles[role], who) },
		Credentials: credentials{a, g},
		Record:      func(e gate.Event) error { return a.decided(g, e) },
	})
	for _, l := range cfg.Listeners {
		c, err := a.conduct(g, l)
		if err != nil {
			return nil, err
		}
		g.conduct[l.Name] = a.meter.Conduct(l.Name, c)
	}
	return g, nil
}

// key finds the session of a caller: the one of the role, or one of the caller's
// own.
func (a *Agent) key(g *generation, r *roles.Role, who caller.Caller) (credential.Key, error) {
	if len(r.Facts) == 0 {
		return r.Job.Key, nil
	}
	k, err := a.sessions.Key(r, who, func() bool { return g.isRevoked(r.Job.Key) })
	switch {
	case errors.Is(err, session.ErrStopped):
		err = fmt.Errorf("%w: an operator has revoked it", gate.ErrUnauthorized)
	case err != nil && !a.recording.quiet("no session "+r.ID):
		a.log.Warn("a caller gets no session", logRole, r.ID, logCaller, who.String(), logError, err.Error())
	}
	return k, err
}

// jobs are those of the roles that have one session for all, without what is
// one session under two names.
func (g *generation) jobs() (jobs []rotation.Job) {
	seen := map[credential.Key]bool{}
	for _, r := range g.roles {
		if len(r.Facts) == 0 && !seen[r.Job.Key] && !g.isRevoked(r.Job.Key) {
			seen[r.Job.Key] = true
			jobs = append(jobs, r.Job)
		}
	}
	return jobs
}

func (g *generation) isRevoked(k credential.Key) bool {
	_, is := g.revoked.Load(k)
	return is
}

// atWork is what requests are answered by.
func (a *Agent) atWork() *generation {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current
}

// summary is one line for people.
func (g *generation) summary() string {
	return fmt.Sprintf("serving %d roles on %d listeners", len(g.roles), len(g.cfg.Listeners))
}

// notices are the announcements of the configuration.
func notices(m config.Metadata) metadata.Notices {
	n := metadata.Notices{LifecycleState: m.LifecycleState}
	if m.Spot != nil {
		n.Spot = metadata.Interruption{Action: m.Spot.Action, Time: m.Spot.Time.Time}
	}
	if m.Events == nil {
		return n
	}
	events := func(from []config.Event) []metadata.Event {
		all := []metadata.Event{} // an empty list is served
		for _, e := range from {
			all = append(all, metadata.Event{NotBefore: e.NotBefore.Time, NotAfter: e.NotAfter.Time, Code: e.Code,
				Description: e.Description, ID: e.ID, State: e.State})
		}
		return all
	}
	n.Scheduled, n.History, n.Rebalance = events(m.Events.Scheduled), events(m.Events.History), m.Events.Rebalance.Time
	return n
}

// credentials gives the rotation's failures the names that the gate knows.
type credentials struct {
	a *Agent
	g *generation
}

func (c credentials) Credential(ctx context.Context, k credential.Key) (credential.Credential, error) {
	got, err := c.a.manager.Credential(ctx, k)
	switch {
	case c.g.isRevoked(k): // looked at last: also what was waited for is not served
		return credential.Credential{}, fmt.Errorf("%w: an operator has revoked it", gate.ErrUnauthorized)
	case err == nil:
		return got, nil
	case errors.Is(err, source.ErrAccessDenied):
		return got, fmt.Errorf("%w: %w", gate.ErrUnauthorized, err)
	case errors.Is(err, source.ErrRefused):
		return got, fmt.Errorf("%w: %w", gate.ErrRefused, err)
	}
	return got, fmt.Errorf("%w: %w", gate.ErrNotReady, err)
}
