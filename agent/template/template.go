// Package template fills the templates of a session with what is known of a
// caller, so that no two callers read alike.
//
// # Why not
//
// Not a replacement of what STS does not take by a dash, nor a cut at the
// limit: "a/b" would be the "a-b" of somebody else, and CloudTrail would name
// the wrong one. Not a hash for everybody: a person reads these names. Not
// text/template: a name has no conditions, and the linker would keep every
// method of the program.
package template

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Form is what STS takes for a kind of text.
type Form struct {
	takes       func(rune) bool
	least, most int // characters
}

// Name is the form of RoleSessionName and SourceIdentity: 2 to 64 characters
// of [\w+=,.@-]. Tag is that of the value of a session tag: up to 256 letters,
// digits, spaces and _.:/=+-@ of any script.
var (
	Name = Form{func(r rune) bool {
		return r < 0x80 && (alphanumeric(byte(r)) || strings.ContainsRune("_+=,.@-", r)) // #nosec G115 -- below 0x80
	}, 2, 64}
	Tag = Form{func(r rune) bool {
		return unicode.IsLetter(r) || unicode.In(r, unicode.N, unicode.Z) || strings.ContainsRune("_.:/=+-@", r)
	}, 0, 256}
)

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// mark begins the digest that a text ends in which could not stand as it is. A
// text that has such an end of its own is one of these.
const (
	mark         = '='
	digestDigits = 20 // hexadecimal: 80 bits, of which nobody finds a second meaning
)

// facts are the placeholders for what is known of a caller, and what their
// values look like.
var facts = map[string]func(string) bool{"unit": isUnit, "user": always, "uid": isNumber, "container": always}

func always(string) bool { return true }

func isNumber(s string) bool {
	return strings.Trim(s, "0123456789") == "" && (s == "0" || s != "" && s[0] != '0')
}

// unitTypes are what the names of systemd's units end in.
var unitTypes = []string{".service", ".scope", ".slice", ".socket", ".mount", ".swap", ".timer", ".path", ".target", ".device", ".automount"}

func isUnit(s string) bool {
	return slices.ContainsFunc(unitTypes, func(t string) bool { return len(s) > len(t) && strings.HasSuffix(s, t) })
}

// A part is a text that stands as it is, or a fact.
type part struct{ text, fact string }

// A Template is a text with placeholders for facts about a caller. The zero
// Template has none and is empty.
type Template struct {
	form  Form
	parts []part
}

// New reads a template: {unit}, {user}, {uid} and {container} are facts, and
// all else stands as it is, but for what form does not take.
func New(text string, form Form) Template {
	t := Template{form: form}
	for text != "" {
		before, rest, fact := next(text)
		if before != "" {
			t.parts = append(t.parts, part{text: t.clean(before)})
		}
		if fact != "" {
			t.parts = append(t.parts, part{fact: fact})
		}
		text = rest
	}
	return t
}

// next cuts text around its first placeholder.
func next(text string) (before, after, fact string) {
	for i := range len(text) {
		name, rest, closed := strings.Cut(text[i:], "}")
		if name, is := strings.CutPrefix(name, "{"); is && closed && facts[name] != nil {
			return text[:i], rest, name
		}
	}
	return text, "", ""
}

// Facts are the names of the facts that t has placeholders for, each once, in
// order.
func (t Template) Facts() (names []string) {
	for _, p := range t.parts {
		if p.fact != "" && !slices.Contains(names, p.fact) {
			names = append(names, p.fact)
		}
	}
	slices.Sort(names)
	return names
}

// Fill puts the facts of a caller into t. What comes out is of t's form, and
// is the same for two callers only if they have the same facts: a text that
// STS would not take, that is too long, or that could be read in two ways, is
// cut and ends in an equals sign and a digest of the facts. All of t's facts
// must be known; one that is not reads as a text that no caller has.
func (t Template) Fill(values map[string]string) string {
	var text strings.Builder
	plain := true
	for _, p := range t.parts {
		v := p.text
		if p.fact != "" {
			v = values[p.fact]
			plain = plain && t.plain(p.fact, v)
		}
		text.WriteString(v)
	}
	whole := text.String()
	if n := utf8.RuneCountInString(whole); plain && n >= t.form.least && n <= t.form.most && !digested(whole) && t.clear(whole) {
		return whole
	}
	readable := []rune(t.clean(whole))
	readable = readable[:min(len(readable), t.form.most-1-digestDigits)]
	return string(readable) + string(mark) + t.digest(values)
}

// plain reports whether the value of a fact may stand as it is.
func (t Template) plain(fact, value string) bool {
	return value != "" && facts[fact](value) &&
		!strings.ContainsFunc(value, func(r rune) bool { return r == utf8.RuneError || !t.form.takes(r) })
}

// clean puts a dash in the place of what STS does not take.
func (t Template) clean(text string) string {
	return strings.Map(func(r rune) rune {
		if t.form.takes(r) && r != utf8.RuneError {
			return r
		}
		return '-'
	}, text)
}

// digest stands for all facts that t asks for.
func (t Template) digest(values map[string]string) string {
	h := sha256.New()
	for _, name := range t.Facts() {
		_, _ = fmt.Fprintf(h, "%q=%q\n", name, values[name])
	}
	return hex.EncodeToString(h.Sum(nil))[:digestDigits]
}

// digested reports whether a text ends as those do that could not stand as
// they were.
func digested(text string) bool {
	at := len(text) - digestDigits - 1
	return at >= 0 && text[at] == mark && strings.Trim(text[at+1:], "0123456789abcdef") == ""
}

// clear reports whether text, which t was filled to, can be cut into its facts
// in one way only.
func (t Template) clear(text string) bool {
	if t.asks() < 2 {
		return true
	}
	type place struct{ part, at int }
	known := map[place]int{}
	var ways func(place) int // 2 is many
	ways = func(p place) (n int) {
		if n, ok := known[p]; ok {
			return n
		}
		defer func() { known[p] = n }()
		rest := text[p.at:]
		switch {
		case p.part == len(t.parts) && rest == "":
			return 1
		case p.part == len(t.parts):
			return 0
		case t.parts[p.part].fact == "":
			if lit := t.parts[p.part].text; strings.HasPrefix(rest, lit) {
				return ways(place{p.part + 1, p.at + len(lit)})
			}
			return 0
		}
		for end := 1; end <= len(rest) && n < 2; end++ {
			if t.plain(t.parts[p.part].fact, rest[:end]) {
				n = min(2, n+ways(place{p.part + 1, p.at + end}))
			}
		}
		return n
	}
	return ways(place{}) == 1
}

// asks is how many placeholders t has.
func (t Template) asks() (n int) {
	for _, p := range t.parts {
		if p.fact != "" {
			n++
		}
	}
	return n
}
