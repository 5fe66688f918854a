package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/agent/config"
)

// A leaf is a key that has a value, as the structs describe it.
type leaf struct {
	path string // "role.*.arn"
	reflect.StructField
}

// written tells whether a struct is written as one text.
func written(t reflect.Type) bool {
	return slices.Contains([]reflect.Type{reflect.TypeFor[config.HostPort](), reflect.TypeFor[config.From](), reflect.TypeFor[config.Prefix](), reflect.TypeFor[config.Timestamp]()}, t)
}

// leaves are all keys that this version knows.
func leaves() (all []leaf) {
	var walk func(t reflect.Type, path string, f reflect.StructField)
	walk = func(t reflect.Type, path string, f reflect.StructField) {
		switch {
		case t.Kind() == reflect.Pointer:
			walk(t.Elem(), path, f)
		case t == reflect.TypeFor[config.Text]():
			all = append(all, leaf{path, f})
			walk(reflect.TypeFor[config.Ref](), path, f)
		case t == reflect.TypeFor[config.Assertion]() && path != "source.*.assertion":
			all = append(all, leaf{path, f}) // the same again
		case t.Kind() == reflect.Map:
			walk(t.Elem(), path+".*", f)
		case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && !written(t.Elem()):
			walk(t.Elem(), path, f)
		case t.Kind() != reflect.Struct || written(t):
			all = append(all, leaf{path, f})
		default:
			for i := range t.NumField() {
				if name := t.Field(i).Tag.Get("toml"); name != "" {
					walk(t.Field(i).Type, strings.TrimPrefix(path+"."+name, "."), t.Field(i))
				}
			}
		}
	}
	walk(reflect.TypeFor[config.Config](), "", reflect.StructField{})
	return all
}

func TestTagsCanBeRead(t *testing.T) {
	kinds := strings.Fields(leafAt(t, "source.*.kind").Tag.Get("oneof") + " " + leafAt(t, "listener.kind").Tag.Get("oneof"))
	for _, l := range leaves() {
		zero := func() reflect.Value { return reflect.New(l.Type).Elem() }
		tag := l.Tag
		if !regexp.MustCompile(`^[a-z_]+$`).MatchString(tag.Get("toml")) {
			t.Errorf("%s: %q is no name of a key", l.path, tag.Get("toml"))
		}
		for pair := range strings.FieldsSeq(regexp.MustCompile(`:"[^"]*"`).ReplaceAllString(string(tag), "")) {
			if !slices.Contains([]string{"toml", "default", "need", "needed", "kinds", "oneof", "between", "form", "empty", "read"}, pair) {
				t.Errorf("%s: nobody reads the tag %s", l.path, pair)
			}
		}
		text, has := tag.Lookup("default")
		if has {
			if err := config.SetDefault(zero(), text); err != nil {
				t.Errorf("%s: default: %v", l.path, err)
			}
			if tag.Get("need") != "" {
				t.Errorf("%s: is needed and has a default", l.path)
			}
		}
		if all := strings.Fields(tag.Get("oneof")); len(all) > 0 && has && !slices.Contains(all, text) {
			t.Errorf("%s: the default %q is none of %q", l.path, text, all)
		}
		if form := tag.Get("form"); form != "" {
			if !config.KnownForm(form) {
				t.Errorf("%s: there is no form %q", l.path, form)
			} else if problem := config.Form(form, text); has && problem != "" {
				t.Errorf("%s: the default %q %s", l.path, text, problem)
			}
		}
		if between, ok := tag.Lookup("between"); ok {
			least, most, _ := strings.Cut(between, " ")
			for _, text := range []string{least, most} {
				if err := config.SetDefault(zero(), text); err != nil {
					t.Errorf("%s: between: %v", l.path, err)
				}
			}
		}
		for kind := range strings.FieldsSeq(tag.Get("kinds") + " " + tag.Get("needed")) {
			if !slices.Contains(kinds, kind) {
				t.Errorf("%s: there is no kind %q", l.path, kind)
			}
		}
	}
}

func leafAt(t *testing.T, path string) leaf {
	t.Helper()
	for _, l := range leaves() {
		if l.path == path {
			return l
		}
	}
	t.Fatalf("there is no key %s", path)
	return leaf{}
}

// contract reads testdata/contract.txt: defaults by key.
func contract(t *testing.T) (defaults map[string]*string) {
	t.Helper()
	data, err := os.ReadFile("testdata/contract.txt")
	if err != nil {
		t.Fatal(err)
	}
	defaults = map[string]*string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, text, has := strings.Cut(line, " =")
		defaults[key] = nil
		if text = strings.TrimSpace(text); has {
			defaults[key] = &text
		}
	}
	return defaults
}

