package devsts

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// algorithms are those that AWS takes, with the size of an EC key's field.
var algorithms = map[jose.SignatureAlgorithm]int{
	jose.RS256: 0, jose.RS384: 0, jose.RS512: 0, jose.ES256: 256, jose.ES384: 384, jose.ES512: 521,
}

// claims are what STS reads of a token. Times stay raw: go-jose's NumericDate
// takes fractions, STS does not.
type claims struct {
	Issuer         string          `json:"iss"`
	Subject        string          `json:"sub"`
	Audience       jwt.Audience    `json:"aud"`
	Party          string          `json:"azp"`
	Expiry         json.RawMessage `json:"exp"`
	IssuedAt       json.RawMessage `json:"iat"`
	NotBefore      json.RawMessage `json:"nbf"`
	SourceIdentity *string         `json:"https://aws.amazon.com/source_identity"`
	Tags           struct {
		Principal  map[string][]string `json:"principal_tags"`
		Transitive []string            `json:"transitive_tag_keys"`
	} `json:"https://aws.amazon.com/tags"`
}

func badIdentity(format string, args ...any) *refusal {
	return &refusal{400, "InvalidIdentityToken", fmt.Sprintf(format, args...)}
}

// assumeRoleWithWebIdentity answers AssumeRoleWithWebIdentity.
func (s *Server) assumeRoleWithWebIdentity(q *request) (*result, *refusal) {
	want := q.wish(s.minSession)
	token := q.text("WebIdentityToken", true, 4, 20_000, anything)
	providerID := q.text("ProviderId", false, 4, 2048, anything)
	if refused := q.policies(want.roleARN); refused != nil {
		return nil, refused
	}
	if parseARN(want.roleARN) == (arn{}) {
		return nil, invalid("Request ARN is invalid")
	}
	if providerID != "" {
		return s.assumeRoleWithAccessToken(q, want, providerID, token)
	}
	c, audience, refused := s.verifyToken(q, token)
	if refused != nil {
		return nil, refused
	}
	q.caller = principal{arn: c.Issuer + " " + c.Subject}
	if refused := q.fromClaims(&want, c); refused != nil {
		return nil, refused
	}
	role, known := s.roles[want.roleARN]
	if !known || !slices.ContainsFunc(role.OIDC, func(t OIDCTrust) bool {
		return t.Issuer == c.Issuer && like(t.Subject, c.Subject) && (len(t.Audiences) == 0 || slices.Contains(t.Audiences, audience))
	}) {
		return nil, denied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
	}
	switch {
	case len(want.tags) > 0 && !role.TagSession:
		return nil, denied("Not authorized to perform sts:TagSession")
	case want.sourceIdentity != "" && !role.SetSourceIdentity:
		return nil, denied("Not authorized to perform sts:SetSourceIdentity")
	}
	want.role = role
	res, refused := s.issue(q, want)
	if refused == nil {
		res.Subject, res.Audience, res.Provider = c.Subject, audience, c.Issuer
	}
	return res, refused
}

// assumeRoleWithAccessToken is the part for the providers of OAuth.
func (s *Server) assumeRoleWithAccessToken(q *request, want wish, provider, token string) (*result, *refusal) {
	a, refused := s.verifyAccessToken(q, provider, token)
	if refused != nil {
		return nil, refused
	}
	q.caller = principal{arn: provider + " " + a.User}
	role, known := s.roles[want.roleARN]
	if !known || !role.lets(provider, a) {
		return nil, denied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
	}
	want.role = role
	res, refused := s.issue(q, want)
	if refused == nil {
		res.Subject, res.Audience, res.Provider = a.User, a.App, provider
	}
	return res, refused
}

// fromClaims takes session tags and source identity out of the token.
func (q *request) fromClaims(want *wish, c claims) *refusal {
	want.tags = map[string]string{}
	if len(c.Tags.Principal) > maxTags {
		return badIdentity("the token has %d principal tags; at most %d are allowed", len(c.Tags.Principal), maxTags)
	}
	for k, v := range c.Tags.Principal {
		if len(v) != 1 {
			return badIdentity("each principal tag of the token must have one value")
		}
		q.tag(want.tags, k, v[0], "principalTag.")
	}
	for _, k := range c.Tags.Transitive {
		if _, tagged := want.tags[k]; !tagged {
			return badIdentity("a transitive tag key of the token is not one of its principal tags")
		}
	}
	want.transitive = slices.Clone(c.Tags.Transitive)
	if c.SourceIdentity != nil {
		want.sourceIdentity = *c.SourceIdentity
		q.identity(want.sourceIdentity, "sourceIdentity")
	}
	return q.invalid()
}

