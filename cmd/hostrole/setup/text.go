package setup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// A page is a configuration in the making.
type page struct{ b strings.Builder }

func (p *page) line(format string, args ...any) { _, _ = fmt.Fprintf(&p.b, format+"\n", args...) }

// quoted is a TOML string, which JSON's form is.
func quoted(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string always can be
	return strings.TrimSpace(b.String())
}

func list(all []string) string {
	var q []string
	for _, one := range all {
		q = append(q, quoted(one))
	}
	return "[" + strings.Join(q, ", ") + "]"
}

// text is the configuration that the answers make, as far as they go. settled
// is whether the secret is where it will be.
func (s *session) text(settled bool) string {
	p := &page{}
	p.line("# Which roles this host has, and who may have them. Written by hostrole init.")
	p.line("#")
	p.line("# After a change: hostrole check, then hostrole reload. Every key there is stands")
	p.line("# in hostrole.toml(5). Secrets never stand here, only references to them.")
	p.line("")
	p.line("version = 1")
	p.line("")
	p.line("[upstream]                 # whom this host asks for credentials")
	if r := s.one("region"); r != "" {
		p.line("region   = %s", quoted(r))
	}
	if e := s.one("endpoint"); e != "" {
		p.line("endpoint = %s", quoted(e))
	}
	if k := s.kind(); k != "" {
		p.line("")
		p.line("[source.host]              # %s", what(k))
		p.line("kind = %s", quoted(k))
		s.source(p, k, settled)
	}
	s.roles(p)
	s.rules(p)
	p.line("")
	p.line("[[listener]]               # where programs ask: every AWS SDK looks there by itself")
	p.line("name    = \"host\"")
	p.line("kind    = \"imds\"")
	p.line("address = [\"169.254.169.254:80\"]")
	return p.b.String()
}

func what(kind string) string {
	for _, k := range kinds {
		if k.name == kind {
			return k.what
		}
	}
	return kind
}

// source writes what a kind of source needs beside it.
func (s *session) source(p *page, kind string, settled bool) {
	put := func(key, flag string) {
		if v := s.one(flag); v != "" {
			p.line("%s = %s", key, quoted(v))
		}
	}
	if token := s.one("token"); token != "" {
		p.line("# Read again at each renewal: another program has to keep it fresh.")
		if path, is := strings.CutPrefix(token, "file:"); is {
			p.line("assertion = { file = %s }", quoted(path))
		} else {
			p.line("assertion = { command = %s }", list(strings.Fields(strings.TrimPrefix(token, "command:"))))
		}
	}
	put("provider_arn", "provider-arn")
	put("identity_pool_id", "pool")
	put("provider", "provider")
	put("certificate", "certificate")
	put("trust_anchor_arn", "trust-anchor")
	put("profile_arn", "profile-arn")
	put("address", "vault-address")
	put("role", "vault-role")
	put("endpoint", "service-url")
	if line := s.one("command"); line != "" {
		p.line("command = %s", list(strings.Fields(line)))
	}
	put("access_key_id", "access-key-id")
	if key := map[string]string{"static": "secret_access_key", "roles-anywhere": "key", "vault": "token"}[kind]; key != "" && s.one("secret") != "" {
		p.line("%s = %s", key, s.secretRef(settled))
	}
}

// secretRef is the reference to the secret.
func (s *session) secretRef(settled bool) string {
	if name, is := strings.CutPrefix(s.one("secret"), "credential:"); is {
		return fmt.Sprintf("{ credential = %s }", quoted(name))
	}
	if settled && s.load.name != "" {
		return fmt.Sprintf("{ credential = %s }", quoted(s.load.name))
	}
	if path, is := strings.CutPrefix(s.one("secret"), "file:"); is {
		return fmt.Sprintf("{ file = %s }", quoted(path))
	}
	return fmt.Sprintf("{ file = %s }", quoted(s.secretPath()))
}

// A named is a role by the name of its table.
type named struct{ name, arn string }

// named are the roles that were asked for.
func (s *session) named() (all []named) {
	for _, text := range s.given["role"] {
		name, arn, both := strings.Cut(text, "=")
		switch {
		case both:
		case strings.HasPrefix(text, "arn:"):
			name, arn = text[strings.LastIndexAny(text, ":/")+1:], text
		default:
			name, arn = text, ""
		}
		all = append(all, named{name, arn})
	}
	return all
}

func (s *session) roles(p *page) {
	for _, r := range s.named() {
		p.line("")
		p.line("[role.%s]", key(r.name))
		if r.arn != "" {
			p.line("arn  = %s", quoted(r.arn))
		}
		p.line("from = \"source.host\"       # or \"role.NAME\": assumed with that role's credentials")
	}
}

// key is a name as a key of TOML: bare where it can be.
func key(name string) string {
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return quoted(name)
	}
	return name
}

func (s *session) rules(p *page) {
	var roles []string
	for _, r := range s.named() {
		roles = append(roles, r.name)
	}
	for i, text := range s.given["allow"] {
		p.line("")
		if i == 0 {
			p.line("# The first rule that matches decides; who matches none sees a host without a")
			p.line("# role. The first role is the caller's own, the others answer to their names.")
		}
		p.line("[[allow]]")
		if kind, name, _ := strings.Cut(text, ":"); kind == "any" {
			p.line("any   = true               # every program on this host")
		} else {
			p.line("%-5s = [%s]", kind, quoted(name))
		}
		p.line("roles = %s", list(roles))
	}
}
