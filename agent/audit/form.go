package audit

import (
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ascii writes a text in JSON without a letter that is not printable ASCII:
// the encoder leaves those that turn a line around, or mean a control
// character to some terminals.
func ascii(text []byte) []byte {
	plain := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r < 0x7f:
			plain = append(plain, text[0])
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			plain = fmt.Appendf(plain, `\u%04x\u%04x`, high, low)
		default:
			plain = fmt.Appendf(plain, `\u%04x`, r)
		}
		text = text[size:]
	}
	return plain
}

// quoted is a text with a backslash in the place of what is not printable
// ASCII, for a log whose form is not known.
func quoted(text string) string {
	q := strconv.QuoteToASCII(text)
	if q = q[1 : len(q)-1]; q == text {
		return text
	}
	return strings.ReplaceAll(q, `\"`, `"`)
}

// message is the line that people read.
func (r Record) message() string {
	if r.Reason == "" {
		return string(r.Verdict)
	}
	return string(r.Verdict) + ": " + quoted(r.Reason)
}

// attrs are the facts of a record by the names that they have in a file.
func (r Record) attrs() (all []slog.Attr) {
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		name, option, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		f := v.Field(i)
		if name == "time" || name == "reason" || option == "omitempty" && f.IsZero() {
			continue
		}
		all = append(all, slog.Any(name, value(f.Interface())))
	}
	return all
}

func value(of any) any {
	switch of := of.(type) {
	case *uint32:
		if of == nil {
			return nil
		}
		return *of
	case Verdict:
		return string(of)
	case string:
		return quoted(of)
	case []string:
		return quoted(strings.Join(of, ","))
	case map[string]string:
		return quoted(fmt.Sprintf("%q", of))
	case []Rehearsal:
		var said []string
		for _, r := range of {
			said = append(said, r.Rule+" would give "+strings.Join(r.Roles, ","))
		}
		return quoted(strings.Join(said, "; "))
	}
	return of
}
