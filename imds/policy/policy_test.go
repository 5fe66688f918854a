package policy_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/policy"
)

// app is a caller of whom everything is known that a rule can ask for.
var app = caller.Caller{Listener: "host", UID: caller.NewID(1000), User: "app", Groups: []string{"app", "backup"}}

// but is app, changed.
func but(change func(*caller.Caller)) caller.Caller {
	who := app
	change(&who)
	return who
}

// equal takes nil and empty lists for the same.
func equal(a, b policy.Decision) bool {
	return a.Rule == b.Rule && slices.Equal(a.Roles, b.Roles) && slices.Equal(a.Rehearsed, b.Rehearsed)
}

func TestWhomARuleMatches(t *testing.T) {
	t.Parallel()
	root := but(func(c *caller.Caller) { c.UID, c.User, c.Groups = caller.NewID(0), "root", []string{"root"} })
	nameless := but(func(c *caller.Caller) { c.User, c.Groups = "", nil })
	bridged := but(func(c *caller.Caller) { c.Listener = "docker" })
	for _, c := range []struct {
		name string
		rule policy.Rule
		who  caller.Caller
		want bool
	}{
		{"a uid", policy.Rule{UIDs: []uint32{1000}}, app, true},
		{"one uid of several", policy.Rule{UIDs: []uint32{7, 1000, 8}}, app, true},
		{"not another uid", policy.Rule{UIDs: []uint32{100, 10000, 1001}}, app, false},
		{"root", policy.Rule{UIDs: []uint32{0}}, root, true},
		{"the last uid", policy.Rule{UIDs: []uint32{1<<32 - 1}}, but(func(c *caller.Caller) { c.UID = caller.NewID(1<<32 - 1) }), true},
		{"not root for another uid", policy.Rule{UIDs: []uint32{0}}, app, false},
		{"not another uid for root", policy.Rule{UIDs: []uint32{1, 1000}}, root, false},

		{"a user", policy.Rule{Users: []string{"app"}}, app, true},
		{"one user of several", policy.Rule{Users: []string{"root", "app"}}, app, true},
		{"not another user", policy.Rule{Users: []string{"ap", "apps", "App", "app ", ""}}, app, false},
		{"not a group of that name", policy.Rule{Users: []string{"backup"}}, app, false},
		{"not a uid written as a name", policy.Rule{Users: []string{"1000"}}, app, false},
		{"no empty name for a uid without one", policy.Rule{Users: []string{""}}, nameless, false},
		{"a uid that has no name", policy.Rule{UIDs: []uint32{1000}}, nameless, true},

		{"the primary group", policy.Rule{Groups: []string{"app"}}, app, true},
		{"another group", policy.Rule{Groups: []string{"wheel", "backup"}}, app, true},
		{"not another group", policy.Rule{Groups: []string{"back", "backups", "Backup", ""}}, app, false},
		{"no group for a caller without groups", policy.Rule{Groups: []string{"app", ""}}, nameless, false},

		{"a listener alone: all who are known there", policy.Rule{Listeners: []string{"host"}}, app, true},
		{"a listener alone: root as well", policy.Rule{Listeners: []string{"host"}}, root, true},
		{"a listener alone: who has no name as well", policy.Rule{Listeners: []string{"host"}}, nameless, true},
		{"one listener of several", policy.Rule{Listeners: []string{"host", "docker"}}, bridged, true},
		{"a listener alone: nobody elsewhere", policy.Rule{Listeners: []string{"host"}}, bridged, false},
		{"not another listener", policy.Rule{Listeners: []string{"hos", "hosts", "Host", ""}}, app, false},

		{"any", policy.Rule{Any: true}, app, true},
		{"any: root as well", policy.Rule{Any: true}, root, true},
		{"any: who has no name as well", policy.Rule{Any: true}, nameless, true},
		{"any on a listener", policy.Rule{Any: true, Listeners: []string{"host"}}, app, true},
		{"any on a listener: nobody elsewhere", policy.Rule{Any: true, Listeners: []string{"host"}}, bridged, false},
		{"any does not widen what is asked beside it", policy.Rule{Any: true, Users: []string{"backup"}}, app, false},

		{"every kind of fact", policy.Rule{Listeners: []string{"host"}, UIDs: []uint32{1000}, Users: []string{"app"}, Groups: []string{"backup"}}, app, true},
		{"not with another listener", policy.Rule{Listeners: []string{"docker"}, UIDs: []uint32{1000}, Users: []string{"app"}, Groups: []string{"backup"}}, app, false},
		{"not with another uid", policy.Rule{Listeners: []string{"host"}, UIDs: []uint32{1001}, Users: []string{"app"}, Groups: []string{"backup"}}, app, false},
		{"not with another user", policy.Rule{Listeners: []string{"host"}, UIDs: []uint32{1000}, Users: []string{"root"}, Groups: []string{"backup"}}, app, false},
		{"not with another group", policy.Rule{Listeners: []string{"host"}, UIDs: []uint32{1000}, Users: []string{"app"}, Groups: []string{"wheel"}}, app, false},
		{"nobody without a fact", policy.Rule{}, app, false},
		{"nobody without a fact, not even root", policy.Rule{}, root, false},
	} {
		c.rule.Name, c.rule.Roles = "rule", []string{"role"}
		var want policy.Decision
		if c.want {
			want = policy.Decision{Rule: "rule", Roles: []string{"role"}}
		}
		if got := (policy.Policy{c.rule}).Decide(c.who); !equal(got, want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, want)
		}
		// A rehearsal asks the same questions.
		c.rule.AuditOnly = true
		want = policy.Decision{}
		if c.want {
			want.Rehearsed = []string{"rule"}
		}
		if got := (policy.Policy{c.rule}).Decide(c.who); !equal(got, want) {
			t.Errorf("%s, audit only: got %+v, want %+v", c.name, got, want)
		}
	}
}

