package config_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// canary stands where a secret might, and must not come out.
const canary = "wJalrXUtnFEMI"

// shown are the keys whose texts faults show, because nobody finds the mistake
// otherwise: names, words and numbers. A secret has no business in them.
var shown = strings.Fields(`
	log.level log.format admin.group admin.metrics rotation.refresh_after rotation.splay upstream.region upstream.fallback_region upstream.timeout
	listener.name listener.kind listener.address listener.ingress listener.link listener.tokens
	metadata.region metadata.availability_zone metadata.instance_id metadata.instance_type metadata.account_id metadata.image_id
	source.*.kind source.*.timeout source.*.region source.*.fallback_region source.*.provider_id source.*.flow source.*.path source.*.account_id
	source.*.assertion.oidc.auth source.*.assertion.oidc.algorithm source.*.assertion.oidc.token source.*.assertion.spiffe.timeout
	source.*.assertion.kubernetes.life source.*.assertion.kubernetes.bound_to.kind role.*.from role.*.duration role.*.region role.*.fallback_region role.*.transitive_tags
	metadata.hostname metadata.lifecycle_state metadata.spot.action metadata.spot.time metadata.events.rebalance
	metadata.events.scheduled.code metadata.events.scheduled.id metadata.events.scheduled.description metadata.events.scheduled.state
	metadata.events.scheduled.not_before metadata.events.scheduled.not_after metadata.events.history.code metadata.events.history.id
	metadata.events.history.description metadata.events.history.state metadata.events.history.not_before metadata.events.history.not_after
	listener.eks.issuer listener.eks.audience allow.pod allow.source
	allow.name allow.user allow.group allow.listener allow.roles allow.session`)

// at writes a value at a key, in a file of its own.
func at(path, kind, value string) string {
	table, name := path[:max(0, strings.LastIndexByte(path, '.'))], path[strings.LastIndexByte(path, '.')+1:]
	header := "[" + strings.ReplaceAll(table, ".*", ".x") + "]\n"
	switch {
	case table == "":
		header = ""
	case table == "listener" || table == "allow":
		header = "[" + header[:len(header)-1] + "]\n"
	}
	if kind != "" {
		name, header = strings.TrimPrefix(path, "source.*."), "[source.x]\nkind = '"+kind+"'\n"
	}
	if name == "*" {
		name = "Key"
	}
	return "version = 1\n" + header + name + " = " + value + "\n"
}

// Whatever is wrong with a text, and whatever is wrong around it: it comes out
// of no fault, but for those that say a name.
func TestNoSecretInFaults(t *testing.T) {
	tried := 0
	for _, l := range leaves() {
		if slices.Contains(shown, l.path) || l.Type.Kind() == reflect.Bool || l.Type.Kind() == reflect.Int {
			continue
		}
		kind, _, _ := strings.Cut(l.Tag.Get("kinds"), " ")
		if strings.HasPrefix(l.path, "source.*.") && kind == "" {
			kind = "static"
			for part, is := range map[string]string{"assertion.": "web-identity", "approle.": "vault", "jwt.": "vault", "kubernetes.": "vault", "token.": "vault", "key.": "roles-anywhere", "authorization.": "instance"} {
				if strings.HasPrefix(l.path, "source.*."+part) {
					kind = is
				}
			}
			if strings.Contains(l.path, ".ecp.") || strings.Contains(l.path, ".adfs.") {
				kind = "saml"
			}
		}
		for _, value := range []string{
			`"` + canary + `"`, `["` + canary + `"]`, `["/bin/sh", "` + canary + `"]`, `{ file = "` + canary + `" }`, `{ text = "` + canary + `" }`, `"` + canary + ` \u0001"`,
			`"` + canary + strings.Repeat("x", 5000) + `"`, `"https://user:` + canary + `@example.com"`, `"http://` + canary + `.example.com"`, `"{` + canary[:3] + `}` + canary + `"`,
			`"{` + canary, `"` + canary, `'` + canary, `"""` + canary, `'''` + canary + "\n", canary, `"\` + canary + `"`, `"` + canary + `" "` + canary + `"`,
			`"a" ` + canary, `["` + canary + `" "` + canary + `"]`, `{ a = "` + canary + `", a = "` + canary + `" }`, `5` + canary, `"` + canary + `"` + "\n" + `x = "` + canary,
			"\"" + canary + "\x00\"", "\"\xff" + canary + `"`, `["` + canary + `", 5, {}]`, `[["` + canary + `"]]`, `"` + canary + `" # ` + canary, "{ file = \"a\n" + canary + `" }`,
		} {
			for _, text := range []string{at(l.path, kind, value), complete(at(l.path, kind, value)), complete(at(l.path, kind, value) + at(l.path, kind, value))} {
				tried++
				for _, line := range said(text) {
					if strings.Contains(line, canary) {
						t.Errorf("%s:\n%s\nis answered with\n%s", l.path, text, line)
					}
				}
			}
		}
	}
	if tried < 1000 {
		t.Errorf("only %d files were tried", tried)
	}
}
