package samlp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// SOAP, 1.1 and 1.2.
const (
	soap11 = "http://schemas.xmlsoap.org/soap/envelope/"
	soap12 = "http://www.w3.org/2003/05/soap-envelope"
)

const (
	// An identity provider counts failed logins and locks the account. After
	// tries refusals in a row, the same password is tried once in pause.
	tries = 2
	pause = 15 * time.Minute
)

// An IdentityProvider is a SOAP endpoint that issues assertions, and our
// account there. It may be used concurrently, and must not be copied after its
// first use.
type IdentityProvider struct {
	URL       string
	Username  string
	Password  func() (credential.Secret, error) // followed at each use
	Audience  string                            // AWS's entity id there; "" is urn:amazon:webservices
	Recipient string                            // where AWS takes responses; "" is https://signin.aws.amazon.com/saml
	HTTP      *upstream.Client
	Now       func() time.Time

	mu      sync.Mutex     // guards what follows
	login   credential.Key // stands for the newest username and password
	refused int            // how often, in a row
	at      time.Time      // the last time
}

func (p *IdentityProvider) audience() string {
	return cmp.Or(p.Audience, "urn:amazon:webservices")
}

func (p *IdentityProvider) recipient() string {
	return cmp.Or(p.Recipient, "https://signin.aws.amazon.com/saml")
}

// now is the identity provider's time, as far as it has shown it.
func (p *IdentityProvider) now() time.Time { return p.Now().Add(p.HTTP.Skew()).UTC() }

// logIn makes one login: ask builds the request, and read takes the answer
// from the body of the envelope that came.
func (p *IdentityProvider) logIn(ctx context.Context, ask func(ctx context.Context, password string) (*http.Request, error), read func(body *element, secret credential.Secret) (Response, error)) (Response, error) {
	password, err := p.Password()
	if err != nil {
		return Response{}, fmt.Errorf("the password of %s: %w", p.Username, err)
	}
	key := credential.NewKey(p.Username, password.Reveal())
	if err := p.mayTry(key); err != nil {
		return Response{}, err
	}
	req, err := ask(ctx, password.Reveal())
	if err != nil {
		return Response{}, err
	}
	answer, err := p.HTTP.Do(req)
	if err != nil {
		return Response{}, err
	}
	doc, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil {
		return Response{}, err
	}
	body, err := envelope(answer.StatusCode, doc, password)
	var r Response
	if err == nil {
		r, err = read(body, password)
	}
	p.count(key, err)
	return r, upstream.After(answer.Header, err)
}

// mayTry refuses a password that has been refused too often.
func (p *IdentityProvider) mayTry(key credential.Key) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	since := p.Now().Sub(p.at)
	if key != p.login || p.refused < tries || since < 0 || since >= pause {
		return nil
	}
	return fmt.Errorf("%w %d times, the last time %v ago; lest the account be locked, it is asked again in %v, and with another password at once",
		ErrRefused, p.refused, since.Round(time.Second), (pause - since).Round(time.Second))
}

func (p *IdentityProvider) count(key credential.Key, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if key != p.login {
		p.login, p.refused = key, 0
	}
	switch {
	case errors.Is(err, ErrRefused):
		p.refused++
		p.at = p.Now()
	case err == nil:
		p.refused = 0
	}
}

// envelope is the body of a SOAP answer. A fault, and a status that says no,
// are errors in the identity provider's own words.
func envelope(status int, doc []byte, secret credential.Secret) (*element, error) {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return nil, fmt.Errorf("%w the username or the password with HTTP status %d", ErrRefused, status)
	case status/100 == 3:
		return nil, fmt.Errorf("the identity provider answered with a redirect, status %d: is the URL its SOAP endpoint?", status)
	}
	root, err := parse(doc)
	soap := err == nil && (root.is(soap11, "Envelope") || root.is(soap12, "Envelope"))
	var body, fault *element
	if soap {
		body = root.child(root.name.Space, "Body")
		fault = body.child(root.name.Space, "Fault")
	}
	switch {
	case fault == nil && status/100 == 5:
		return nil, fmt.Errorf("the identity provider answered with HTTP status %d", status)
	case fault == nil && (!soap || status/100 != 2):
		return nil, fmt.Errorf("the identity provider answered with HTTP status %d and no SOAP: is the URL its SOAP endpoint, and is that enabled?", status)
	case fault == nil:
		return body, nil
	}
	code, text := fault.child("", "faultcode"), fault.child("", "faultstring")
	if root.name.Space == soap12 {
		code, text = fault.child(soap12, "Code").child(soap12, "Value"), fault.child(soap12, "Reason").child(soap12, "Text")
	}
	said := upstream.Clean(text.ownText(), secret)
	if who := code.ownText(); strings.HasSuffix(who, "Client") || strings.HasSuffix(who, "Sender") {
		return nil, fmt.Errorf("%w: %s", ErrRefused, said)
	}
	return nil, fmt.Errorf("the identity provider has a fault: %s", said)
}

// escape makes text fit for an element and an attribute.
func escape(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a Buffer takes everything
	return b.String()
}
