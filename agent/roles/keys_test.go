package roles_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/credential"
)

// everything is the packaged file with all that it shows, and a role from each
// of its sources.
func everything(t *testing.T) (path, text string) {
	t.Helper()
	path = filepath.Join("..", "..", "packaging", "hostrole.toml")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^#(["\[a-z])`).ReplaceAllString(string(data), "$1")
	text = regexp.MustCompile(`(?m)^any .*`).ReplaceAllString(text, "")       // stands alone, as it says
	text = regexp.MustCompile(`(?m)^fallback_.*`).ReplaceAllString(text, "")  // would double what an attempt may take
	text = strings.ReplaceAll(text, assertion.KubernetesCAFile, authority(t)) // which a pod has
	c, err := config.Parse(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		text += fmt.Sprintf("[role.from-%s]\nfrom = 'source.%[1]s'\n", name)
		if kind := c.Sources[name].Kind; kind != "process" && kind != "instance" {
			text += "arn = 'arn:aws:iam::111122223333:role/app'\n"
		}
	}
	return path, text
}

// only is that file with one role and what it is from, as nobody has changed it.
func only(t *testing.T, path, text, role string) *config.Config {
	t.Helper()
	c, err := config.Parse(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c.Roles = map[string]config.Role{role: c.Roles[role]}
	return c
}

// A leaf is a value in a table that may be set, and the path of its type.
type leaf struct {
	path string
	reflect.Value
}

// leaves are all values in v that a source of that kind has. What is absent
// and a table of its own is left out; known gets the paths of that as well.
func leaves(v reflect.Value, path, kind string, known map[string]bool, each func(leaf)) {
	if v.Kind() == reflect.Pointer {
		zero := v.IsNil()
		if v.Type().Elem() == reflect.TypeFor[config.Assertion]() && path != "Assertion" {
			known[path] = true
			each(leaf{path, v})
			return // the same again
		}
		if !zero {
			v = v.Elem()
		} else {
			v, each = reflect.New(v.Type().Elem()).Elem(), func(leaf) {}
		}
	}
	if v.Kind() != reflect.Struct {
		known[path] = true
		each(leaf{path, v})
		return
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if kinds := f.Tag.Get("kinds"); kinds != "" && !slices.Contains(strings.Fields(kinds), kind) || f.Name == "Kind" && path == "" {
			continue
		}
		leaves(v.Field(i), strings.TrimPrefix(path+"."+f.Name, "."), kind, known, each)
	}
}

// change makes another value of v.
func change(l leaf, pem string) {
	v := l.Value
	switch {
	case strings.HasSuffix(l.path, "CAFile"):
		v.SetString(pem)
	case l.path == "Pins":
		v.Set(reflect.ValueOf([]string{"sha256/" + strings.Repeat("B", 43) + "="}))
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.CanInt():
		v.SetInt(v.Int() + 1e9)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.Append(v, reflect.ValueOf("x")))
	case v.Kind() == reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"resource": "another"}))
	case v.Kind() == reflect.Pointer: // an assertion in an assertion
		v.Set(reflect.ValueOf(&config.Assertion{File: "another"}))
	default:
		panic("no way to change " + l.path)
	}
}

