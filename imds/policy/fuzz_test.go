package policy_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/policy"
)

// said is all that can be said of a caller, as sentences; of an unknown one,
// nothing at all.
func said(who caller.Caller) (all []string) {
	inside, told := who.UID != (caller.ID{}) && who.Container != "", ""
	if inside && who.Namespace != "" && who.ServiceAccount != "" {
		told = who.Namespace + "/" + who.ServiceAccount
	}
	for _, pod := range []string{who.Pod, told} { // two who contradict each other name nobody
		if pod != "" && (who.Pod == "" || told == "" || who.Pod == told) {
			all = append(all, "is pod "+pod)
		}
	}
	if all == nil && who.Pod != "" {
		all = append(all, "is a pod that is not known")
	}
	if inside {
		for begin, name := range map[string]string{"is in container ": who.ContainerName, "runs image ": who.Image, "runs digest ": who.ImageDigest} {
			if name != "" {
				all = append(all, begin+name)
			}
		}
		for key, value := range who.Labels {
			all = append(all, "has a label "+key)
			if value != "" {
				all = append(all, "has label "+key+"="+value)
			}
		}
	}
	if who.UID != (caller.ID{}) {
		all = append(all, "has uid "+who.UID.String())
		if who.Pod == "" && who.Container == "" {
			all = append(all, "is the host's own")
		}
		if who.Unit != "" {
			all = append(all, "is of unit "+who.Unit)
		}
		if who.Container != "" {
			all = append(all, "is in container "+who.Container, "is within "+who.Container)
		}
		if who.User != "" {
			all = append(all, "is user "+who.User)
		}
		for _, g := range who.Groups {
			all = append(all, "is in group "+g)
		}
	}
	if all == nil {
		return nil
	}
	if who.Remote.IsValid() {
		for bits := range 129 { // every network that it is in
			if p, err := who.Remote.Addr().WithZone("").Prefix(bits); err == nil {
				all = append(all, "comes from "+p.String())
			}
		}
	}
	return append(all, "is known", "uses listener "+who.Listener)
}

// asked is what a rule asks for: one sentence of each list. Those that begin
// with a tilde are patterns.
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
	var uids []string
	for _, n := range r.UIDs {
		uids = append(uids, strconv.Itoa(int(n)))
	}
	ask("has uid ", uids)
	ask("is user ", r.Users)
	ask("is in group ", r.Groups)
	user := all != nil
	ask("~is of unit ", texts(r.Units))
	ask("~is in container ", texts(r.Containers))
	ask("~is pod ", texts(r.Pods))
	var images []string
	for _, i := range r.Images {
		if d, is := strings.CutPrefix(i.String(), "sha256:"); is {
			images = append(images, "digest sha256:"+d)
			continue
		}
		images = append(images, "image "+i.String())
	}
	ask("~runs ", images)
	labels := map[string][]string{} // each key is a fact of its own
	for _, l := range r.Labels {
		key, pattern, valued := strings.Cut(l.String(), "=")
		if valued {
			labels[key] = append(labels[key], "~has label "+key+"="+pattern)
		} else {
			labels[key] = append(labels[key], "has a label "+key)
		}
	}
	for _, list := range labels {
		ask("", list)
	}
	if user && len(r.Units)+len(r.Containers)+len(r.Pods)+len(r.Images)+len(r.Labels) == 0 {
		ask("is the host's own", []string{""})
	}
	if r.Any {
		ask("is known", []string{""})
	}
	ask("uses listener ", r.Listeners)
	var sources []string
	for _, p := range r.Sources {
		sources = append(sources, p.Masked().String())
	}
	ask("comes from ", sources)
	return all
}

func texts(globs []policy.Glob) (all []string) {
	for _, g := range globs {
		all = append(all, g.String())
	}
	return all
}

// like matches by the meaning of each character, tried in every way. It knows
// no brackets.
func like(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	p, size := utf8.DecodeRuneInString(pattern)
	c, width := utf8.DecodeRuneInString(name)
	switch rest := pattern[size:]; {
	case p == '*':
		return like(rest, name) || name != "" && c != '/' && like(pattern, name[width:])
	case name == "":
		return false
	case p == '?':
		return c != '/' && like(rest, name[width:])
	case p == '\\':
		pattern = rest
	}
	return pattern != "" && pattern[0] == name[0] && like(pattern[1:], name[1:])
}

// means reports whether a sentence is one that was asked for.
func means(asked, said string) bool {
	pattern, is := strings.CutPrefix(asked, "~")
	if !is {
		return asked == said
	}
	begins := []string{"is of unit ", "is in container ", "is pod ", "runs image ", "runs digest "}
	if key, _, is := strings.Cut(pattern, "="); is && strings.HasPrefix(key, "has label ") {
		begins = append(begins, key+"=")
	}
	for _, begin := range begins {
		if p, is := strings.CutPrefix(pattern, begin); is {
			name, same := strings.CutPrefix(said, begin)
			return same && (p == name || like(p, name))
		}
	}
	return false
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
				if slices.ContainsFunc(sentences, func(t string) bool { return means(s, t) }) {
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
			d = given(r, sentences)
		}
	}
	return d
}

