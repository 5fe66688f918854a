package samlp_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/assertion/samlp"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/upstream"
)

const (
	username = `corp\host-7`
	password = `p<&">wJalrXUtnFEMI`
)

// An idp answers as it is told.
type idp struct {
	url    string
	answer atomic.Value // http.HandlerFunc
	asked  atomic.Int64
	shift  atomic.Int64
	word   atomic.Value // the password that we know
}

func newIdP(t *testing.T, answer http.HandlerFunc) (*idp, *samlp.IdentityProvider) {
	t.Helper()
	p := &idp{}
	p.answer.Store(answer)
	p.word.Store(password)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		p.answer.Load().(http.HandlerFunc)(w, r)
	}))
	t.Cleanup(srv.Close)
	p.url = srv.URL + "/soap"
	return p, &samlp.IdentityProvider{
		URL: p.url, Username: username, HTTP: upstream.New(upstream.Options{Timeout: 10 * time.Second}),
		Password: func() (credential.Secret, error) { return credential.NewSecret(p.word.Load().(string)), nil },
		Now:      func() time.Time { return now().Add(time.Duration(p.shift.Load())) },
	}
}

func text(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// soap puts a response into an envelope as Shibboleth and Keycloak write it.
func soap(body string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>
<soap11:Envelope xmlns:soap11="http://schemas.xmlsoap.org/soap/envelope/"><soap11:Header><ecp:Response xmlns:ecp="urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp"` +
		` AssertionConsumerServiceURL="https://signin.aws.amazon.com/saml" soap11:actor="http://schemas.xmlsoap.org/soap/actor/next" soap11:mustUnderstand="1"/></soap11:Header>` +
		`<soap11:Body>` + body + "</soap11:Body>\n</soap11:Envelope>"
}

func authnRequest(t *testing.T, body string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for name, pattern := range map[string]string{
		"envelope": `^<S:Envelope xmlns:S="([^"]*)"><S:Body><samlp:AuthnRequest`, "protocol": `xmlns:samlp="([^"]*)"`, "id": ` ID="([^"]*)"`, "at": ` IssueInstant="([^"]*)"`,
		"binding": ` ProtocolBinding="([^"]*)"`, "consumer": ` AssertionConsumerServiceURL="([^"]*)"`, "issuer": `<saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">([^<]*)</saml:Issuer>`,
	} {
		m := regexp.MustCompile(pattern).FindStringSubmatch(body)
		if m == nil {
			t.Errorf("no %s in %s", name, body)
			continue
		}
		got[name] = m[1]
	}
	return got
}

func TestECP(t *testing.T) {
	t.Parallel()
	var ids []string
	p, at := newIdP(t, nil)
	p.answer.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pass, _ := r.BasicAuth()
		if user != username || pass != password || r.Method != http.MethodPost || r.URL.Path != "/soap" || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/xml") {
			t.Errorf("%s %s as %s, %s", r.Method, r.URL, user, r.Header.Get("Content-Type"))
		}
		body, _ := io.ReadAll(r.Body)
		got := authnRequest(t, string(body))
		ids = append(ids, got["id"])
		delete(got, "id")
		if sent, err := time.Parse(time.RFC3339, got["at"]); err != nil || now().Sub(sent).Abs() > 5*time.Second {
			t.Errorf("issued at %s", got["at"])
		}
		if got["envelope"] != "http://schemas.xmlsoap.org/soap/envelope/" || got["protocol"] != "urn:oasis:names:tc:SAML:2.0:protocol" || got["binding"] != "urn:oasis:names:tc:SAML:2.0:bindings:PAOS" ||
			got["consumer"] != "https://signin.aws.amazon.com/saml" || got["issuer"] != "urn:amazon:webservices" {
			t.Errorf("asked %v", got)
		}
		_, _ = io.WriteString(w, soap(document()))
	}))
	for range 2 {
		r, err := samlp.ECP{IdentityProvider: at}.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		believed(t, r)
	}
	if ids[0] == ids[1] || !regexp.MustCompile(`^_\w{20,}$`).MatchString(ids[0]) {
		t.Errorf("ids %q", ids)
	}
}