func TestContract(t *testing.T) {
	defaults := contract(t)
	known := map[string]leaf{}
	for _, l := range leaves() {
		known[l.path] = l
		if _, ok := defaults[l.path]; !ok {
			t.Errorf("%s is known and no part of the contract", l.path)
		}
	}
	for key, want := range defaults {
		l, ok := known[key]
		switch {
		case !ok:
			t.Errorf("%s is part of the contract and not known", key)
		case want != nil && l.Tag.Get("default") != *want && (l.Tag.Get("default") != "" || *want != "false"):
			t.Errorf("%s has the default %q, and the contract %q", key, l.Tag.Get("default"), *want)
		}
	}
	for key, words := range map[string]string{
		"log.level": "debug info warn error", "log.format": "auto text json", "listener.kind": "imds ecs eks",
		"listener.tokens": "required credentials optional", "allow.session": "role caller",
		"source.*.kind": "static process web-identity saml roles-anywhere cognito vault instance",
	} {
		if got := known[key].Tag.Get("oneof"); got != words {
			t.Errorf("%s is one of %q, and in the contract one of %q", key, got, words)
		}
	}
	for _, p := range []string{"{hostname}", "{fqdn}", "{machine_id}", "{role}", "{unit}", "{user}", "{uid}", "{container}"} {
		if problem := config.Form("session_name", p+"-x"); problem != "" {
			t.Errorf("%s: %q", p, problem)
		}
	}
}

// The packaged file is what an operator starts from: it is good as it is, each
// of its keys may be written as it stands there, and every key stands there,
// with its default where it has one.
func TestPackagedFile(t *testing.T) {
	path := filepath.Join("..", "..", "packaging", "hostrole.toml")
	c, err := config.Load(path)
	if err != nil {
		t.Fatalf("faults:\n%v", err)
	}
	for _, w := range c.Warnings {
		t.Errorf("warning: %v", w)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole := regexp.MustCompile(`(?m)^#(["\[a-z])`).ReplaceAllString(string(data), "$1")
	whole = regexp.MustCompile(`(?m)^any .*`).ReplaceAllString(whole, "") // alone, as it says
	if c, err = config.Parse(path, []byte(whole)); err != nil {
		t.Fatalf("with every key:\n%v", err)
	}
	for _, w := range c.Warnings {
		if !strings.HasPrefix(w.Problem, "is not used") && w.Key != "source.keys" {
			t.Errorf("with every key: warning: %v", w)
		}
	}

	found, table := map[string]string{}, "" // values as text
	for line := range strings.Lines(string(data)) {
		line = strings.TrimPrefix(line, "#")
		if m := regexp.MustCompile(`^\[+([\w.-]+)\]+`).FindStringSubmatch(line); m != nil {
			table = regexp.MustCompile(`^(source|role)\.[^.]+`).ReplaceAllString(m[1], "$1.*") + "."
		}
		m := regexp.MustCompile(`^("[^"]+"|[A-Za-z_]+)\s*=\s*(\{\s*(\w+)\s*=)?("[^"]*"|\w+)?`).FindStringSubmatch(line)
		if m == nil {
			continue
		}
		key := table + m[1]
		switch {
		case strings.HasSuffix(table, ".tags.") || strings.HasSuffix(table, ".extra."):
			key = table + "*"
		case m[3] != "" && (m[1] == "tags" || m[1] == "parameters"):
			key += ".*"
		case m[3] != "":
			key += "." + m[3]
		}
		if _, has := found[key]; !has {
			found[key] = strings.Trim(m[4], `"`)
		}
	}
	defaults := contract(t)
	for _, l := range leaves() {
		if parent, form := l.path[:max(0, strings.LastIndexByte(l.path, '.'))], l.Tag.Get("form"); form == "env" || form == "credential" || slices.ContainsFunc(leaves(), func(o leaf) bool { return o.path == parent+".env" }) {
			_, file := found[parent+".file"]
			_, secret := found[parent+".credential"]
			if _, text := found[parent]; !file && !secret && !text {
				t.Errorf("no reference %s is in the file", parent)
			}
			continue // its forms are explained once for all
		}
		value, has := found[l.path]
		if l.Type == reflect.TypeFor[*config.Assertion]() {
			_, has = found[l.path+".file"]
		}
		switch {
		case !has:
			t.Errorf("%s is not in the file", l.path)
		case defaults[l.path] != nil && l.path != "allow.any" && value != *defaults[l.path]:
			t.Errorf("%s stands there with %q, and its default is %q", l.path, value, *defaults[l.path])
		}
	}
}
