package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// Source is where this host's own identity comes from. Kind decides which of
// the other keys a source may have.
type Source struct {
	Kind string `toml:"kind" need:"write kind = 'web-identity' or another, such as 'static' or 'process'" oneof:"static process web-identity saml roles-anywhere cognito vault instance"`

	AccessKeyID     *Text `toml:"access_key_id" kinds:"static" need:"write the access key id, or a reference to it"`
	SecretAccessKey *Ref  `toml:"secret_access_key" kinds:"static" need:"write { file = '…' }, { env = '…' } or { credential = '…' }"`
	SessionToken    *Ref  `toml:"session_token" kinds:"static"` // for keys that are temporary themselves

	Command []string  `toml:"command" kinds:"process" need:"write command = ['/path/to/program', 'argument']" form:"argv"` // argv, absolute path first, no shell
	Timeout *Duration `toml:"timeout" kinds:"process roles-anywhere" between:"1s 5m"`                                      // of the command or the signer; default 60s

	Assertion   *Assertion `toml:"assertion" kinds:"web-identity saml cognito" needed:"web-identity saml" need:"write assertion = { file = '…' } or { command = ['…'] }"`
	ProviderID  string     `toml:"provider_id" kinds:"web-identity" oneof:"graph.facebook.com www.amazon.com"` // the assertion is an OAuth access token of it; default an OIDC token, of which Google's is one
	ProviderARN string     `toml:"provider_arn" kinds:"saml" form:"saml_provider"`                             // default: what the response pairs with the role

	Certificate       string   `toml:"certificate" kinds:"roles-anywhere" need:"write the path of a PEM file with the certificate" form:"path" read:"use"` // read at each use
	Key               *Ref     `toml:"key" kinds:"roles-anywhere"`                                                                                         // PEM; this or Signer
	Signer            []string `toml:"signer" kinds:"roles-anywhere" form:"argv"`                                                                          // argv of what signs with a key that cannot be read
	Chain             string   `toml:"chain" kinds:"roles-anywhere" form:"path" read:"use"`                                                                // PEM file with more intermediates
	TrustAnchorARN    string   `toml:"trust_anchor_arn" kinds:"roles-anywhere" need:"write trust_anchor_arn = 'arn:aws:rolesanywhere:REGION:ACCOUNT:trust-anchor/ID'" form:"trust_anchor"`
	ProfileARN        string   `toml:"profile_arn" kinds:"roles-anywhere" need:"write profile_arn = 'arn:aws:rolesanywhere:REGION:ACCOUNT:profile/ID'" form:"profile"` // in the same region
	AcceptSessionName bool     `toml:"accept_session_name" kinds:"roles-anywhere"`                                                                                     // the profile accepts one; default false

	Address    string      `toml:"address" kinds:"vault" need:"write address = 'https://vault.example.com:8200'" form:"server"` // http only to a loopback address
	Namespace  string      `toml:"namespace" kinds:"vault" form:"line"`
	Mount      string      `toml:"mount" kinds:"vault" default:"aws" form:"mount"`                                                 // of the engine
	Role       string      `toml:"role" kinds:"vault instance" needed:"vault" need:"write the name of the Vault role" form:"line"` // of the engine; or the instance's, default the one that it lists
	Path       string      `toml:"path" kinds:"vault" default:"creds" oneof:"creds sts"`
	Token      *Ref        `toml:"token" kinds:"vault"` // exactly one of the four: what Vault is shown
	AppRole    *AppRole    `toml:"approle" kinds:"vault"`
	Kubernetes *VaultLogin `toml:"kubernetes" kinds:"vault"`
	JWT        *VaultLogin `toml:"jwt" kinds:"vault"`

	IdentityPoolID string `toml:"identity_pool_id" kinds:"cognito" need:"write identity_pool_id = 'REGION:UUID'" form:"pool"`
	Provider       string `toml:"provider" kinds:"cognito" form:"line"`      // the pool's name of it; with Assertion, or neither
	AccountID      string `toml:"account_id" kinds:"cognito" form:"account"` // of the pool; default none
	Flow           string `toml:"flow" kinds:"cognito" default:"enhanced" oneof:"enhanced basic"`
	StateFile      string `toml:"state_file" kinds:"cognito" form:"path" read:"never"` // keeps the identity; default in the state directory of the unit, if it has one

	URI           string `toml:"uri" kinds:"instance" form:"service"` // of a container endpoint; this or Endpoint
	Authorization *Ref   `toml:"authorization" kinds:"instance"`      // what the container endpoint wants to see

	Region   string `toml:"region" kinds:"static web-identity saml" form:"region"`                                    // default upstream.region
	Endpoint string `toml:"endpoint" kinds:"static web-identity saml roles-anywhere cognito instance" form:"service"` // of STS: default upstream.endpoint; of another service: AWS's
	CAFile   string `toml:"ca_file" kinds:"static web-identity saml roles-anywhere cognito vault" form:"path"`        // default upstream.ca_file
	Proxy    string `toml:"proxy" kinds:"static web-identity saml roles-anywhere cognito vault" form:"proxy"`         // default upstream.proxy

	FallbackRegion   string   `toml:"fallback_region" kinds:"static web-identity saml" form:"region"` // these two are of STS: default those of upstream
	FallbackEndpoint string   `toml:"fallback_endpoint" kinds:"static web-identity saml" form:"endpoint"`
	Pins             []string `toml:"pins" kinds:"static web-identity saml roles-anywhere cognito vault" form:"pin" empty:"ok"` // of STS: default upstream.pins; of another service: any key is good
}