// All that the chain of enrichers may have said besides the uid does not help,
// and a uid that is not known is not root's.
func TestUnknownCallerMatchesNothing(t *testing.T) {
	t.Parallel()
	p := policy.Policy{
		{Name: "any", Any: true, Roles: []string{"a"}},
		{Name: "any, rehearsed", Any: true, Roles: []string{"a"}, AuditOnly: true},
		{Name: "any there", Any: true, Listeners: []string{"host"}, Roles: []string{"a"}},
		{Name: "listener", Listeners: []string{"host", ""}, Roles: []string{"a"}},
		{Name: "listener, rehearsed", Listeners: []string{"host", ""}, Roles: []string{"a"}, AuditOnly: true},
		{Name: "uid", UIDs: []uint32{0, 1<<32 - 1, 65534}, Roles: []string{"a"}},
		{Name: "user", Users: []string{"app", ""}, Roles: []string{"a"}},
		{Name: "group", Groups: []string{"app", ""}, Roles: []string{"a"}},
		{Name: "nothing", Roles: []string{"a"}},
	}
	for name, who := range map[string]caller.Caller{
		"altogether":  {},
		"but the uid": but(func(c *caller.Caller) { c.UID, c.Cgroup, c.Inode = caller.ID{}, 4711, 4711 }),
	} {
		if got := p.Decide(who); !equal(got, policy.Decision{}) {
			t.Errorf("a caller who is unknown %s: %+v", name, got)
		}
	}
}

func TestFirstMatchDecides(t *testing.T) {
	t.Parallel()
	a := policy.Rule{Name: "a", Users: []string{"app"}, Roles: []string{"own", "second"}}
	b := policy.Rule{Name: "b", UIDs: []uint32{1000}, Roles: []string{"b"}}
	none := policy.Rule{Name: "none", Users: []string{"app"}}
	root := policy.Rule{Name: "root", UIDs: []uint32{0}, Roles: []string{"root"}}
	all := policy.Rule{Name: "all", Any: true, Roles: []string{"all"}}
	try := func(r policy.Rule) policy.Rule {
		r.Name, r.AuditOnly = "try "+r.Name, true
		return r
	}
	for _, c := range []struct {
		name string
		p    policy.Policy
		want policy.Decision
	}{
		{"nobody may anything without rules", nil, policy.Decision{}},
		{"nobody may anything when no rule matches", policy.Policy{root, root}, policy.Decision{}},
		{"the first of two", policy.Policy{a, b}, policy.Decision{Rule: "a", Roles: []string{"own", "second"}}},
		{"the order of the rules is all that counts", policy.Policy{b, a}, policy.Decision{Rule: "b", Roles: []string{"b"}}},
		{"a rule for all before one for the caller", policy.Policy{all, a}, policy.Decision{Rule: "all", Roles: []string{"all"}}},
		{"a rule that does not match is passed over", policy.Policy{root, a, all}, policy.Decision{Rule: "a", Roles: []string{"own", "second"}}},
		{"the last one", policy.Policy{root, root, all}, policy.Decision{Rule: "all", Roles: []string{"all"}}},
		{"roles are not added up", policy.Policy{b, b, a}, policy.Decision{Rule: "b", Roles: []string{"b"}}},
		{"a rule without roles is the end as well", policy.Policy{none, a}, policy.Decision{Rule: "none"}},
		{"a rehearsal is told and passed over", policy.Policy{try(a), b}, policy.Decision{Rule: "b", Roles: []string{"b"}, Rehearsed: []string{"try a"}}},
		{"a rehearsal gives nothing", policy.Policy{try(a)}, policy.Decision{Rehearsed: []string{"try a"}}},
		{"all rehearsals before the decision, in order", policy.Policy{try(b), root, try(a), try(all), b, try(b)},
			policy.Decision{Rule: "b", Roles: []string{"b"}, Rehearsed: []string{"try b", "try a", "try all"}}},
		{"no rehearsal for another", policy.Policy{try(root), a}, policy.Decision{Rule: "a", Roles: []string{"own", "second"}}},
		{"no rehearsal after the decision", policy.Policy{a, try(b)}, policy.Decision{Rule: "a", Roles: []string{"own", "second"}}},
	} {
		if got := c.p.Decide(app); !equal(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// many is that many rules, of which the last matches app, and all look at him
// from every side.
func many(n int) policy.Policy {
	p := make(policy.Policy, n)
	for i := range p {
		p[i] = policy.Rule{Name: fmt.Sprintf("rule %d", i+1), Listeners: []string{"host", "docker"}, UIDs: []uint32{7, 1000}, Users: []string{"root", "app"},
			Groups: []string{"wheel", fmt.Sprintf("group-%d", i)}, Roles: []string{"role"}}
	}
	p[n-1].Groups = []string{"backup"}
	return p
}

func TestDecidingAllocatesNothing(t *testing.T) {
	for _, n := range []int{1, 1000} {
		p := many(n)
		var got policy.Decision
		if allocs := testing.AllocsPerRun(100, func() { got = p.Decide(app) }); allocs != 0 {
			t.Errorf("%d rules: %v allocations, want none", n, allocs)
		}
		if want := fmt.Sprintf("rule %d", n); got.Rule != want {
			t.Errorf("%d rules: %q decided, want %q", n, got.Rule, want)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			p := many(n)
			b.ReportAllocs()
			for b.Loop() {
				if len(p.Decide(app).Roles) != 1 {
					b.Fatal("no role")
				}
			}
		})
	}
}
