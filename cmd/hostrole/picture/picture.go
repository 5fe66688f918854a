// Package picture draws a status as a page of HTML that holds everything it
// needs.
//
// # Why not
//
// Not html/template: the linker then keeps every method of every type, and the
// program grows by 2.9 MB, a fifth of it; a page of escaping that a fuzz test
// tries does. Not JavaScript, fonts or pictures from elsewhere: [Policy] forbids
// all of them, so that a name that a stranger chose can never do more than look
// odd. Not a library of charts: all of them are JavaScript.
package picture

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"

	"github.com/hostrole/hostrole/agent/admin"
)

//go:embed style.css
var styleText string

// style is the sheet as it stands in the page.
var style = word(styleText)

// Policy is the Content-Security-Policy of the page: it may show itself and its
// style sheet, and nothing else.
var Policy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

// A View is what is drawn.
type View struct {
	Host    string // its name
	Status  admin.Status
	History admin.History
	Trouble string // why there is no status; "" while there is one
	Back    string // how far the time line reaches back: 1h, 24h, or else 6h
	Still   bool   // the page does not look again by itself
}

// Draw returns a page.
func Draw(v View) string {
	span := spans[1]
	for _, one := range spans {
		if v.Back == string(one.name) {
			span = one
		}
	}
	return view{v, span}.write().whole()
}

// Words returns a page that says something, and looks no further.
func Words(text string) string {
	m := head("hostrole", 0)
	m.begin("main")
	m.leaf("h1", "hostrole")
	m.leaf("p", text)
	return m.whole()
}

// head begins a page that looks again each so many seconds; 0 for never.
func head(title string, again int) *markup {
	m := &markup{}
	m.b.WriteString("<!doctype html>")
	m.begin("html", is("lang", "en"))
	m.begin("head")
	m.empty("meta", is("charset", "utf-8"))
	m.empty("meta", is("name", "viewport"), is("content", "width=device-width, initial-scale=1"))
	m.empty("meta", is("name", "color-scheme"), is("content", "light dark"))
	if again > 0 {
		m.empty("meta", is("http-equiv", "refresh"), is("content", fmt.Sprint(again)))
	}
	m.leaf("title", title)
	m.style(style)
	m.end()
	m.begin("body")
	return m
}
