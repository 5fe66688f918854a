package setup

import (
	"os"
	"path/filepath"
	"strings"
)

// A question is one thing that a configuration needs, and the flag that
// answers it.
type question struct {
	flag     string
	kinds    string // of sources that it is about; "" for all
	keys     string // of the configuration, whose faults are this answer's
	prompt   string
	usage    string // of the flag
	optional bool
	many     bool                     // an answer may be a list
	form     func(text string) string // what is wrong with an answer, beyond what the configuration's reader says
	preset   preset
}

// A preset is what Enter takes.
type preset func() string

func nothing() string { return "" }

// kinds are the sources, in the order in which they should be thought of.
var kinds = []struct{ name, what string }{
	{"web-identity", "an OIDC token of your identity provider, of Kubernetes or SPIFFE"},
	{"saml", "a SAML response of your identity provider"},
	{"roles-anywhere", "an X.509 certificate, by IAM Roles Anywhere"},
	{"cognito", "a Cognito identity pool"},
	{"vault", "the AWS engine of Vault or OpenBao"},
	{"instance", "another metadata service, as of EC2 or a container"},
	{"process", "a credential_process program"},
	{"static", "an access key: the last resort; also for MinIO and Ceph"},
}

func kindNames() (names []string) {
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// kindsHelp lists the sources with their flags.
func kindsHelp() string {
	var b strings.Builder
	b.WriteString("Sources, and what else they need:\n\n")
	for _, k := range kinds {
		var flags []string
		for _, q := range questions {
			for _, is := range strings.Fields(q.kinds) {
				if is == k.name {
					flag := "--" + q.flag
					if q.optional {
						flag = "[" + flag + "]"
					}
					flags = append(flags, flag)
				}
			}
		}
		b.WriteString("  " + k.name + strings.Repeat(" ", 16-len(k.name)) + k.what + "\n" + strings.Repeat(" ", 18) + strings.Join(flags, " ") + "\n")
	}
	return b.String()
}

func kindsPrompt() string {
	var b strings.Builder
	b.WriteString("Where does this host's identity come from?\n")
	for _, k := range kinds {
		b.WriteString("    " + k.name + strings.Repeat(" ", 16-len(k.name)) + k.what + "\n")
	}
	b.WriteString("  Source")
	return b.String()
}

var secretPrompt = map[string]string{
	"static":         "Secret access key, which is not shown; or file:PATH, or credential:NAME",
	"roles-anywhere": "Private key of the certificate: file:PATH, or credential:NAME",
	"vault":          "Token of Vault, which is not shown; better file:PATH of Vault Agent's",
}

var questions []question

func init() {
	questions = []question{
		{flag: "source", keys: "source.host.kind", prompt: kindsPrompt(), usage: "where the host's identity comes from: the `kind` of source", preset: func() string { return "web-identity" }},
		{flag: "region", keys: "upstream.region", prompt: "AWS region whose STS is asked; us-east-1 with a server that has none", usage: "the AWS `region` whose STS is asked", preset: region},
		{flag: "endpoint", keys: "upstream.endpoint", optional: true, prompt: "URL of the STS; nothing for AWS's own", usage: "the `URL` of an STS that is not AWS's regional one: MinIO, Ceph, a VPC endpoint", preset: nothing},
		{flag: "token", kinds: "web-identity saml cognito", keys: "source.host.assertion", prompt: "What does it show?\n    file:PATH, or command:/PATH ARGUMENTS of a program that prints it\n  Token", usage: "what it shows: file:PATH, or 'command:/PATH ARGUMENTS' of a program that prints it; a `reference`", form: reference("file:", "command:"), preset: nothing},
		{flag: "provider-arn", kinds: "saml", keys: "source.host.provider_arn", optional: true, prompt: "ARN of the SAML provider; nothing to find it in the response", usage: "the `ARN` of the SAML provider, if the response does not say it", preset: nothing},
		{flag: "pool", kinds: "cognito", keys: "source.host.identity_pool_id", prompt: "Id of the identity pool", usage: "the `id` of the identity pool", preset: nothing},
		{flag: "provider", kinds: "cognito", keys: "source.host.provider", prompt: "The pool's name of the provider of the token", usage: "the pool's `name` of the provider of the token", preset: nothing},
		{flag: "certificate", kinds: "roles-anywhere", keys: "source.host.certificate", prompt: "File of the certificate, in PEM", usage: "the `file` of the certificate, in PEM", form: absolute, preset: nothing},
		{flag: "trust-anchor", kinds: "roles-anywhere", keys: "source.host.trust_anchor_arn", prompt: "ARN of the trust anchor", usage: "the `ARN` of the trust anchor", preset: nothing},
		{flag: "profile-arn", kinds: "roles-anywhere", keys: "source.host.profile_arn", prompt: "ARN of the profile of Roles Anywhere", usage: "the `ARN` of the profile of Roles Anywhere", preset: nothing},
		{flag: "vault-address", kinds: "vault", keys: "source.host.address", prompt: "URL of Vault", usage: "the `URL` of Vault", preset: func() string { return os.Getenv("VAULT_ADDR") }},
		{flag: "vault-role", kinds: "vault", keys: "source.host.role", prompt: "Name of the role in Vault's AWS engine", usage: "the `name` of the role in Vault's AWS engine", preset: nothing},
		{flag: "service-url", kinds: "instance", keys: "source.host.endpoint", prompt: "URL of the other metadata service", usage: "the `URL` of the other metadata service", preset: nothing},
		{flag: "command", kinds: "process", keys: "source.host.command", prompt: "The program and its arguments, by its whole path", usage: "the program and its arguments, by its whole path; a `line`", preset: nothing},
		{flag: "access-key-id", kinds: "static", keys: "source.host.access_key_id", prompt: "Access key id", usage: "the `id` of the access key, which is no secret", preset: nothing},
		{flag: "secret", kinds: "static roles-anywhere vault", keys: "source.host.secret_access_key source.host.key source.host.token", usage: "where the secret is: file:PATH, credential:NAME, or - for the standard input; a `reference`", form: reference("file:", "credential:", "-"), preset: nothing},
		{flag: "role", many: true, keys: "role", prompt: "Which role do programs get?\n    its ARN, or a name where the upstream fixes the role, as MinIO and Vault do;\n    more, with commas between, are had by their names\n  Role", usage: "a role that programs get: an ARN, NAME=ARN, or a name alone where the upstream fixes the role; may be repeated, the first is the callers' own", preset: nothing},
		{flag: "allow", many: true, keys: "allow", prompt: "Who may use it?\n    user:NAME, group:NAME, unit:PATTERN, container:PATTERN or any;\n    more with commas between\n  Callers", usage: "who may use it: user:NAME, group:NAME, unit:PATTERN, container:PATTERN or any; may be repeated", form: subject, preset: self},
	}
}

// region is what the environment of the operator says, whose own set-up it is.
func region() string {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if r := os.Getenv(name); r != "" {
			return r
		}
	}
	return ""
}

