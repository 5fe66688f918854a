package devsts_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
)

func TestAccessTokens(t *testing.T) {
	t.Parallel()
	const facebook, app = "arn:aws:iam::111122223333:role/facebook", "1234567890"
	r := newRig(t, func(o *devsts.Options) {
		now := o.Now
		o.OAuth = []devsts.OAuthProvider{{ID: "graph.facebook.com", Introspect: func(token string) (devsts.AccessToken, bool) {
			a, known := map[string]devsts.AccessToken{
				"EAAB-good":    {App: app, User: "42", Expires: now().Add(time.Hour)},
				"EAAB-old":     {App: app, User: "42", Expires: now().Add(-time.Second)},
				"EAAB-other":   {App: "another", User: "42", Expires: now().Add(time.Hour)},
				"EAAB-nobody":  {App: app, User: "43", Expires: now().Add(time.Hour)},
				"EAAB-dot.one": {App: app, User: "42", Expires: now().Add(time.Hour)},
			}[token]
			return a, known
		}}}
		o.Roles = append(o.Roles, devsts.Role{ARN: facebook, OAuth: []devsts.OAuthTrust{{Provider: "graph.facebook.com", Apps: []string{app}, User: "42"}}})
	})
	ask := func(role, provider, token string) string {
		return form("Action", "AssumeRoleWithWebIdentity", "Version", "2011-06-15", "RoleArn", role, "RoleSessionName", "one", "WebIdentityToken", token, "ProviderId", provider)
	}
	const id = "graph.facebook.com"
	for name, c := range map[string]struct {
		role, provider, token string
		status                int
		code, text            string
	}{
		"good":                    {facebook, id, "EAAB-good", 200, "", "<Provider>graph.facebook.com</Provider>"},
		"good, with a dot":        {facebook, id, "EAAB-dot.one", 200, "", "<SubjectFromWebIdentityToken>42<"},
		"of another provider":     {facebook, "www.amazon.com", "EAAB-good", 400, "InvalidIdentityToken", "does not answer"},
		"of an OIDC provider":     {facebook, "accounts.google.com", "EAAB-good", 400, "ValidationError", "ProviderId"},
		"not known there":         {facebook, id, "EAAB-made-up", 400, "InvalidIdentityToken", "is not an access token"},
		"an ID token":             {facebook, id, r.issuer.Mint(good(nil)), 400, "ValidationError", "must be absent"},
		"expired":                 {facebook, id, "EAAB-old", 400, "ExpiredTokenException", ""},
		"of another app":          {facebook, id, "EAAB-other", 403, "AccessDenied", ""},
		"of another user":         {facebook, id, "EAAB-nobody", 403, "AccessDenied", ""},
		"for a role without one":  {hub, id, "EAAB-good", 403, "AccessDenied", ""},
		"for a role that is none": {facebook + "x", id, "EAAB-good", 403, "AccessDenied", ""},
	} {
		t.Run(name, func(t *testing.T) {
			wantAnswer(t, raw(r.Server, "POST", "/", ask(c.role, c.provider, c.token), nil), c.status, c.code, c.text)
		})
	}
	for _, call := range r.Calls() {
		if strings.Contains(call.Params["WebIdentityToken"], "EAAB") {
			t.Error("the log has a token")
		}
	}
}
