package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Assertion is what the host shows to be believed: exactly one of its fields.
// What a source of kind saml shows is a SAML response, and all others a token.
type Assertion struct {
	File       string      `toml:"file" form:"path" read:"use"` // absolute once parsed; read at each use
	Command    []string    `toml:"command" form:"argv"`         // argv, absolute path first, no shell
	OIDC       *OIDC       `toml:"oidc" kinds:"web-identity cognito vault"`
	Kubernetes *Kubernetes `toml:"kubernetes" kinds:"web-identity cognito vault"`
	Google     *Google     `toml:"google" kinds:"web-identity cognito vault"`
	SPIFFE     *SPIFFE     `toml:"spiffe" kinds:"web-identity cognito vault"`
	ECP        *Login      `toml:"ecp" kinds:"saml"`
	ADFS       *Login      `toml:"adfs" kinds:"saml"`
}

// OIDC is a client of a token endpoint.
type OIDC struct {
	TokenURL          string            `toml:"token_url" need:"write token_url = 'https://idp.example.com/token'" form:"server"` // http only to a loopback address
	ClientID          string            `toml:"client_id" form:"line"`                                                            // required, unless auth is none
	Auth              string            `toml:"auth" default:"client_secret_basic" oneof:"client_secret_basic client_secret_post private_key_jwt tls_client_auth none"`
	ClientSecret      *Ref              `toml:"client_secret"`
	PrivateKey        *Ref              `toml:"private_key"` // PEM
	KeyID             string            `toml:"key_id" form:"line"`
	Algorithm         string            `toml:"algorithm" oneof:"RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA"` // default by the key
	Certificate       string            `toml:"certificate" form:"path" read:"use"`                                            // PEM file
	AssertionAudience string            `toml:"assertion_audience" form:"line"`                                                // default token_url
	Scope             []string          `toml:"scope" empty:"ok"`
	Audience          string            `toml:"audience" form:"line"`
	Parameters        map[string]string `toml:"parameters"`
	Token             string            `toml:"token" default:"access_token" oneof:"access_token id_token"`
	Subject           *Assertion        `toml:"subject"` // the token that is exchanged; default none
	SubjectType       string            `toml:"subject_token_type" form:"line"`
	RequestedType     string            `toml:"requested_token_type" form:"line"`
	CAFile            string            `toml:"ca_file" form:"path"` // these two: defaults are those of [upstream]
	Proxy             string            `toml:"proxy" form:"proxy"`
}

// Kubernetes is a cluster that gives tokens of a service account.
type Kubernetes struct {
	Server    string   `toml:"server" default:"https://kubernetes.default.svc" form:"server"`
	CAFile    string   `toml:"ca_file" default:"/var/run/secrets/kubernetes.io/serviceaccount/ca.crt" form:"path"`
	TokenFile string   `toml:"token_file" default:"/var/run/secrets/kubernetes.io/serviceaccount/token" form:"path" read:"use"`
	Account   string   `toml:"account" form:"service_account"` // namespace/name; default the one of the token
	Audience  string   `toml:"audience" default:"sts.amazonaws.com" form:"some"`
	Life      Duration `toml:"life" default:"1h" between:"10m 8760h"`
	BoundTo   *Object  `toml:"bound_to"`
	Proxy     string   `toml:"proxy" default:"none" form:"proxy"` // not that of [upstream]: a cluster is near
}

// Object is what a token of Kubernetes ends with.
type Object struct {
	Kind string `toml:"kind" need:"write kind = 'Pod', 'Secret' or 'Node'" oneof:"Pod Secret Node"`
	Name string `toml:"name" need:"write the name of the object" form:"some"`
	UID  string `toml:"uid" form:"line"` // default whichever has the name
}

// Google is a service account of Google, by its key or by impersonation.
type Google struct {
	Audience    string     `toml:"audience" need:"write whom the token is for" form:"some"`
	Key         *Ref       `toml:"key"`                             // the account's JSON key file; this or Provider
	Provider    string     `toml:"provider" form:"google_provider"` // of a workload identity pool
	Account     string     `toml:"account" form:"line"`             // NAME@PROJECT.iam.gserviceaccount.com
	Subject     *Assertion `toml:"subject"`                         // what the pool is shown
	SubjectType string     `toml:"subject_token_type" form:"line"`
	STSEndpoint string     `toml:"sts_endpoint" form:"endpoint"`
	IAMEndpoint string     `toml:"iam_endpoint" form:"endpoint"`
	CAFile      string     `toml:"ca_file" form:"path"` // these two: defaults are those of [upstream]
	Proxy       string     `toml:"proxy" form:"proxy"`
}

// SPIFFE is a Workload API.
type SPIFFE struct {
	Socket   string   `toml:"socket" need:"write the path of the Workload API's socket" form:"socket"`
	Audience string   `toml:"audience" default:"sts.amazonaws.com" form:"some"`
	ID       string   `toml:"id" form:"spiffe"` // default the first one
	Timeout  Duration `toml:"timeout" default:"20s" between:"1s 5m"`
}