// given is what a rule that matches gives: each role of which everything is
// said that it needs, and without the first, none.
func given(r policy.Rule, sentences []string) policy.Decision {
	begins := map[string]string{"unit": "is of unit ", "user": "is user ", "uid": "has uid ", "container": "is within "}
	d := policy.Decision{Rule: r.Name}
	for i, role := range r.Roles {
		missing := ""
		for _, need := range slices.Backward(r.Needs[role]) {
			if !slices.ContainsFunc(sentences, func(t string) bool { return strings.HasPrefix(t, begins[need]) }) {
				missing = need
			}
		}
		if i == 0 && missing != "" {
			d.Missing = missing
			return d
		}
		if missing == "" {
			d.Roles = append(d.Roles, role)
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

	anyUnit   = rapid.SampledFrom([]string{"app.service", "app-1.service", "session-1.scope", `a\x2db.service`})
	anyBox    = rapid.SampledFrom([]string{"ab", "ab/cd", "user@1000.service/ab"})
	anyPod    = rapid.SampledFrom([]string{"shop/api", "shop/web", "other/api"})
	anyRemote = rapid.SampledFrom([]string{"127.0.0.1:1", "172.17.0.2:1", "172.17.1.2:2", "[fd00::2]:1", "[fe80::2%br0]:1"})

	// Patterns that are true of some of these, and of others not.
	anyUnitGlob  = rapid.SampledFrom([]string{"app.service", "app-*.service", "*.scope", "*", `a\x2db.service`, `a\\x2db.*`, "app?1.service", "ap"})
	anyBoxGlob   = rapid.SampledFrom([]string{"ab", "*", "*/*", "user@1000.service/*", "?b", "cd"})
	anyPodGlob   = rapid.SampledFrom([]string{"shop/api", "shop/*", "*/api", "*", "*/*"})
	anyImage     = rapid.SampledFrom([]string{"web:7", "registry.example.com/web:7", "sha256:ab"})
	anyDigest    = rapid.SampledFrom([]string{"sha256:ab", "sha256:cd"})
	anyImageGlob = rapid.SampledFrom([]string{"web:7", "web:*", "*/web:*", "sha256:ab", "sha256:*", "*"})
	anyLabelGlob = rapid.SampledFrom([]string{"app=web", "app=*", "app", "tier=w*", "tier", "tier=web"})
	anyFact      = rapid.SampledFrom(caller.Facts())
	anySource    = rapid.SampledFrom([]string{"127.0.0.0/8", "172.17.0.0/24", "172.17.0.2/32", "172.16.9.9/12", "0.0.0.0/0", "fd00::/8", "fe80::/10", "::/0"})

	anyCaller = rapid.Custom(func(t *rapid.T) caller.Caller {
		who := caller.Caller{Listener: anyPlace.Draw(t, "listener"), User: rapid.OneOf(rapid.Just(""), anyName).Draw(t, "user"),
			Groups: rapid.SliceOfN(anyName, 0, 3).Draw(t, "groups")}
		if rapid.IntRange(0, 9).Draw(t, "known") > 0 {
			who.UID = caller.NewID(anyUID.Draw(t, "uid"))
		}
		maybe := func(what string, of *rapid.Generator[string]) string {
			return rapid.OneOf(rapid.Just(""), of).Draw(t, what)
		}
		who.Unit = maybe("unit", anyUnit)
		if rapid.IntRange(0, 2).Draw(t, "boxed") == 0 {
			who.Container = anyBox.Draw(t, "container")
		}
		if rapid.IntRange(0, 5).Draw(t, "podded") == 0 {
			who.Pod = anyPod.Draw(t, "pod")
		}
		if rapid.IntRange(0, 1).Draw(t, "asked of the runtime") == 0 { // also of one who is in none: nobody may be taken in by that
			who.ContainerName, who.Image, who.ImageDigest = maybe("name", anyBox), maybe("image", anyImage), maybe("digest", anyDigest)
			who.Namespace, who.ServiceAccount = maybe("namespace", rapid.SampledFrom([]string{"shop", "other"})), maybe("account", rapid.SampledFrom([]string{"api", "web"}))
			who.Labels = rapid.MapOfN(rapid.SampledFrom([]string{"app", "tier"}), rapid.SampledFrom([]string{"web", "api", ""}), 0, 2).Draw(t, "labels")
		}
		if r := maybe("remote", anyRemote); r != "" {
			who.Remote = netip.MustParseAddrPort(r)
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
		some = func(what string) bool { return rapid.IntRange(0, 5).Draw(t, what) == 0 }
		if some("by unit") {
			r.Units = globs(rapid.SliceOfN(anyUnitGlob, 0, 2).Draw(t, "units")...)
		}
		if some("by container") {
			r.Containers = globs(rapid.SliceOfN(anyBoxGlob, 0, 2).Draw(t, "containers")...)
		}
		if some("by pod") {
			r.Pods = globs(rapid.SliceOfN(anyPodGlob, 0, 2).Draw(t, "pods")...)
		}
		if some("by image") {
			for _, text := range rapid.SliceOfN(anyImageGlob, 1, 2).Draw(t, "images") {
				r.Images = append(r.Images, must(policy.NewImage(text)))
			}
		}
		if some("by label") {
			for _, text := range rapid.SliceOfN(anyLabelGlob, 1, 3).Draw(t, "labels") {
				r.Labels = append(r.Labels, must(policy.NewLabel(text)))
			}
		}
		if some("named after the caller") {
			r.Needs = map[string][]string{}
			for _, role := range r.Roles {
				r.Needs[role] = rapid.SliceOfN(anyFact, 0, 2).Draw(t, "needs of "+role)
			}
		}
		if some("by source") {
			for _, p := range rapid.SliceOfN(anySource, 0, 2).Draw(t, "sources") {
				r.Sources = append(r.Sources, netip.MustParsePrefix(p))
			}
		}
		return r
	})
)

// For a million decisions: go test ./imds/policy -args -rapid.checks=350000.
func TestDecideAgreesWithTheOracle(t *testing.T) {
	t.Parallel()
	const enough = 10_000 // decisions
	var cases, granted, denied, unknown, rehearsed, boxed, podded, told, missing int
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
				count(&boxed, len(got.Roles) > 0 && who.Container != "")
				count(&told, len(got.Roles) > 0 && asksTheRuntime(p, got.Rule))
				count(&missing, got.Missing != "")
				count(&podded, len(got.Roles) > 0 && who.UID == caller.ID{})
			}
		})
	}
	if low := min(granted, denied, unknown, rehearsed, boxed, 20*podded, 20*told, 20*missing); low < cases/50 {
		t.Errorf("%d cases, but %d granted, %d denied, %d unknown, %d with a rehearsal, %d granted in containers, %d granted to pods without a uid, %d by image or label, %d without a fact that a session is named after: one kind is hardly tried",
			cases, granted, denied, unknown, rehearsed, boxed, podded, told, missing)
	}
}

