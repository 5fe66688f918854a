package imds

import (
	"strings"

	"github.com/hostrole/hostrole/imds/caller"
)

// maxFields bounds the header lines of a request. SDKs send about ten.
const maxFields = 64

// A Field is one header line.
type Field struct{ Name, Value string }

// A Request is one that passed the guard. Its text shares one string that was
// read from the client; a Request is not kept after Serve returns.
type Request struct {
	Method string // a token, as sent; methods are case-sensitive
	Path   string // of the target, as sent, still encoded; begins with a slash
	Query  string // of the target, as sent, without the question mark
	Caller caller.Caller

	minor   int // of HTTP/1.x
	length  int64
	chunked bool // the body comes in chunks, where the guard lets it
	fields  []Field
}

// Lookup returns the value of the field of that name, which has only
// lower-case letters, and how often the field occurs. White space around a
// value is not part of it.
func (r *Request) Lookup(name string) (value string, count int) {
	for i := range r.fields {
		if equalFold(r.fields[i].Name, name) {
			if count == 0 {
				value = r.fields[i].Value
			}
			count++
		}
	}
	return value, count
}

// equalFold compares a header name with a lower-case one.
func equalFold(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// A refusal is the status of a request that is answered without a handler.
type refusal int

const accepted refusal = 0

// parse reads a head: all up to and with the empty line. The grammar is a
// subset of RFC 9112: origin-form targets only, CRLF at every line's end, no
// folded lines, no white space before a colon, no transfer coding but one.
//
//	head    = method SP target SP "HTTP/1." ("0" / "1") CRLF *( name ":" OWS value OWS CRLF ) CRLF
//	target  = "/" *( "!".."~" )
func (r *Request) parse(head string) refusal {
	line, rest, ok := strings.Cut(head, "\r\n")
	if !ok {
		return 400
	}
	method, after, ok1 := strings.Cut(line, " ")
	target, proto, ok2 := strings.Cut(after, " ")
	if !ok1 || !ok2 || !isToken(method) || !isTarget(target) {
		return 400
	}
	switch proto {
	case "HTTP/1.1":
		r.minor = 1
	case "HTTP/1.0":
		r.minor = 0
	default:
		if strings.HasPrefix(proto, "HTTP/") && !strings.Contains(proto, " ") {
			return 505
		}
		return 400
	}
	if len(target) > maxTarget {
		return 414
	}
	r.Method = method
	r.Path, r.Query, _ = strings.Cut(target, "?")
	for rest != "\r\n" {
		line, rest, ok = strings.Cut(rest, "\r\n")
		name, value, colon := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !colon || !isToken(name) || !isValue(value) {
			return 400
		}
		if len(r.fields) == maxFields {
			return 431
		}
		r.fields = append(r.fields, Field{name, value})
	}
	return r.framing()
}

// framing refuses whatever two readers could disagree about.
func (r *Request) framing() refusal {
	coding, codings := r.Lookup("transfer-encoding")
	text, n := r.Lookup("content-length")
	switch {
	case codings > 1, codings == 1 && (coding != "chunked" || n > 0 || r.minor == 0):
		return 400
	case codings == 1:
		r.chunked = true
		return accepted
	case n == 0:
		return accepted
	case n > 1 || text == "" || len(text) > 10:
		return 400
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 400
		}
		r.length = r.length*10 + int64(text[i]-'0')
	}
	switch {
	case r.length > maxBody:
		return 413
	case r.length > 0 && r.Method != "PUT" && r.Method != "POST":
		return 400
	}
	return accepted
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

func isTarget(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != "" && s[0] == '/'
}

func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
