package profile_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/hostrole/hostrole/cmd/hostrole/profile"
)

const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

const config = `# comment
[default]
region = eu-central-1
output = json

[profile base]   ; of the whole company
region=eu-west-1 # near

[profile "app role"]
role_arn = arn:aws:iam::111122223333:role/app
source_profile = hub
external_id = a=b#c
duration_seconds = 900
s3 =
    max_concurrent_requests = 20
    role_arn = not this one
[profile hub]
ROLE_ARN = arn:aws:iam::111122223333:role/hub
role_session_name = me
source_profile = base
[profile own]
role_arn = arn:aws:iam::111122223333:role/own
source_profile = own
[profile web]
role_arn = arn:aws:iam::111122223333:role/web
web_identity_token_file = /run/token
region = us-east-1
ca_bundle = /etc/ssl/corp.pem
endpoint_url = https://sts.example.com
[profile env]
role_arn = arn:aws:iam::111122223333:role/env
credential_source = Environment
region = us-east-1
[profile program]
credential_process = /usr/bin/fetch --role app
cli_pager =
[profile shell]
credential_process = fetch "a b" | jq .
[profile chained]
role_arn = arn:aws:iam::111122223333:role/chained
source_profile = program
region = us-east-1
[profile mfa]
role_arn = arn:aws:iam::111122223333:role/mfa
source_profile = base
mfa_serial = arn:aws:iam::111122223333:mfa/me
[profile loop]
role_arn = arn:aws:iam::111122223333:role/loop
source_profile = pool
[profile pool]
role_arn = arn:aws:iam::111122223333:role/pool
source_profile = loop
[profile ec2]
role_arn = arn:aws:iam::111122223333:role/ec2
credential_source = Ec2InstanceMetadata
[profile lone]
role_arn = arn:aws:iam::111122223333:role/lone
[profile lost]
role_arn = arn:aws:iam::111122223333:role/lost
source_profile = nowhere
[profile sso]
sso_session = corp
[profile empty]
[sso-session corp]
region = nowhere-1
[unprefixed]
region = nowhere-2
`

const credentials = `[base]
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = ` + secret + `
[own]
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = ` + secret + `
aws_session_token = ` + secret + `
`

func read(name string) (string, error) {
	return profile.TOML(profile.Options{Files: profile.Parse(config, credentials), Name: name, Allowed: `user = ["me"]`, Secrets: "/etc/hostrole/"})
}

// Each profile is what testdata says; -update is not there on purpose: read it.
func TestTOML(t *testing.T) {
	for _, name := range []string{"app role", "own", "web", "env", "program", "shell", "chained", "base"} {
		got, err := read(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want, err := os.ReadFile(filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".toml"))
		if err != nil {
			t.Error(err)
		}
		if got != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
		if strings.Contains(got, secret) {
			t.Errorf("%s shows a secret", name)
		}
	}
}

func TestWhatADaemonCannotDo(t *testing.T) {
	for name, want := range map[string]string{
		"mfa": "asks for a code", "loop": "is its own source_profile", "ec2": "source of kind instance", "lone": "nothing to assume it with",
		"lost": `no profile "nowhere"`, "sso": "with a browser", "empty": "no keys and no way to them", "unprefixed": `no profile "unprefixed"`, "corp": "no profile",
	} {
		text, err := read(name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want that it %s", name, err, want)
		}
		if text != "" {
			t.Errorf("%s prints something", name)
		}
	}
}

// Whatever is in the files, no secret comes out, and what comes out is TOML.
func FuzzTOML(f *testing.F) {
	f.Add(config, credentials, "app role")
	f.Add(config, credentials, "own")
	f.Add("[profile a]\nrole_arn=x\nsource_profile=b\n[profile b]\ncredential_process=/x \"\x7f\x00é\n", "", "a")
	f.Add("[profile ]\n[profile \"\"]\n[\n[]\n=\n = \nx", "[x]\naws_access_key_id=\"'\\\xff\n", "")
	f.Fuzz(func(t *testing.T, config, credentials, name string) {
		if strings.Contains(config+credentials+name, "CANARY") {
			t.Skip("the canary is somewhere else as well")
		}
		credentials += "\naws_secret_access_key = CANARY\naws_session_token=CANARY\n[base]\naws_access_key_id=AKIAIOSFODNN7EXAMPLE\naws_secret_access_key=CANARY\n"
		text, err := profile.TOML(profile.Options{Files: profile.Parse(config, credentials), Name: name, Allowed: "any = true", Secrets: "/etc/hostrole"})
		if err != nil {
			text = err.Error()
		} else if e := toml.Unmarshal([]byte(text), new(map[string]any)); e != nil {
			t.Errorf("no TOML: %v\n%s", e, text)
		}
		if strings.Contains(text, "CANARY") {
			t.Errorf("a secret is in %s", text)
		}
	})
}

func TestParseTakesTheLastWord(t *testing.T) {
	f := profile.Parse("[default]\nregion=a\n[default]\nregion=b\n", "[default]\r\nregion = c\r\naws_access_key_id=AKIAIOSFODNN7EXAMPLE\r\n")
	text, err := profile.TOML(profile.Options{Files: f, Name: "default", Allowed: "any = true", Secrets: "/s"})
	if err != nil || !slices.Contains(strings.Split(text, "\n"), `region = "c"`) {
		t.Errorf("%v\n%s", err, text)
	}
}