func TestECPNamesTheServiceProviderItIsTold(t *testing.T) {
	t.Parallel()
	p, at := newIdP(t, nil)
	at.Audience, at.Recipient = "urn:amazon:webservices:govcloud", "https://signin.amazonaws-us-gov.com/saml?a&b"
	p.answer.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if got := authnRequest(t, string(body)); got["issuer"] != at.Audience || got["consumer"] != "https://signin.amazonaws-us-gov.com/saml?a&amp;b" {
			t.Errorf("asked %v", got)
		}
		_, _ = io.WriteString(w, soap(document()))
	}))
	if _, err := (samlp.ECP{IdentityProvider: at}).Get(t.Context()); err != nil {
		t.Error(err)
	}
}

// A signature survives whatever the envelope declares on the response's behalf.
func TestECPKeepsSignatures(t *testing.T) {
	t.Parallel()
	inner, outer := document(), issuer().Sign(issuer().Document(claims()), "_response")
	hoist := func(doc string, declarations ...string) string {
		around := ""
		for _, d := range declarations {
			if !strings.Contains(doc, d) {
				t.Fatalf("no %s", d)
			}
			doc, around = strings.ReplaceAll(doc, d, ""), around+d
		}
		return strings.Replace(soap(doc), "<soap11:Envelope", "<soap11:Envelope"+around, 1)
	}
	protocol, assertion := ` xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"`, ` xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"`
	schema, instance := ` xmlns:xs="http://www.w3.org/2001/XMLSchema"`, ` xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"`
	for name, envelope := range map[string]string{
		"assertion signed":                        soap(inner),
		"response signed":                         soap(outer),
		"white space around":                      soap("\n\t" + inner + "\n"),
		"carriage returns":                        strings.ReplaceAll(soap(inner), "\n", "\r\n"),
		"prefixes on the envelope":                hoist(inner, protocol, assertion, schema, instance),
		"prefixes on the envelope, all of it":     hoist(outer, protocol, assertion, schema, instance),
		"another default namespace around":        strings.Replace(soap(inner), "<soap11:Body>", `<soap11:Body xmlns="urn:x">`, 1),
		"SOAP 1.2":                                strings.ReplaceAll(soap(inner), "http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"),
		"another prefix for the same, on the way": strings.Replace(soap(inner), "<soap11:Body>", `<soap11:Body xmlns:samlp="urn:other" xmlns:ds="urn:ds">`, 1),
	} {
		_, at := newIdP(t, text(200, envelope))
		r, err := samlp.ECP{IdentityProvider: at}.Get(t.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		t.Run(name, func(t *testing.T) { believed(t, r) })
	}
}

const failed = `<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"><samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:WHO">` +
	`<samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"/></samlp:StatusCode><samlp:StatusMessage>no ` + `p&lt;&amp;"&gt;wJalrXUtnFEMI` + `</samlp:StatusMessage></samlp:Status></samlp:Response>`

func fault11(code, said string) string {
	return soap(`<soap11:Fault><faultcode>soap11:` + code + `</faultcode><faultstring>` + said + `</faultstring></soap11:Fault>`)
}

// What an identity provider answers instead, and whether asking again soon is
// pointless.
func TestECPRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status  int
		body    string
		refused bool
		want    string
	}{
		"401":                {401, "<html>SECRET</html>", true, "the username or the password with HTTP status 401"},
		"403":                {403, "", true, "HTTP status 403"},
		"login failed":       {200, soap(strings.Replace(failed, "WHO", "Requester", 1)), true, "AuthnFailed no [secret]"},
		"its own fault":      {200, soap(strings.Replace(failed, "WHO", "Responder", 1)), false, "has a fault: AuthnFailed"},
		"client fault":       {400, fault11("Client", "Unknown\n\tclient "+`p&lt;&amp;"&gt;wJalrXUtnFEMI`), true, "Unknown client [secret]"},
		"server fault":       {200, fault11("Server", "Try later"), false, "has a fault: Try later"},
		"redirect":           {302, "", false, "redirect"},
		"HTML":               {200, "<html><body>SECRET</body></html>", false, "no SOAP"},
		"not there":          {404, "SECRET", false, "SOAP endpoint"},
		"not the method":     {405, soap(""), false, "SOAP endpoint"},
		"empty body":         {200, "", false, "no SOAP"},
		"no body":            {200, `<a:Envelope xmlns:a="http://schemas.xmlsoap.org/soap/envelope/"/>`, false, "no SAML response in it"},
		"no response":        {200, soap("<SECRET/>"), false, "is ECP enabled there?"},
		"no assertion":       {200, soap(`<p:Response xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol"><p:Status><p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></p:Status></p:Response>`), false, "no Assertion"},
		"document type":      {200, "<!DOCTYPE a>" + soap(document()), false, "no SOAP"},
		"cut short":          {200, soap(document())[:700], false, "no SOAP"},
		"huge":               {200, strings.Repeat("SECRET", 100_000), false, "larger than"},
		"not the SOAP of it": {200, strings.Replace(soap(document()), "schemas.xmlsoap.org", "example.com", 1), false, "no SOAP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, at := newIdP(t, text(c.status, c.body))
			_, err := samlp.ECP{IdentityProvider: at}.Get(t.Context())
			if err == nil || errors.Is(err, samlp.ErrRefused) != c.refused || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), `logging in as corp\host-7 by ECP: `) {
				t.Fatalf("refused = %v: %v", errors.Is(err, samlp.ErrRefused), err)
			}
			if strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), password) || strings.ContainsAny(err.Error(), "\a\n") {
				t.Errorf("not fit for a log: %v", err)
			}
		})
	}
	_, at := newIdP(t, nil)
	at.URL = "http://127.0.0.1:1/"
	if _, err := (samlp.ECP{IdentityProvider: at}).Get(t.Context()); err == nil || errors.Is(err, samlp.ErrRefused) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("nobody there: %v", err)
	}
	at.Password = func() (credential.Secret, error) { return credential.Secret{}, errors.New("no such file") }
	if _, err := (samlp.ECP{IdentityProvider: at}).Get(t.Context()); err == nil || !strings.Contains(err.Error(), `the password of corp\host-7: no such file`) {
		t.Errorf("no password: %v", err)
	}
}

