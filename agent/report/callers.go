package report

import (
	"slices"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/rotation/credential"
)

// worst are the states of a session, those first that an operator wants to
// hear of. A session that has just come is none of these where others are live.
var worst = []admin.State{admin.Refused, admin.Down, admin.Failing, admin.Live, admin.Starting}

// Callers says how a role fares that has a session for each caller: by the one
// that fares worst. keys are those of its sessions; most, how many it can have.
func Callers(r *roles.Role, from string, keys []credential.Key, most int, out Outcomes, revoked bool, now time.Time) admin.Role {
	one := *r
	said := Role(r, from, out, revoked, now)
	if !revoked {
		said.State = admin.OnDemand
	}
	of := &admin.Callers{Sessions: len(keys), Most: most, Facts: r.Facts}
	for i, k := range keys {
		one.Job.Key = k
		is := Role(&one, from, out, false, now)
		if is.State.Served() {
			of.Served++
		}
		if at := slices.Index(worst, is.State) - slices.Index(worst, said.State); i == 0 || at < 0 || at == 0 && ends(is).Before(ends(said)) {
			is.Session = r.Job.Key.String()
			said = is
		}
	}
	if said.State == admin.Refused || said.State == admin.Down {
		if of.Served > 0 { // for the others
			said.State = admin.Failing
		}
	}
	said.Callers = of
	return said
}

// ends is when a credential does; far away without an end.
func ends(r admin.Role) time.Time {
	if r.Expires == nil {
		return time.Unix(1<<40, 0)
	}
	return *r.Expires
}

// Named says what the upstreams are told of a caller for those of some roles
// whose session is the caller's own.
func Named(all map[string]*roles.Role, names []string, who caller.Caller) (said []admin.Named) {
	facts := map[string]string{}
	for _, f := range caller.Facts() {
		facts[f] = who.Fact(f)
	}
	for _, name := range names {
		if r := all[name]; r != nil && len(r.Facts) > 0 {
			n := r.Render(facts)
			said = append(said, admin.Named{Role: name, SessionName: n.SessionName, SourceIdentity: n.SourceIdentity, Tags: n.Tags})
		}
	}
	return said
}
