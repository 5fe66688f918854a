package config

import "fmt"

// notBuilt is what the contract of the file has and this version has not: the
// key, with * for a name; a value of it, or "" for any; and what it is. Who
// builds one takes its line out.
var notBuilt = []struct{ key, value, what string }{
	{"listener.kind", "ecs", "a listener of kind ecs"},
	{"listener.kind", "eks", "a listener of kind eks"},
	{"listener.redirect", "true", "a listener behind a redirect"},
	{"source.*.kind", "saml", "a source of kind saml"},
	{"source.*.kind", "roles-anywhere", "a source of kind roles-anywhere"},
	{"source.*.kind", "cognito", "a source of kind cognito"},
	{"source.*.kind", "vault", "a source of kind vault"},
	{"source.*.kind", "instance", "a source of kind instance"},
	{"source.*.provider_id", "", "an OAuth provider"},
	{"source.*.assertion.oidc", "", "an assertion from an OIDC token endpoint"},
	{"source.*.assertion.kubernetes", "", "an assertion from Kubernetes"},
	{"source.*.assertion.google", "", "an assertion from Google"},
	{"source.*.assertion.spiffe", "", "an assertion from SPIFFE"},
	{"role.*.duration", "max", "the longest duration that works"},
	{"role.*.from", "list", "a list of alternatives"},
	{"template", "{unit}", "{unit}"},
	{"template", "{user}", "{user}"},
	{"template", "{uid}", "{uid}"},
	{"template", "{container}", "{container}"},
	{"allow.unit", "", "a rule about a unit"},
	{"allow.container", "", "a rule about a container"},
	{"allow.image", "", "a rule about an image"},
	{"allow.label", "", "a rule about a label"},
	{"allow.pod", "", "a rule about a pod"},
	{"allow.source", "", "a rule about a source address"},
	{"allow.session", "caller", "a session of the caller's own"},
}

// unbuilt is the problem with a key or its value that is not built yet, or "".
func unbuilt(key, value string) string {
	for _, n := range notBuilt {
		if n.key == key && (n.value == "" || n.value == value) {
			return fmt.Sprintf("%s is not built in this version", n.what)
		}
	}
	return ""
}
