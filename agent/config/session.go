package config

import (
	"fmt"
	"slices"
	"strings"
)

// callers are the placeholders for what is known of a caller.
var callers = []string{"{unit}", "{user}", "{uid}", "{container}"}

// templates are those of a role by their keys.
func (r Role) templates() map[string]string {
	all := map[string]string{"session_name": r.SessionName, "source_identity": r.SourceIdentity}
	for key, value := range r.Tags {
		all["tags."+key] = value
	}
	return all
}

// asks are the placeholders for facts of a caller that the templates of a role
// have, and the key of one of them.
func (r Role) asks() (all []string, at string) {
	for key, text := range r.templates() {
		for _, p := range placeholder.FindAllString(text, -1) {
			if !slices.Contains(callers, p) {
				continue
			}
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
			if at == "" || key < at {
				at = key
			}
		}
	}
	slices.Sort(all)
	return all, at
}

// Facts are the facts about a caller that the session of r is named after:
// unit, user, uid, container; none for a role with one session for all.
func (r Role) Facts() (names []string) {
	all, _ := r.asks()
	for _, p := range all {
		names = append(names, strings.Trim(p, "{}"))
	}
	return names
}

// sessions checks that who has a session of the caller's own is given one, and
// nobody else.
func (k *checker) sessions() {
	for i := range k.c.Allow {
		r, at := &k.c.Allow[i], fmt.Sprintf("allow[%d]", i)
		some := len(r.Roles) == 0 || k.spoilt[at+".roles"] || k.spoilt[at+".session"]
		for j, name := range r.Roles {
			asks, where := k.c.Roles[name].asks()
			some = some || len(asks) > 0 || k.spoilt["role."+name]
			if len(asks) > 0 && r.Session == "role" && !k.spoilt[at+".session"] {
				k.fault(fmt.Sprintf("%s.roles[%d]", at, j), fmt.Sprintf("the session of role %q is named after the caller's %s, and this rule gives one to all its callers", name, strings.Join(k.c.Roles[name].Facts(), " and ")),
					fmt.Sprintf("write session = 'caller' in this rule, or take %s out of role.%s.%s", strings.Join(asks, " "), name, where))
			}
		}
		if r.Session == "caller" && !some {
			k.fault(at+".session", "would have no effect: all callers of its roles would have the same one", "write "+strings.Join(callers, ", ")+" into session_name, source_identity or tags of a role")
		}
	}
	for name, uses := range k.uses {
		for _, u := range uses {
			if u.parent == nil {
				continue
			}
			if asks, where := k.c.Roles[u.parent.name].asks(); len(asks) > 0 {
				k.fault("role."+name+".from", fmt.Sprintf("role %q has a session for each caller, and no caller stands behind what is assumed from it", u.parent.name),
					fmt.Sprintf("move %s from role.%s.%s to the last role of the chain", strings.Join(asks, " "), u.parent.name, where))
			}
		}
	}
}