// AppRole is what the login of that name is shown.
type AppRole struct {
	RoleID   *Ref   `toml:"role_id" need:"write { file = '…' }, { env = '…' } or { credential = '…' }"`
	SecretID *Ref   `toml:"secret_id"` // default none: the AppRole is bound to no secret id
	Mount    string `toml:"mount" default:"approle" form:"mount"`
}

// VaultLogin is what the logins with a token are shown.
type VaultLogin struct {
	Role      string     `toml:"role" form:"line"`   // of the auth method; default the method's own, which Kubernetes has not
	Mount     string     `toml:"mount" form:"mount"` // default the name of the login
	Assertion *Assertion `toml:"assertion" need:"write assertion = { file = '…' } or { command = ['…'] }"`
}

// OpaqueToken tells whether the assertion of a source is no JSON web token: that
// of an OAuth provider, or a SAML response for an identity pool.
func (s Source) OpaqueToken() bool {
	switch s.Provider {
	case "graph.facebook.com", "www.amazon.com", "api.twitter.com":
		return true
	}
	return s.ProviderID != "" || strings.Contains(s.Provider, ":saml-provider/")
}

// asksSTS tells whether what a kind of source needs beyond itself is STS, so
// that its region, endpoint, ca_file and proxy are about that.
func asksSTS(kind string) bool {
	return kind == "static" || kind == "process" || kind == "web-identity" || kind == "saml"
}

// STS is how STS is reached for the roles from a source.
func (c *Config) STS(name string) Upstream {
	up, s := c.Upstream, c.Sources[name]
	if asksSTS(s.Kind) {
		up.Region, up.Endpoint, up.CAFile, up.Proxy = cmp.Or(s.Region, up.Region), cmp.Or(s.Endpoint, up.Endpoint), cmp.Or(s.CAFile, up.CAFile), cmp.Or(s.Proxy, up.Proxy)
		up.FallbackRegion, up.FallbackEndpoint = cmp.Or(s.FallbackRegion, up.FallbackRegion), cmp.Or(s.FallbackEndpoint, up.FallbackEndpoint)
		if len(s.Pins) > 0 {
			up.Pins = s.Pins
		}
	}
	up.Region = cmp.Or(up.Region, s.place())
	return up
}

// place is the region that a source has in a name of it, or "".
func (s Source) place() string {
	region, _, _ := strings.Cut(s.IdentityPoolID, ":")
	return cmp.Or(arnField(s.TrustAnchorARN, 3), region)
}

// arnField is one part of an ARN; "" when there is none.
func arnField(arn string, n int) string {
	if p := strings.SplitN(arn, ":", 6); len(p) == 6 {
		return p[n]
	}
	return ""
}

