package samlp_test

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/assertion/samlp"
)

// issued is what ADFS answers.
func issued(token string) string {
	return `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing"><s:Header><a:Action s:mustUnderstand="1">http://docs.oasis-open.org/ws-sx/ws-trust/200512/RSTRC/IssueFinal</a:Action></s:Header>` +
		`<s:Body><trust:RequestSecurityTokenResponseCollection xmlns:trust="http://docs.oasis-open.org/ws-sx/ws-trust/200512"><trust:RequestSecurityTokenResponse>` +
		`<trust:RequestedSecurityToken>` + token + `</trust:RequestedSecurityToken><trust:TokenType>urn:oasis:names:tc:SAML:2.0:assertion</trust:TokenType>` +
		`</trust:RequestSecurityTokenResponse></trust:RequestSecurityTokenResponseCollection></s:Body></s:Envelope>`
}

func assertion() string {
	doc := document()
	return doc[strings.Index(doc, "<saml:Assertion"):strings.Index(doc, "</samlp:Response>")]
}

func TestADFS(t *testing.T) {
	t.Parallel()
	p, at := newIdP(t, nil)
	p.answer.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/soap+xml") || r.Header.Get("Authorization") != "" {
			t.Errorf("headers %v", r.Header)
		}
		body, _ := io.ReadAll(r.Body)
		if _, err := samlp.Shape(body); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		for _, want := range []string{
			`<a:Action s:mustUnderstand="1">http://docs.oasis-open.org/ws-sx/ws-trust/200512/RST/Issue</a:Action>`,
			`<a:To s:mustUnderstand="1">` + p.url + `</a:To>`, `<o:Username>corp\host-7</o:Username>`,
			`#PasswordText">p&lt;&amp;&#34;&gt;wJalrXUtnFEMI</o:Password>`,
			`<a:EndpointReference><a:Address>urn:amazon:webservices</a:Address></a:EndpointReference>`,
			`<t:KeyType>http://docs.oasis-open.org/ws-sx/ws-trust/200512/Bearer</t:KeyType>`,
			`<t:RequestType>http://docs.oasis-open.org/ws-sx/ws-trust/200512/Issue</t:RequestType>`,
			`<t:TokenType>urn:oasis:names:tc:SAML:2.0:assertion</t:TokenType>`,
		} {
			if !strings.Contains(string(body), want) {
				t.Errorf("no %s in %s", want, body)
			}
		}
		m := regexp.MustCompile(`<u:Created>(.*)</u:Created><u:Expires>(.*)</u:Expires>`).FindStringSubmatch(string(body))
		from, err1 := time.Parse(time.RFC3339, m[1])
		to, err2 := time.Parse(time.RFC3339, m[2])
		if err1 != nil || err2 != nil || now().Sub(from).Abs() > 5*time.Second || to.Sub(from) != 5*time.Minute {
			t.Errorf("good from %v to %v", m[1], m[2])
		}
		if !regexp.MustCompile(`<a:MessageID>urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}</a:MessageID>`).Match(body) {
			t.Errorf("no message id in %s", body)
		}
		_, _ = io.WriteString(w, issued(assertion()))
	}))
	r, err := samlp.ADFS{IdentityProvider: at}.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	believed(t, r)
	if c, err := r.Claims(); err != nil || c.Issuer != entity || !c.Signed || len(c.Roles) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	around, err := base64.StdEncoding.DecodeString(r.Text.Reveal())
	if err != nil || !regexp.MustCompile(` Version="2.0" IssueInstant="[^"]+Z" Destination="https://signin.aws.amazon.com/saml"><saml:Issuer [^>]+>`+entity+`</saml:Issuer><samlp:Status>.*Success"/></samlp:Status><saml:Assertion `).Match(around) {
		t.Errorf("%v: %s", err, around)
	}
	// A namespace on the envelope that the assertion needs.
	outer := ` xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"`
	p.answer.Store(text(200, strings.Replace(issued(strings.Replace(assertion(), outer, "", 1)), "<s:Body", "<s:Body"+outer, 1)))
	if r, err = (samlp.ADFS{IdentityProvider: at}).Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	believed(t, r)
}

func TestADFSRefused(t *testing.T) {
	t.Parallel()
	fault := func(code string) string {
		return `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing"><s:Body><s:Fault><s:Code><s:Value>s:` + code + `</s:Value><s:Subcode><s:Value>a:FailedAuthentication</s:Value></s:Subcode></s:Code>` +
			`<s:Reason><s:Text xml:lang="en-US">ID3242: The security token could not be authenticated or authorized.</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>`
	}
	for name, c := range map[string]struct {
		status  int
		body    string
		refused bool
		want    string
	}{
		"wrong password":  {500, fault("Sender"), true, "ID3242"},
		"its own fault":   {500, fault("Receiver"), false, "has a fault: ID3242"},
		"no token":        {200, issued(""), false, "is AWS a relying party there?"},
		"SAML 1.1":        {200, issued(`<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:1.0:assertion"/>`), false, "no SAML 2.0 assertion"},
		"encrypted":       {200, issued(`<xenc:EncryptedData xmlns:xenc="http://www.w3.org/2001/04/xmlenc#"/>`), false, "encrypted"},
		"encrypted again": {200, issued(`<EncryptedAssertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion"/>`), false, "encrypted"},
		"503":             {503, "SECRET", false, "by WS-Trust: the identity provider answered with HTTP status 503"},
		"502 in HTML":     {502, "<html>SECRET</html>", false, "HTTP status 502"},
		"HTML":            {200, "<html>SECRET</html>", false, "no SOAP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, at := newIdP(t, text(c.status, c.body))
			_, err := samlp.ADFS{IdentityProvider: at}.Get(t.Context())
			if err == nil || errors.Is(err, samlp.ErrRefused) != c.refused || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "SECRET") ||
				!strings.HasPrefix(err.Error(), `logging in as corp\host-7 by WS-Trust: `) || c.status > 500 && strings.Contains(err.Error(), "SOAP") {
				t.Errorf("refused = %v: %v", errors.Is(err, samlp.ErrRefused), err)
			}
		})
	}
}