// Login is an account at an identity provider that issues SAML assertions
// without a browser.
type Login struct {
	URL       string `toml:"url" need:"write the URL of the identity provider's SOAP endpoint" form:"server"`
	Username  string `toml:"username" need:"write the name of the account" form:"some"`
	Password  *Ref   `toml:"password" need:"write { file = '…' }, { env = '…' } or { credential = '…' }"`
	Audience  string `toml:"audience" default:"urn:amazon:webservices" form:"some"`                  // AWS's name there
	Recipient string `toml:"recipient" default:"https://signin.aws.amazon.com/saml" form:"endpoint"` // where AWS takes responses
	CAFile    string `toml:"ca_file" form:"path"`                                                    // these two: defaults are those of [upstream]
	Proxy     string `toml:"proxy" form:"proxy"`
}

// assertion checks what concerns more than one key of an assertion, and fills
// in what it has from the upstream.
func (k *checker) assertion(at string, a *Assertion) {
	switch up := &k.c.Upstream; {
	case a == nil:
	case a.OIDC != nil:
		a.OIDC.CAFile, a.OIDC.Proxy = cmp.Or(a.OIDC.CAFile, up.CAFile), cmp.Or(a.OIDC.Proxy, up.Proxy)
		k.oidc(at+".oidc", a.OIDC)
	case a.Google != nil:
		a.Google.CAFile, a.Google.Proxy = cmp.Or(a.Google.CAFile, up.CAFile), cmp.Or(a.Google.Proxy, up.Proxy)
		k.google(at+".google", a.Google)
	case a.ECP != nil:
		a.ECP.CAFile, a.ECP.Proxy = cmp.Or(a.ECP.CAFile, up.CAFile), cmp.Or(a.ECP.Proxy, up.Proxy)
	case a.ADFS != nil:
		a.ADFS.CAFile, a.ADFS.Proxy = cmp.Or(a.ADFS.CAFile, up.CAFile), cmp.Or(a.ADFS.Proxy, up.Proxy)
	}
}

// proofs are the keys that a way of authentication has, and must have.
var proofs = map[string]struct{ needs, has string }{
	"client_secret_basic": {"client_id client_secret", ""},
	"client_secret_post":  {"client_id client_secret", ""},
	"private_key_jwt":     {"client_id private_key", "key_id algorithm certificate assertion_audience"},
	"tls_client_auth":     {"client_id certificate private_key", ""},
	"none":                {"", ""},
}

// reserved are the parameters that other keys say.
var reserved = map[string]string{
	"grant_type": "subject", "scope": "scope", "audience": "audience", "client_id": "client_id", "client_secret": "client_secret",
	"client_assertion": "private_key", "client_assertion_type": "private_key", "subject_token": "subject",
	"subject_token_type": "subject_token_type", "requested_token_type": "requested_token_type",
}

func (k *checker) oidc(at string, o *OIDC) {
	if !k.spoilt[at+".auth"] {
		p := proofs[o.Auth]
		for key := range strings.FieldsSeq(p.needs) {
			k.missing(at+"."+key, fmt.Sprintf("auth = '%s' wants it", o.Auth))
		}
		for key := range strings.FieldsSeq("client_secret private_key key_id algorithm certificate assertion_audience") {
			if k.c.index.has(at+"."+key) && !slices.Contains(strings.Fields(p.needs+" "+p.has), key) {
				k.fault(at+"."+key, fmt.Sprintf("would have no effect with auth = '%s'", o.Auth), "take it out, or write the auth that it belongs to")
			}
		}
	}
	for name := range o.Parameters {
		if key := reserved[name]; key != "" {
			k.fault(at+".parameters."+name, "is no further parameter", "take it out: "+key+" says it")
		}
	}
	if o.Subject == nil {
		k.idle(at, "without a subject", "subject_token_type", "requested_token_type")
	}
	k.assertion(at+".subject", o.Subject)
}

func (k *checker) google(at string, g *Google) {
	k.one(at, "key", "provider")
	if g.Key != nil {
		k.idle(at, "with a key", "account", "subject", "subject_token_type", "sts_endpoint", "iam_endpoint")
		return
	}
	if g.Provider != "" {
		k.missing(at+".account", "write the service account to act as, such as name@project.iam.gserviceaccount.com")
		k.missing(at+".subject", "write subject = { file = '…' } or another way to the token that the provider is shown")
	}
	k.assertion(at+".subject", g.Subject)
}

// missing reports a key that is not there.
func (k *checker) missing(at, hint string) {
	if !k.c.index.has(at) {
		k.fault(at, "is missing", hint)
	}
}

// idle reports keys that are there for nothing.
func (k *checker) idle(at, why string, keys ...string) {
	for _, key := range keys {
		if k.c.index.has(at + "." + key) {
			k.fault(at+"."+key, "would have no effect "+why, "take it out")
		}
	}
}
