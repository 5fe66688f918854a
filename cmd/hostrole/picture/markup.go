package picture

import (
	"html"
	"strings"

	"github.com/hostrole/hostrole/cmd/hostrole/screen"
)

// A word is a tag, the name of an attribute, or a value of one that this
// package has chosen. No text of a stranger becomes one: that would need a
// conversion, and there is none here.
type word string

// An attr is an attribute and its value.
type attr struct {
	name  word
	value string
}

// known are the attributes that may be written. None of them is run, fetched or
// obeyed, but for href, which only [link] makes, and of a word.
var known = map[word]bool{
	"aria-hidden": true, "aria-label": true, "aria-labelledby": true, "aria-current": true, "class": true, "colspan": true, "content": true,
	"cx": true, "cy": true, "d": true, "datetime": true, "fill": true, "height": true, "href": true, "http-equiv": true, "id": true, "lang": true, "charset": true,
	"name": true, "patternUnits": true, "patternTransform": true, "r": true, "role": true, "rx": true, "scope": true, "text-anchor": true, "viewBox": true,
	"width": true, "x": true, "x1": true, "x2": true, "y": true, "y1": true, "y2": true,
}

func is(name word, value string) attr { return attr{name, value} }
func class(names word) attr           { return attr{"class", string(names)} }
func link(to word) attr               { return attr{"href", string(to)} }

// A markup writes elements. Whatever is written as a text or a value is
// escaped, and has nothing in it that cannot be seen.
type markup struct {
	b    strings.Builder
	open []word
}

// begin opens an element, which end closes.
func (m *markup) begin(name word, attrs ...attr) {
	m.empty(name, attrs...)
	m.open = append(m.open, name)
}

// empty writes an element that has no end in HTML.
func (m *markup) empty(name word, attrs ...attr) {
	m.b.WriteByte('<')
	m.b.WriteString(string(name))
	for _, a := range attrs {
		if !known[a.name] {
			panic("picture: an attribute that may not be written: " + string(a.name))
		}
		m.b.WriteByte(' ')
		m.b.WriteString(string(a.name))
		m.b.WriteString(`="`)
		m.b.WriteString(escaped(a.value))
		m.b.WriteByte('"')
	}
	m.b.WriteByte('>')
}

// end closes the element that was opened last.
func (m *markup) end() {
	last := len(m.open) - 1
	m.b.WriteString("</" + string(m.open[last]) + ">")
	m.open = m.open[:last]
}

// whole closes what is open, and returns all of it.
func (m *markup) whole() string {
	for len(m.open) > 0 {
		m.end()
	}
	return m.b.String()
}

func (m *markup) text(s string) { m.b.WriteString(escaped(s)) }

// leaf is an element with a text in it.
func (m *markup) leaf(name word, text string, attrs ...attr) {
	m.begin(name, attrs...)
	m.text(text)
	m.end()
}

// style writes the style sheet, which is this package's own.
func (m *markup) style(sheet word) { m.b.WriteString("<style>" + string(sheet) + "</style>") }

func escaped(text string) string { return html.EscapeString(screen.Printable(text)) }
