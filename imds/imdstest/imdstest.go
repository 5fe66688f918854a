// Package imdstest has what the tests of every endpoint need: a listener in
// memory, a client of version 2, and a runner of request scripts.
//
// # Scripts
//
// A script is a text file, *.http, of cases. Each case belongs to a row of the
// protocol's conformance table or, as P-27, of the promises; it says what is
// sent, byte for byte, and what comes back:
//
//	# A line that begins with # is a comment.
//	case 53 a zone with a slash at its end
//	state opt
//	> GET /latest/meta-data/placement/availability-zone/ HTTP/1.1
//	> Host: 169.254.169.254
//	>
//	status == 200
//	header Content-Type == text/plain
//	body ==
//	| eu-central-1a
//	\ no newline
//
// A case has the number of its row, a name, and the state that its server is
// in. Then come one or more exchanges, each on a connection of its own. What
// is sent:
//
//	> text              the text and CRLF; > alone is an empty line
//	>> "text"           a Go string, and nothing after it
//	>> "text" * 9216    the same, that many times over
//
// {{T}} stands for a valid session token, and any other {{NAME}} for what the
// [Target] or an earlier keep in the same case makes of it. What must come
// back is said next:
//
//	status == 200
//	header NAME == VALUE          the field is there once, with this value
//	header NAME ~ REGEXP          or with one that matches
//	header NAME absent
//	headers in order: A, B, C     these are all, in this order
//	body ==                       exactly the lines that follow
//	body == "text"                exactly this Go string
//	body empty
//	body ~ REGEXP
//	body !~ REGEXP
//	length == 339                 of the body; of a HEAD, what it announces
//	no answer                     not a byte before the connection is closed
//	continued                     before the answer came a 100; else none may
//	keep NAME                     the body is {{NAME}} from here on
//
// In a body, each line begins with "| " (a bare "|" is an empty line) and ends
// with a line feed; after "\ no newline" the last one does not. Every exchange
// says its status, or "no answer".
//
// Whatever a case says, each answer is also held to what section 8 of the
// protocol demands of all of them; see [Answer.Check].
//
// # Why not
//
// Not net/http's client: it normalizes what it sends, hides what it got, and
// cannot send what an attacker does. Not net/http/httptest: these scripts run
// against the program as well. Not net.Pipe: a write there waits for its
// reader, which no socket does.
package imdstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/hostrole/hostrole/imds/caller"
)

// A Field is one header line of an answer.
type Field struct{ Name, Value string }

// An Answer is what came back, before anything is made of it.
type Answer struct {
	Status int
	Reason string
	Header []Field // in order
	Body   []byte

	Continued bool // a 100 came before it
}

// ErrNoAnswer is the failure of an exchange whose connection was closed in
// good order before the first byte of an answer; a 100 is none.
var ErrNoAnswer = errors.New("the connection was closed without an answer")

// goOn is no answer yet.
var goOn = []byte("HTTP/1.1 100 Continue\r\n\r\n")

// answerLimit bounds what is read of one answer.
const answerLimit = 4 << 20

// Exchange sends raw on conn, reads until the other end closes, and closes
// conn. It keeps to the deadline of ctx. A reset connection is an error even
// after a whole answer: the client of an SDK might have lost it.
func Exchange(ctx context.Context, conn net.Conn, raw string) (Answer, error) {
	defer func() { _ = conn.Close() }()
	if by, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(by)
	}
	// A server that has heard enough may close while this is being sent; what
	// it answered is there all the same.
	_, sending := io.WriteString(conn, raw)
	got, err := io.ReadAll(io.LimitReader(conn, answerLimit))
	switch {
	case err != nil:
		return Answer{}, fmt.Errorf("reading an answer, after %d bytes of it: %w", len(got), errors.Join(err, sending))
	case len(got) == 0, bytes.Equal(got, goOn):
		return Answer{}, ErrNoAnswer
	}
	return ParseAnswer(got)
}

// ParseAnswer takes an answer apart, strictly. What follows the empty line is
// the body. A 100 may come first.
func ParseAnswer(b []byte) (Answer, error) {
	b, continued := bytes.CutPrefix(b, goOn)
	head, body, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok {
		return Answer{}, fmt.Errorf("the answer has no end of its head: %.200q", b)
	}
	lines := strings.Split(string(head), "\r\n")
	proto, rest, _ := strings.Cut(lines[0], " ")
	code, reason, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || proto != "HTTP/1.1" || len(code) != 3 || reason == "" {
		return Answer{}, fmt.Errorf("%q is no status line", lines[0])
	}
	a := Answer{Status: status, Reason: reason, Body: body, Continued: continued}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ": ")
		if !ok || name == "" || strings.ContainsAny(line, "\r\n") || strings.ContainsAny(name, " \t:") {
			return Answer{}, fmt.Errorf("%q is no header line", line)
		}
		a.Header = append(a.Header, Field{name, value})
	}
	return a, nil
}

