package policy_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/policy"
)

func TestRuntimeIsAskedWhenItMatters(t *testing.T) {
	image, err := policy.NewImage("web:*")
	if err != nil {
		t.Fatal(err)
	}
	label, err := policy.NewLabel("tier=front")
	if err != nil {
		t.Fatal(err)
	}
	byImage := policy.Rule{Images: []policy.Image{image}, Roles: []string{"web"}}
	inside := caller.Caller{UID: caller.NewID(1234), Container: "4f2b", Runtime: "docker", Unit: "docker-4f2b.scope", Listener: "host"}
	outside := caller.Caller{UID: caller.NewID(1234), Unit: "app.service", Listener: "host"}
	for what, tc := range map[string]struct {
		who   caller.Caller
		rules policy.Policy
		want  bool
	}{
		"for an image":                            {inside, policy.Policy{byImage}, true},
		"for a label":                             {inside, policy.Policy{{Labels: []policy.Label{label}}}, true},
		"for a pod":                               {inside, policy.Policy{{Pods: globs("shop/api")}}, true},
		"for a container by its name":             {inside, policy.Policy{{Containers: globs("web")}}, true},
		"for a rule that is only rehearsed":       {inside, policy.Policy{{Images: []policy.Image{image}, AuditOnly: true}, {Any: true}}, true},
		"after one that is only rehearsed":        {inside, policy.Policy{{Any: true, AuditOnly: true}, byImage}, true},
		"not for a container by its id":           {inside, policy.Policy{{Containers: globs("4f2b")}, byImage}, false},
		"not for one by any id":                   {inside, policy.Policy{{Containers: globs("*")}, byImage}, false},
		"not after the rule that decides":         {inside, policy.Policy{{Any: true}, byImage}, false},
		"not where another fact says no":          {inside, policy.Policy{{Images: []policy.Image{image}, UIDs: []uint32{1}}}, false},
		"not on another listener":                 {inside, policy.Policy{{Images: []policy.Image{image}, Listeners: []string{"docker0"}}}, false},
		"not for a program of the host":           {outside, policy.Policy{byImage}, false},
		"not for nobody":                          {caller.Caller{Container: "4f2b"}, policy.Policy{byImage}, false},
		"not where nothing asks for it":           {inside, policy.Policy{{UIDs: []uint32{1234}}, {Units: globs("app.service")}}, false},
		"with another fact that is as it must be": {inside, policy.Policy{{Images: []policy.Image{image}, UIDs: []uint32{1234}}}, true},
	} {
		if got := tc.rules.Hinges(tc.who); got != tc.want {
			t.Errorf("%s: %v, want %v", what, got, tc.want)
		}
	}
}

// Whatever a runtime says, it changes no decision that was said not to hinge on
// it.
func TestNothingHingesInSecret(t *testing.T) {
	one := func(names ...string) *rapid.Generator[string] { return rapid.SampledFrom(names) }
	list := func(names ...string) *rapid.Generator[[]string] { return rapid.SliceOfN(one(names...), 0, 2) }
	rapid.Check(t, func(t *rapid.T) {
		var rules policy.Policy
		for i := range rapid.IntRange(1, 4).Draw(t, "rules") {
			r := policy.Rule{Name: string(rune('a' + i)), Any: rapid.Bool().Draw(t, "any"), AuditOnly: rapid.Bool().Draw(t, "audit"), Listeners: list("host", "docker0").Draw(t, "listeners")}
			if rapid.Bool().Draw(t, "uid") {
				r.UIDs = []uint32{rapid.Uint32Range(0, 1).Draw(t, "whose")}
			}
			for _, p := range list("4f2b", "web", "*", "w*").Draw(t, "containers") {
				g, err := policy.NewGlob(p)
				if err != nil {
					t.Fatal(err)
				}
				r.Containers = append(r.Containers, g)
			}
			for _, p := range list("web:7", "db:*").Draw(t, "images") {
				g, err := policy.NewImage(p)
				if err != nil {
					t.Fatal(err)
				}
				r.Images = append(r.Images, g)
			}
			for _, p := range list("tier=front", "tier").Draw(t, "labels") {
				g, err := policy.NewLabel(p)
				if err != nil {
					t.Fatal(err)
				}
				r.Labels = append(r.Labels, g)
			}
			for _, p := range list("shop/api", "shop/*").Draw(t, "pods") {
				g, err := policy.NewGlob(p)
				if err != nil {
					t.Fatal(err)
				}
				r.Pods = append(r.Pods, g)
			}
			rules = append(rules, r)
		}
		who := caller.Caller{UID: caller.NewID(rapid.Uint32Range(0, 1).Draw(t, "caller")), Container: one("", "4f2b", "9c1d").Draw(t, "container"), Listener: one("host", "docker0").Draw(t, "listener")}
		told := who
		if who.Container != "" { // else nobody is asked
			told.ContainerName = one("", "web", "db").Draw(t, "name")
			told.Image = one("", "web:7", "db:1").Draw(t, "image")
			told.Namespace = one("", "shop").Draw(t, "namespace")
			told.ServiceAccount = one("", "api", "other").Draw(t, "account")
			if rapid.Bool().Draw(t, "labelled") {
				told.Labels = map[string]string{"tier": one("front", "back").Draw(t, "tier")}
			}
		}
		before, after := rules.Decide(who), rules.Decide(told)
		if same := before.Rule == after.Rule && slices.Equal(before.Rehearsed, after.Rehearsed); !same && !rules.Hinges(who) {
			t.Fatalf("said not to hinge on the runtime: %+v, and with its word: %+v", before, after)
		}
	})
}
