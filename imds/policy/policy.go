// Package policy decides which roles a caller may use: a pure function of
// rules.
//
// # Why not
//
// Not a default role, not a rule for the unknown: a caller whom the kernel
// cannot name matches no rule at all. Not a merge of all rules that match: the
// first one decides, so that the order of the file is the whole explanation;
// who has not what a session is named after gets nothing, and not what a later
// rule gives.
// Not a user's role for that user's containers: they run what others wrote, and
// a root inside of one is the host's root to the kernel.
package policy

import (
	"net/netip"
	"slices"

	"github.com/hostrole/hostrole/imds/caller"
)

// A Rule gives roles to the callers that match all of its facts. A fact that
// is empty is not asked about; one value of each that is not is enough.
//
// A rule that names UIDs, Users or Groups means processes of the host. It takes
// those in containers and pods only if it names Units, Containers, Images, Labels
// or Pods as well.
type Rule struct {
	Name       string
	Listeners  []string
	UIDs       []uint32
	Users      []string
	Groups     []string
	Units      []Glob         // of the host's service manager; nobody where they cannot be told
	Containers []Glob         // of the ids and names that a Caller has: "*" is all but those inside of others
	Images     []Image        // of the container, as its runtime says
	Labels     []Label        // of the container, as its runtime says: one of each key
	Pods       []Glob         // "namespace/serviceaccount", of a token or as the runtime says; nobody where the two differ
	Sources    []netip.Prefix // of the remote address, whose owner must be known all the same
	Any        bool           // every known caller; without it a rule needs a fact about the caller
	Roles      []string       // the first is the caller's own
	AuditOnly  bool           // tell what the rule would have decided and go on
	// Needs are what the session of a role is named after: facts, by the names
	// of caller.Caller.Fact, without which a caller is not given it.
	Needs map[string][]string
}

// A Decision is what the rules say about one caller.
type Decision struct {
	Rule      string   // that decided; "" when none matched
	Roles     []string // the caller's own first; none means denied
	Missing   string   // the fact that the caller's own role needs and the caller has not; then there are no Roles
	Rehearsed []string // audit-only rules that would have decided, in order
}

// A Policy is a list of rules.
type Policy []Rule

// Decide finds the first rule that matches.
func (p Policy) Decide(who caller.Caller) Decision {
	var d Decision
	pod := podOf(&who)
	for i := range p {
		r := &p[i]
		if !r.matches(&who, pod) {
			continue
		}
		if r.AuditOnly {
			d.Rehearsed = append(d.Rehearsed, r.Name)
			continue
		}
		d.Rule, d.Roles = r.Name, r.Roles
		if len(r.Needs) > 0 && len(r.Roles) > 0 {
			d.Roles, d.Missing = r.given(&who)
		}
		return d
	}
	return d
}

// given are the roles of r whose sessions can be named after who. Without the
// first there are none: another one would be taken for the caller's own.
func (r *Rule) given(who *caller.Caller) (roles []string, missing string) {
	if missing := r.lacks(r.Roles[0], who); missing != "" {
		return nil, missing
	}
	lacking := func(role string) bool { return r.lacks(role, who) != "" }
	if slices.ContainsFunc(r.Roles, lacking) {
		return slices.DeleteFunc(slices.Clone(r.Roles), lacking), ""
	}
	return r.Roles, "" // the common case allocates nothing
}

// lacks is a fact that the session of a role is named after and who has not.
func (r *Rule) lacks(role string, who *caller.Caller) string {
	for _, fact := range r.Needs[role] {
		if who.Fact(fact) == "" {
			return fact
		}
	}
	return ""
}

func (r *Rule) matches(who *caller.Caller, pod string) bool {
	if !who.Known() || !r.asks() {
		return false
	}
	uid, byKernel := who.UID.Get()
	named := len(r.Units)+len(r.Containers)+len(r.Images)+len(r.Labels)+len(r.Pods) > 0
	inside := byKernel && who.Container != "" // else what a runtime says is of nobody
	if r.asksUser() && (!byKernel || !named && (who.Container != "" || who.Pod != "")) {
		return false
	}
	return (len(r.Listeners) == 0 || slices.Contains(r.Listeners, who.Listener)) &&
		(len(r.UIDs) == 0 || slices.Contains(r.UIDs, uid)) &&
		(len(r.Users) == 0 || who.User != "" && slices.Contains(r.Users, who.User)) &&
		(len(r.Groups) == 0 || slices.ContainsFunc(who.Groups, func(g string) bool { return slices.Contains(r.Groups, g) })) &&
		(len(r.Units) == 0 || byKernel && matchesAny(r.Units, who.Unit)) &&
		(len(r.Containers) == 0 || inside && (matchesAny(r.Containers, who.Container) || matchesAny(r.Containers, who.ContainerName))) &&
		(len(r.Images) == 0 || inside && matchesImage(r.Images, who)) &&
		(len(r.Labels) == 0 || inside && matchesLabels(r.Labels, who.Labels)) &&
		(len(r.Pods) == 0 || matchesAny(r.Pods, pod)) &&
		(len(r.Sources) == 0 || r.from(who.Remote.Addr()))
}

// asks reports whether r asks about anything.
func (r *Rule) asks() bool {
	return r.Any || r.asksUser() || len(r.Listeners)+len(r.Units)+len(r.Containers)+len(r.Images)+len(r.Labels)+len(r.Pods)+len(r.Sources) > 0
}

func (r *Rule) asksUser() bool { return len(r.UIDs)+len(r.Users)+len(r.Groups) > 0 }

func (r *Rule) from(remote netip.Addr) bool {
	remote = remote.WithZone("") // no prefix has one
	return slices.ContainsFunc(r.Sources, func(p netip.Prefix) bool { return p.Contains(remote) })
}

// podOf is the service account of the pod of a caller, with its namespace. A
// token that is shown from another pod than its own was carried off: "".
func podOf(who *caller.Caller) string {
	_, byKernel := who.UID.Get()
	if !byKernel || who.Container == "" || who.Namespace == "" || who.ServiceAccount == "" {
		return who.Pod
	}
	told := who.Namespace + "/" + who.ServiceAccount
	if who.Pod != "" && who.Pod != told {
		return ""
	}
	return told
}