// self is who runs this, before sudo.
func self() string {
	for _, name := range []string{"SUDO_USER", "USER"} {
		if u := os.Getenv(name); u != "" && u != "root" {
			return "user:" + u
		}
	}
	return ""
}

// reference admits texts that begin like this. What does not is not repeated:
// it may be a secret that somebody gave in its place.
func reference(forms ...string) func(string) string {
	return func(text string) string {
		for _, f := range forms {
			rest, is := strings.CutPrefix(text, f)
			switch {
			case !is:
			case f == "-" && rest == "", f == "credential:" && rest != "":
				return ""
			case (f == "file:" || f == "command:") && filepath.IsAbs(rest):
				return ""
			case f == "file:" || f == "command:":
				return "names no absolute path behind " + f
			}
		}
		return "is not one of " + strings.Join(forms, "…, ") + "; a secret itself is never a flag"
	}
}

func absolute(text string) string {
	if !filepath.IsAbs(text) {
		return "is no absolute path"
	}
	return ""
}

func subject(text string) string {
	kind, name, named := strings.Cut(text, ":")
	switch {
	case text == "any", named && name != "" && (kind == "user" || kind == "group" || kind == "unit" || kind == "container"):
		return ""
	}
	return "is none of user:NAME, group:NAME, unit:PATTERN, container:PATTERN and any"
}