// asksTheRuntime reports whether a rule asks what only a runtime knows.
func asksTheRuntime(p policy.Policy, rule string) bool {
	return slices.ContainsFunc(p, func(r policy.Rule) bool { return r.Name == rule && len(r.Images)+len(r.Labels) > 0 })
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
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

// globs are the Globs of patterns that are known to be good.
func globs(patterns ...string) []policy.Glob {
	all, err := policy.NewGlobs(patterns...)
	if err != nil {
		panic(err)
	}
	return all
}

// FuzzDecidePlace asks one rule about what a caller runs in and where it comes
// from.
func FuzzDecidePlace(f *testing.F) {
	f.Add("app-*.service", "", "", "", "app-1.service", "", "", "127.0.0.1:1", uint32(0), true, false)
	f.Add("", "*", "", "", "docker-ab.scope", "ab", "", "172.17.0.2:1", uint32(0), true, true)
	f.Add("", "", "shop/*", "", "", "", "shop/api", "[fd00::2]:1", uint32(0), false, false)
	f.Add("", "", "", "172.17.0.0/16,::/0", "", "", "", "[fe80::1%eth0]:1", uint32(7), true, false)
	f.Add("*", "*", "*", "0.0.0.0/0", "", "", "", "1.2.3.4:5", uint32(7), true, true)
	f.Add(`a\x2db.service,?`, "*/*", "", "", `a\x2db.service`, "a/b", "a/b", "", uint32(7), false, true)
	f.Fuzz(func(t *testing.T, units, containers, pods, sources, unit, container, pod, remote string, uid uint32, known, byUser bool) {
		r := policy.Rule{Name: "first", Roles: []string{"a"}}
		for _, facts := range []struct {
			to   *[]policy.Glob
			text string
		}{{&r.Units, units}, {&r.Containers, containers}, {&r.Pods, pods}} {
			for _, pattern := range list(facts.text) {
				if len(pattern) > 20 || strings.Count(pattern, "*") > 3 || strings.Contains(pattern, "[") {
					continue // the oracle is slow, and knows no brackets
				}
				if g, err := policy.NewGlob(pattern); err == nil {
					*facts.to = append(*facts.to, g)
				}
			}
		}
		for _, text := range list(sources) {
			if p, err := netip.ParsePrefix(text); err == nil {
				r.Sources = append(r.Sources, p)
			}
		}
		if byUser {
			r.UIDs = []uint32{uid}
		}
		who := caller.Caller{Listener: "host", Unit: cut(unit), Container: cut(container), Pod: cut(pod)}
		if a, err := netip.ParseAddrPort(remote); err == nil {
			who.Remote = a
		}
		if known {
			who.UID = caller.NewID(uid)
		}
		if got, want := (policy.Policy{r}).Decide(who), oracle(policy.Policy{r}, who); !equal(got, want) {
			t.Errorf("%+v decides about %+v: %+v, want %+v", r, who, got, want)
		}
	})
}

// cut is what the oracle can do in time.
func cut(name string) string { return name[:min(len(name), 30)] }

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
