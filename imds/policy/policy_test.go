package policy_test

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
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
	return a.Rule == b.Rule && a.Missing == b.Missing && slices.Equal(a.Roles, b.Roles) && slices.Equal(a.Rehearsed, b.Rehearsed)
}

func TestWhomARuleMatches(t *testing.T) {
	t.Parallel()
	root := but(func(c *caller.Caller) { c.UID, c.User, c.Groups = caller.NewID(0), "root", []string{"root"} })
	nameless := but(func(c *caller.Caller) { c.User, c.Groups = "", nil })
	bridged := but(func(c *caller.Caller) { c.Listener = "docker" })
	unit := but(func(c *caller.Caller) { c.Unit, c.Slice = "app.service", "system.slice" })
	boxed := but(func(c *caller.Caller) {
		c.Unit, c.Container, c.Runtime, c.Remote = "docker-ab.scope", "ab", "docker", netip.MustParseAddrPort("172.17.0.2:40001")
	})
	nested := but(func(c *caller.Caller) { c.Container = "ab/cd" })
	pod := but(func(c *caller.Caller) {
		c.UID, c.Unit, c.Container, c.Pod = caller.ID{}, "docker-ab.scope", "ab", "shop/api"
	})
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
		{"a unit", policy.Rule{Units: globs("app.service")}, unit, true},
		{"a unit of a pattern", policy.Rule{Units: globs("web-*.service", "app*.service")}, unit, true},
		{"a unit by one pattern of several", policy.Rule{Units: globs("app", "app.*e", "pp.service")}, unit, true},
		{"not a part of the name of a unit", policy.Rule{Units: globs("app", "pp.service", "app.service?", "App.service", "app.servic")}, unit, false},
		{"no unit for a caller without one", policy.Rule{Units: globs("*")}, app, false},
		{"a unit and a user", policy.Rule{Units: globs("app.service"), Users: []string{"app"}}, unit, true},
		{"not another user in that unit", policy.Rule{Units: globs("app.service"), Users: []string{"root"}}, unit, false},
		{"not that user in another unit", policy.Rule{Units: globs("web.service"), Users: []string{"app"}}, unit, false},
		{"a unit's name with a backslash, as it is", policy.Rule{Units: globs(`a\x2db.service`)}, but(func(c *caller.Caller) { c.Unit = `a\x2db.service` }), true},

		{"a container", policy.Rule{Containers: globs("ab")}, boxed, true},
		{"any container", policy.Rule{Containers: globs("*")}, boxed, true},
		{"no container for a process of the host", policy.Rule{Containers: globs("*", "*/*")}, unit, false},
		{"not a container inside of one", policy.Rule{Containers: globs("*", "ab", "cd")}, nested, false},
		{"a container inside of one, by both names", policy.Rule{Containers: globs("ab/*")}, nested, true},
		{"a container and its uid", policy.Rule{Containers: globs("ab"), UIDs: []uint32{1000}}, boxed, true},
		{"a container's unit and its user", policy.Rule{Units: globs("docker-*.scope"), Users: []string{"app"}}, boxed, true},
		{"not that container as another uid", policy.Rule{Containers: globs("ab"), UIDs: []uint32{0}}, boxed, false},
		{"no user's container for the user", policy.Rule{Users: []string{"app"}}, boxed, false},
		{"no user's container for the uid", policy.Rule{UIDs: []uint32{1000}}, boxed, false},
		{"no user's container for the group", policy.Rule{Groups: []string{"app"}}, boxed, false},
		{"no user's container for the user from there", policy.Rule{Users: []string{"app"}, Listeners: []string{"host"}, Sources: nets("172.17.0.0/16")}, boxed, false},
		{"no user's container for any, when it asks for the user as well", policy.Rule{Users: []string{"app"}, Any: true}, boxed, false},
		{"any: a container as well", policy.Rule{Any: true}, boxed, true},
		{"a listener alone: a container as well", policy.Rule{Listeners: []string{"host"}}, boxed, true},

		{"a source", policy.Rule{Sources: nets("10.0.0.0/8", "172.17.0.2/32")}, boxed, true},
		{"a source, not masked", policy.Rule{Sources: nets("172.17.255.255/16")}, boxed, true},
		{"not another source", policy.Rule{Sources: nets("172.17.0.3/32", "172.18.0.0/16", "::/0")}, boxed, false},
		{"a source with a zone", policy.Rule{Sources: nets("fe80::/10")}, but(func(c *caller.Caller) { c.Remote = netip.MustParseAddrPort("[fe80::1%br0]:1") }), true},
		{"no source for a caller from nowhere", policy.Rule{Sources: nets("0.0.0.0/0", "::/0")}, app, false},

		{"a pod", policy.Rule{Pods: globs("shop/api")}, pod, true},
		{"every pod of a namespace", policy.Rule{Pods: globs("shop/*")}, pod, true},
		{"not another pod", policy.Rule{Pods: globs("shop", "api", "*", "shop/ap", "other/*")}, pod, false},
		{"no pod for a caller who is none", policy.Rule{Pods: globs("*/*", "*")}, app, false},
		{"any: a pod without a uid as well", policy.Rule{Any: true}, pod, true},
		{"a listener alone: a pod without a uid as well", policy.Rule{Listeners: []string{"host"}}, pod, true},
		{"no uid of a pod without one", policy.Rule{Pods: globs("shop/api"), UIDs: []uint32{0, 1000}}, pod, false},
		{"no user of a pod without a uid", policy.Rule{Pods: globs("shop/api"), Users: []string{"app"}}, pod, false},
		{"no group of a pod without a uid", policy.Rule{Pods: globs("shop/api"), Groups: []string{"app"}}, pod, false},
		{"no unit of a pod without a uid", policy.Rule{Units: globs("*")}, pod, false},
		{"no container of a pod without a uid", policy.Rule{Containers: globs("*")}, pod, false},
		{"a pod and its uid", policy.Rule{Pods: globs("shop/api"), UIDs: []uint32{1000}}, but(func(c *caller.Caller) { c.Pod = "shop/api" }), true},
		{"no pod for the user", policy.Rule{Users: []string{"app"}}, but(func(c *caller.Caller) { c.Pod = "shop/api" }), false},

		{"nothing by globs that are empty", policy.Rule{Units: make([]policy.Glob, 1)}, unit, false},
		{"nothing by a fact that is not known, with a glob that is empty", policy.Rule{Units: make([]policy.Glob, 1)}, app, false},
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
		{Name: "unit", Units: globs("*"), Roles: []string{"a"}},
		{Name: "container", Containers: globs("*", "*/*"), Roles: []string{"a"}},
		{Name: "pod", Pods: globs("*", "*/*"), Roles: []string{"a"}},
		{Name: "source", Sources: nets("0.0.0.0/0", "::/0"), Roles: []string{"a"}},
		{Name: "nothing", Roles: []string{"a"}},
	}
	for name, who := range map[string]caller.Caller{
		"altogether":  {},
		"but the uid": but(func(c *caller.Caller) { c.UID, c.Cgroup, c.Inode = caller.ID{}, 4711, 4711 }),
		"but his place": but(func(c *caller.Caller) {
			c.UID, c.Unit, c.Slice, c.Container, c.Runtime = caller.ID{}, "app.service", "system.slice", "ab", "docker"
			c.Remote = netip.MustParseAddrPort("172.17.0.2:40001")
		}),
	} {
		if got := p.Decide(who); !equal(got, policy.Decision{}) {
			t.Errorf("a caller who is unknown %s: %+v", name, got)
		}
	}
}

