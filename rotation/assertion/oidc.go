package assertion

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/hostrole/hostrole/rotation/credential"
)

// The types of token in an exchange, as RFC 8693 names them.
const (
	typeJWT         = "urn:ietf:params:oauth:token-type:jwt"
	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	grantExchange   = "urn:ietf:params:oauth:grant-type:token-exchange"
)

// An Upstream makes one call with its retries, as the client of package
// upstream does, whose options say which roots, which proxy and which client
// certificate.
type Upstream interface {
	Do(*http.Request) (*http.Response, error)
	Skew() time.Duration // the other clock minus ours; 0 while unknown
}

// OIDC asks a token endpoint for a token of this host, as a client of its own
// (client credentials, RFC 6749), or shows it another token and asks for one
// in exchange (RFC 8693).
type OIDC struct {
	TokenURL string            // https
	ClientID string            // "" only where Auth has no method
	Auth     ClientAuth        // how the client proves who it is
	Scopes   []string          // none: the endpoint's default
	Audience string            // whom the token is for, where the endpoint takes that as a parameter; "" for none
	Params   map[string]string // more parameters, such as resource; none of them replaces what the other fields say
	IDToken  bool              // use the id token and not the access token of the answer

	Subject       Getter // what is exchanged; nil for client credentials
	SubjectType   string // its URN; "" is that of a JSON web token
	RequestedType string // URN of what is asked for; "" leaves it to the endpoint

	HTTP Upstream
	Now  func() time.Time
}

// Get makes one call, after that of the Subject. An error matches
// [ErrRefused] when the endpoint gave an OAuth error that waiting does not
// mend. A token that is no JSON web token, that has expired, or that is signed
// in a way that STS does not take is an error.
func (o OIDC) Get(ctx context.Context) (Token, error) {
	q := query{http: o.HTTP, now: o.Now, Config: clientcredentials.Config{
		ClientID: o.ClientID, TokenURL: o.TokenURL, Scopes: o.Scopes,
		EndpointParams: url.Values{}, AuthStyle: oauth2.AuthStyleInParams,
	}}
	for k, v := range o.Params {
		q.EndpointParams.Set(k, v)
	}
	q.EndpointParams.Set("grant_type", "client_credentials")
	if o.Audience != "" {
		q.EndpointParams.Set("audience", o.Audience)
	}
	if o.Subject != nil {
		if err := q.exchange(ctx, o.Subject, o.SubjectType, o.RequestedType); err != nil {
			return Token{}, err
		}
	}
	if err := o.Auth.add(&q); err != nil {
		return Token{}, fmt.Errorf("authenticating to %s: %w", endpoint(o.TokenURL), err)
	}
	got, err := q.ask(ctx)
	if err != nil {
		return Token{}, err
	}
	text := got.AccessToken
	if o.IDToken {
		text, _ = got.Extra("id_token").(string)
		if text == "" {
			return Token{}, fmt.Errorf("the answer of %s has no id token: add the scope openid, or use the access token", endpoint(o.TokenURL))
		}
	}
	return fresh(text, "the answer of "+endpoint(o.TokenURL), q.time())
}

// A query is one call of a token endpoint. It is made for each use: the
// library's configuration has the secret in it, and its token source would
// keep the answer.
type query struct {
	clientcredentials.Config
	http    Upstream
	now     func() time.Time
	secrets []credential.Secret // never in an error, whatever the endpoint repeats
}

// time is the endpoint's, as far as it is known.
func (q *query) time() time.Time { return q.now().Add(q.http.Skew()) }

// exchange makes of q one that exchanges the subject's token.
func (q *query) exchange(ctx context.Context, subject Getter, subjectType, requestedType string) error {
	shown, err := subject.Get(ctx)
	if err != nil {
		return fmt.Errorf("the token to exchange at %s: %w", endpoint(q.TokenURL), err)
	}
	q.secrets = append(q.secrets, shown.Text)
	if subjectType == "" {
		subjectType = typeJWT
	}
	q.EndpointParams.Set("grant_type", grantExchange)
	q.EndpointParams.Set("subject_token", shown.Text.Reveal())
	q.EndpointParams.Set("subject_token_type", subjectType)
	if requestedType != "" {
		q.EndpointParams.Set("requested_token_type", requestedType)
	}
	return nil
}

func (q *query) ask(ctx context.Context) (*oauth2.Token, error) {
	way := &way{ctx: ctx, http: q.http}
	got, err := q.Token(way.client())
	if err != nil {
		return nil, way.explain("asking "+endpoint(q.TokenURL)+" for a token", err, q.secrets...)
	}
	return got, nil
}

// A way leads the library's calls through an Upstream, within the context that
// some of them lose, and keeps what the library makes text of.
type way struct {
	ctx  context.Context
	http Upstream
	err  error // of the last call
}

// client returns the context for the library.
func (w *way) client() context.Context {
	return context.WithValue(w.ctx, oauth2.HTTPClient, &http.Client{
		Transport:     w,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
}

// RoundTrip makes one call.
func (w *way) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer func() { _ = r.Body.Close() }()
	}
	var resp *http.Response
	resp, w.err = w.http.Do(r.WithContext(w.ctx))
	return resp, w.err
}

// endpoint is a URL as far as it may stand in an error.
func endpoint(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "the token endpoint"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
