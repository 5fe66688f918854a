// Package profile turns a profile of an AWS configuration into a configuration
// of hostrole's.
//
// # Why not
//
// Not the SDK's package config: its chain ends at our own address, and it
// resolves what should be written down. Not an INI library: this dialect is
// AWS's own, and what matters here fits on a page. Not the secrets: a file that
// is printed ends up in a scrollback, so each is a reference to where it should
// be kept.
package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// taken are the keys that end up in the result, or that it accounts for.
var taken = []string{"role_arn", "source_profile", "credential_source", "web_identity_token_file", "role_session_name", "external_id",
	"duration_seconds", "mfa_serial", "region", "credential_process", "aws_access_key_id", "aws_secret_access_key", "aws_session_token",
	"ca_bundle", "endpoint_url"}

// Options say what is written.
type Options struct {
	Files   Files
	Name    string // of the profile
	Allowed string // the line of the rule that says who may have the role, such as user = ["app"]
	Secrets string // folder in which the secrets are to be kept, such as /etc/hostrole
}

// TOML returns a whole configuration with what the profile has. No secret of
// the files is in it, nor in an error.
func TOML(o Options) (string, error) {
	w := &writer{o: o, names: map[string]string{}}
	w.line("# From the AWS profile %s; hostrole check says what is left to do.", quoted(o.Name))
	w.line("version = 1")
	head := w.b
	w.b = bytes.Buffer{}
	from, err := w.profile(o.Name, nil)
	if err != nil {
		return "", err
	}
	body := w.b
	w.b = head
	w.line("\n[upstream]")
	switch {
	case w.region != "":
		w.line("region = %s", quoted(w.region))
	default:
		w.line("# region = 'eu-central-1' # the profile names none; write yours")
	}
	w.optional("endpoint", w.endpoint)
	w.optional("ca_file", w.roots)
	w.b.Write(body.Bytes())
	role, isRole := strings.CutPrefix(from, "role.")
	if !isRole { // keys alone are never served
		role = w.table(o.Name)
		w.line("\n[role.%s]", role)
		w.line("# arn = 'arn:aws:iam::111122223333:role/NAME' # the profile has keys and no role; write the role to assume with them")
		w.line("from = %s", quoted(from))
	}
	w.line("\n[[allow]]")
	w.line("%s", o.Allowed)
	w.line("roles = [%s]", quoted(role))
	return w.b.String(), nil
}

type writer struct {
	o                       Options
	b                       bytes.Buffer
	names                   map[string]string // of profiles: their tables
	region, endpoint, roots string            // the first that a profile names
}

func (w *writer) line(format string, args ...any) { fmt.Fprintf(&w.b, format+"\n", args...) }

func (w *writer) optional(key, value string) {
	if value != "" {
		w.line("%s = %s", key, quoted(value))
	}
}

// profile writes what a profile has, after what it is from, and returns the
// name by which another one has it: source.NAME or role.NAME.
func (w *writer) profile(name string, path []string) (string, error) {
	p := w.o.Files.profiles[name]
	switch {
	case p == nil:
		return "", fmt.Errorf("there is no profile %s; there is %s", quoted(name), strings.Join(slices.Sorted(maps.Keys(w.o.Files.profiles)), ", "))
	case slices.Contains(path, name):
		return "", fmt.Errorf("the profile %s is its own source_profile, by way of %s", quoted(name), strings.Join(path, ", "))
	}
	for _, into := range []struct {
		value *string
		key   string
	}{{&w.region, "region"}, {&w.endpoint, "endpoint_url"}, {&w.roots, "ca_bundle"}} {
		if *into.value == "" {
			*into.value = p[into.key]
		}
	}
	var err error
	from := ""
	switch {
	case p["role_arn"] == "":
		return w.source(name, p, len(path) > 0)
	case p["mfa_serial"] != "":
		return "", fmt.Errorf("the profile %s asks for a code (mfa_serial), which a daemon does not have: give the host an identity of its own", quoted(name))
	case p["web_identity_token_file"] != "":
		from = w.begin(name, "web-identity")
		w.line("assertion = { file = %s }", quoted(p["web_identity_token_file"]))
	case p["source_profile"] == name:
		from, err = w.source(name, p, true)
	case p["source_profile"] != "":
		from, err = w.profile(p["source_profile"], append(path, name))
	case p["credential_source"] == "Environment":
		from = w.begin(name, "static")
		w.line("access_key_id     = { env = 'AWS_ACCESS_KEY_ID' }")
		w.line("secret_access_key = { env = 'AWS_SECRET_ACCESS_KEY' }")
	case p["credential_source"] != "":
		return "", fmt.Errorf("the profile %s takes its keys from %s: write a source of kind instance for it", quoted(name), quoted(p["credential_source"]))
	default:
		return "", fmt.Errorf("the profile %s has a role_arn and nothing to assume it with", quoted(name))
	}
	if err != nil {
		return "", err
	}
	w.line("\n[role.%s]", w.table(name))
	w.line("arn  = %s", quoted(p["role_arn"]))
	w.line("from = %s", quoted(from))
	w.optional("session_name", p["role_session_name"])
	w.optional("external_id", p["external_id"])
	if d := p["duration_seconds"]; d != "" {
		w.line("duration = %s", quoted(d+"s"))
	}
	w.rest(p)
	return "role." + w.table(name), nil
}

