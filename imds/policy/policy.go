// Package policy decides which roles a caller may use: a pure function of
// rules.
//
// # Why not
//
// Not a default role, not a rule for the unknown: a caller whom the kernel
// cannot name matches no rule at all. Not a merge of all rules that match: the
// first one decides, so that the order of the file is the whole explanation.
package policy

import (
	"slices"

	"github.com/hostrole/hostrole/imds/caller"
)

// A Rule gives roles to the callers that match all of its facts. A fact that
// is empty is not asked about; one value of each that is not is enough.
type Rule struct {
	Name      string
	Listeners []string
	UIDs      []uint32
	Users     []string
	Groups    []string
	Any       bool     // every known caller; without it a rule needs a fact about the caller
	Roles     []string // the first is the caller's own
	AuditOnly bool     // tell what the rule would have decided and go on
}

// A Decision is what the rules say about one caller.
type Decision struct {
	Rule      string   // that decided; "" when none matched
	Roles     []string // the caller's own first; none means denied
	Rehearsed []string // audit-only rules that would have decided, in order
}

// A Policy is a list of rules.
type Policy []Rule

// Decide finds the first rule that matches.
func (p Policy) Decide(who caller.Caller) Decision {
	var d Decision
	for i := range p {
		r := &p[i]
		if !r.matches(&who) {
			continue
		}
		if r.AuditOnly {
			d.Rehearsed = append(d.Rehearsed, r.Name)
			continue
		}
		d.Rule, d.Roles = r.Name, r.Roles
		return d
	}
	return d
}

func (r *Rule) matches(who *caller.Caller) bool {
	uid, known := who.UID.Get()
	if !known || !r.Any && len(r.UIDs)+len(r.Users)+len(r.Groups)+len(r.Listeners) == 0 {
		return false
	}
	return (len(r.Listeners) == 0 || slices.Contains(r.Listeners, who.Listener)) &&
		(len(r.UIDs) == 0 || slices.Contains(r.UIDs, uid)) &&
		(len(r.Users) == 0 || who.User != "" && slices.Contains(r.Users, who.User)) &&
		(len(r.Groups) == 0 || slices.ContainsFunc(who.Groups, func(g string) bool { return slices.Contains(r.Groups, g) }))
}
