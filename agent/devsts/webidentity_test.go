package devsts_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/hostrole/hostrole/agent/devsts"
)

type claims = map[string]any

// federate asks with a token for a role, without credentials.
func (r *rig) federate(t testing.TB, role, token string) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	t.Helper()
	return r.client(t, "", "", "", nil).AssumeRoleWithWebIdentity(context.Background(), &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: &role, RoleSessionName: aws.String("one"), WebIdentityToken: &token,
	})
}

func good(change claims) claims {
	c := claims{"sub": "host:db-7", "aud": audience}
	maps.Copy(c, change)
	return c
}

func TestWebIdentity(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, token := range map[string]string{
		"RS256":               r.issuer.Mint(good(nil)),
		"ES256":               r.issuer.MintES256(good(nil)),
		"several audiences":   r.issuer.Mint(good(claims{"aud": []string{"x", audience}})),
		"by authorized party": r.issuer.Mint(good(claims{"aud": "account", "azp": audience})),
	} {
		out, err := r.federate(t, hub, token)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if *out.Audience != audience || *out.Provider != "https://idp.example.com/realm" || *out.SubjectFromWebIdentityToken != "host:db-7" {
			t.Errorf("%s: %s %s %s", name, *out.Audience, *out.Provider, *out.SubjectFromWebIdentityToken)
		}
		c := out.Credentials
		if s, err := r.Verify(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken); err != nil || s.Depth != 1 || s.RoleARN != hub || s.Name != "one" {
			t.Errorf("%s: session %+v, %v", name, s, err)
		}
	}
	if call := r.Calls()[0]; call.Principal != "https://idp.example.com/realm host:db-7" {
		t.Errorf("principal %q", call.Principal)
	}
}

