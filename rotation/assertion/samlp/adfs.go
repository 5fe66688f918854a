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
)

// Namespaces and names of WS-Trust 1.3 and WS-Security 1.0.
const (
	trust      = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
	addressing = "http://www.w3.org/2005/08/addressing"
	policyTo   = "http://schemas.xmlsoap.org/ws/2004/09/policy"
	security   = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
	utility    = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
	plainText  = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordText"
	encrypted  = "http://www.w3.org/2001/04/xmlenc#"
)

// ADFS logs in at Active Directory Federation Services by WS-Trust 1.3, at its
// endpoint /adfs/services/trust/13/usernamemixed. It is experimental: what is
// issued is an assertion without a response around it, so one is put there;
// nobody has seen AWS take it, and AWS wants a recipient and an end in the
// assertion's confirmation, which many a relying party does not get there.
type ADFS struct{ *IdentityProvider }

// Get logs in.
func (a ADFS) Get(ctx context.Context) (Response, error) {
	r, err := a.logIn(ctx, a.ask, a.read)
	if err != nil {
		return Response{}, fmt.Errorf("logging in as %s by WS-Trust: %w", a.Username, err)
	}
	return r, nil
}

func (a ADFS) ask(ctx context.Context, password string) (*http.Request, error) {
	now := a.now()
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, `<s:Envelope xmlns:s="%s" xmlns:a="%s" xmlns:u="%s"><s:Header>`, soap12, addressing, utility)
	_, _ = fmt.Fprintf(&b, `<a:Action s:mustUnderstand="1">%s/RST/Issue</a:Action><a:MessageID>urn:uuid:%s</a:MessageID>`, trust, uuid())
	_, _ = fmt.Fprintf(&b, `<a:ReplyTo><a:Address>%s/anonymous</a:Address></a:ReplyTo><a:To s:mustUnderstand="1">%s</a:To>`, addressing, escape(a.URL))
	_, _ = fmt.Fprintf(&b, `<o:Security xmlns:o="%s" s:mustUnderstand="1"><u:Timestamp u:Id="_0"><u:Created>%s</u:Created><u:Expires>%s</u:Expires></u:Timestamp>`,
		security, now.Format(time.RFC3339), now.Add(Age).Format(time.RFC3339))
	_, _ = fmt.Fprintf(&b, `<o:UsernameToken u:Id="_1"><o:Username>%s</o:Username><o:Password Type="%s">%s</o:Password></o:UsernameToken></o:Security></s:Header>`,
		escape(a.Username), plainText, escape(password))
	_, _ = fmt.Fprintf(&b, `<s:Body><t:RequestSecurityToken xmlns:t="%s"><p:AppliesTo xmlns:p="%s"><a:EndpointReference><a:Address>%s</a:Address></a:EndpointReference></p:AppliesTo>`,
		trust, policyTo, escape(a.audience()))
	_, _ = fmt.Fprintf(&b, `<t:KeyType>%s/Bearer</t:KeyType><t:RequestType>%[1]s/Issue</t:RequestType><t:TokenType>%s</t:TokenType></t:RequestSecurityToken></s:Body></s:Envelope>`,
		trust, assertion)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, strings.NewReader(b.String()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/soap+xml; charset=utf-8")
	return req, nil
}

// read cuts the assertion out of the body and puts a response around it.
func (a ADFS) read(body *element, _ credential.Secret) (Response, error) {
	issued := body.child(trust, "RequestSecurityTokenResponseCollection").child(trust, "RequestSecurityTokenResponse").child(trust, "RequestedSecurityToken")
	found := issued.child(assertion, "Assertion")
	switch {
	case issued.child(encrypted, "EncryptedData") != nil, issued.child(assertion, "EncryptedAssertion") != nil:
		return Response{}, errors.New("the assertion is encrypted, and no response can be made of that: take the encryption certificate off the relying party")
	case found == nil:
		return Response{}, errors.New("the answer has no SAML 2.0 assertion in it: is AWS a relying party there?")
	}
	around := fmt.Sprintf(`<samlp:Response xmlns:samlp="%s" ID="_%s" Version="2.0" IssueInstant="%s" Destination="%s"><saml:Issuer xmlns:saml="%s">%s</saml:Issuer>`+
		`<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>%s</samlp:Response>`,
		protocol, rand.Text(), a.now().Format(time.RFC3339), escape(a.recipient()), assertion, escape(found.child(assertion, "Issuer").ownText()), found.cut())
	return response(around, "the identity provider's answer")
}

// uuid is a random one.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
