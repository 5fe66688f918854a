package devsts

import (
	"bytes"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/beevik/etree"
	dsig "github.com/russellhaering/goxmldsig"
	"github.com/russellhaering/goxmldsig/etreeutils"
)

// Namespaces of a response.
const (
	samlProtocol  = "urn:oasis:names:tc:SAML:2.0:protocol"
	samlAssertion = "urn:oasis:names:tc:SAML:2.0:assertion"
)

// Limits of a response, whose size the parameter bounds.
const (
	maxDepth    = 64
	maxElements = 5000
)

// signatureMethods and digestMethods are those that are taken.
var (
	signatureMethods = []string{dsig.RSASHA256SignatureMethod, dsig.RSASHA384SignatureMethod, dsig.RSASHA512SignatureMethod}
	digestMethods    = []string{"http://www.w3.org/2001/04/xmlenc#sha256", "http://www.w3.org/2001/04/xmldsig-more#sha384", "http://www.w3.org/2001/04/xmlenc#sha512"}
)

// A response is a samlp:Response with the one assertion in it, of which
// nothing has been verified.
type response struct{ root, assertion *etree.Element }

// parseResponse takes a response apart. The shape is narrow, because what
// makes a signature cover one assertion and the reader see another needs a
// second one somewhere, a second ID, or a signature in a place of its own.
func parseResponse(doc []byte) (r response, err error) {
	if err := wellFormed(doc); err != nil {
		return r, err
	}
	tree := etree.NewDocument()
	if err := tree.ReadFromBytes(doc); err != nil || tree.Root() == nil {
		return r, errors.New("it is no XML")
	}
	r.root = tree.Root()
	if !is(r.root, samlProtocol, "Response") || r.root.SelectAttrValue("Version", "") != "2.0" {
		return r, errors.New("it is no Response of SAML 2.0")
	}
	ids, signatures := map[string]bool{}, map[*etree.Element]int{}
	var walk func(*etree.Element) error
	walk = func(e *etree.Element) error {
		for _, a := range e.Attr {
			if strings.EqualFold(a.Key, "id") {
				if ids[a.Value] || a.Value == "" {
					return errors.New("two of its elements have one ID")
				}
				ids[a.Value] = true
			}
		}
		switch {
		case is(e, samlAssertion, "EncryptedAssertion"):
			return errors.New("its assertion is encrypted, and there is no key for it here")
		case is(e, samlAssertion, "Assertion") && (r.assertion != nil || e.Parent() != r.root):
			return errors.New("it has an assertion beside the one in its place")
		case is(e, samlAssertion, "Assertion"):
			r.assertion = e
		case is(e, samlProtocol, "Response") && e != r.root:
			return errors.New("it has a response in it")
		case is(e, dsig.Namespace, dsig.SignatureTag):
			signatures[e.Parent()]++
		}
		for _, c := range e.ChildElements() {
			if err := walk(c); err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(r.root); err != nil {
		return r, err
	}
	if r.assertion == nil {
		return r, errors.New("it has no assertion")
	}
	for at, n := range signatures {
		if n > 1 || at != r.root && at != r.assertion {
			return r, errors.New("it has a signature where none belongs")
		}
	}
	return r, nil
}

// wellFormed refuses what the tree's reader would take: a document type, an
// attribute that is there twice, and what is too deep or too much.
func wellFormed(doc []byte) error {
	d := xml.NewDecoder(bytes.NewReader(doc))
	for depth, count := 0, 0; ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errors.New("it is no well-formed XML in UTF-8")
		}
		switch token := token.(type) {
		case xml.StartElement:
			depth++
			count++
			seen := map[xml.Name]bool{}
			for _, a := range token.Attr {
				if seen[a.Name] {
					return errors.New("an element has an attribute twice")
				}
				seen[a.Name] = true
			}
		case xml.EndElement:
			depth--
		case xml.Directive:
			return errors.New("it has a document type")
		}
		if depth > maxDepth || count > maxElements {
			return fmt.Errorf("it has more than %d levels or %d elements", maxDepth, maxElements)
		}
	}
}