// The key of a session changes with whatever key of its source changes.
func TestEveryKeyOfASourceIsInTheKey(t *testing.T) {
	path, text := everything(t)
	pem := authority(t)
	whole, err := config.Parse(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	known, changed := map[string]bool{}, map[string]bool{}
	for name := range whole.Sources {
		role := "from-" + name
		c := only(t, path, text, role)
		before := build(t, c)[role].Job.Key
		if again := build(t, only(t, path, text, role))[role].Job.Key; again != before {
			t.Fatalf("%s: two keys of the same", name)
		}
		seen := map[credential.Key]string{before: "nothing"}
		count := 0
		src := c.Sources[name]
		leaves(reflect.ValueOf(&src).Elem(), "", src.Kind, known, func(leaf) { count++ })
		for i := range count {
			c := only(t, path, text, role)
			src, at, n := c.Sources[name], "", 0
			leaves(reflect.ValueOf(&src).Elem(), "", src.Kind, known, func(l leaf) {
				if n == i {
					change(l, pem)
					at = l.path
				}
				n++
			})
			c.Sources[name] = src
			changed[at] = true
			key := build(t, c)[role].Job.Key
			if strings.HasPrefix(at, "Fallback") { // which STS answers is nothing of the session
				if key != before {
					t.Errorf("%s: with another %s it has another key", name, at)
				}
				continue
			}
			if seen[key] != "" {
				t.Errorf("%s: with another %s the key is that with another %s", name, at, seen[key])
			}
			seen[key] = at
		}
	}
	for path := range known {
		if !changed[path] && !strings.HasPrefix(path, "AccessKeyID.Ref.") { // whose other form is there
			t.Errorf("no source of the packaged file has %s", path)
		}
	}
	if len(changed) < 100 {
		t.Errorf("only %d keys were changed", len(changed))
	}
}

// So it does with whatever key of the role and of the upstream changes.
func TestEveryKeyOfARoleIsInTheKey(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(policy, []byte(`{"Version":"2012-10-17"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	text := `version = 1
[upstream]
region = 'eu-central-1'
[source.corp]
kind = 'process'
command = ['/usr/bin/fetch']
[source.keys]
kind = 'static'
access_key_id = 'AKIAIOSFODNN7EXAMPLE'
secret_access_key = { env = 'SECRET' }
[role.hub]
arn = 'arn:aws:iam::111122223333:role/hub'
from = 'source.corp'
[role.app]
arn = 'arn:aws:iam::111122223333:role/app'
from = 'source.corp'
[[allow]]
user = ['app']
roles = ['app']
`
	key := func(edit func(*config.Role, *config.Config)) credential.Key {
		t.Helper()
		c, err := config.Parse("hostrole.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		r := c.Roles["app"]
		edit(&r, c)
		c.Roles["app"] = r
		return build(t, c)["app"].Job.Key
	}
	from := func(names string) func(*config.Role, *config.Config) {
		return func(r *config.Role, _ *config.Config) {
			c, err := config.Parse("hostrole.toml", []byte(strings.Replace(text, "role/app'\nfrom = 'source.corp'", "role/app'\nfrom = "+names, 1)))
			if err != nil {
				t.Fatal(err)
			}
			r.From = c.Roles["app"].From
		}
	}
	edits := map[string]func(*config.Role, *config.Config){
		"nothing":          func(*config.Role, *config.Config) {},
		"arn":              func(r *config.Role, _ *config.Config) { r.ARN += "x" },
		"duration":         func(r *config.Role, _ *config.Config) { r.Duration += 1e9 },
		"session_name":     func(r *config.Role, _ *config.Config) { r.SessionName = "x" + r.SessionName },
		"external_id":      func(r *config.Role, _ *config.Config) { r.ExternalID = "external" },
		"source_identity":  func(r *config.Role, _ *config.Config) { r.SourceIdentity = "host" },
		"policy":           func(r *config.Role, _ *config.Config) { r.Policy = &config.File{File: policy} },
		"policy_arns":      func(r *config.Role, _ *config.Config) { r.PolicyARNs = []string{"arn:aws:iam::aws:policy/p"} },
		"tags":             func(r *config.Role, _ *config.Config) { r.Tags = map[string]string{"Site": "fra"} },
		"transitive_tags":  func(r *config.Role, _ *config.Config) { r.TransitiveTags = []string{"Site"} },
		"region":           func(r *config.Role, _ *config.Config) { r.Region = "eu-west-1" },
		"endpoint":         func(r *config.Role, _ *config.Config) { r.Endpoint = "https://sts.example.com" },
		"ca_file":          func(_ *config.Role, c *config.Config) { c.Upstream.CAFile = authority(t); inherit(c) },
		"proxy":            func(_ *config.Role, c *config.Config) { c.Upstream.Proxy = "env"; inherit(c) },
		"another source":   from("'source.keys'"),
		"two sources":      from("['source.corp', 'source.keys']"),
		"in another order": from("['source.keys', 'source.corp']"),
		"a role":           from("'role.hub'"),
		"a role too":       from("['source.corp', 'role.hub']"),
	}
	for name, edit := range map[string]func(*config.Role, *config.Config){
		"fallback_region":          func(r *config.Role, _ *config.Config) { r.FallbackRegion = "eu-west-1" },
		"fallback_endpoint":        func(r *config.Role, _ *config.Config) { r.FallbackEndpoint = "https://sts.eu-west-1.amazonaws.com" },
		"upstream.fallback_region": func(_ *config.Role, c *config.Config) { c.Upstream.FallbackRegion = "eu-west-1" },
	} {
		if key(edit) != key(edits["nothing"]) { // which STS answers is nothing of the session
			t.Errorf("with another %s the role has another key", name)
		}
	}
	seen := map[credential.Key]string{}
	for name, edit := range edits {
		k := key(edit)
		if seen[k] != "" {
			t.Errorf("%s and %s have one key", name, seen[k])
		}
		seen[k] = name
	}
	for i := range reflect.TypeFor[config.Role]().NumField() {
		if name := reflect.TypeFor[config.Role]().Field(i).Tag.Get("toml"); name != "from" && !strings.HasPrefix(name, "fallback_") && edits[name] == nil {
			t.Errorf("%s of a role is not tried", name)
		}
	}
}

// inherit gives a source what the config would.
func inherit(c *config.Config) {
	for name, s := range c.Sources {
		s.CAFile, s.Proxy = c.Upstream.CAFile, c.Upstream.Proxy
		c.Sources[name] = s
	}
}