func TestWebIdentityCarriesTagsAndSourceIdentity(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	change := claims{
		"https://aws.amazon.com/tags": claims{
			"principal_tags":      claims{"Team": []string{"blue"}, "Host": []string{"db-7"}},
			"transitive_tag_keys": []string{"Team"},
		},
		"https://aws.amazon.com/source_identity": "db-7",
	}
	out, err := r.federate(t, hub, r.issuer.Mint(good(change)))
	c := must(t, out, err).Credentials
	s, err := r.Verify(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
	must(t, s, err)
	if !maps.Equal(s.Tags, map[string]string{"Team": "blue", "Host": "db-7"}) || !reflect.DeepEqual(s.TransitiveTags, []string{"Team"}) || s.SourceIdentity != "db-7" || *out.SourceIdentity != "db-7" {
		t.Errorf("session %+v", s)
	}
	_, err = r.federate(t, plain, r.issuer.Mint(good(change)))
	wantRefusal(t, err, 403, "AccessDenied", "sts:TagSession")
	delete(change, "https://aws.amazon.com/tags")
	_, err = r.federate(t, plain, r.issuer.Mint(good(change)))
	wantRefusal(t, err, 403, "AccessDenied", "sts:SetSourceIdentity")
}

func TestWebIdentityRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	now := time.Now().Unix()
	mint := func(change claims) string { return r.issuer.Mint(good(change)) }
	kid := r.issuer.Keys().Keys[0].KeyID
	sign := func(alg jose.SignatureAlgorithm, key any, kid string) string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid))
		must(t, s, err)
		c := good(claims{"iss": "https://idp.example.com/realm", "iat": now, "exp": now + 600})
		return must2(t)(jwt.Signed(s).Claims(c).Serialize())
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, stranger, err)
	strangerEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, strangerEC, err)
	rsaPublic := r.issuer.Keys().Keys[0].Key.(*rsa.PublicKey)
	parts := strings.Split(mint(nil), ".")
	b64 := base64.RawURLEncoding.EncodeToString
	longTag := claims{"https://aws.amazon.com/tags": claims{"principal_tags": claims{"Team": []string{"a", "b"}}}}

	const bad = "InvalidIdentityToken"
	for name, c := range map[string]struct {
		role, token   string
		status        int
		code, message string
	}{
		"no JWT":                    {hub, "no token", 400, bad, "not a valid JWT"},
		"short":                     {hub, "abc", 400, "ValidationError", "webIdentityToken"},
		"too long":                  {hub, strings.Repeat("a", 20_001), 400, "ValidationError", "20000"},
		"algorithm none":            {hub, b64([]byte(`{"alg":"none","kid":"`+kid+`"}`)) + "." + parts[1] + ".", 400, bad, "algorithm"},
		"HS256 with the public key": {hub, sign(jose.HS256, rsaPublic.N.Bytes(), kid), 400, bad, "algorithm"},
		"PS256":                     {hub, sign(jose.PS256, stranger, kid), 400, bad, "algorithm"},
		"RS512 by an RS256 key":     {hub, sign(jose.RS512, stranger, kid), 400, bad, "key"},
		"a stranger's key":          {hub, sign(jose.RS256, stranger, kid), 400, bad, "Couldn't retrieve verification key"},
		"a stranger's EC key":       {hub, sign(jose.ES256, strangerEC, "es256-1"), 400, bad, "Couldn't retrieve verification key"},
		"unknown kid":               {hub, sign(jose.RS256, stranger, "who"), 400, bad, "Couldn't retrieve verification key"},
		"no kid":                    {hub, sign(jose.RS256, stranger, ""), 400, bad, "Couldn't retrieve verification key"},
		"claims swapped":            {hub, parts[0] + "." + b64([]byte(`{"iss":"https://idp.example.com/realm","sub":"host:root","aud":"sts.amazonaws.com","iat":1,"exp":9999999999}`)) + "." + parts[2], 400, bad, ""},
		"signature cut":             {hub, parts[0] + "." + parts[1] + "." + parts[2][:20], 400, bad, ""},
		"unknown issuer":            {hub, mint(claims{"iss": "https://evil.example.com"}), 400, bad, "No OpenIDConnect provider found in your account for https://evil.example.com"},
		"issuer with a slash":       {hub, mint(claims{"iss": "https://idp.example.com/realm/"}), 400, bad, "No OpenIDConnect provider"},
		"wrong audience":            {hub, mint(claims{"aud": "someone"}), 400, bad, "Incorrect token audience"},
		"authorized party wins":     {hub, mint(claims{"azp": "someone"}), 400, bad, "Incorrect token audience"},
		"no audience":               {hub, mint(claims{"aud": nil}), 400, bad, "aud"},
		"audience of another trust": {hub, mint(claims{"aud": "other"}), 403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		"no subject":                {hub, mint(claims{"sub": nil}), 400, bad, "sub"},
		"subject of 256":            {hub, mint(claims{"sub": "host:" + strings.Repeat("x", 251)}), 400, bad, "sub"},
		"untrusted subject":         {hub, mint(claims{"sub": "guest:db-7"}), 403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		"untrusted role":            {spoke, mint(nil), 403, "AccessDenied", "Not authorized"},
		"unknown role":              {"arn:aws:iam::111122223333:role/none", mint(nil), 403, "AccessDenied", "Not authorized"},
		"no role":                   {"rn:aws:iam::111122223333:role/none", mint(nil), 400, "ValidationError", "Request ARN is invalid"},
		"expired":                   {hub, mint(claims{"iat": now - 20, "exp": now - 10}), 400, "ExpiredTokenException", "Token expired: current date/time "},
		"expires now":               {hub, mint(claims{"iat": now - 20, "exp": now}), 400, "ExpiredTokenException", ""},
		"no expiry":                 {hub, mint(claims{"exp": nil}), 400, bad, "exp must be there as an integer"},
		"no iat":                    {hub, mint(claims{"iat": nil}), 400, bad, "iat must be there as an integer"},
		"expiry with a fraction":    {hub, mint(claims{"exp": float64(now) + 60.5}), 400, bad, "integer"},
		"expiry as text":            {hub, mint(claims{"exp": "9999999999"}), 400, bad, "integer"},
		"negative iat":              {hub, mint(claims{"iat": -1}), 400, bad, "integer"},
		"nbf with a fraction":       {hub, mint(claims{"nbf": 1.5}), 400, bad, "nbf"},
		"issued in the future":      {hub, mint(claims{"iat": now + 60}), 403, "IDPRejectedClaim", "not valid yet"},
		"not valid yet":             {hub, mint(claims{"nbf": now + 60}), 403, "IDPRejectedClaim", "not valid yet"},
		"tag of two values":         {hub, mint(longTag), 400, bad, "one value"},
		"reserved source identity":  {hub, mint(claims{"https://aws.amazon.com/source_identity": "aws:x"}), 400, "ValidationError", "aws:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := r.federate(t, c.role, c.token)
			wantRefusal(t, err, c.status, c.code, c.message)
		})
	}
}

func must2(t *testing.T) func(string, error) string {
	return func(s string, err error) string { return must(t, s, err) }
}

