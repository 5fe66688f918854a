package saml_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/rotation/assertion/samlp"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/source/saml"
	"github.com/hostrole/hostrole/rotation/source/sourcetest"
	"github.com/hostrole/hostrole/rotation/sts"
	"github.com/hostrole/hostrole/rotation/upstream"
)

const (
	entity = "https://idp.example.com/saml"
	role   = "arn:aws:iam::111122223333:role/path/app"
	corp   = "arn:aws:iam::111122223333:saml-provider/Corp"
)

func now() time.Time { return time.Now().Round(0).UTC() }

// issuer signs for all tests: making a key is slow.
var issuer = sync.OnceValue(func() *devsts.SAMLIssuer { return devsts.NewSAMLIssuer(entity, now) })

// A responder mints a response at each call.
type responder struct {
	mint func() string // base64
	mu   sync.Mutex
	out  []string
}

func (r *responder) Get(ctx context.Context) (samlp.Response, error) {
	text := r.mint()
	r.mu.Lock()
	r.out = append(r.out, text)
	r.mu.Unlock()
	return samlp.Response{Text: credential.NewSecret(text)}, ctx.Err()
}

// A world is an STS that trusts our issuer, and a source that asks it.
type world struct {
	sts    *devsts.Server
	http   *upstream.Client
	source saml.Source
	by     *responder
}

func newWorld(t *testing.T) *world {
	w := &world{by: &responder{mint: func() string { return issuer().Mint(good()) }}}
	w.sts = devsts.New(devsts.Options{Account: "111122223333", Region: "eu-central-1", Now: now,
		Roles: []devsts.Role{{ARN: role, SAML: []devsts.SAMLTrust{{Provider: corp, Subject: "host-*"}}, MaxSession: 12 * time.Hour, TagSession: true}},
		SAML:  []devsts.SAMLProvider{{ARN: corp, Issuer: entity, Certificates: issuer().Certificates}}})
	srv := httptest.NewServer(w.sts)
	t.Cleanup(srv.Close)
	w.http = upstream.New(upstream.Options{Timeout: 5 * time.Second, Transient: sts.Transient})
	w.source = saml.Source{Response: w.by, Now: func() time.Time { return now().Add(w.http.Skew()) },
		STS:     sts.New(sts.Options{Region: "eu-central-1", Endpoint: srv.URL, Now: now, Boot: func() time.Duration { return time.Hour }, HTTP: w.http}),
		Session: sts.Session{RoleARN: role, Name: "ignored", Duration: 6 * time.Hour}}
	return w
}

func good() devsts.SAMLClaims {
	return devsts.SAMLClaims{Attributes: map[string][]string{"Role": {"arn:aws:iam::111122223333:role/other," + corp, corp + "," + role}, "PrincipalTag:Team": {"blue"}}}
}

func b64(document string) string { return base64.StdEncoding.EncodeToString([]byte(document)) }

var faults = map[sourcetest.Behaviour]string{
	sourcetest.Refuses: "access-denied", sourcetest.Garbage: "truncated-xml", sourcetest.Blank: "empty-session-token",
	sourcetest.Expired: "expired-already", sourcetest.Silent: "slow", sourcetest.Huge: "huge", sourcetest.Down: "down",
}

func TestContract(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, sourcetest.Subject{New: func(t *testing.T, b sourcetest.Behaviour) (source.Source, []string) {
		w := newWorld(t)
		if name := faults[b]; name != "" {
			w.sts.Break(devsts.Named(name))
		}
		response := issuer().Mint(good())
		w.by.mint = func() string { return response }
		return w.source, []string{response, response[:200]}
	}})
}

func TestTheResponseNamesTheSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, provider := range []string{"", corp} {
		w.source.Provider = provider
		c, err := w.source.Fetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s, err := w.sts.Verify(c.AccessKeyID, c.SecretKey.Reveal(), c.Token.Reveal())
		if err != nil || s.Name != "host-7" || s.Tags["Team"] != "blue" || c.AccountID != "111122223333" || c.RoleARN != role || c.RequestID == "" {
			t.Errorf("%+v %+v %v", c, s, err)
		}
		if life := c.Expires.Sub(c.Issued); (life - 6*time.Hour).Abs() > 5*time.Second {
			t.Errorf("lives %v", life)
		}
	}
	call := w.sts.Calls()[0]
	if call.Params["PrincipalArn"] != corp || call.Params["RoleArn"] != role || call.Params["RoleSessionName"] != "" || len(call.Params) != 6 {
		t.Errorf("sent %v", call.Params)
	}
}

