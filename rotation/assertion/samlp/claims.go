package samlp

import (
	"errors"
	"regexp"
	"strings"
	"time"
)

// Age is how long after it was issued STS takes an assertion.
const Age = 5 * time.Minute

// success is how a status says that it is one.
const success = "urn:oasis:names:tc:SAML:2.0:status:Success"

// Claims are what a response says, unverified. What it does not say is zero.
type Claims struct {
	Status  string // last part of the status code, of the inner one if there is one: "Success", "AuthnFailed"
	Message string // the status's own words
	Fault   bool   // the identity provider blames itself for the status

	Encrypted bool // the assertion is, and nothing below can be read
	Signed    bool // there is a signature on the response or on the assertion

	Issuer, Subject string
	Issued          time.Time // of the assertion
	Audiences       []string
	Recipient       string
	NotBefore       time.Time
	NotOnOrAfter    time.Time // of the conditions or the confirmation, whichever is sooner
	SessionEnd      time.Time // SessionNotOnOrAfter
	SessionName     string
	Roles           []Role
}

// A Role is one that the assertion offers.
type Role struct{ ARN, Provider string }

// OK reports whether the identity provider did what it was asked.
func (c Claims) OK() bool { return c.Status == "Success" }

// read reads a response. One that says no is no error. Errors have nothing of
// the document in them.
func read(doc []byte) (Claims, error) {
	root, err := parse(doc)
	if err != nil {
		return Claims{}, err
	}
	return root.claims()
}

// claims are those of a samlp:Response.
func (e *element) claims() (Claims, error) {
	var c Claims
	switch {
	case e.is(assertion, "Assertion"):
		return c, errors.New("it is a bare Assertion: STS takes the whole Response around it")
	case !e.is(protocol, "Response"):
		return c, errors.New("its root is no Response of SAML 2.0")
	}
	c.status(e.child(protocol, "Status"))
	a := e.child(assertion, "Assertion")
	c.Encrypted = a == nil && e.child(assertion, "EncryptedAssertion") != nil
	c.Signed = e.child(signature, "Signature") != nil || a.child(signature, "Signature") != nil
	if a == nil {
		c.Issuer, c.Issued = e.child(assertion, "Issuer").ownText(), instant(e.attr("IssueInstant"))
		if c.OK() && !c.Encrypted {
			return c, errors.New("it has no Assertion")
		}
		return c, nil
	}
	c.Issuer, c.Issued = a.child(assertion, "Issuer").ownText(), instant(a.attr("IssueInstant"))

	subject := a.child(assertion, "Subject")
	c.Subject = subject.child(assertion, "NameID").ownText()
	confirmed := subject.child(assertion, "SubjectConfirmation").child(assertion, "SubjectConfirmationData")
	c.Recipient = confirmed.attr("Recipient")
	conditions := a.child(assertion, "Conditions")
	c.NotBefore = instant(conditions.attr("NotBefore"))
	c.NotOnOrAfter = sooner(instant(conditions.attr("NotOnOrAfter")), instant(confirmed.attr("NotOnOrAfter")))
	for _, r := range conditions.all(assertion, "AudienceRestriction") {
		for _, v := range r.all(assertion, "Audience") {
			c.Audiences = append(c.Audiences, v.ownText())
		}
	}
	for _, s := range a.all(assertion, "AuthnStatement") {
		c.SessionEnd = sooner(c.SessionEnd, instant(s.attr("SessionNotOnOrAfter")))
	}
	for _, s := range a.all(assertion, "AttributeStatement") {
		for _, attribute := range s.all(assertion, "Attribute") {
			c.attribute(attribute)
		}
	}
	return c, nil
}

// status reads the innermost code, which is the one that says what it is.
func (c *Claims) status(s *element) {
	code := s.child(protocol, "StatusCode")
	value := code.attr("Value")
	c.Fault = strings.HasSuffix(value, ":Responder")
	if inner := code.child(protocol, "StatusCode"); inner != nil && value != success {
		value = inner.attr("Value")
	}
	c.Status = value[strings.LastIndexByte(value, ':')+1:]
	if c.OK() && value != success {
		c.Status = "" // another success than SAML's
	}
	c.Message = s.child(protocol, "StatusMessage").ownText()
}

// attribute reads one that AWS knows. China has another host in their names.
func (c *Claims) attribute(e *element) {
	_, name, _ := strings.Cut(e.attr("Name"), "/SAML/Attributes/")
	for _, v := range e.all(assertion, "AttributeValue") {
		switch name {
		case "RoleSessionName":
			c.SessionName = v.ownText()
		case "Role":
			if r, ok := pair(v.ownText()); ok {
				c.Roles = append(c.Roles, r)
			}
		}
	}
}

// twoARNs are split where the second begins: a role's name may have a comma.
var twoARNs = regexp.MustCompile(`^(arn:\S+?)\s*,\s*(arn:\S+)$`)

// pair reads the ARNs of a role and its provider, in either order.
func pair(text string) (Role, bool) {
	arns := twoARNs.FindStringSubmatch(text)
	if arns == nil {
		return Role{}, false
	}
	r := Role{arns[1], arns[2]}
	if strings.Contains(r.ARN, ":saml-provider/") {
		r.ARN, r.Provider = r.Provider, r.ARN
	}
	return r, strings.Contains(r.ARN, ":role/") && strings.Contains(r.Provider, ":saml-provider/")
}

// instant reads a time; SAML's are in UTC, with or without saying so. It is
// zero when it cannot be read.
func instant(text string) time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// sooner is the earlier of two times, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
