package main_test

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/agent/config"
)

const packagedFile = "../../packaging/hostrole.toml"

// An entry is keys that are described together.
type entry struct {
	heads  []string // as they are written
	text   string
	awaits int  // how many keys more the text speaks of
	again  bool // described in a table before, with another example
	field  reflect.StructField
}

// A keyList becomes the part of the page with the tables and their keys, from
// the packaged file, whose comments are the description, and from the tags.
type keyList struct {
	strings.Builder
	prose     []string // a paragraph that is not over
	entry     *entry
	schema    string // of the table: "source.*.assertion.oidc."
	described map[string]bool
}

var (
	titleLine = regexp.MustCompile(`^# ---- (.*?) -+$`)
	tableLine = regexp.MustCompile(`^#?(\[+([\w.-]+)\]+)\s*(?:#\s*(.*))?$`)
	keyLine   = regexp.MustCompile(`^#?("[^"]+"|[A-Za-z_]+)\s*=\s*(.*)$`)
	// Words of the file itself keep their case: "none | env", "http only".
	asWritten  = regexp.MustCompile(`^$|^[\w-]+( \||:)|^https?\b|^"`)
	lead       = regexp.MustCompile(`^(CHANGE[.:]|example:) `)
	inlineLine = regexp.MustCompile(`^\{\s*(\w+)\s*=`)
)

// describe returns that part, and which keys it has.
func describe(t *testing.T) (page string, keys map[string]bool) {
	t.Helper()
	l := &keyList{described: map[string]bool{}}
	begun := false
	for line := range strings.Lines(read(t, packagedFile)) {
		line = strings.TrimRight(line, "\n")
		begun = begun || keyLine.MatchString(line)
		if !begun {
			continue // what is said above all tables is the page's own text
		}
		switch {
		case line == "":
			l.endEntry()
			l.endProse()
		case titleLine.MatchString(line):
			name, what, _ := strings.Cut(titleLine.FindStringSubmatch(line)[1], ": ")
			fmt.Fprintf(l, ".SH %s\n", strings.ToUpper(roff(name)))
			if what != "" {
				l.WriteString(prose(capital(what) + "."))
			}
		case tableLine.MatchString(line):
			m := tableLine.FindStringSubmatch(line)
			l.table(m[1], m[2], m[3])
		case keyLine.MatchString(line):
			m := keyLine.FindStringSubmatch(line)
			l.key(m[1], m[2])
		case strings.HasPrefix(strings.TrimSpace(line), "#") && l.entry != nil:
			l.entry.text += " " + strings.TrimSpace(strings.TrimLeft(line, " #"))
		case strings.HasPrefix(line, "# "):
			l.prose = append(l.prose, line[2:])
		default:
			t.Fatalf("%s has a line of no known form: %q", packagedFile, line)
		}
	}
	l.endEntry()
	return l.String(), l.described
}