// An answer that the response is too old is followed by one newer response.
func TestTooOldIsFollowedByANewOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := good()
	old.Issued = now().Add(-7 * time.Minute)
	old.NotOnOrAfter = now().Add(time.Minute)
	minted := 0
	stale := func(n int) func() string { // the first n are old
		minted = 0
		return func() string {
			if minted++; minted <= n {
				c := old
				c.Subject = fmt.Sprint("host-", minted)
				return issuer().Mint(c)
			}
			return issuer().Mint(good())
		}
	}
	w.by.mint = stale(1)
	if _, err := w.source.Fetch(t.Context()); err != nil || minted != 2 || w.sts.CallCount("") != 2 {
		t.Errorf("%d responses, %d calls: %v", minted, w.sts.CallCount(""), err)
	}
	w.by.mint = stale(9)
	_, err := w.source.Fetch(t.Context())
	if !errors.Is(err, source.ErrRefused) || minted != 2 || w.sts.CallCount("") != 4 || !strings.Contains(err.Error(), "was issued 7m0s ago, and STS takes it for 5m0s") {
		t.Errorf("%d responses, %d calls: %v", minted, w.sts.CallCount(""), err)
	}
	// The same text again, as a file has it, is not shown twice.
	response := stale(9)()
	w.by.mint = func() string { return response }
	if _, err = w.source.Fetch(t.Context()); err == nil || w.sts.CallCount("") != 5 {
		t.Errorf("%d calls: %v", w.sts.CallCount(""), err)
	}
	// And a new one that cannot be had is what is reported.
	failing := &flaky{first: samlp.Response{Text: credential.NewSecret(response)}}
	w.source.Response = failing
	if _, err = w.source.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "no more") {
		t.Errorf("got %v", err)
	}
}

type flaky struct {
	first samlp.Response
	asked bool
}

func (f *flaky) Get(context.Context) (samlp.Response, error) {
	if f.asked {
		return samlp.Response{}, errors.New("no more")
	}
	f.asked = true
	return f.first, nil
}

// Each bad response is explained in words that say what to do.
func TestBadResponsesAreExplained(t *testing.T) {
	t.Parallel()
	claims := func(change func(*devsts.SAMLClaims)) string {
		c := good()
		change(&c)
		return issuer().Mint(c)
	}
	attribute := func(name string, values ...string) string {
		return claims(func(c *devsts.SAMLClaims) { c.Attributes[name] = values })
	}
	unsigned := issuer().Document(good())
	status := func(code string) string {
		return b64(strings.Replace(unsigned, "status:Success", "status:"+code, 1))
	}
	encrypted := unsigned[:strings.Index(unsigned, "<saml:Assertion")] + `<saml:EncryptedAssertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"/></samlp:Response>`
	stranger := devsts.NewSAMLIssuer("https://evil.example.com", now)
	for name, c := range map[string]struct {
		response string
		provider string
		refused  bool
		calls    int
		want     []string
	}{
		"too old": {claims(func(c *devsts.SAMLClaims) {
			c.Issued, c.NotOnOrAfter = now().Add(-47*time.Minute), now().Add(-42*time.Minute)
		}), "", true, 1, []string{"ExpiredTokenException", "was issued 47m0s ago", "what provides it has to do so for each renewal", "was good until 42m0s ago"}},
		"ahead": {claims(func(c *devsts.SAMLClaims) { c.Issued = now().Add(3 * time.Minute) }), "", true, 1,
			[]string{"IDPRejectedClaim", "was issued 3m0s ahead of this host's clock: compare the clocks", "is not good before 3m0s from now"}},
		"session over": {claims(func(c *devsts.SAMLClaims) { c.SessionEnd = now().Add(-time.Hour) }), "", true, 1,
			[]string{"ExpiredTokenException", "is of a session that ended 1h0m0s ago"}},
		"wrong audience": {claims(func(c *devsts.SAMLClaims) { c.Audience = "https://sp.example.com" }), "", true, 1,
			[]string{"InvalidIdentityToken", `is for the audience "https://sp.example.com": set AWS's identifier there to urn:amazon:webservices`}},
		"wrong recipient": {claims(func(c *devsts.SAMLClaims) { c.Recipient = "https://sp.example.com/saml" }), "", true, 1,
			[]string{"InvalidIdentityToken", `is for the recipient "https://sp.example.com/saml"`}},
		"no session name":  {attribute("RoleSessionName"), "", true, 1, []string{"RoleSessionName is required", `has the RoleSessionName ""`}},
		"bad session name": {attribute("RoleSessionName", "host 7\u0085"), "", true, 1, []string{"must match", `has the RoleSessionName "host 7"`}},
		"unsigned":         {b64(unsigned), "", true, 1, []string{"Response signature invalid", "has no signature: have the identity provider sign the assertion"}},
		"another issuer":   {stranger.Mint(good()), "", true, 1, []string{"Issuer not present", `shown was a response of issuer "https://evil.example.com" for subject "host-7", issued `}},
		"not trusted":      {claims(func(c *devsts.SAMLClaims) { c.Subject = "guest" }), "", true, 1, []string{"AccessDenied", "check the role's trust policy", `for subject "guest"`}},
		"encrypted, shown": {b64(encrypted), corp, true, 1, []string{"InvalidIdentityToken", "the assertion is encrypted, so nothing more can be said"}},

		"encrypted, no provider": {b64(encrypted), "", true, 0, []string{"is encrypted", "set provider_arn"}},
		"role not offered": {attribute("Role", "arn:aws:iam::111122223333:role/z,"+corp, corp+",arn:aws:iam::111122223333:role/a"), "", true, 0,
			[]string{"the response does not offer this role; it offers arn:aws:iam::111122223333:role/a by " + corp + ", arn:aws:iam::111122223333:role/z by"}},
		"no role":            {attribute("Role"), "", true, 0, []string{"does not offer this role; have the identity provider send the attribute https://aws.amazon.com/SAML/Attributes/Role"}},
		"other provider":     {issuer().Mint(good()), corp + "2", true, 0, []string{"does not offer this role by " + corp + "2; it offers"}},
		"login failed":       {status("AuthnFailed"), "", true, 0, []string{"the identity provider did not issue an assertion: AuthnFailed"}},
		"provider at fault":  {status("Responder"), "", false, 0, []string{"did not issue an assertion: Responder"}},
		"no response at all": {b64("<html>SECRET</html>"), "", false, 0, []string{"the SAML response is of no use: its root is no Response"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.by.mint = func() string { return c.response }
			w.source.Provider = c.provider
			_, err := w.source.Fetch(t.Context())
			if err == nil || errors.Is(err, source.ErrRefused) != c.refused || w.sts.CallCount("") != c.calls {
				t.Fatalf("refused = %v after %d calls: %v", errors.Is(err, source.ErrRefused), w.sts.CallCount(""), err)
			}
			asked := 1
			if strings.Contains(err.Error(), "ExpiredTokenException") {
				asked = 2 // only an old response makes another worth its login
			}
			if len(w.by.out) != asked {
				t.Errorf("%d responses were asked for, want %d", len(w.by.out), asked)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in: %v", want, err)
				}
			}
			if text := err.Error(); strings.Contains(text, "SECRET") || len(text) > 900 || !strings.HasPrefix(text, "AssumeRoleWithSAML "+role+": ") {
				t.Errorf("not fit for a log: %v", err)
			}
		})
	}
}

