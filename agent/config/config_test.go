package config_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/agent/config"
)

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse(filepath.Join(t.TempDir(), "hostrole.toml"), []byte(text))
	if err != nil {
		t.Fatalf("faults:\n%v", err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	c := parse(t, complete("version = 1\n"))
	yes, lo := true, "lo"
	for what, diff := range map[string]string{
		"log":      cmp.Diff(config.Log{Level: "info", Format: "auto"}, c.Log),
		"admin":    cmp.Diff(config.Admin{Socket: "/run/hostrole/admin.sock", Group: "hostrole"}, c.Admin),
		"audit":    cmp.Diff(config.Audit{}, c.Audit),
		"rotation": cmp.Diff(config.Rotation{RefreshAfter: config.Duration(time.Hour), Parallel: 4, Splay: config.Duration(3 * time.Minute)}, c.Rotation),
		"upstream": cmp.Diff(config.Upstream{Region: "eu-central-1", Proxy: "none", Timeout: config.Duration(20 * time.Second)}, c.Upstream),
		"listeners": cmp.Diff([]config.Listener{{
			Name: "host", Kind: "imds", Address: []config.HostPort{{AddrPort: netip.MustParseAddrPort("169.254.169.254:80")}},
			Ingress: &lo, ManageAddress: &yes, Link: "lo", Tokens: "required", StrictHeaders: &yes, HopLimit: 1,
		}}, c.Listeners, cmp.Comparer(func(a, b config.HostPort) bool { return a == b })),
		"metadata": cmp.Diff(config.Metadata{}, c.Metadata),
		"role": cmp.Diff(config.Role{ARN: "arn:aws:iam::111122223333:role/app", From: c.Roles["app"].From, Duration: config.SessionDuration(time.Hour),
			SessionName: "{hostname}"}, c.Roles["app"], cmp.Comparer(func(a, b config.From) bool { return a.String() == b.String() })),
		"allow": cmp.Diff([]config.Allow{{Name: "rule 1", User: []string{"app"}, Roles: []string{"app"}, Session: "role"}}, c.Allow),
	} {
		if diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	if s, ok := c.Roles["app"].From.Source(); !ok || s != "corp" {
		t.Errorf("the role is from %v", c.Roles["app"].From)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", c.Warnings)
	}
}

// What the contract shows as a default may be written.
func TestDefaultsMayBeWritten(t *testing.T) {
	c := parse(t, complete(`version = 1
[upstream]
region = 'eu-central-1'
endpoint = ''
ca_file = ''
proxy = 'none'
[admin]
metrics = ''
[audit]
file = ''
required = false
[metadata]
user_data = {}
tags = {}
extra = {}
[role.app]
arn = 'arn:aws:iam::111122223333:role/app'
from = ['source.corp']
external_id = ''
source_identity = ''
policy = {}
policy_arns = []
tags = {}
transitive_tags = []
region = ''
endpoint = ''
`))
	if r := c.Roles["app"]; r.Policy != nil || r.From.String() != "source.corp" || c.Metadata.UserData != nil || c.Upstream.CAFile != "" {
		t.Errorf("got policy %v, from %v, user data %v, ca_file %q", r.Policy, r.From, c.Metadata.UserData, c.Upstream.CAFile)
	}
}

func TestValues(t *testing.T) {
	name := filepath.Join(t.TempDir(), "hostrole.toml")
	c, err := config.Parse(name, []byte(`version = 1
[upstream]
region = "eu-central-1"
endpoint = "https://minio.example.com:9000"
ca_file = "ca.pem"
proxy = "env"
[rotation]
refresh_after = "1h30m"
[[listener]]
name = "host"
kind = "imds"
address = ["169.254.169.254:80", "[fd00:ec2::254]:80"]
[[listener]]
name = "docker"
kind = "imds"
ingress = "docker0"
strict_headers = false
[metadata]
user_data = { file = "user-data" }
tags.Name = "db-7"
[metadata.extra]
"placement/rack" = "r12"
[source.keys]
kind = "static"
access_key_id = { env = "ID" }
secret_access_key = { file = "../secret" }
session_token = { credential = "token" }
region = "us-east-1"
[source.helper]
kind = "process"
command = ["bin/fetch", "--json", ""]
timeout = "90s"
[role.free]
from = "source.helper"
[role.hub]
from = "source.keys"
duration = "168h"
[role.app]
arn = "arn:minio:iam:::role/app"
from = "role.hub"
endpoint = "http://127.0.0.1:9000"
policy = { file = "/etc/policy.json" }
tags = { "Größe" = "{hostname} {role}" }
transitive_tags = ["Größe"]
[role.aws]
arn = "arn:aws:iam::111122223333:role/team/aws"
from = "role.hub"
endpoint = "https://sts.us-east-1.amazonaws.com"
[[allow]]
user = ["app"]
uid = [1_000, 0x10]
listener = ["docker"]
roles = ["app", "aws"]
[[allow]]
group = ["operators"]
roles = ["hub", "free"]
`))
	if err != nil {
		t.Fatalf("faults:\n%v", err)
	}
	dir := filepath.Dir(name)
	keys, helper := c.Sources["keys"], c.Sources["helper"]
	for what, got := range map[string][2]any{
		"refresh_after":           {c.Rotation.RefreshAfter.String(), "1h30m"},
		"ca_file":                 {c.Upstream.CAFile, filepath.Join(dir, "ca.pem")},
		"user_data":               {c.Metadata.UserData.File, filepath.Join(dir, "user-data")},
		"tag":                     {c.Metadata.Tags["Name"], "db-7"},
		"extra":                   {c.Metadata.Extra["placement/rack"], "r12"},
		"access key":              {*keys.AccessKeyID.Ref, config.Ref{Env: "ID"}},
		"secret":                  {*keys.SecretAccessKey, config.Ref{File: filepath.Join(filepath.Dir(dir), "secret")}},
		"token":                   {*keys.SessionToken, config.Ref{Credential: "token"}},
		"own region":              {keys.Region, "us-east-1"},
		"endpoint of the source":  {keys.Endpoint, "https://minio.example.com:9000"},
		"ca_file of the source":   {keys.CAFile, c.Upstream.CAFile},
		"proxy of the source":     {keys.Proxy, "env"},
		"region of the program":   {helper.Region, "eu-central-1"},
		"endpoint of the program": {helper.Endpoint, "https://minio.example.com:9000"},
		"program":                 {strings.Join(helper.Command, "|"), filepath.Join(dir, "bin/fetch") + "|--json|"},
		"timeout":                 {helper.Timeout.String(), "1m30s"},
		"long session":            {c.Roles["hub"].Duration.String(), "168h"},
		"region of a role":        {c.Roles["app"].Region, ""},
		"policy":                  {c.Roles["app"].Policy.File, "/etc/policy.json"},
		"uids":                    {c.Allow[0].UID[0] + c.Allow[0].UID[1], uint32(1016)},
		"default address":         {c.Listeners[1].Address[0].String(), "169.254.169.254:80"},
		"strict_headers":          {*c.Listeners[1].StrictHeaders, false},
		"second rule":             {c.Allow[1].Name, "rule 2"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: got %v, want %v", what, got[0], got[1])
		}
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", c.Warnings)
	}
}

// Tables may be written in each of TOML's ways and in any order.
func TestWaysToWriteTables(t *testing.T) {
	c := parse(t, `version = 1
log.level = "warn"
log.format = "json"
allow = [{ user = ["app"], roles = ["app"] }, { any = true, roles = ["app"] }]
upstream = { region = "eu-central-1" }
[role.app.tags]
Site = "fra"
[role]
[role.app]
arn = "arn:aws:iam::111122223333:role/app"
from = "source.helper"
[source]
helper.kind = "process"
helper.command = ["/usr/bin/fetch"]
`)
	if c.Log != (config.Log{Level: "warn", Format: "json"}) || len(c.Allow) != 2 || c.Roles["app"].Tags["Site"] != "fra" || c.Sources["helper"].Kind != "process" {
		t.Errorf("got log %v, rules %v, tags %v, sources %v", c.Log, c.Allow, c.Roles["app"].Tags, c.Sources)
	}
}

// A server that is not AWS's has its own regions, and roles without an ARN;
// who asks it with a token needs no region at all.
func TestOtherServers(t *testing.T) {
	c := parse(t, `version = 1
[upstream]
endpoint = "http://localhost:9000"
[source.token]
kind = "web-identity"
assertion = { file = "token" }
[source.helper]
kind = "process"
command = ["/usr/bin/fetch"]
[role.one]
from = "source.token"
duration = "720h"
[role.two]
from = "source.helper"
arn = "arn:aws:iam:::role/two"
region = "zone-1a"
[[allow]]
any = true
roles = ["one", "two"]
`)
	if s := c.Sources["token"]; s.Region != "" || s.Endpoint != "http://localhost:9000" {
		t.Errorf("the source has region %q and endpoint %q", s.Region, s.Endpoint)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", c.Warnings)
	}
}

func TestPosition(t *testing.T) {
	name := filepath.Join(t.TempDir(), "hostrole.toml")
	c, err := config.Parse(name, []byte(complete(`version = 1
[role.app]
arn = 'arn:aws:iam::111122223333:role/app'
from = 'source.corp'
policy = { file = 'policy.json' }
[[allow]]
any = true
roles = ['app']
[[allow]]
uid = [
  1000,
  1001,
]
roles = ['app']
`)))
	if err != nil {
		t.Fatal(err)
	}
	type place struct{ line, column int }
	for key, want := range map[string]place{
		"version": {1, 11}, "role.app": {2, 7}, "role.app.arn": {3, 7}, "role.app.policy": {5, 10}, "role.app.policy.file": {5, 19},
		"allow[0].any": {7, 7}, "allow[1]": {9, 3}, "allow[1].uid[1]": {12, 3}, "allow": {6, 3},
		// What is not in the file is at what is around it.
		"role.app.duration": {2, 7}, "role.app.policy.file.deeper": {5, 19}, "allow[1].uid[7]": {10, 7}, "listener[0].address": {1, 1}, "": {1, 1}, "no.such.key": {1, 1},
	} {
		file, line, column := c.Position(key)
		if got := (place{line, column}); file != name || got != want {
			t.Errorf("%q is at %s:%d:%d, want %v", key, file, line, column, want)
		}
	}
	f := c.Fault("role.app.policy.file", "is no JSON", "a session policy is an IAM policy document")
	if got, want := f.String(), name+":5:19: role.app.policy.file: is no JSON; a session policy is an IAM policy document"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// write puts files into a folder and returns the path of hostrole.toml.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "hostrole.toml")
}

func TestDropIns(t *testing.T) {
	path := write(t, map[string]string{
		"hostrole.toml": complete("version = 1\n[log]\nlevel = 'warn'\n[[listener]]\nname = 'host'\nkind = 'imds'\n"),
		"hostrole.d/20-docker.toml": `
[log]
format = 'json'
[[listener]]
name = 'docker'
kind = 'imds'
ingress = 'docker0'
[[allow]]
name = 'containers'
listener = ['docker']
roles = ['backup']
[metadata.tags]
Site = 'fra'
`,
		"hostrole.d/10-backup.toml": `
[source.backup]
kind = 'web-identity'
assertion = { file = 'token' }
[role.backup]
arn = 'arn:aws:iam::111122223333:role/backup'
from = 'source.backup'
[[allow]]
user = ['backup']
roles = ['backup', 'app']
[metadata]
tags.Name = 'db-7'
`,
		"hostrole.d/.hidden.toml":   "no TOML",
		"hostrole.d/30-old.toml.bk": "no TOML",
		"hostrole.d/README":         "no TOML",
	})
	c, err := config.Load(path)
	if err != nil {
		t.Fatalf("faults:\n%v", err)
	}
	var rules, listeners []string
	for _, r := range c.Allow {
		rules = append(rules, r.Name)
	}
	for _, l := range c.Listeners {
		listeners = append(listeners, l.Name)
	}
	dropIns := filepath.Join(filepath.Dir(path), "hostrole.d")
	for what, diff := range map[string]string{
		"rules":     cmp.Diff([]string{"rule 1", "rule 2", "containers"}, rules),
		"listeners": cmp.Diff([]string{"host", "docker"}, listeners),
		"log":       cmp.Diff(config.Log{Level: "warn", Format: "json"}, c.Log),
		"tags":      cmp.Diff(map[string]string{"Name": "db-7", "Site": "fra"}, c.Metadata.Tags),
		"relative":  cmp.Diff(filepath.Join(dropIns, "token"), c.Sources["backup"].Assertion.File),
	} {
		if diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	for key, want := range map[string]string{"allow[1].user": "10-backup.toml", "allow[2]": "20-docker.toml", "allow[2].roles[0]": "20-docker.toml", "log.format": "20-docker.toml", "listener[1].ingress": "20-docker.toml", "role.backup": "10-backup.toml"} {
		if file, _, _ := c.Position(key); file != filepath.Join(dropIns, want) {
			t.Errorf("%s is in %s, want %s", key, file, want)
		}
	}
}

func TestDropInsReplaceNothing(t *testing.T) {
	path := write(t, map[string]string{
		"hostrole.toml":       complete("version = 1\n[log]\nlevel = 'warn'\n"),
		"hostrole.d/a.toml":   "version = 1\n[log]\nlevel = 'debug'\n[source.corp]\nregion = 'eu-west-1'\n[role.app]\nduration = '2h'\n[role.two]\nfrom = 'source.nothing'\n",
		"hostrole.d/b.toml":   "[role]\ntwo.arn = 'arn:aws:iam::111122223333:role/two'\n[[log]]\nformat = 'text'\n[allow]\nx = 1\n",
		"hostrole.d/bad.toml": "[upstream]\nregion = eu-west-1\n",
	})
	_, err := config.Load(path)
	var faults config.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("got %v, want faults", err)
	}
	main, dir := path+":", filepath.Join(filepath.Dir(path), "hostrole.d")+string(filepath.Separator)
	var got []string
	for _, f := range faults {
		got = append(got, strings.ReplaceAll(strings.ReplaceAll(f.String(), dir, ""), main, "main:"))
	}
	want := []string{
		"a.toml:1:1: version: is in main:1 already; only the main file has it",
		"a.toml:3:1: log.level: is in main:3 already; a drop-in adds and does not replace: keep one of them",
		"a.toml:4:9: source.corp: is in main:6 already; a drop-in adds and does not replace: keep one of them",
		"a.toml:6:7: role.app: is in main:9 already; a drop-in adds and does not replace: keep one of them",
		"b.toml:2:1: role.two: is in a.toml:8 already; a drop-in adds and does not replace: keep one of them",
		"b.toml:3:3: log: is in main:2 already; a drop-in adds and does not replace: keep one of them",
		"b.toml:5:2: allow: is in main:12 already; a drop-in adds and does not replace: keep one of them",
		"bad.toml:2:10: no TOML: unexpected character at start of value; write a text in quotes, and true or false in small letters",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	good := complete("version = 1\n")
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no file":                  {map[string]string{"other.toml": good}, "hostrole.toml: cannot be read: no such file or directory; write it, or name another one with --config"},
		"a folder":                 {map[string]string{"hostrole.toml/x": ""}, "hostrole.toml: cannot be read: is a directory"},
		"a drop-in that is folder": {map[string]string{"hostrole.toml": good, "hostrole.d/a.toml/x": ""}, "a.toml: cannot be read: is a directory"},
		"drop-ins that are a file": {map[string]string{"hostrole.toml": good, "hostrole.d": ""}, "hostrole.d: cannot be read: not a directory"},
	} {
		_, err := config.Load(write(t, c.files))
		var faults config.Faults
		if !errors.As(err, &faults) || !strings.HasSuffix(err.Error(), string(filepath.Separator)+c.want) {
			t.Errorf("%s: got %v, want a fault that ends in %q", name, err, c.want)
		}
	}
	path := write(t, map[string]string{"hostrole.toml": good})
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if f, err := os.Open(path); err == nil {
		_ = f.Close()
		t.Skip("root may read every file")
	}
	if _, err := config.Load(path); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v, want an error of permission", err)
	}
}

// What is nested a thousand times costs no more than what is nested twenty
// times, and is a fault.
func TestDeepNesting(t *testing.T) {
	const n = 20_000
	for _, text := range []string{
		"[" + strings.Repeat("a.", n) + "a]\n",
		strings.Repeat("a.", n) + "a = 1\n",
		"a = " + strings.Repeat("[", n/4) + strings.Repeat("]", n/4) + "\n",
		"a = " + strings.Repeat("{ a = ", n/4) + "1" + strings.Repeat("}", n/4) + "\n",
	} {
		var faults config.Faults
		_, err := config.Parse("hostrole.toml", []byte("version = 1\n"+text))
		if !errors.As(err, &faults) || !strings.Contains(err.Error(), "is nested too deeply") {
			t.Errorf("%.20q…: got %.200v", text, err)
		}
		for _, f := range faults {
			if len(f.Key) > 100 {
				t.Errorf("%.20q…: a key of %d bytes", text, len(f.Key))
			}
		}
	}
}

// The fault of a name that two files have says where both are.
func TestNamesOfTwoFiles(t *testing.T) {
	path := write(t, map[string]string{
		"hostrole.toml":     complete("version = 1\n[[allow]]\nname = 'app'\nuser = ['app']\nroles = ['app']\n"),
		"hostrole.d/a.toml": "[[allow]]\nname = 'app'\nuser = ['web']\nroles = ['app']\n",
	})
	_, err := config.Load(path)
	want := filepath.Join(filepath.Dir(path), "hostrole.d", "a.toml") + `:2:8: allow[1].name: "app" is the name of the one in ` + path + ":2 already; write another: it tells which rule has decided"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
