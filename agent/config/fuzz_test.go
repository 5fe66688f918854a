package config_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/agent/config"
)

// tail has secrets in all the wrong places.
const tail = `
[source.zz]
kind = "static"
access_key_id = { env = "` + canary + `/" }
secret_access_key = "` + canary + `"
session_token = { credential = "/` + canary + `" }
proxy = "http://user:` + canary + `@example.com"
endpoint = "http://` + canary + `.example.com"
[role.zz]
from = "source.zz"
external_id = "` + canary + ` "
session_name = "` + canary + ` "
tags = { Key = "` + canary + `*" }
policy = "` + canary + `"
[source.yy]
kind = "process"
command = "` + canary + `"
[source.xx]
kind = "vault"
address = "https://user:` + canary + `@example.com"
role = "` + canary + `\u0001"
token = "` + canary + `"
approle = { role_id = "` + canary + `", secret_id = { env = "` + canary + `/" } }
[source.ww]
kind = "instance"
uri = "http://example.com/` + canary + `"
authorization = { text = "` + canary + `" }
[source.vv]
kind = "saml"
assertion = { ecp = { url = "` + canary + `", password = "` + canary + `" } }
[source.uu]
kind = "web-identity"
[source.uu.assertion.oidc]
client_secret = "` + canary + `"
private_key = { file = "` + canary + `\u0001" }
parameters = { key = ["` + canary + `"] }
subject = { google = { key = "` + canary + `", provider = "` + canary + `" } }
`

func FuzzParse(f *testing.F) {
	for _, text := range seeds(f) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("hostrole.toml", data)
		if err == nil {
			checkGood(t, c, data)
		} else {
			checkFaults(t, err, data)
		}
		_, err = config.Parse("hostrole.toml", append(slices.Clone(data), tail...))
		if err == nil {
			t.Fatal("a file with secrets is good")
		}
		if strings.Contains(err.Error(), canary) && !strings.Contains(string(data), canary) {
			t.Errorf("a secret is shown:\n%v", err)
		}
	})
}

func checkFaults(t *testing.T, err error, data []byte) {
	t.Helper()
	var faults config.Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("an error without faults: %v", err)
	}
	lines := strings.SplitAfter(string(data), "\n")
	for i, f := range faults {
		if f.File != "hostrole.toml" || f.Line < 1 || f.Line > len(lines) || f.Column < 1 || f.Column > len(lines[f.Line-1])+1 || f.Problem == "" {
			t.Errorf("%v is no place in the file", f)
		}
		if i > 0 && (f.Line < faults[i-1].Line || f.Line == faults[i-1].Line && f.Column < faults[i-1].Column) {
			t.Errorf("%v stands behind %v", f, faults[i-1])
		}
		if strings.ContainsAny(f.String(), "\n\r\x00\x1b") {
			t.Errorf("%q is no line", f.String())
		}
	}
}

func checkGood(t *testing.T, c *config.Config, data []byte) {
	t.Helper()
	if err := unmarshal(data); err != nil {
		t.Errorf("is accepted and no TOML: %v", err)
	}
	if len(c.Roles) == 0 || len(c.Allow) == 0 || len(c.Listeners) == 0 {
		t.Errorf("is good with %d roles, %d rules, %d listeners", len(c.Roles), len(c.Allow), len(c.Listeners))
	}
	for _, l := range c.Listeners {
		if len(l.Address) == 0 || l.Name == "" || l.Ingress == nil || l.ManageAddress == nil || l.StrictHeaders == nil {
			t.Errorf("is good with the listener %+v", l)
		}
	}
	for _, r := range c.Allow {
		for _, role := range r.Roles {
			if _, ok := c.Roles[role]; !ok || r.Name == "" {
				t.Errorf("is good with the rule %+v", r)
			}
		}
	}
	var follow func(name string, steps int) // each alternative, to a source, in few steps
	follow = func(name string, steps int) {
		if steps > 4 {
			t.Fatalf("is good with a chain that ends in role %q", name)
		}
		each := c.Roles[name].From.Each()
		for _, from := range each {
			if next, is := from.Role(); is {
				follow(next, steps+1)
			} else if source, _ := from.Source(); c.Sources[source].Kind == "" {
				t.Errorf("is good with role %q, which is from %v", name, from)
			}
		}
		if len(each) == 0 {
			t.Errorf("is good with role %q, which is from nothing", name)
		}
	}
	for name := range c.Roles {
		follow(name, 1)
	}
	for _, w := range c.Warnings {
		if w.Line < 1 || w.Problem == "" || strings.ContainsAny(w.String(), "\n\r\x00\x1b") {
			t.Errorf("is good with the warning %q", w)
		}
	}
	if c.Position(fmt.Sprintf("allow[%d].roles[0]", len(c.Allow)-1)); c.Version != 1 {
		t.Errorf("is good with version %d", c.Version)
	}
}
