package samlp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// ECP logs in at a SAML 2.0 identity provider that speaks the profile for
// enhanced clients, as Shibboleth and Keycloak do: with HTTP Basic, without a
// browser. The request is in AWS's name; AWS does not speak the profile, but
// takes what comes of it.
type ECP struct{ *IdentityProvider }

// Get logs in.
func (e ECP) Get(ctx context.Context) (Response, error) {
	r, err := e.logIn(ctx, e.ask, e.read)
	if err != nil {
		return Response{}, fmt.Errorf("logging in as %s by ECP: %w", e.Username, err)
	}
	return r, nil
}

// ask is the request that AWS's service provider would have sent.
func (e ECP) ask(ctx context.Context, password string) (*http.Request, error) {
	envelope := fmt.Sprintf(`<S:Envelope xmlns:S="%s"><S:Body><samlp:AuthnRequest xmlns:samlp="%s" ID="_%s" Version="2.0" IssueInstant="%s"`+
		` ProtocolBinding="urn:oasis:names:tc:SAML:2.0:bindings:PAOS" AssertionConsumerServiceURL="%s"><saml:Issuer xmlns:saml="%s">%s</saml:Issuer></samlp:AuthnRequest></S:Body></S:Envelope>`,
		soap11, protocol, rand.Text(), e.now().Format(time.RFC3339), escape(e.recipient()), assertion, escape(e.audience()))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, strings.NewReader(envelope))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(e.Username, password)
	req.Header.Set("Content-Type", "text/xml; charset=utf-8")
	req.Header.Set("SOAPAction", `""`)
	return req, nil
}

// read cuts the response out of the body.
func (ECP) read(body *element, secret credential.Secret) (Response, error) {
	found := body.child(protocol, "Response")
	if found == nil {
		return Response{}, errors.New("the identity provider's answer has no SAML response in it: is ECP enabled there?")
	}
	c, err := found.claims()
	switch {
	case err != nil:
		return Response{}, fmt.Errorf("the identity provider's SAML response is of no use: %w", err)
	case c.OK():
		return response(string(found.cut()), "the identity provider's answer")
	}
	said := upstream.Clean(c.Status+" "+c.Message, secret)
	if c.Fault {
		return Response{}, fmt.Errorf("the identity provider has a fault: %s", said)
	}
	return Response{}, fmt.Errorf("%w: %s", ErrRefused, said)
}
