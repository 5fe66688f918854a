package roles_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/rotation/credential"
)

const callers = `version = 1
[upstream]
region = "eu-central-1"
[source.keys]
kind = "static"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_access_key = { env = "SECRET" }
[role.hub]
arn = "arn:aws:iam::111122223333:role/hub"
from = "source.keys"
[role.app]
arn = "arn:aws:iam::111122223333:role/app"
from = "role.hub"
session_name = "{hostname}.{unit}"
source_identity = "{user}"
tags = { Role = "{role}", Unit = "{unit}", Site = "fra" }
[[allow]]
any = true
session = "caller"
roles = ["app", "hub"]
`

type known = map[string]string

// Who differs in what a session is named after has another key, and nobody
// else; and the templates say of each caller what they say.
func TestSessionsOfCallers(t *testing.T) {
	all := build(t, parse(t, callers))
	app, hub := all["app"], all["hub"]
	if diff := cmp.Diff([]string{"unit", "user"}, app.Facts); diff != "" || len(hub.Facts) != 0 {
		t.Errorf("the facts are %v and %v", app.Facts, hub.Facts)
	}
	one := known{"unit": "app-1.service", "user": "app", "uid": "1000", "container": ""}
	want := roles.Rendering{SessionName: "host-7.app-1.service", SourceIdentity: "app", Tags: known{"Role": "app", "Unit": "app-1.service", "Site": "fra"}}
	if diff := cmp.Diff(want, app.Render(one)); diff != "" {
		t.Errorf("the upstream is told: -want +got\n%s", diff)
	}
	key := func(who known) credential.Key {
		t.Helper()
		j, err := app.For(who)
		if err != nil {
			t.Fatal(err)
		}
		if j.Name != "app" || j.Needs != hub.Job.Key || !j.OfMany || j.Source == nil || j.Timeout == 0 {
			t.Errorf("the job is %+v", j)
		}
		return j.Key
	}
	first := key(one)
	if key(known{"unit": "app-1.service", "user": "app", "uid": "7", "container": "ab"}) != first {
		t.Error("who differs in another fact has another session")
	}
	seen := map[credential.Key]string{first: "one", app.Job.Key: "all", hub.Job.Key: "hub"}
	for name, who := range map[string]known{
		"another unit":                  {"unit": "app-2.service", "user": "app"},
		"another user":                  {"unit": "app-1.service", "user": "root"},
		"a unit that is cut":            {"unit": strings.Repeat("a", 100) + "1.service", "user": "app"},
		"another one that is cut":       {"unit": strings.Repeat("a", 100) + "2.service", "user": "app"},
		"a unit with a letter":          {"unit": `a\x2d.service`, "user": "app"},
		"one with another in its place": {"unit": "a/x2d.service", "user": "app"},
	} {
		k := key(who)
		if other, is := seen[k]; is {
			t.Errorf("%s has the session of %s", name, other)
		}
		seen[k] = name
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() { key(one) })
	}
	wait.Wait()

	// A template is part of what a role is, and a key outlives a reload.
	other := build(t, parse(t, strings.Replace(callers, "{hostname}.{unit}", "{unit}", 1)))["app"]
	if other.Job.Key == app.Job.Key {
		t.Error("another template is the same role")
	}
	same := build(t, parse(t, callers))["app"]
	if j, err := same.For(one); err != nil || j.Key != first || same.Job.Key != app.Job.Key {
		t.Error("the same configuration has other keys")
	}
}
