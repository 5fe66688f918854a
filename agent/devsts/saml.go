package devsts

import (
	"crypto/sha1" // #nosec G505 -- NameQualifier is defined by it and protects nothing
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/beevik/etree"
)

// A SAMLProvider is a SAML provider that an account trusts to name people.
type SAMLProvider struct {
	ARN          string                     // arn:aws:iam::111122223333:saml-provider/name
	Issuer       string                     // entity id, to the letter
	Certificates func() []*x509.Certificate // what signs assertions; required
}

// SAMLTrust is one statement of a trust policy.
type SAMLTrust struct {
	Provider  string // ARN of a SAMLProvider
	Recipient string // what saml:aud must be; "" for each that AWS has
	Subject   string // pattern of the NameID with * and ?; "*" for anyone
}

// attributePrefix begins the names of the attributes that AWS knows.
const attributePrefix = "https://aws.amazon.com/SAML/Attributes/"

// redeemable is how long after its issue an assertion is taken.
const redeemable = 5 * time.Minute

var (
	consumer     = pattern(`https://([a-z0-9-]+\.)?signin\.aws\.amazon\.com/saml(/acs/[A-Za-z0-9-]+)?`)
	samlName     = pattern(`[\w+=,.@-]{2,64}`)
	nameIDFormat = "urn:oasis:names:tc:SAML:2.0:nameid-format:"
)

// samlProvider is the name of the SAML provider, "" when a names none.
func (a arn) samlProvider() string {
	name, ok := strings.CutPrefix(a.resource, "saml-provider/")
	if !ok || a.service != "iam" || a.account == "aws" {
		return ""
	}
	return name
}

// asserted is what STS reads of an assertion.
type asserted struct {
	issuer, subject, subjectType, recipient string
	attributes                              map[string][]string // by name without attributePrefix
	sessionEnd                              time.Time           // zero without one
}

// assumeRoleWithSAML answers AssumeRoleWithSAML.
func (s *Server) assumeRoleWithSAML(q *request) (*result, *refusal) {
	want := wish{
		roleARN:   q.text("RoleArn", true, 20, 2048, arnPattern),
		seconds:   q.number("DurationSeconds", int(s.minSession/time.Second), int(maxSession/time.Second), 0),
		tokenSize: q.number("MinimumSessionTokenSize", 0, maxTokenSize, 0),
	}
	provider := q.text("PrincipalArn", true, 20, 2048, arnPattern)
	text := q.text("SAMLAssertion", true, 4, 100_000, anything)
	if refused := q.policies(want.roleARN); refused != nil {
		return nil, refused
	}
	if parseARN(want.roleARN).role() == "" || parseARN(provider).samlProvider() == "" {
		return nil, invalid("Request ARN is invalid")
	}
	p, known := s.saml[provider]
	if !known {
		return nil, badIdentity("Specified provider doesn't exist")
	}
	c, refused := p.verify(text, q.now)
	if refused != nil {
		return nil, refused
	}
	q.caller = principal{arn: c.issuer + " " + c.subject}
	role, known := s.roles[want.roleARN]
	if !known || !c.offers(want.roleARN, provider) || !slices.ContainsFunc(role.SAML, func(t SAMLTrust) bool {
		return t.Provider == provider && like(t.Subject, c.subject) && (t.Recipient == "" || t.Recipient == c.recipient)
	}) {
		return nil, denied("Not authorized to perform sts:AssumeRoleWithSAML")
	}
	want.role = role
	if refused := q.fromAttributes(&want, c); refused != nil {
		return nil, refused
	}
	switch {
	case len(want.tags) > 0 && !role.TagSession:
		return nil, denied("Not authorized to perform sts:TagSession")
	case want.sourceIdentity != "" && !role.SetSourceIdentity:
		return nil, denied("Not authorized to perform sts:SetSourceIdentity")
	}
	res, refused := s.issue(q, want)
	if refused == nil {
		sum := sha1.Sum([]byte(c.issuer + parseARN(provider).account + "/" + parseARN(provider).samlProvider())) // #nosec G401 -- as above
		res.Audience, res.Issuer, res.NameID = c.recipient, c.issuer, c.subject
		res.SubjectType = strings.TrimPrefix(c.subjectType, nameIDFormat)
		res.NameQualifier = base64.StdEncoding.EncodeToString(sum[:])
	}
	return res, refused
}

