package devsts

import (
	"slices"
	"strings"
	"time"
)

// oauthProviders are all that AWS takes access tokens of.
var oauthProviders = map[string]bool{"graph.facebook.com": true, "www.amazon.com": true}

// An OAuthProvider is asked what an access token is, as AWS asks Facebook and
// Login with Amazon.
type OAuthProvider struct {
	ID string // graph.facebook.com or www.amazon.com
	// Introspect is what the provider says of a token; false for one that it
	// does not know.
	Introspect func(token string) (AccessToken, bool)
}

// An AccessToken is whose token one is.
type AccessToken struct {
	App     string // id of the application that it was issued to
	User    string // id of the user at that application
	Expires time.Time
}

// OAuthTrust is one statement of a trust policy.
type OAuthTrust struct {
	Provider string   // id
	Apps     []string // one must be the token's; a policy without this would let any application in, so empty is none
	User     string   // pattern with * and ?; "*" for anyone
}

// verifyAccessToken asks the provider for whom a token is.
func (s *Server) verifyAccessToken(q *request, id, token string) (a AccessToken, refused *refusal) {
	if !oauthProviders[id] || strings.Count(token, ".") == 2 {
		return a, invalid("ProviderId must be graph.facebook.com or www.amazon.com: it is for OAuth 2.0 access tokens, and must be absent with an OpenID Connect ID token")
	}
	p, known := s.oauth[id]
	if !known {
		return a, badIdentity("Couldn't verify the access token: %s does not answer", id)
	}
	a, known = p.Introspect(token)
	switch {
	case !known:
		return a, badIdentity("The web identity token provided is not an access token of %s. (You may see this error if you sent an ID Token)", id)
	case !q.now.Before(a.Expires):
		return a, &refusal{400, "ExpiredTokenException", "Token expired: the access token is no longer valid"}
	}
	return a, nil
}

// lets reports whether a role trusts whoever has the token.
func (r Role) lets(provider string, a AccessToken) bool {
	return slices.ContainsFunc(r.OAuth, func(t OAuthTrust) bool {
		return t.Provider == provider && slices.Contains(t.Apps, a.App) && like(t.User, a.User)
	})
}
