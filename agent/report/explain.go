package report

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/policy"
)

// Explain says what the rules give a caller on each of the listeners, and why.
func Explain(rules policy.Policy, who caller.Caller, listeners []string) admin.Explanation {
	said := admin.Explanation{Caller: Caller(who)}
	for _, name := range listeners {
		who.Listener = name
		said.Answers = append(said.Answers, answer(rules, who))
	}
	return said
}

func answer(rules policy.Policy, who caller.Caller) admin.Answer {
	d := rules.Decide(who)
	a := admin.Answer{Listener: who.Listener, Rule: d.Rule, Roles: append([]string{}, d.Roles...),
		Passed: []string{}, Rehearsed: append([]string{}, d.Rehearsed...)}
	switch {
	case !who.Known():
		a.Reason = "the kernel's word for this user is that it is unknown, and no rule matches who is unknown"
		return a
	case d.Missing != "":
		a.Reason = fmt.Sprintf("%s decides, and gives nothing: the session is named after the caller's %s, which is not known", d.Rule, d.Missing)
	case d.Rule == "":
		a.Reason = fmt.Sprintf("none of the %d rules matches: the caller sees a host without a role", len(rules))
	}
	for _, r := range rules {
		hit, miss := facts(r, who)
		if r.AuditOnly {
			if len(miss) == 0 {
				a.Passed = append(a.Passed, fmt.Sprintf("%s matches by %s, and is audit-only", r.Name, words(hit)))
			}
			continue
		}
		if len(miss) == 0 {
			if d.Missing != "" {
				break
			}
			a.Reason = fmt.Sprintf("%s is the first rule that matches, by %s", r.Name, words(hit))
			break
		}
		a.Passed = append(a.Passed, fmt.Sprintf("%s does not match: the caller's %s", r.Name, is(miss, who)))
	}
	return a
}

// facts are the facts that a rule asks for, by whether the caller has them.
// Each is what the policy says to a rule with that fact alone, so that a fact
// which rules learn is explained as well.
func facts(r policy.Rule, who caller.Caller) (hit, miss []string) {
	all := reflect.ValueOf(r)
	for i := range all.NumField() {
		f, v := all.Type().Field(i), all.Field(i)
		if f.Name == "Roles" || f.Name == "Needs" || v.Kind() != reflect.Slice && v.Kind() != reflect.Map || v.Len() == 0 {
			continue
		}
		one := policy.Rule{Name: "one", Roles: []string{"one"}}
		reflect.ValueOf(&one).Elem().Field(i).Set(v)
		name := strings.ToLower(strings.TrimSuffix(f.Name, "s"))
		if (policy.Policy{one}).Decide(who).Rule == "" {
			miss = append(miss, name)
		} else {
			hit = append(hit, name)
		}
	}
	if len(hit)+len(miss) == 0 {
		if (policy.Policy{r}).Decide(who).Rule == "" && !r.AuditOnly {
			return nil, []string{"uid"}
		}
		hit = []string{"any = true"}
	}
	return hit, miss
}

func words(names []string) string { return strings.Join(names, " and ") }

// is says what the caller has in place of what was asked for.
func is(miss []string, who caller.Caller) string {
	known := map[string]string{"uid": who.UID.String(), "user": who.User, "group": strings.Join(who.Groups, ", "),
		"listener": who.Listener, "unit": who.Unit, "container": who.Container, "image": who.Image, "pod": who.Pod}
	var said []string
	for _, name := range miss {
		switch value, told := known[name]; {
		case !told:
			said = append(said, name+" is another, or is not known")
		case value == "":
			said = append(said, name+" is not known")
		default:
			said = append(said, name+" is "+value)
		}
	}
	return strings.Join(said, ", and its ")
}
