package policy_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/policy"
)

// said is all that can be said of a caller, as sentences; of an unknown one,
// nothing at all.
func said(who caller.Caller) []string {
	if who.UID == (caller.ID{}) {
		return nil
	}
	all := []string{"is known", "uses listener " + who.Listener, "has uid " + who.UID.String()}
	if who.User != "" {
		all = append(all, "is user "+who.User)
	}
	for _, g := range who.Groups {
		all = append(all, "is in group "+g)
	}
	return all
}

// asked is what a rule asks for: one sentence of each list.
func asked(r policy.Rule) (all [][]string) {
	ask := func(begin string, names []string) {
		var list []string
		for _, n := range names {
			list = append(list, begin+n)
		}
		if list != nil {
			all = append(all, list)
		}
	}
	if r.Any {
		ask("is known", []string{""})
	}
	ask("uses listener ", r.Listeners)
	ask("is user ", r.Users)
	ask("is in group ", r.Groups)
	var uids []string
	for _, n := range r.UIDs {
		uids = append(uids, strconv.Itoa(int(n)))
	}
	ask("has uid ", uids)
	return all
}

// oracle decides the other way round: from the last rule to the first, each
// putting itself before what the rules behind it would have said, and with
// sets in the place of conditions.
func oracle(p policy.Policy, who caller.Caller) (d policy.Decision) {
	sentences := said(who)
	for _, r := range slices.Backward(p) {
		lists := asked(r)
		met := 0
		for _, list := range lists {
			for _, s := range list {
				if slices.Contains(sentences, s) {
					met++
					break
				}
			}
		}
		switch {
		case len(lists) == 0 || met < len(lists):
		case r.AuditOnly:
			d.Rehearsed = slices.Concat([]string{r.Name}, d.Rehearsed)
		default:
			d = policy.Decision{Rule: r.Name, Roles: r.Roles}
		}
	}
	return d
}

var (
	// So few that callers and rules meet often.
	anyUID   = rapid.SampledFrom([]uint32{0, 1, 1000, 1001, 65534, 1<<32 - 1})
	anyName  = rapid.SampledFrom([]string{"root", "app", "App", "backup", "0", "1000"})
	anyPlace = rapid.SampledFrom([]string{"host", "docker", "podman"})
	anyRoles = rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3)

	anyCaller = rapid.Custom(func(t *rapid.T) caller.Caller {
		who := caller.Caller{Listener: anyPlace.Draw(t, "listener"), User: rapid.OneOf(rapid.Just(""), anyName).Draw(t, "user"),
			Groups: rapid.SliceOfN(anyName, 0, 3).Draw(t, "groups")}
		if rapid.IntRange(0, 9).Draw(t, "known") > 0 {
			who.UID = caller.NewID(anyUID.Draw(t, "uid"))
		}
		return who
	})
	anyRule = rapid.Custom(func(t *rapid.T) policy.Rule {
		// Most rules ask for one or two kinds of facts, or they would never match.
		some := func(what string) bool { return rapid.IntRange(0, 2).Draw(t, what) == 0 }
		r := policy.Rule{Any: some("any"), AuditOnly: some("audit only"), Roles: anyRoles.Draw(t, "roles")}
		if some("by listener") {
			r.Listeners = rapid.SliceOfN(anyPlace, 0, 2).Draw(t, "listeners")
		}
		if some("by uid") {
			r.UIDs = rapid.SliceOfN(anyUID, 0, 3).Draw(t, "uids")
		}
		if some("by user") {
			r.Users = rapid.SliceOfN(rapid.OneOf(rapid.Just(""), anyName), 0, 3).Draw(t, "users")
		}
		if some("by group") {
			r.Groups = rapid.SliceOfN(anyName, 0, 3).Draw(t, "groups")
		}
		return r
	})
)

// For a million decisions: go test ./imds/policy -args -rapid.checks=350000.
func TestDecideAgreesWithTheOracle(t *testing.T) {
	t.Parallel()
	const enough = 10_000 // decisions
	var cases, granted, denied, unknown, rehearsed int
	for cases < enough {
		rapid.Check(t, func(t *rapid.T) {
			p := policy.Policy(rapid.SliceOfN(anyRule, 0, 6).Draw(t, "rules"))
			for i := range p {
				p[i].Name = fmt.Sprintf("rule %d", i+1)
			}
			for _, who := range rapid.SliceOfN(anyCaller, 2, 4).Draw(t, "callers") {
				got, want := p.Decide(who), oracle(p, who)
				if !equal(got, want) {
					t.Fatalf("%+v decide about %+v: %+v, want %+v", p, who, got, want)
				}
				if !who.Known() && (got.Rule != "" || len(got.Roles)+len(got.Rehearsed) > 0) {
					t.Fatalf("%+v know the unknown: %+v", p, got)
				}
				if again := p.Decide(who); !equal(again, got) {
					t.Fatalf("%+v decide about %+v: %+v, and then %+v", p, who, got, again)
				}
				cases++
				count(&granted, len(got.Roles) > 0)
				count(&denied, len(got.Roles) == 0 && who.Known())
				count(&unknown, !who.Known())
				count(&rehearsed, len(got.Rehearsed) > 0)
			}
		})
	}
	if low := min(granted, denied, unknown, rehearsed); low < cases/50 {
		t.Errorf("%d cases, but %d granted, %d denied, %d unknown, %d with a rehearsal: one kind is hardly tried", cases, granted, denied, unknown, rehearsed)
	}
}

func count(n *int, yes bool) {
	if yes {
		*n++
	}
}

// FuzzDecide asks one rule, and one for all behind it, about one caller. Lists
// are written with commas.
func FuzzDecide(f *testing.F) {
	f.Add("", "", "app", "", false, false, "host", "app", "app,backup", uint32(1000), true)
	f.Add("host", "0,1000", "root,app", "backup", false, true, "host", "app", "app,backup", uint32(1000), true)
	f.Add("host", "", "", "", false, false, "docker", "", "", uint32(0), true)
	f.Add("host", "", "", "", true, false, "host", "", "", uint32(0), false)
	f.Add("", "0,65534,4294967295", "", "", false, false, "host", "", "", uint32(0), false)
	f.Add("", "", ",", ",", false, false, "", "", ",", uint32(65534), true)
	f.Add("", "", "", "", true, true, "host", "", "", uint32(4294967295), true)
	f.Add("", "", "", "", false, false, "host", "root", "root", uint32(0), true)
	f.Fuzz(func(t *testing.T, listeners, uids, users, groups string, all, audit bool, listener, user, in string, uid uint32, known bool) {
		r := policy.Rule{Name: "first", Listeners: list(listeners), Users: list(users), Groups: list(groups), Any: all, AuditOnly: audit, Roles: []string{"a", "b"}}
		for _, text := range list(uids) {
			if n, err := strconv.ParseUint(text, 10, 32); err == nil {
				r.UIDs = append(r.UIDs, uint32(n))
			}
		}
		who := caller.Caller{Listener: listener, User: user, Groups: list(in)}
		if known {
			who.UID = caller.NewID(uid)
		}
		for _, p := range []policy.Policy{{r}, {r, {Name: "all", Any: true, Roles: []string{"c"}}}} {
			if got, want := p.Decide(who), oracle(p, who); !equal(got, want) {
				t.Errorf("%+v decide about %+v: %+v, want %+v", p, who, got, want)
			}
		}
	})
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
