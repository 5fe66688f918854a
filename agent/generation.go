package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/document"
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
	gate     *gate.Gate
	tree     func() *metadata.Tree
	identity document.Signed
	userData []byte
	conduct  map[string]imds.Conduct // by the names of the listeners

	revoked sync.Map // credential.Key to true: the one thing that an operator changes
}

// build makes a generation. It starts nothing and changes nothing.
func (a *Agent) build(cfg *config.Config) (*generation, error) {
	g := &generation{cfg: cfg, conduct: map[string]imds.Conduct{}}
	var err error
	g.roles, err = roles.Build(roles.Options{Config: cfg, Env: a.o.Environ, Host: a.host, Log: a.log, Now: Now, Boot: Boot,
		Live: func(ctx context.Context, k credential.Key) (credential.Credential, error) {
			return a.manager.Credential(ctx, k)
		}})
	if err != nil {
		return nil, err
	}
	if g.userData, err = readUserData(cfg); err != nil {
		return nil, err
	}
	if g.tree, err = a.tree(cfg); err != nil {
		return nil, config.Faults{cfg.Fault("metadata.extra", err.Error(), "correct the path")}
	}
	if g.identity, err = a.identity(g); err != nil {
		return nil, err
	}
	var known []gate.Role
	for _, r := range g.roles {
		known = append(known, gate.Role{ID: r.ID, Name: r.Name, ARN: r.ARN})
	}
	rules := rulesOf(cfg)
	g.gate = gate.New(gate.Options{
		Policy:      func(who caller.Caller) gate.Verdict { return gate.Verdict(rules.Decide(who)) },
		Roles:       known,
		Keys:        func(role string, _ caller.Caller) (credential.Key, error) { return g.roles[role].Job.Key, nil },
		Credentials: credentials{a, g},
		Record:      a.decided,
	})
	for _, l := range cfg.Listeners {
		g.conduct[l.Name] = a.conduct(g, l)
	}
	return g, nil
}

// jobs are those of the roles, without what is one session under two names.
func (g *generation) jobs() (jobs []rotation.Job) {
	seen := map[credential.Key]bool{}
	for _, r := range g.roles {
		if !seen[r.Job.Key] && !g.isRevoked(r.Job.Key) {
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

// summary is one line for people.
func (g *generation) summary() string {
	return fmt.Sprintf("serving %d roles on %d listeners", len(g.roles), len(g.cfg.Listeners))
}

func rulesOf(cfg *config.Config) policy.Policy {
	var p policy.Policy
	for _, r := range cfg.Allow {
		p = append(p, policy.Rule{Name: r.Name, Listeners: r.Listener, UIDs: r.UID, Users: r.User, Groups: r.Group,
			Any: r.Any, Roles: r.Roles, AuditOnly: r.AuditOnly})
	}
	return p
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

// userDataLimit is EC2's.
const userDataLimit = 16 << 10

func readUserData(cfg *config.Config) ([]byte, error) {
	f := cfg.Metadata.UserData
	if f == nil {
		return nil, nil
	}
	b, err := os.ReadFile(f.File)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, config.Faults{cfg.Fault("metadata.user_data", f.File+" is not there", "put the user data there, or take the key out")}
	case err != nil:
		return nil, config.Faults{cfg.Fault("metadata.user_data", err.Error(), "")}
	case len(b) > userDataLimit:
		return nil, config.Faults{cfg.Fault("metadata.user_data", fmt.Sprintf("%s has %d bytes", f.File, len(b)), "user data has 16384 bytes at most; compress it")}
	}
	return append([]byte{}, b...), nil // not nil: an empty file is user data
}