// verify holds a response against the provider's certificates and the clock.
func (p SAMLProvider) verify(text string, now time.Time) (c asserted, refused *refusal) {
	doc, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return c, badIdentity("Invalid base64 SAMLResponse")
	}
	r, err := parseResponse(doc)
	if err != nil {
		return c, badIdentity("Invalid SAML response: %v", err)
	}
	if issuer := only(r.assertion, samlAssertion, "Issuer"); issuer == nil || issuer.Text() != p.Issuer {
		return c, badIdentity("Issuer not present in specified provider")
	}
	signed, ok := r.verify(p.Certificates(), now)
	if !ok {
		return c, badIdentity("Response signature invalid")
	}
	// From here on, nothing but what was signed is looked at.
	status := only(only(r.root, samlProtocol, "Status"), samlProtocol, "StatusCode")
	if status == nil || status.SelectAttrValue("Value", "") != "urn:oasis:names:tc:SAML:2.0:status:Success" {
		return c, badIdentity("The status of the SAML response is not Success")
	}
	if c.issuer = only(signed, samlAssertion, "Issuer").Text(); c.issuer != p.Issuer {
		return c, badIdentity("Issuer not present in specified provider")
	}
	if refused := c.confirm(signed, now); refused != nil {
		return c, refused
	}
	return c, c.read(signed)
}

// confirm checks whom the assertion is for, and when.
func (c *asserted) confirm(a *etree.Element, now time.Time) *refusal {
	issued, ok := moment(a, "IssueInstant")
	switch {
	case !ok:
		return badIdentity("The assertion has no IssueInstant in UTC")
	case now.Sub(issued) >= redeemable:
		return &refusal{400, "ExpiredTokenException", "Token must be redeemed within 5 minutes of issuance"}
	case issued.After(now):
		return &refusal{403, "IDPRejectedClaim", fmt.Sprintf("the assertion was issued in the future: current date/time %s, IssueInstant %s", instant(now), instant(issued))}
	}
	subject := only(a, samlAssertion, "Subject")
	id := only(subject, samlAssertion, "NameID")
	confirmation := only(subject, samlAssertion, "SubjectConfirmation")
	data := only(confirmation, samlAssertion, "SubjectConfirmationData")
	if id == nil || id.Text() == "" || data == nil || confirmation.SelectAttrValue("Method", "") != "urn:oasis:names:tc:SAML:2.0:cm:bearer" {
		return badIdentity("The assertion must have a NameID and one SubjectConfirmation, of method bearer, with SubjectConfirmationData")
	}
	c.subject, c.subjectType = id.Text(), id.SelectAttrValue("Format", "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified")
	if c.recipient = data.SelectAttrValue("Recipient", ""); !consumer.MatchString(c.recipient) {
		return badIdentity("The Recipient of the SubjectConfirmationData is no sign-in endpoint of AWS")
	}
	if _, ok := moment(data, "NotOnOrAfter"); !ok {
		return badIdentity("The SubjectConfirmationData must have NotOnOrAfter")
	}
	conditions := only(a, samlAssertion, "Conditions")
	if audience := only(only(conditions, samlAssertion, "AudienceRestriction"), samlAssertion, "Audience"); audience == nil || audience.Text() != "urn:amazon:webservices" && !consumer.MatchString(audience.Text()) {
		return badIdentity("Response does not contain the required audience")
	}
	for _, e := range []*etree.Element{data, conditions} {
		end, ends := moment(e, "NotOnOrAfter")
		start, starts := moment(e, "NotBefore")
		switch {
		case ends && !now.Before(end):
			return &refusal{400, "ExpiredTokenException", fmt.Sprintf("Token expired: current date/time %s must be before the expiration date/time %s", instant(now), instant(end))}
		case starts && now.Before(start):
			return &refusal{403, "IDPRejectedClaim", fmt.Sprintf("the assertion is not valid yet: current date/time %s, NotBefore %s", instant(now), instant(start))}
		case !ends && e.SelectAttr("NotOnOrAfter") != nil || !starts && e.SelectAttr("NotBefore") != nil:
			return badIdentity("A time of the assertion is none in UTC")
		}
	}
	return nil
}

