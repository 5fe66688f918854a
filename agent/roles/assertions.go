package roles

import (
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/assertion/samlp"
)

// opaque returns the way to a token that is no JSON web token, which the config
// takes from a file or from a command.
func (b *builder) opaque(a *config.Assertion) (assertion.Getter, time.Duration) {
	if a.File != "" {
		return assertion.File{Path: a.File, Opaque: true}, 0
	}
	return assertion.Command{Command: b.command(a.Command, nil), Opaque: true}, commandTimeout
}

// shown returns the way to what a source shows, and what it may take.
func (b *builder) shown(at string, src config.Source) (assertion.Getter, time.Duration) {
	if src.OpaqueToken() {
		return b.opaque(src.Assertion)
	}
	return b.token(at+".assertion", src.Assertion)
}

// token returns the way to a JSON web token, and what it may take.
func (b *builder) token(at string, a *config.Assertion) (assertion.Getter, time.Duration) {
	switch {
	case a.OIDC != nil:
		return b.oidc(at+".oidc", a.OIDC)
	case a.Kubernetes != nil:
		k := a.Kubernetes
		h := b.client(at+".kubernetes", reach{kind: "kubernetes", server: k.Server, caFile: k.CAFile, proxy: k.Proxy})
		got := assertion.Kubernetes{
			Server: k.Server, Token: assertion.File{Path: k.TokenFile}, Account: k.Account, Audience: k.Audience,
			Life: time.Duration(k.Life), HTTP: h.Client, Now: b.Now,
		}
		if k.BoundTo != nil {
			got.Bound = assertion.Object(*k.BoundTo)
		}
		return got, b.timeout()
	case a.Google != nil:
		return b.google(at+".google", a.Google)
	case a.SPIFFE != nil:
		s := a.SPIFFE
		return assertion.SPIFFE{Socket: s.Socket, Audience: s.Audience, ID: s.ID, Timeout: time.Duration(s.Timeout), Now: b.Now}, time.Duration(s.Timeout)
	case a.File != "":
		return assertion.File{Path: a.File}, 0
	}
	return assertion.Command{Command: b.command(a.Command, nil)}, commandTimeout
}

func (b *builder) oidc(at string, o *config.OIDC) (assertion.Getter, time.Duration) {
	r := reach{kind: "oidc", server: o.TokenURL, caFile: o.CAFile, proxy: o.Proxy}
	auth := assertion.ClientAuth{
		Method: o.Auth, Secret: b.Env.optional(o.ClientSecret), KeyID: o.KeyID, Algorithm: o.Algorithm, Audience: o.AssertionAudience,
	}
	if o.Auth == assertion.TLSClientAuth {
		r.certificate, r.key = o.Certificate, *o.PrivateKey
	} else {
		auth.Certificate, auth.Key = o.Certificate, b.Env.optional(o.PrivateKey)
	}
	got := assertion.OIDC{
		TokenURL: o.TokenURL, ClientID: o.ClientID, Auth: auth, Scopes: o.Scope, Audience: o.Audience, Params: o.Parameters,
		IDToken: o.Token == "id_token", SubjectType: o.SubjectType, RequestedType: o.RequestedType, HTTP: b.client(at, r).Client, Now: b.Now,
	}
	patience := b.timeout()
	if o.Subject != nil {
		subject, more := b.token(at+".subject", o.Subject)
		got.Subject, patience = subject, patience+more
	}
	return got, patience
}

func (b *builder) google(at string, g *config.Google) (assertion.Getter, time.Duration) {
	h := b.client(at, reach{kind: "google", caFile: g.CAFile, proxy: g.Proxy})
	if g.Key != nil {
		return assertion.GoogleKey{Key: b.Env.follow(*g.Key), Audience: g.Audience, HTTP: h.Client, Now: b.Now}, b.timeout()
	}
	subject, patience := b.token(at+".subject", g.Subject)
	return assertion.GoogleImpersonation{
		Subject: subject, SubjectType: g.SubjectType, Provider: g.Provider, Account: g.Account, Audience: g.Audience,
		STS: g.STSEndpoint, IAM: g.IAMEndpoint, HTTP: h.Client, Now: b.Now,
	}, patience + 2*b.timeout()
}

// response returns the way to a SAML response, and what it may take.
func (b *builder) response(source string, a *config.Assertion) (samlp.Responder, time.Duration) {
	switch {
	case a.ECP != nil:
		return samlp.ECP{IdentityProvider: b.provider(source, "ecp", a.ECP)}, b.timeout()
	case a.ADFS != nil:
		return samlp.ADFS{IdentityProvider: b.provider(source, "adfs", a.ADFS)}, b.timeout()
	case a.File != "":
		return samlp.File{Path: a.File}, 0
	}
	return samlp.Command{Command: b.command(a.Command, nil)}, commandTimeout
}

// provider returns the one account of a source: it counts the logins that were
// refused.
func (b *builder) provider(source, kind string, l *config.Login) *samlp.IdentityProvider {
	if p := b.providers[source]; p != nil {
		return p
	}
	p := &samlp.IdentityProvider{
		URL: l.URL, Username: l.Username, Password: b.Env.follow(*l.Password), Audience: l.Audience, Recipient: l.Recipient, Now: b.Now,
		HTTP: b.client("source."+source+".assertion."+kind, reach{kind: kind, server: l.URL, caFile: l.CAFile, proxy: l.Proxy}).Client,
	}
	b.providers[source] = p
	return p
}
