package devsts

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
	"github.com/russellhaering/goxmldsig/etreeutils"
)

// A SAMLIssuer is a SAML identity provider that says whatever it is told. It
// is safe for concurrent use.
type SAMLIssuer struct {
	entity string
	now    func() time.Time

	mu    sync.Mutex // guards what follows
	key   *rsa.PrivateKey
	certs []*x509.Certificate // that of key first, then the previous one
}

// NewSAMLIssuer returns an issuer of that entity id. now is the clock that it
// mints by; both are required.
func NewSAMLIssuer(entity string, now func() time.Time) *SAMLIssuer {
	if entity == "" || now == nil {
		panic("devsts: a SAML issuer needs an entity id and a clock")
	}
	i := &SAMLIssuer{entity: entity, now: now}
	i.Rotate()
	return i
}

// Rotate makes a new key. The previous certificate stays published; the one
// before it goes.
func (i *SAMLIssuer) Rotate() {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("devsts: making a key: " + err.Error()) // the random source never fails
	}
	now := i.now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "devsts"}, NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic("devsts: making a certificate: " + err.Error())
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic("devsts: making a certificate: " + err.Error())
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key = key
	i.certs = append([]*x509.Certificate{cert}, i.certs[:min(1, len(i.certs))]...)
}

// Certificates returns what the issuer signs with, for [SAMLProvider].
func (i *SAMLIssuer) Certificates() []*x509.Certificate {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.certs)
}

// SAMLClaims are what a response says. What is zero has the default that makes
// AWS take it.
type SAMLClaims struct {
	Subject      string
	Audience     string
	Recipient    string
	Issued       time.Time           // default now
	NotOnOrAfter time.Time           // default five minutes after Issued
	SessionEnd   time.Time           // SessionNotOnOrAfter; default none
	Attributes   map[string][]string // by name; one without a slash is AWS's. RoleSessionName defaults to Subject
}

// AssertionID is the ID of the assertion in each [SAMLIssuer.Document].
const AssertionID = "_assertion"

// Mint returns a response with those claims, as STS takes it: with a signed
// assertion, in base64.
func (i *SAMLIssuer) Mint(c SAMLClaims) string {
	return base64.StdEncoding.EncodeToString([]byte(i.Sign(i.Document(c), AssertionID)))
}

// Document returns a response with those claims that nobody has signed.
func (i *SAMLIssuer) Document(c SAMLClaims) string {
	def := func(v *string, d string) {
		if *v == "" {
			*v = d
		}
	}
	def(&c.Subject, "host-7")
	def(&c.Audience, "urn:amazon:webservices")
	def(&c.Recipient, "https://signin.aws.amazon.com/saml")
	if c.Issued.IsZero() {
		c.Issued = i.now()
	}
	if c.NotOnOrAfter.IsZero() {
		c.NotOnOrAfter = c.Issued.Add(redeemable)
	}
	at := func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
	text := func(s string) string {
		var b strings.Builder
		_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
		return b.String()
	}
	var b strings.Builder
	write := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format, args...) }
	write(`<samlp:Response xmlns:samlp="%s" ID="_response" Version="2.0" IssueInstant="%s" Destination="%s">`, samlProtocol, at(c.Issued), text(c.Recipient))
	write(`<saml:Issuer xmlns:saml="%s">%s</saml:Issuer><samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>`, samlAssertion, text(i.entity))
	write(`<saml:Assertion xmlns:saml="%s" xmlns:xs="http://www.w3.org/2001/XMLSchema" ID="%s" Version="2.0" IssueInstant="%s"><saml:Issuer>%s</saml:Issuer>`, samlAssertion, AssertionID, at(c.Issued), text(i.entity))
	write(`<saml:Subject><saml:NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">%s</saml:NameID>`, text(c.Subject))
	write(`<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData NotOnOrAfter="%s" Recipient="%s"/></saml:SubjectConfirmation></saml:Subject>`, at(c.NotOnOrAfter), text(c.Recipient))
	write(`<saml:Conditions NotBefore="%s" NotOnOrAfter="%s"><saml:AudienceRestriction><saml:Audience>%s</saml:Audience></saml:AudienceRestriction></saml:Conditions>`, at(c.Issued), at(c.NotOnOrAfter), text(c.Audience))
	write(`<saml:AuthnStatement AuthnInstant="%s"`, at(c.Issued))
	if !c.SessionEnd.IsZero() {
		write(` SessionNotOnOrAfter="%s"`, at(c.SessionEnd))
	}
	write(`><saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement><saml:AttributeStatement>`)
	attributes := map[string][]string{"RoleSessionName": {c.Subject}}
	maps.Copy(attributes, c.Attributes)
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		full := name
		if !strings.Contains(name, "/") {
			full = attributePrefix + name
		}
		write(`<saml:Attribute Name="%s">`, text(full))
		for _, v := range attributes[name] {
			write(`<saml:AttributeValue xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string">%s</saml:AttributeValue>`, text(v))
		}
		write(`</saml:Attribute>`)
	}
	write(`</saml:AttributeStatement></saml:Assertion></samlp:Response>`)
	return b.String()
}

// Sign puts a signature into the element of that ID, after its first child,
// which is its issuer. It panics on a document that it cannot sign.
func (i *SAMLIssuer) Sign(document, id string) string {
	fail := func(err error) {
		if err != nil {
			panic("devsts: signing a response: " + err.Error())
		}
	}
	tree := etree.NewDocument()
	fail(tree.ReadFromString(document))
	e := tree.FindElement("//[@ID='" + id + "']")
	if e == nil || len(e.ChildElements()) == 0 {
		panic("devsts: signing a response: there is no element " + id + " with an issuer")
	}
	around, err := etreeutils.NSBuildParentContext(e)
	fail(err)
	alone, err := etreeutils.NSDetatch(around, e)
	fail(err)
	i.mu.Lock()
	key, cert := i.key, i.certs[0]
	i.mu.Unlock()
	signing, err := dsig.NewSigningContext(key, [][]byte{cert.Raw})
	fail(err)
	signing.Canonicalizer = dsig.MakeC14N10ExclusiveCanonicalizerWithPrefixList("")
	signature, err := signing.ConstructSignature(alone, true)
	fail(err)
	e.InsertChildAt(e.ChildElements()[0].Index()+1, signature)
	signed, err := tree.WriteToString()
	fail(err)
	return signed
}