func TestWebIdentityTakesNoSignature(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	body := form("Action", "AssumeRoleWithWebIdentity", "Version", "2011-06-15", "RoleArn", hub, "RoleSessionName", "one", "WebIdentityToken", r.issuer.Mint(good(nil)))
	wantAnswer(t, raw(r.Server, "POST", "/", body, nil), 200, "", "SubjectFromWebIdentityToken")
	wantAnswer(t, raw(r.Server, "POST", "/", body, signer{}.sign), 400, "InvalidParameterCombination", "Authorization")
	wantAnswer(t, raw(r.Server, "POST", "/", body, func(req *http.Request) { req.Header.Set("X-Amz-Security-Token", "x") }), 400, "InvalidParameterCombination", "")
	wantAnswer(t, raw(r.Server, "POST", "/", body+"&ProviderId=www.amazon.com", nil), 400, "ValidationError", "ProviderId")
	wantAnswer(t, raw(r.Server, "POST", "/", body+"&ExternalId=abc", nil), 400, "ValidationError", "no parameter ExternalId")
	wantAnswer(t, raw(r.Server, "POST", "/", body+"&DurationSeconds=899", nil), 400, "ValidationError", "900")
	wantAnswer(t, raw(r.Server, "PUT", "/", body, nil), 405, "MethodNotAllowed", "")
	wantAnswer(t, raw(r.Server, "POST", "/x", body, nil), 404, "UnknownOperationException", "")
	wantAnswer(t, raw(r.Server, "POST", "/?"+body, "", nil), 400, "MissingAction", "")
}

func TestKeyRotation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.issuer = devsts.NewIssuer("https://idp.example.com/realm", time.Now)
	old := r.issuer.Mint(good(nil))
	r.issuer.Rotate()
	for name, token := range map[string]string{"old": old, "new": r.issuer.Mint(good(nil))} {
		if _, err := r.federate(t, hub, token); err != nil {
			t.Errorf("%s, after one rotation: %v", name, err)
		}
	}
	r.issuer.Rotate()
	_, err := r.federate(t, hub, old)
	wantRefusal(t, err, 400, "InvalidIdentityToken", "Couldn't retrieve verification key")
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	var handler atomic.Value // http.HandlerFunc
	idp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { handler.Load().(http.HandlerFunc)(w, req) }))
	t.Cleanup(idp.Close)
	issuer := devsts.NewIssuer(idp.URL+"/realm", time.Now)
	handler.Store(http.HandlerFunc(issuer.ServeHTTP))
	r := newRig(t, func(o *devsts.Options) {
		o.Providers = []devsts.Provider{{Issuer: idp.URL + "/realm", Audiences: []string{audience}}}
		o.Roles[0].OIDC = []devsts.OIDCTrust{{Issuer: idp.URL + "/realm", Subject: "*"}}
	})
	for range 2 {
		if _, err := r.federate(t, hub, issuer.MintES256(good(nil))); err != nil {
			t.Fatal(err)
		}
		issuer.Rotate() // is seen at once
	}
	fail := func(code, message string, h http.HandlerFunc) {
		t.Helper()
		handler.Store(h)
		_, err := r.federate(t, hub, issuer.Mint(good(nil)))
		wantRefusal(t, err, 400, code, message)
	}
	fail("IDPCommunicationError", "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	fail("IDPCommunicationError", "", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	fail("InvalidIdentityToken", "verification key", http.NotFound)
	fail("InvalidIdentityToken", "verification key", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
	fail("InvalidIdentityToken", "verification key", func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, "/elsewhere", http.StatusFound)
	})
	document := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
	}
	fail("InvalidIdentityToken", "another issuer", document(`{"issuer":"https://other.example.com","jwks_uri":"`+idp.URL+`/jwks"}`))
	fail("InvalidIdentityToken", "names no keys", document(`{"issuer":"`+idp.URL+`/realm","jwks_uri":"http://192.0.2.1/jwks"}`))
	idp.Close()
	fail("IDPCommunicationError", "", http.NotFound)
}

func TestSubjectPattern(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"*", "anyone", true}, {"a", "a", true}, {"a", "ab", false}, {"a*", "a", true}, {"*b", "ab", true}, {"*b", "ba", false},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"a*b*c", "axxbyyc", true}, {"a*b*c", "axxbyy", false}, {"", "a", false},
		{"repo:org/*:ref:refs/heads/main", "repo:org/x:ref:refs/heads/main", true}, {"repo:org/*", "repo:other/x", false}, {"A", "a", false},
		{"*a*a*a*b", strings.Repeat("a", 200), false},
	} {
		if got := devsts.Like(c.pattern, c.subject); got != c.want {
			t.Errorf("%q against %q: got %v", c.subject, c.pattern, got)
		}
	}
}
