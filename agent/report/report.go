// Package report is what the agent says of itself to an operator: how its roles
// fare, whom it answered what, and why a caller would be given a role.
//
// # Why not
//
// Not in package agent, which puts parts together: nothing here changes
// anything. Not in the operator's socket: that knows a protocol and no part.
// Not a second matcher that explains: every word about a rule is what the
// policy itself says of a part of it.
package report

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/store"
)

// Outcomes are where the roles' credentials are. A rotation.Manager is one.
type Outcomes interface {
	Entry(k credential.Key) *store.Entry
	Left(k credential.Key, c credential.Credential) time.Duration
}

// Role says how a role fares. from is where the configuration has it from;
// revoked, whether an operator has revoked it.
func Role(r *roles.Role, from string, out Outcomes, revoked bool, now time.Time) admin.Role {
	said := admin.Role{Name: r.ID, ServedAs: r.Name, ARN: r.ARN, From: from, Session: r.Job.Key.String(), State: admin.Starting}
	if r.Job.Skew != nil {
		said.Skew = r.Job.Skew().Seconds()
	}
	e := out.Entry(r.Job.Key)
	switch {
	case revoked:
		said.State = admin.Revoked
		return said
	case e == nil:
		return said
	}
	c := e.Credential
	left := out.Left(r.Job.Key, c)
	live := c.Complete() && c.Expires.IsZero() || left > 0
	switch {
	case live && e.Err == nil:
		said.State = admin.Live
	case live:
		said.State = admin.Failing
	case errors.Is(e.Err, source.ErrRefused):
		said.State = admin.Refused
	case e.Err != nil || c.Complete():
		said.State = admin.Down
	}
	if c.Complete() {
		said.Credential, said.Endpoint, said.Issued = c.ID(), c.Endpoint, &c.Issued
		if !c.Expires.IsZero() {
			said.Expires, said.Life, said.Left = &c.Expires, seconds(c.Expires.Sub(c.Issued)), seconds(max(0, left))
		}
	}
	if !e.Next.IsZero() {
		said.Next, said.NextIn = &e.Next, seconds(e.Next.Sub(now))
	}
	if e.Err != nil {
		said.Failures, said.Since, said.Error = e.Failures, &e.Since, e.Err.Error()
	}
	return said
}

func seconds(d time.Duration) *float64 {
	s := d.Round(time.Millisecond).Seconds()
	return &s
}

// Order sorts the names of roles so that each stands after the one that it is
// assumed from, and otherwise by name.
func Order(all map[string]*roles.Role) (names []string) {
	done := map[credential.Key]bool{}
	left := slices.Sorted(maps.Keys(all))
	for len(left) > 0 {
		var later []string
		for _, name := range left {
			if needs := all[name].Job.Needs; needs != (credential.Key{}) && !done[needs] {
				later = append(later, name)
				continue
			}
			done[all[name].Job.Key] = true
			names = append(names, name)
		}
		if len(later) == len(left) { // never so: the configuration has no cycles
			return append(names, later...)
		}
		left = later
	}
	return names
}

// Caller puts who asked into the socket's form.
func Caller(who caller.Caller) admin.Caller {
	c := admin.Caller{User: who.User, Groups: who.Groups, Unit: who.Unit, Container: who.Container, Pod: who.Pod, Listener: who.Listener}
	if uid, known := who.UID.Get(); known {
		c.UID = &uid
	}
	return c
}
