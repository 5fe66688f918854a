package samlp

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Namespaces of SAML 2.0, and of the signatures in it.
const (
	protocol  = "urn:oasis:names:tc:SAML:2.0:protocol"
	assertion = "urn:oasis:names:tc:SAML:2.0:assertion"
	signature = "http://www.w3.org/2000/09/xmldsig#"
)

// Limits of a document. STS takes a response of 75,000 bytes at most, which
// has some hundred elements.
const (
	sizeLimit    = 128 << 10 // bytes
	depthLimit   = 64
	elementLimit = 10_000
)

// An element is one element of a document, in its place. The methods of a nil
// element find nothing, so that a path can be followed without a look at each
// step.
type element struct {
	name       xml.Name
	attrs      []xml.Attr
	text       []byte // its own, comments left out
	children   []*element
	parent     *element
	doc        []byte
	start, end int // of the element in doc
}

// parse reads a document and returns its root. It refuses a document type,
// and with it every entity but XML's own five; an encoding other than UTF-8;
// and more than 128 KiB, 64 levels or 10,000 elements. Its errors have nothing
// of the document in them.
func parse(doc []byte) (*element, error) {
	if len(doc) > sizeLimit {
		return nil, fmt.Errorf("it is larger than %d bytes", sizeLimit)
	}
	var root, open *element
	d := xml.NewDecoder(bytes.NewReader(doc))
	for depth, count := 0, 0; ; {
		at := int(d.InputOffset())
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, malformed(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name, attrs: slices.Clone(token.Attr), parent: open, doc: doc, start: at}
			depth++
			count++
			switch {
			case open == nil && root != nil:
				return nil, errors.New("it has more than one root element")
			case depth > depthLimit || count > elementLimit:
				return nil, fmt.Errorf("it has more than %d levels or %d elements", depthLimit, elementLimit)
			case open == nil:
				root = e
			default:
				open.children = append(open.children, e)
			}
			open = e
		case xml.EndElement:
			depth--
			open.end = int(d.InputOffset())
			open = open.parent
		case xml.CharData:
			if open != nil {
				open.text = append(open.text, token...)
			}
		case xml.Directive:
			return nil, errors.New("it has a document type, which a SAML message has not")
		}
	}
	if root == nil {
		return nil, errors.New("it has no element")
	}
	return root, nil
}

// malformed keeps the line of a syntax error and leaves out its text, which
// quotes the document.
func malformed(err error) error {
	var syntax *xml.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("it is no well-formed XML: see its line %d", syntax.Line)
	}
	return errors.New("it is no well-formed XML in UTF-8")
}

// is reports whether e has that name.
func (e *element) is(space, local string) bool {
	return e != nil && e.name.Space == space && e.name.Local == local
}

// child is the first child of that name; nil without one.
func (e *element) child(space, local string) *element {
	for _, c := range e.all(space, local) {
		return c
	}
	return nil
}

// all are the children of that name.
func (e *element) all(space, local string) []*element {
	if e == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(e.children), func(c *element) bool { return !c.is(space, local) })
}

// attr is the value of an attribute without a namespace; "" without one.
func (e *element) attr(local string) string {
	if e != nil {
		for _, a := range e.attrs {
			if a.Name.Space == "" && a.Name.Local == local {
				return a.Value
			}
		}
	}
	return ""
}

// ownText is the element's own text, comments left out, without the white space
// around it.
func (e *element) ownText() string {
	if e == nil {
		return ""
	}
	return strings.TrimSpace(string(e.text))
}

// cut returns the element as a document of its own: its bytes as they are.
// Only a namespace that an element around it declares, and that it may use, is
// declared at its start once more; a signature survives that, because its
// canonical form has the declaration there anyway.
func (e *element) cut() []byte {
	raw := e.doc[e.start:e.end]
	own := declared(e)
	around := map[string]string{}
	for p := e.parent; p != nil; p = p.parent {
		for prefix, uri := range declared(p) {
			if _, nearer := around[prefix]; !nearer {
				around[prefix] = uri
			}
		}
	}
	var missing bytes.Buffer
	for _, prefix := range slices.Sorted(maps.Keys(around)) {
		// A prefix may stand in a name, in a value, or in the list of a
		// transform: what does not even occur is not used.
		if _, there := own[prefix]; there || prefix+around[prefix] == "" || !bytes.Contains(raw, []byte(prefix)) {
			continue
		}
		missing.WriteString(" xmlns")
		if prefix != "" {
			missing.WriteString(":" + prefix)
		}
		missing.WriteString(`="`)
		_ = xml.EscapeText(&missing, []byte(around[prefix])) // a Buffer takes everything
		missing.WriteString(`"`)
	}
	name := 1 + bytes.IndexAny(raw[1:], " \t\r\n/>")
	return slices.Concat(raw[:name], missing.Bytes(), raw[name:])
}

// declared are the namespaces that an element declares itself, by prefix.
func declared(e *element) map[string]string {
	out := map[string]string{}
	for _, a := range e.attrs {
		switch {
		case a.Name.Space == "xmlns":
			out[a.Name.Local] = a.Value
		case a.Name.Space == "" && a.Name.Local == "xmlns":
			out[""] = a.Value
		}
	}
	return out
}
