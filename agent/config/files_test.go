package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/agent/config"
)

func TestReadings(t *testing.T) {
	c, err := config.Parse("/etc/hostrole/hostrole.toml", []byte(`version = 1
[admin]
socket = "admin.sock"
[audit]
file = "audit.log"
[upstream]
region = "eu-central-1"
ca_file = "roots.pem"
[metadata]
user_data = { file = "user-data" }
[source.corp]
kind = "web-identity"
assertion.oidc = { token_url = "https://idp.example.com/token", client_id = "me", client_secret = { file = "secret" }, subject = { file = "subject" } }
[source.keys]
kind = "static"
access_key_id = { file = "id" }
secret_access_key = { env = "KEY" }
[source.x509]
kind = "roles-anywhere"
certificate = "host.pem"
key = { file = "host.key" }
trust_anchor_arn = "arn:aws:rolesanywhere:eu-central-1:111122223333:trust-anchor/11111111-2222-3333-4444-555555555555"
profile_arn = "arn:aws:rolesanywhere:eu-central-1:111122223333:profile/11111111-2222-3333-4444-555555555555"
[role.app]
arn = "arn:aws:iam::111122223333:role/app"
from = "source.corp"
policy = { file = "policy.json" }
[[allow]]
name = "all"
any = true
roles = ["app"]
`))
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return "/etc/hostrole/" + name }
	want := []config.Reading{
		{at("roots.pem"), "", false},
		{at("user-data"), "", false},
		{at("secret"), "corp", true},
		{at("subject"), "corp", true},
		{at("roots.pem"), "corp", false}, // these are [upstream]'s, which the token endpoint and every source take over
		{at("roots.pem"), "corp", false},
		{at("id"), "keys", true},
		{at("roots.pem"), "keys", false},
		{at("host.pem"), "x509", true},
		{at("host.key"), "x509", true},
		{at("roots.pem"), "x509", false},
		{at("policy.json"), "", false},
	}
	if diff := cmp.Diff(want, c.Readings()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "hostrole.toml")
	drop := filepath.Join(dir, "hostrole.d")
	if diff := cmp.Diff([]string{main, drop}, config.Files(main)); diff != "" {
		t.Errorf("without drop-ins (-want +got)\n%s", diff)
	}
	if err := os.Mkdir(drop, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"20.toml", "10.toml", ".30.toml.swp", ".40.toml", "README"} {
		if err := os.WriteFile(filepath.Join(drop, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{main, drop, filepath.Join(drop, "10.toml"), filepath.Join(drop, "20.toml")}
	if diff := cmp.Diff(want, config.Files(main)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