func capital(text string) string {
	text = lead.ReplaceAllString(text, "")
	if asWritten.MatchString(text) && !strings.HasPrefix(text, "default:") {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// sentence ends a text that does not end by itself.
func sentence(text string) string {
	if text = capital(strings.TrimSpace(text)); text != "" && !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

func (l *keyList) endProse() {
	if len(l.prose) > 0 {
		l.WriteString(".PP\n" + prose(capital(strings.Join(l.prose, "\n"))))
	}
	l.prose = nil
}

func (l *keyList) table(header, name, comment string) {
	l.endEntry()
	fmt.Fprintf(l, ".SS %s\n", roff(header))
	if len(l.prose) > 0 {
		l.WriteString(prose(sentence(strings.Join(l.prose, "\n"))))
	}
	l.prose = nil
	if comment != "" {
		l.WriteString(prose(sentence(comment)))
	}
	l.schema = regexp.MustCompile(`^(source|role)\.[^.]+`).ReplaceAllString(name, "$1.*") + "."
}

func (l *keyList) key(name, rest string) {
	value, comment := rest, ""
	quoted := false
	for i, r := range rest {
		if r == '"' {
			quoted = !quoted
		}
		if r == '#' && !quoted {
			value, comment = strings.TrimSpace(rest[:i]), strings.TrimSpace(rest[i+1:])
			break
		}
	}
	schema := l.schema + name
	field, known := fieldAt(reflect.TypeFor[config.Config](), strings.Split(schema, "."))
	if !known {
		schema = l.schema + "*" // a name of the operator's
	}
	before := l.described[schema]
	l.described[schema] = true
	if m := inlineLine.FindStringSubmatch(value); m != nil {
		l.described[schema+"."+m[1]] = true
		l.described[schema+".*"] = true
	}
	// A long value may be broken behind a slash.
	head := bold(name) + " = " + strings.ReplaceAll(roff(value), "/", `/\:`)
	if e := l.entry; e != nil && e.awaits > 0 && comment == "" {
		e.heads = append(e.heads, head)
		e.awaits--
		return
	}
	if e := l.entry; e != nil && e.again && before && e.text == "" && comment == "" {
		e.heads = append(e.heads, head)
		return
	}
	l.endEntry()
	l.endProse()
	l.entry = &entry{heads: []string{head}, field: field, again: before}
	if m := regexp.MustCompile(`^these (\w+): (.*)`).FindStringSubmatch(comment); m != nil {
		l.entry.awaits = slices.Index(strings.Fields("one two three four five six seven eight nine ten"), m[1])
		comment = m[2]
	}
	if rest, is := strings.CutPrefix(comment, "example"); is {
		l.entry.heads[0] += " (an example)"
		comment = strings.TrimLeft(rest, ":;. ")
	}
	l.entry.text = comment
}

func (l *keyList) endEntry() {
	e := l.entry
	l.entry = nil
	if e == nil {
		return
	}
	for i, head := range e.heads {
		l.WriteString([]string{".TP\n", ".TQ\n"}[min(i, 1)] + head + "\n")
	}
	if e.again && e.text == "" && e.awaits == 0 {
		l.WriteString("As above.\n")
		return
	}
	tag, text := e.field.Tag, sentence(e.text)
	add := func(format string, args ...any) { text = strings.TrimSpace(text + " " + fmt.Sprintf(format, args...)) }
	if all := strings.Fields(tag.Get("oneof")); len(all) > 0 && !strings.Contains(text, all[0]) {
		add("One of %s.", strings.Join(all, ", "))
	}
	if least, most, ok := strings.Cut(tag.Get("between"), " "); ok && !strings.Contains(text, least) {
		add("From %s to %s.", least, most)
	}
	if tag.Get("need") != "" {
		kinds := strings.Fields(tag.Get("needed"))
		switch {
		case len(kinds) == 0:
			add("Required.")
		case !e.again:
			add("Required with kind %s.", strings.Join(kinds, ", "))
		}
	}
	if d := tag.Get("default"); d != "" && !strings.Contains(strings.ToLower(text), "default") {
		add("Default: %s.", d)
	}
	if text == "" {
		text = "Without a default."
	}
	l.WriteString(prose(text))
}

// fieldAt finds the field that a key is read into.
func fieldAt(t reflect.Type, path []string) (reflect.StructField, bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() == reflect.Map && len(path) > 1 {
		return fieldAt(t.Elem(), path[1:])
	}
	if t.Kind() != reflect.Struct {
		return reflect.StructField{}, false
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("toml") == path[0] {
			if len(path) == 1 {
				return f, true
			}
			return fieldAt(f.Type, path[1:])
		}
	}
	return reflect.StructField{}, false
}

// keysOf are all keys below a type, with * for a name.
func keysOf(t reflect.Type, path string) (all []string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	again := t == reflect.TypeFor[config.Assertion]() && path != "source.*.assertion"
	switch {
	case t.Kind() == reflect.Map:
		return keysOf(t.Elem(), path+".*")
	case t.Kind() != reflect.Struct, again, t == reflect.TypeFor[config.Ref](), t == reflect.TypeFor[config.File]():
		return []string{path}
	}
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("toml"); name != "" {
			all = append(all, keysOf(t.Field(i).Type, strings.TrimPrefix(path+"."+name, "."))...)
		}
	}
	if all == nil {
		return []string{path} // written as one text
	}
	return all
}

// Every key that a file may have stands on the page of the file.
func TestManualHasEveryKey(t *testing.T) {
	_, described := describe(t)
	keys := keysOf(reflect.TypeFor[config.Config](), "")
	if len(keys) < 150 {
		t.Fatalf("only %d keys found", len(keys))
	}
	for _, key := range keys {
		if !described[key] {
			t.Errorf("%s is not on the page: give it a line in %s", key, packagedFile)
		}
	}
}