// Lookup returns the value of the first field of that name, in any case, and
// how many there are.
func (a Answer) Lookup(name string) (value string, count int) {
	for _, f := range a.Header {
		if strings.EqualFold(f.Name, name) {
			if count == 0 {
				value = f.Value
			}
			count++
		}
	}
	return value, count
}

// demanded are in every answer, and forbidden in none. Without CORS headers, a
// page of somebody else's cannot read an answer that it got all the same.
var (
	demanded  = []string{"Server", "Date", "Content-Length", "Connection", "Content-Type"}
	forbidden = []string{"Content-Encoding", "WWW-Authenticate", "Location", "Transfer-Encoding", "ETag", "Set-Cookie",
		"Access-Control-Allow-Origin", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Allow-Private-Network"}
)

// Check reports what is wrong with an answer whatever it answers. The answer
// to a HEAD announces a body and has none.
func (a Answer) Check(toHead bool) error {
	var errs []error
	for _, name := range demanded {
		if _, n := a.Lookup(name); n != 1 {
			errs = append(errs, fmt.Errorf("header %s is there %d times, want once", name, n))
		}
	}
	for _, name := range forbidden {
		if value, n := a.Lookup(name); n != 0 {
			errs = append(errs, fmt.Errorf("header %s: %s is there, want none", name, value))
		}
	}
	want := func(name, want string) {
		if got, _ := a.Lookup(name); got != want {
			errs = append(errs, fmt.Errorf("header %s is %q, want %q", name, got, want))
		}
	}
	want("Server", "EC2ws")
	want("Connection", "close")
	if toHead {
		if len(a.Body) > 0 {
			errs = append(errs, fmt.Errorf("the answer to a HEAD has a body of %d bytes", len(a.Body)))
		}
	} else {
		want("Content-Length", strconv.Itoa(len(a.Body)))
	}
	if got, _ := a.Lookup("Date"); got != "" {
		if _, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", got); err != nil {
			errs = append(errs, fmt.Errorf("header Date: %w", err))
		}
	}
	if got, _ := a.Lookup("Content-Type"); strings.Contains(got, ";") {
		errs = append(errs, fmt.Errorf("header Content-Type is %q, want no parameters", got))
	}
	if a.Status >= 300 && a.Status < 400 {
		errs = append(errs, fmt.Errorf("status is %d: no client follows a redirect", a.Status))
	}
	return errors.Join(errs...)
}

// A Client asks in the manner of an SDK: a token first, then what it is for.
type Client struct {
	Dial func(ctx context.Context) (net.Conn, error)
	Host string // of the Host header; "" is 169.254.169.254
}

// Do exchanges one request, given without its Host header and its final empty
// line.
func (c Client) Do(ctx context.Context, method, target string, header ...Field) (Answer, error) {
	conn, err := c.Dial(ctx)
	if err != nil {
		return Answer{}, err
	}
	host := c.Host
	if host == "" {
		host = "169.254.169.254"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, target, host)
	for _, f := range header {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	b.WriteString("\r\n")
	return Exchange(ctx, conn, b.String())
}

// Token puts for a session token that lives for that many seconds.
func (c Client) Token(ctx context.Context, seconds int) (string, error) {
	a, err := c.Do(ctx, "PUT", "/latest/api/token", Field{"X-aws-ec2-metadata-token-ttl-seconds", strconv.Itoa(seconds)})
	switch {
	case err != nil:
		return "", fmt.Errorf("putting for a token: %w", err)
	case a.Status != 200:
		return "", fmt.Errorf("putting for a token: status %d", a.Status)
	}
	return string(a.Body), nil
}

// Get reads a path with a token, or without one when it is "".
func (c Client) Get(ctx context.Context, token, path string) (Answer, error) {
	if token == "" {
		return c.Do(ctx, "GET", path)
	}
	return c.Do(ctx, "GET", path, Field{"X-aws-ec2-metadata-token", token})
}

// A Person identifies every connection as the same caller, and by the
// listener and the address that it came from.
type Person caller.Caller

// Identify never fails.
func (p Person) Identify(_ context.Context, listener string, c caller.Conn) (caller.Caller, error) {
	who := caller.Caller(p)
	who.Listener, who.Remote = listener, c.Remote
	return who, nil
}