func nets(prefixes ...string) (all []netip.Prefix) {
	for _, p := range prefixes {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

func TestGlob(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"app.service", "app.service", true}, {"app.service", "app_service", false}, {"app.service", "", false},
		{"*", "a", true}, {"*", "", false}, {"*", "a/b", false}, {"*/*", "a/b", true}, {"*/*", "a/b/c", false}, {"a*", "a", true},
		{"app-?.service", "app-1.service", true}, {"app-?.service", "app-12.service", false}, {"?", "/", false}, {"?", "\u00e9", true},
		{"app-[1-3].service", "app-2.service", true}, {"app-[1-3].service", "app-4.service", false}, {"[^a]", "b", true}, {"[^a]", "a", false},
		{`\*`, "*", true}, {`\*`, "a", false}, {`a\x2db`, "ax2db", true}, {`a\x2db`, `a\x2db`, true}, {`a\\x2db`, `a\x2db`, true},
	} {
		g, err := policy.NewGlob(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
		} else if got := g.Match(c.name); got != c.want || g.String() != c.pattern {
			t.Errorf("%v matches %q: %v, want %v", g, c.name, got, c.want)
		}
	}
	for _, bad := range []string{"", "[", "[]", "[a", "a[", "[a-]", `\`, `a\`, "[a-b-c]", "*\xb0"} {
		if g, err := policy.NewGlob(bad); !errors.Is(err, policy.ErrPattern) || g != (policy.Glob{}) || g.Match("a") || g.Match("") {
			t.Errorf("%q is the pattern %+v, %v", bad, g, err)
		}
		if all, err := policy.NewGlobs("a", bad); !errors.Is(err, policy.ErrPattern) || all != nil {
			t.Errorf("a and %q are the patterns %v, %v", bad, all, err)
		}
	}
}

func FuzzNewGlob(f *testing.F) {
	for _, p := range []string{"", "*", "app-*.service", "[a-c]?", "[", `\`, "[]a]", "[^]", "a[b-", "\xff", "*[", "a*b*c*d"} {
		f.Add(p, "app-1.service")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		g, err := policy.NewGlob(pattern)
		if err != nil {
			if g.Match(name) || g.Match(pattern) {
				t.Errorf("%q is no pattern and matches", pattern)
			}
			return
		}
		want, err := path.Match(pattern, name)
		if err != nil {
			t.Errorf("%q is a pattern by itself and none for %q: %v", pattern, name, err)
		}
		if got := g.Match(name); got != (name != "" && (want || name == pattern)) {
			t.Errorf("%q matches %q: %v", pattern, name, got)
		}
	})
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
			Groups: []string{"wheel", fmt.Sprintf("group-%d", i)}, Units: globs("web-*.service", "app-*.service"), Sources: nets("10.0.0.0/8", "127.0.0.0/8"), Roles: []string{"role"}}
	}
	p[n-1].Groups = []string{"backup"}
	return p
}

// busy is app, with all facts that many asks for.
var busy = but(func(c *caller.Caller) {
	c.Unit, c.Remote = "app-1.service", netip.MustParseAddrPort("127.0.0.1:40001")
})

func TestDecidingAllocatesNothing(t *testing.T) {
	for _, n := range []int{1, 1000} {
		p := many(n)
		var got policy.Decision
		if allocs := testing.AllocsPerRun(100, func() { got = p.Decide(busy) }); allocs != 0 {
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
				if len(p.Decide(busy).Roles) != 1 {
					b.Fatal("no role")
				}
			}
		})
	}
}