// verify returns the assertion as it was signed, read anew from the signed
// bytes: nothing else of the document may be used after that. Every signature
// must hold, and one must be there.
func (r response) verify(certs []*x509.Certificate, now time.Time) (*etree.Element, bool) {
	var signed *etree.Element
	for _, e := range []*etree.Element{r.assertion, r.root} { // the outer one has the last word
		if only(e, dsig.Namespace, dsig.SignatureTag) == nil {
			continue
		}
		got := signedBy(e, certs, now)
		if got == nil {
			return nil, false
		}
		signed = got
	}
	if signed != nil && is(signed, samlProtocol, "Response") {
		signed = only(signed, samlAssertion, "Assertion")
	}
	return signed, signed != nil
}

// signedBy returns what one of the certificates has signed of e, which must be
// e as a whole; nil when none has.
func signedBy(e *etree.Element, certs []*x509.Certificate, now time.Time) *etree.Element {
	if !plain(only(e, dsig.Namespace, dsig.SignatureTag), e.SelectAttrValue("ID", "")) {
		return nil
	}
	around, err := etreeutils.NSBuildParentContext(e)
	if err != nil {
		return nil
	}
	alone, err := etreeutils.NSDetatch(around, e)
	if err != nil {
		return nil
	}
	// The key in the signature is anybody's claim: the certificates are what
	// the account knows.
	s := only(alone, dsig.Namespace, dsig.SignatureTag)
	if info := only(s, dsig.Namespace, dsig.KeyInfoTag); info != nil {
		s.RemoveChild(info)
	}
	for _, cert := range certs {
		v := dsig.NewDefaultValidationContext(&dsig.MemoryX509CertificateStore{Roots: []*x509.Certificate{cert}})
		v.Clock = dsig.NewFakeClockAt(now)
		if signed, err := v.Validate(alone); err == nil && is(signed, e.NamespaceURI(), e.Tag) {
			return signed
		}
	}
	return nil
}

// plain reports whether s is the one kind of signature that SAML has: over the
// element around it, by its ID, without the signature itself, in exclusive
// canonical form.
func plain(s *etree.Element, id string) bool {
	const exclusive = string(dsig.CanonicalXML10ExclusiveAlgorithmId)
	algorithm := func(e *etree.Element) string { return e.SelectAttrValue(dsig.AlgorithmAttr, "") }
	info := children(s, "SignedInfo", "SignatureValue", "KeyInfo?")
	if info == nil {
		return false
	}
	of := children(info[0], "CanonicalizationMethod", "SignatureMethod", "Reference")
	if of == nil || algorithm(of[0]) != exclusive || !slices.Contains(signatureMethods, algorithm(of[1])) {
		return false
	}
	reference := children(of[2], "Transforms", "DigestMethod", "DigestValue")
	if reference == nil || id == "" || of[2].SelectAttrValue(dsig.URIAttr, "") != "#"+id || !slices.Contains(digestMethods, algorithm(reference[1])) {
		return false
	}
	transforms := children(reference[0], "Transform", "Transform")
	return transforms != nil && algorithm(transforms[0]) == string(dsig.EnvelopedSignatureAltorithmId) && algorithm(transforms[1]) == exclusive
}

// children are those of e when they are exactly those of that name in XML
// Signature, in that order; a name with ? may be missing. Else it is nil.
func children(e *etree.Element, names ...string) []*etree.Element {
	all := e.ChildElements()
	for i, name := range names {
		name, optional := strings.CutSuffix(name, "?")
		switch {
		case i < len(all) && is(all[i], dsig.Namespace, name):
		case i == len(all) && optional:
		default:
			return nil
		}
	}
	if len(all) > len(names) {
		return nil
	}
	return all
}

// is reports whether e has that name.
func is(e *etree.Element, space, tag string) bool {
	return e.Tag == tag && e.NamespaceURI() == space
}

// only is the one child of that name; nil when there is none, or more.
func only(e *etree.Element, space, tag string) *etree.Element {
	if e == nil {
		return nil
	}
	var found *etree.Element
	for _, c := range e.ChildElements() {
		if is(c, space, tag) {
			if found != nil {
				return nil
			}
			found = c
		}
	}
	return found
}