// An account is not locked by us: a refused password is not tried for ever.
func TestAPasswordThatIsRefused(t *testing.T) {
	t.Parallel()
	p, at := newIdP(t, text(401, ""))
	ecp := samlp.ECP{IdentityProvider: at}
	get := func(want int64) error {
		t.Helper()
		before := p.asked.Load()
		_, err := ecp.Get(t.Context())
		if n := p.asked.Load() - before; n != want {
			t.Errorf("%d logins, want %d: %v", n, want, err)
		}
		return err
	}
	_ = get(1)
	_ = get(1) // once could be a moment's trouble behind the identity provider
	err := get(0)
	if !errors.Is(err, samlp.ErrRefused) || !strings.Contains(err.Error(), "2 times") || !strings.Contains(err.Error(), "lest the account be locked") || strings.Contains(err.Error(), password) {
		t.Errorf("got %v", err)
	}
	p.shift.Store(int64(14 * time.Minute))
	_ = get(0)
	p.shift.Store(int64(16 * time.Minute))
	_ = get(1)
	_ = get(0)
	p.shift.Store(0) // the clock was set back: the refusal is in the future
	_ = get(1)
	_ = get(0)

	p.word.Store("another")
	_ = get(1)
	p.answer.Store(text(500, ""))
	_ = get(3) // the client's tries: trouble is no refusal
	p.answer.Store(text(401, ""))
	_ = get(1)
	_ = get(0)
	p.word.Store("the right one")
	p.answer.Store(text(200, soap(document())))
	if err := get(1); err != nil {
		t.Error(err)
	}
	p.answer.Store(text(401, ""))
	_ = get(1)
	p.answer.Store(text(200, soap(document())))
	_ = get(1)
	p.answer.Store(text(401, ""))
	_ = get(1) // success has cleared the count
	_ = get(1)
	_ = get(0)
}
