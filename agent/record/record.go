// Package record puts a decision of the gate into the form of the audit.
//
// # Why not
//
// Not in the gate: what is kept of a decision, and how it is written, is the
// operator's. Not in the audit: it writes lines, and knows no rule and no
// caller. Not all labels of a container: those that no rule asks for decide
// nothing, and there may be a hundred.
package record

import (
	"errors"
	"slices"
	"time"

	"github.com/hostrole/hostrole/agent/audit"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/imds/policy"
)

// Of puts a decision by some rules into the form of the audit. session is the
// name of one that is the caller's own, or "".
func Of(e gate.Event, rules policy.Policy, session string, now time.Time) audit.Record {
	who := e.Caller
	rec := audit.Record{
		Time: now, Verdict: Verdict(e.Err), Endpoint: e.Endpoint, Listener: who.Listener, Remote: remote(who),
		User: who.User, Groups: who.Groups, Cgroup: who.Cgroup, Inode: who.Inode,
		Unit: who.Unit, Container: who.Container, Runtime: who.Runtime, ContainerName: who.ContainerName,
		Image: who.Image, ImageDigest: who.ImageDigest, Namespace: who.Namespace, ServiceAccount: who.ServiceAccount, Pod: who.Pod,
		Rule: e.Verdict.Rule, Role: e.Role, Session: session, Credential: e.Credential, RequestID: e.RequestID,
	}
	if uid, known := who.UID.Get(); known {
		rec.UID = &uid
	}
	for _, r := range rules[:told(len(rules), e)] {
		if slices.Contains(e.Verdict.Rehearsed, r.Name) {
			rec.Rehearsed = append(rec.Rehearsed, audit.Rehearsal{Rule: r.Name, Roles: r.Roles})
		}
		for _, l := range r.Labels {
			if value, has := who.Labels[l.Key()]; has {
				if rec.Labels == nil {
					rec.Labels = map[string]string{}
				}
				rec.Labels[l.Key()] = value
			}
		}
	}
	switch {
	case rec.Verdict == audit.Denied && e.Verdict.Rule == "" && !errors.Is(e.Err, gate.ErrRejected):
		rec.Reason = "no rule gives this caller a role"
	case e.Err != nil:
		rec.Reason = e.Err.Error()
	}
	return rec
}

// told is how many of n rules have something to say in a record: none in the
// common case, however many there are.
func told(n int, e gate.Event) int {
	if len(e.Verdict.Rehearsed)+len(e.Caller.Labels) == 0 {
		return 0
	}
	return n
}

// Verdict is how a decision ended that ended with this error.
func Verdict(err error) audit.Verdict {
	switch {
	case err == nil:
		return audit.Granted
	case errors.Is(err, gate.ErrDenied):
		return audit.Denied
	case errors.Is(err, gate.ErrRefused):
		return audit.Refused
	}
	return audit.NotReady
}

// remote is where a caller came from; "" for one that has no address.
func remote(who caller.Caller) string {
	if !who.Remote.IsValid() {
		return ""
	}
	return who.Remote.String()
}