// A host whose clock is wrong is not kept from a good response, and STS's
// clock is what its age is told by.
func TestAWrongClockIsNoReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	off := func() time.Time { return now().Add(3 * time.Hour) } // this host's clock
	w.source.Now = func() time.Time { return off().Add(-3 * time.Hour) }
	if _, err := w.source.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
	w.source.Now = off // nothing is known of STS's clock yet
	if _, err := w.source.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnIdentityProviderThatRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	idp := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(401) }))
	t.Cleanup(idp.Close)
	w.source.Response = samlp.ECP{IdentityProvider: &samlp.IdentityProvider{URL: idp.URL, Username: "host-7", HTTP: w.http, Now: now,
		Password: func() (credential.Secret, error) { return credential.NewSecret("SECRET"), nil }}}
	_, err := w.source.Fetch(t.Context())
	if !errors.Is(err, source.ErrRefused) || !errors.Is(err, samlp.ErrRefused) || !strings.Contains(err.Error(), "AssumeRoleWithSAML "+role+": logging in as host-7 by ECP: the identity provider refused") {
		t.Errorf("got %v", err)
	}
}

// From a login to a session, with the prefixes of the response on the
// envelope.
func TestFromALoginToASession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	idp := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != "host-7" || pass != "SECRET" {
			rw.WriteHeader(401)
			return
		}
		const protocol, schema = ` xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"`, ` xmlns:xs="http://www.w3.org/2001/XMLSchema"`
		doc := issuer().Sign(issuer().Sign(issuer().Document(good()), devsts.AssertionID), "_response")
		_, _ = io.WriteString(rw, `<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"`+protocol+schema+"><e:Body>\n"+strings.NewReplacer(protocol, "", schema, "").Replace(doc)+"\n</e:Body></e:Envelope>")
	}))
	t.Cleanup(idp.Close)
	w.source.Response = samlp.ECP{IdentityProvider: &samlp.IdentityProvider{URL: idp.URL, Username: "host-7", HTTP: w.http, Now: now,
		Password: func() (credential.Secret, error) { return credential.NewSecret("SECRET"), nil }}}
	if _, err := w.source.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
	path := filepath.Join(t.TempDir(), "response")
	w.source.Response = samlp.File{Path: path}
	for range 2 {
		if err := os.WriteFile(path, []byte(issuer().Sign(issuer().Document(good()), "_response")), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := w.source.Fetch(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