// source writes the source that a profile without a role is. What a program
// prints may be a role's already: that is a role, unless another one needs it.
func (w *writer) source(name string, p Section, needed bool) (string, error) {
	from := "source." + w.table(name)
	switch {
	case p["aws_access_key_id"] != "":
		w.begin(name, "static")
		w.line("access_key_id     = %s", quoted(p["aws_access_key_id"]))
		w.line("secret_access_key = { file = %s } # put it there, with mode 600", quoted(w.secret(name, "secret")))
		if p["aws_session_token"] != "" {
			w.line("session_token     = { file = %s } # these keys are temporary: they will expire", quoted(w.secret(name, "token")))
		}
	case p["credential_process"] != "":
		w.begin(name, "process")
		var words []string
		for _, word := range command(p["credential_process"]) {
			words = append(words, quoted(word))
		}
		w.line("command = [%s]", strings.Join(words, ", "))
		if !needed {
			w.rest(p)
			w.line("\n[role.%s]", w.table(name))
			w.line("from = %s", quoted(from))
			return "role." + w.table(name), nil
		}
	case p["sso_session"] != "" || p["sso_start_url"] != "":
		return "", fmt.Errorf("the profile %s signs in with a browser (sso), which a daemon has not: give the host an identity of its own", quoted(name))
	default:
		return "", fmt.Errorf("the profile %s has no keys and no way to them", quoted(name))
	}
	w.rest(p)
	return from, nil
}

func (w *writer) begin(name, kind string) (from string) {
	w.line("\n[source.%s]", w.table(name))
	w.line("kind = %s", quoted(kind))
	return "source." + w.table(name)
}

// rest tells by their names which keys are left out.
func (w *writer) rest(p Section) {
	var left []string
	for _, key := range slices.Sorted(maps.Keys(p)) {
		if !slices.Contains(taken, key) {
			left = append(left, strings.Trim(quoted(key), `"`))
		}
	}
	if len(left) > 0 {
		w.line("# without %s", strings.Join(left, ", "))
	}
}

func (w *writer) secret(name, what string) string {
	return strings.TrimSuffix(w.o.Secrets, "/") + "/" + w.table(name) + "." + what
}

// table is the name of a profile's tables: letters, digits, - and _.
func (w *writer) table(profile string) string {
	if t, ok := w.names[profile]; ok {
		return t
	}
	t := strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' || r == '-') {
			return r
		}
		return '-'
	}, profile)
	t = t[:min(len(t), 60)]
	if t == "" {
		t = "profile"
	}
	for n, stem := 2, t; slices.Contains(slices.Collect(maps.Values(w.names)), t); n++ {
		t = fmt.Sprintf("%s-%d", stem, n)
	}
	w.names[profile] = t
	return t
}

// command is the argv of a credential_process. The SDKs give it to a shell;
// where that matters, so does this.
func command(text string) []string {
	const shell = "\"'`$\\|&;<>()*?[]#~={}!"
	if words := strings.Fields(text); len(words) > 0 && strings.HasPrefix(words[0], "/") && !strings.ContainsAny(text, shell) {
		return words
	}
	return []string{"/bin/sh", "-c", text}
}

// quoted is a text as TOML has it in one line: JSON's escapes are among TOML's.
func quoted(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(strings.ToValidUTF8(text, "?")) // a string cannot fail
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\x7f", "\\u007f")
}