// verifyToken holds a token against its provider's keys and the clock, and
// says for which of the provider's audiences it is.
func (s *Server) verifyToken(q *request, token string) (c claims, audience string, refused *refusal) {
	var allowed []jose.SignatureAlgorithm
	for a := range algorithms {
		allowed = append(allowed, a)
	}
	t, err := jwt.ParseSigned(token, allowed)
	if err != nil || len(t.Headers) != 1 || t.UnsafeClaimsWithoutVerification(&c) != nil {
		return c, "", badIdentity("The ID Token provided is not a valid JWT, or its algorithm is none of RS256, RS384, RS512, ES256, ES384 and ES512. (You may see this error if you sent an Access Token)")
	}
	p, known := s.providers[c.Issuer]
	if !known {
		return c, "", badIdentity("No OpenIDConnect provider found in your account for %s", cut(c.Issuer))
	}
	var keys jose.JSONWebKeySet
	if p.Keys != nil {
		keys = p.Keys()
	} else if keys, refused = s.fetchKeys(q.r.Context(), p.Issuer); refused != nil {
		return c, "", refused
	}
	c = claims{} // nothing of the unverified ones stays
	if !slices.ContainsFunc(keys.Keys, func(k jose.JSONWebKey) bool {
		return fits(k, t.Headers[0]) && t.Claims(k.Key, &c) == nil
	}) {
		return c, "", badIdentity("Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements: no key of the provider made this signature")
	}
	return c, c.audience(p), c.check(p, q.now)
}

// fits reports whether k may verify a token with header h: the same kid, and
// nothing about the key that speaks against the algorithm.
func fits(k jose.JSONWebKey, h jose.Header) bool {
	bits, known := algorithms[jose.SignatureAlgorithm(h.Algorithm)]
	if !known || h.KeyID == "" || k.KeyID != h.KeyID || k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != h.Algorithm {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return bits == 0 && key.N.BitLen() >= 2048
	case *ecdsa.PublicKey:
		return bits == key.Curve.Params().BitSize
	default:
		return false
	}
}

// audience is whom c is for: the authorized party when it names one, else an
// audience that p has; "" when p has none of it.
func (c claims) audience(p Provider) string {
	named := []string(c.Audience)
	if c.Party != "" {
		named = []string{c.Party}
	}
	for _, a := range named {
		if slices.Contains(p.Audiences, a) {
			return a
		}
	}
	return ""
}

// check checks all claims but tags and source identity.
func (c claims) check(p Provider, now time.Time) *refusal {
	var at [3]int64
	for i, raw := range []json.RawMessage{c.Expiry, c.IssuedAt, c.NotBefore} {
		if raw == nil && i == 2 {
			continue
		}
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if raw == nil || err != nil || n < 0 || n > 1<<40 {
			return badIdentity("%s must be there as an integer", [...]string{"exp", "iat", "nbf"}[i])
		}
		at[i] = n
	}
	clock := now.Unix()
	switch {
	case c.Subject == "" || len(c.Subject) > 255:
		return badIdentity("Missing a required claim: sub, of 1 to 255 characters")
	case len(c.Audience) == 0:
		return badIdentity("Missing a required claim: aud")
	case c.audience(p) == "":
		return badIdentity("Incorrect token audience")
	case clock >= at[0]:
		return &refusal{400, "ExpiredTokenException", fmt.Sprintf("Token expired: current date/time %d must be before the expiration date/time %d", clock, at[0])}
	case at[1] > clock || at[2] > clock:
		return &refusal{403, "IDPRejectedClaim", fmt.Sprintf("the token is not valid yet: current date/time %d, iat %d, nbf %d", clock, at[1], at[2])}
	}
	return nil
}

// like matches s against a pattern in which * is any text and ? any one byte,
// as StringLike of a policy does.
func like(pattern, s string) bool {
	star, mark, i := -1, 0, 0
	for j := 0; j < len(s); {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && (pattern[i] == '?' || pattern[i] == s[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}

// loopbackURL reports whether u is http on a loopback address.
func loopbackURL(u string) bool {
	p, err := url.Parse(u)
	if err != nil || p.Scheme != "http" {
		return false
	}
	a, err := netip.ParseAddr(p.Hostname())
	return p.Hostname() == "localhost" || err == nil && a.IsLoopback()
}

// loopbackClient reaches nothing but this host, whatever a document says.
func loopbackClient() *http.Client {
	d := net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		if a, err := netip.ParseAddrPort(address); err != nil || !a.Addr().Unmap().IsLoopback() {
			return fmt.Errorf("%s is not a loopback address", address)
		}
		return nil
	}}
	return &http.Client{
		Transport:     &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true, ResponseHeaderTimeout: 2 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       3 * time.Second,
	}
}

// fetchKeys asks an issuer for its keys. It keeps nothing: a rotated key is
// seen at once.
func (s *Server) fetchKeys(ctx context.Context, issuer string) (keys jose.JSONWebKeySet, refused *refusal) {
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if refused := s.fetchJSON(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", &document); refused != nil {
		return keys, refused
	}
	if document.Issuer != issuer || !loopbackURL(document.Keys) {
		return keys, badIdentity("Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements: its configuration is of another issuer or names no keys")
	}
	return keys, s.fetchJSON(ctx, document.Keys, &keys)
}

func (s *Server) fetchJSON(ctx context.Context, from string, into any) *refusal {
	away := &refusal{400, "IDPCommunicationError", "the identity provider could not be reached"}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return away
	}
	resp, err := s.fetch.Do(r)
	if err != nil {
		return away
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 500 {
		return away
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 256<<10))
	if err != nil {
		return away
	}
	if resp.StatusCode != http.StatusOK || json.Unmarshal(b, into) != nil {
		return badIdentity("Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements")
	}
	return nil
}