// read reads the statements.
func (c *asserted) read(a *etree.Element) *refusal {
	c.attributes = map[string][]string{}
	for _, s := range a.ChildElements() {
		if is(s, samlAssertion, "AuthnStatement") {
			end, ends := moment(s, "SessionNotOnOrAfter")
			switch {
			case ends && (c.sessionEnd.IsZero() || end.Before(c.sessionEnd)):
				c.sessionEnd = end
			case !ends && s.SelectAttr("SessionNotOnOrAfter") != nil:
				return badIdentity("A time of the assertion is none in UTC")
			}
		}
		if !is(s, samlAssertion, "AttributeStatement") {
			continue
		}
		for _, e := range s.ChildElements() {
			name, ours := strings.CutPrefix(e.SelectAttrValue("Name", ""), attributePrefix)
			if !ours || !is(e, samlAssertion, "Attribute") {
				continue
			}
			for _, v := range e.ChildElements() {
				if is(v, samlAssertion, "AttributeValue") {
					c.attributes[name] = append(c.attributes[name], v.Text())
				}
			}
		}
	}
	switch name := c.attributes["RoleSessionName"]; {
	case len(name) != 1 || name[0] == "":
		return badIdentity("RoleSessionName is required in AuthnResponse")
	case !samlName.MatchString(name[0]):
		return badIdentity("RoleSessionName in AuthnResponse must match [a-zA-Z_0-9+=,.@-]{2,64}")
	}
	return nil
}

// offers reports whether the attribute Role has the pair, in either order.
func (c asserted) offers(role, provider string) bool {
	return slices.ContainsFunc(c.attributes["Role"], func(v string) bool { return v == role+","+provider || v == provider+","+role })
}

// fromAttributes takes name, tags, source identity and the limits of the
// session out of the assertion.
func (q *request) fromAttributes(want *wish, c asserted) *refusal {
	want.name, want.tags = c.attributes["RoleSessionName"][0], map[string]string{}
	for name, values := range c.attributes {
		key, tag := strings.CutPrefix(name, "PrincipalTag:")
		switch {
		case tag && len(values) != 1:
			return badIdentity("each PrincipalTag of the assertion must have one value")
		case tag:
			q.tag(want.tags, key, values[0], "principalTag.")
		}
	}
	if len(want.tags) > maxTags {
		return badIdentity("the assertion has %d principal tags; at most %d are allowed", len(want.tags), maxTags)
	}
	for _, k := range c.attributes["TransitiveTagKeys"] {
		if _, tagged := want.tags[k]; !tagged {
			return badIdentity("a transitive tag key of the assertion is not one of its principal tags")
		}
		want.transitive = append(want.transitive, k)
	}
	if id := c.attributes["SourceIdentity"]; id != nil {
		if len(id) != 1 || !samlName.MatchString(id[0]) || reserved(id[0]) {
			return badIdentity(`Source Identity must match [a-zA-Z_0-9+=,.@-]{2,64} and not begin with "aws:"`)
		}
		want.sourceIdentity = id[0]
	}
	if refused := q.invalid(); refused != nil {
		return refused
	}
	return q.shorten(want, c)
}

// shorten applies the assertion's own limits to a session that the role
// allows. What the role does not allow, the issuing refuses.
func (q *request) shorten(want *wish, c asserted) *refusal {
	longest := int(want.role.MaxSession / time.Second)
	if want.seconds > longest {
		return nil
	}
	seconds := want.seconds
	if seconds == 0 {
		seconds = min(longest, int(defaultSession/time.Second))
	}
	if d := c.attributes["SessionDuration"]; d != nil {
		n, err := strconv.Atoi(d[0])
		if len(d) != 1 || err != nil || n < 900 || n > int(maxSession/time.Second) {
			return badIdentity("SessionDuration must be one number of seconds, 900 to 43200")
		}
		seconds = min(seconds, n)
	}
	if !c.sessionEnd.IsZero() {
		left := int(c.sessionEnd.Sub(q.now.Truncate(time.Second)) / time.Second)
		if left <= 0 {
			return &refusal{400, "ExpiredTokenException", "Token expired: SessionNotOnOrAfter of the assertion has passed"}
		}
		seconds = min(seconds, left)
	}
	want.seconds = seconds
	return nil
}

// moment reads an attribute that is a time. SAML's are in UTC.
func moment(e *etree.Element, name string) (time.Time, bool) {
	if e == nil {
		return time.Time{}, false
	}
	text := e.SelectAttrValue(name, "")
	t, err := time.Parse(time.RFC3339, text)
	return t, err == nil && strings.HasSuffix(text, "Z")
}