// source checks what concerns more than one key of a source.
func (k *checker) source(at string, s *Source) {
	if s.Kind == "" || k.spoilt[at+".kind"] {
		return
	}
	if problem, hint := endpoint(s.Endpoint); problem != "" && s.Kind != "instance" && !k.spoilt[at+".endpoint"] {
		k.fault(at+".endpoint", problem, hint)
	}
	switch s.Kind {
	case "web-identity":
		if s.ProviderID != "" && !k.spoilt[at+".assertion"] && s.Assertion != nil && s.Assertion.File == "" && len(s.Assertion.Command) == 0 {
			k.fault(at+".assertion", "gets an OIDC token, and provider_id wants an access token of "+s.ProviderID, "write assertion = { file = '…' } or { command = ['…'] }, or take provider_id out: OIDC tokens have none")
		}
	case "roles-anywhere":
		k.one(at, "key", "signer")
		if k.c.index.has(at+".timeout") && len(s.Signer) == 0 && !k.spoilt[at+".signer"] {
			k.fault(at+".timeout", "would have no effect: only a signer has one", "take it out")
		}
		anchor, profile := s.TrustAnchorARN, s.ProfileARN
		if !k.spoilt[at+".trust_anchor_arn"] && !k.spoilt[at+".profile_arn"] && arnField(anchor, 3) != arnField(profile, 3) {
			k.fault(at+".profile_arn", fmt.Sprintf("is in %s, and the trust anchor in %s", arnField(profile, 3), arnField(anchor, 3)), "make the profile in the region of the trust anchor")
		}
	case "vault":
		k.one(at, "token", "approle", "kubernetes", "jwt")
		k.login(at+".kubernetes", "kubernetes", s.Kubernetes)
		k.login(at+".jwt", "jwt", s.JWT)
		if s.Role == "" && k.c.index.has(at+".role") && !k.spoilt[at+".role"] {
			k.fault(at+".role", "is empty", "write the name of the Vault role")
		}
	case "cognito":
		switch provider, token := s.Provider != "", k.c.index.has(at+".assertion"); {
		case provider && !token:
			k.fault(at+".provider", "has no assertion beside it", "write assertion = { file = '…' } with the token of that provider, or take both out")
		case token && !provider && !k.spoilt[at+".provider"]:
			k.fault(at+".assertion", "has no provider beside it", "write provider = 'NAME', as the identity pool names it, or take both out")
		case s.OpaqueToken() && s.Assertion != nil && s.Assertion.File == "" && len(s.Assertion.Command) == 0 && !k.spoilt[at+".assertion"]:
			k.fault(at+".assertion", "gets an OIDC token, and "+s.Provider+" has none", "write assertion = { file = '…' } or { command = ['…'] }")
		}
	case "instance":
		k.one(at, "endpoint", "uri")
		switch {
		case s.Role != "" && !isName(s.Role) && !k.spoilt[at+".role"]:
			k.fault(at+".role", "is no name of a role", shapes["name"].hint)
		case s.Role != "" && s.URI != "":
			k.fault(at+".role", "would have no effect: a container endpoint has one role", "take it out")
		}
		if s.Authorization != nil && s.Endpoint != "" {
			k.fault(at+".authorization", "would have no effect: only a container endpoint wants to see it", "take it out")
		}
	}
	k.assertion(at+".assertion", s.Assertion)
}

// login completes and checks a login of Vault.
func (k *checker) login(at, mount string, l *VaultLogin) {
	if l == nil {
		return
	}
	l.Mount = cmp.Or(l.Mount, mount)
	if mount == "kubernetes" && l.Role == "" && !k.spoilt[at+".role"] {
		k.fault(at+".role", "is missing", "write the role of the auth method, which has no default with Kubernetes")
	}
	k.assertion(at+".assertion", l.Assertion)
}

// one reports that not exactly one of some keys is there.
func (k *checker) one(at string, keys ...string) {
	var there []string
	for _, key := range keys {
		if k.c.index.has(at + "." + key) {
			there = append(there, key)
		}
	}
	switch {
	case len(there) == 0:
		k.fault(at, "has none of "+strings.Join(keys, ", "), "write exactly one of them")
	case len(there) > 1:
		k.fault(at+"."+there[1], "is there beside "+there[0], "keep one of them")
	}
}

// ec2Services are the IPv6 addresses of EC2's services; those of IPv4 are
// link-local.
var ec2Services = netip.MustParsePrefix("fd00:ec2::/32")

// service checks the URL of a metadata service: what its own network carries
// goes without TLS. The texts have nothing of the URL, whose path may be a
// secret.
func service(text string) (problem, hint string) {
	if problem, hint = endpoint(text); problem == "" {
		return "", ""
	}
	u, err := web(text, "http")
	if err != nil {
		return problem, hint
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && (a.IsLinkLocalUnicast() || ec2Services.Contains(a.WithZone(""))) {
		return "", ""
	}
	return problem, "use https; http is for loopback addresses, and of an instance for link-local ones"
}
