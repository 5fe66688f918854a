// Package screen is what people see of a daemon, in lines of 80 columns.
//
// # Why not
//
// Not a table library: what is shown has one form, and every column of it is
// decided here. Not the width of the terminal: a status that is pasted into a
// message should look as it did. Not a text as it came: strangers choose the
// names of roles that they ask for, and a terminal obeys what it is sent.
package screen

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hostrole/hostrole/agent/admin"
)

// Explanation says what a caller would be given, and why.
func Explanation(e admin.Explanation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "caller  %s\n", Caller(admin.Caller{UID: e.Caller.UID, User: e.Caller.User}))
	if len(e.Caller.Groups) > 0 {
		fmt.Fprintf(&b, "groups  %s\n", Printable(strings.Join(e.Caller.Groups, ", ")))
	}
	for _, fact := range [][2]string{{"unit", e.Caller.Unit}, {"inside", e.Caller.Container}} {
		if fact[1] != "" {
			fmt.Fprintf(&b, "%-7s %s\n", fact[0], Printable(fact[1]))
		}
	}
	for _, a := range e.Answers {
		where := "on listener " + a.Listener
		if a.Listener == admin.Listener {
			where = "through hostrole credential-process"
		}
		fmt.Fprintf(&b, "\n%s\n", where)
		role := "none"
		if len(a.Roles) > 0 {
			role = a.Roles[0]
			if len(a.Roles) > 1 {
				role += "; by its exact name also " + strings.Join(a.Roles[1:], ", ")
			}
		}
		fmt.Fprintf(&b, "  role    %s\n  because %s\n", Printable(role), Wrapped(a.Reason, 10))
		for _, n := range a.Named {
			fmt.Fprintf(&b, "  named   %s\n", Wrapped(named(n), 10))
		}
		for _, p := range a.Passed {
			fmt.Fprintf(&b, "  before  %s\n", Wrapped(p, 10))
		}
		for _, r := range a.Rehearsed {
			fmt.Fprintf(&b, "  note    %s\n", Wrapped(r+" would have decided, and is audit-only", 10))
		}
	}
	return b.String()
}

// named says what the upstream is told of a caller.
func named(n admin.Named) string {
	text := fmt.Sprintf("%s: session %s", n.Role, n.SessionName)
	if n.SourceIdentity != "" {
		text += ", source identity " + n.SourceIdentity
	}
	for _, key := range slices.Sorted(maps.Keys(n.Tags)) {
		text += fmt.Sprintf(", tag %s=%s", key, n.Tags[key])
	}
	return text
}
