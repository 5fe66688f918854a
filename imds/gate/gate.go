// Package gate is the only way from a caller to a credential; it reports every
// decision.
//
// # Why not
//
// Not a check in each endpoint: it would be forgotten in the next one. Not one
// answer for "denied" and another for "no such role": the difference tells a
// stranger which roles there are.
package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/rotation/credential"
)

// The failures of [Gate.Credential]; each endpoint gives them its protocol's
// shape.
var (
	// ErrDenied matches a caller without that role, or a role that is not there.
	ErrDenied = errors.New("the caller may not use this role")
	// ErrRefused matches a role that the upstream definitely does not give.
	ErrRefused = errors.New("the upstream refuses this role")
	// ErrUnauthorized matches a refusal for want of rights; it matches ErrRefused as well.
	ErrUnauthorized = fmt.Errorf("%w: not authorized", ErrRefused)
	// ErrRejected matches a denial of a request that never came as far as a rule; it
	// goes with ErrDenied.
	ErrRejected = errors.New("the request did not show what this listener asks for")
	// ErrNotReady matches a role that has no live credential and may soon have one.
	ErrNotReady = errors.New("the role has no live credential yet")
)

// A Verdict is what a policy says about one caller.
type Verdict struct {
	Rule      string   // that decided; "" when none matched
	Roles     []string // ids; the caller's own first; none means denied
	Missing   string   // why there is none although a rule decided: a fact that its session is named after
	Rehearsed []string // audit-only rules that would have decided
}

// denied is ErrDenied, and why.
func (v Verdict) denied() error {
	if v.Missing == "" {
		return ErrDenied
	}
	return fmt.Errorf("%w: its session is named after the caller's %s, which is not known", ErrDenied, v.Missing)
}

// A Role is what a caller may know of a role.
type Role struct {
	ID   string // table name in the configuration
	Name string // on the wire
	ARN  string // "" where the upstream fixes the role
}

// Credentials finds the current credential of a key. It waits, within ctx,
// only for a key that has none. Its errors match ErrRefused, ErrUnauthorized
// or ErrNotReady.
type Credentials interface {
	Credential(ctx context.Context, k credential.Key) (credential.Credential, error)
}

// An Event is one decision.
type Event struct {
	Endpoint   string // protocol that asked
	Caller     caller.Caller
	Verdict    Verdict
	Role       string         // name asked for; "" when the caller's own was
	Key        credential.Key // of the session; zero when it did not come to one
	Credential string         // its ID; "" when none was given
	RequestID  string         // of the upstream's answer that it came in; "" when it gave none
	Err        error          // nil when one was
}

// Options are a Gate's parts. All are required.
type Options struct {
	Policy func(caller.Caller) Verdict
	Roles  []Role
	// Keys finds the key of a role, by its id, for a caller. Its errors match
	// ErrRefused, or count as ErrNotReady.
	Keys        func(role string, who caller.Caller) (credential.Key, error)
	Credentials Credentials
	// Record is told each decision before its credential leaves; an error
	// keeps the credential back.
	Record func(Event) error
}

// A Gate connects the two flows. It may be used concurrently.
type Gate struct {
	o    Options
	byID map[string]Role
}

// New returns a Gate.
func New(o Options) *Gate {
	g := &Gate{o: o, byID: make(map[string]Role, len(o.Roles))}
	for _, r := range o.Roles {
		g.byID[r.ID] = r
	}
	return g
}

// Own returns the caller's own role. A caller without one leaves a record: it
// is told that there is none at all.
func (g *Gate) Own(endpoint string, who caller.Caller) (Role, bool) {
	v := g.o.Policy(who)
	if len(v.Roles) == 0 {
		_ = g.o.Record(Event{Endpoint: endpoint, Caller: who, Verdict: v, Err: v.denied()})
		return Role{}, false
	}
	return g.byID[v.Roles[0]], true
}

// HasRole reports whether the caller has any role, without a record.
func (g *Gate) HasRole(who caller.Caller) bool { return len(g.o.Policy(who).Roles) > 0 }

// Credential returns the credential of the role of that name, when the caller
// may have it. Its errors match ErrDenied, ErrRefused or ErrNotReady.
func (g *Gate) Credential(ctx context.Context, endpoint string, who caller.Caller, name string) (credential.Credential, error) {
	ev := Event{Endpoint: endpoint, Caller: who, Verdict: g.o.Policy(who), Role: name}
	c, err := g.find(ctx, &ev)
	if err != nil {
		ev.Err = err
		_ = g.o.Record(ev)
		return credential.Credential{}, err
	}
	ev.Credential, ev.RequestID = c.ID(), c.RequestID
	if err := g.o.Record(ev); err != nil {
		return credential.Credential{}, fmt.Errorf("%w: the decision could not be recorded: %w", ErrNotReady, err)
	}
	return c, nil
}

func (g *Gate) find(ctx context.Context, ev *Event) (credential.Credential, error) {
	i := slices.IndexFunc(ev.Verdict.Roles, func(id string) bool { return g.byID[id].Name == ev.Role })
	if i < 0 {
		return credential.Credential{}, ev.Verdict.denied()
	}
	k, err := g.o.Keys(ev.Verdict.Roles[i], ev.Caller)
	switch {
	case errors.Is(err, ErrRefused):
		return credential.Credential{}, err
	case err != nil:
		return credential.Credential{}, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	ev.Key = k
	return g.o.Credentials.Credential(ctx, k)
}
