package imdstest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/imds/imdstest"
)

// An echo is a Target that answers every request with its own bytes, quoted,
// or in the way that its state says.
type echo struct{ asked []string }

const answered = "HTTP/1.1 200 OK\r\nX-State: %s\r\nContent-Length: %d\r\nDate: Mon, 24 Nov 2025 00:00:00 GMT\r\nServer: EC2ws\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n%s"

func (e *echo) Dial(ctx context.Context, state string) (net.Conn, error) {
	if state == "down" {
		return nil, errors.New("nobody is there")
	}
	l := imdstest.NewListener("169.254.169.254:80")
	client, err := l.Dial(ctx)
	if err != nil {
		return nil, err
	}
	server, err := l.Accept()
	if err != nil {
		return nil, err
	}
	go func() {
		defer func() { _ = server.Close() }()
		in := bufio.NewReader(server)
		var head strings.Builder
		for {
			line, err := in.ReadString('\n')
			head.WriteString(line)
			if err != nil || line == "\r\n" {
				break
			}
		}
		switch state {
		case "mute":
		case "told":
			_, _ = io.WriteString(server, "HTTP/1.1 100 Continue\r\n\r\n")
			_, _ = fmt.Fprintf(server, answered, state, 1, "x")
		case "left":
			_, _ = io.WriteString(server, "HTTP/1.1 100 Continue\r\n\r\n")
		case "broken":
			_, _ = io.WriteString(server, "HTTP/1.1 200 OK\r\n\r\n")
		case "lines":
			_, _ = fmt.Fprintf(server, answered, state, 6, "a\n\n| b")
		default:
			body := fmt.Sprintf("%q", head.String())
			_, _ = fmt.Fprintf(server, answered, state, len(body), body)
		}
	}()
	return client, nil
}

func (e *echo) Value(_ context.Context, state, name string) (string, error) {
	e.asked = append(e.asked, state+" "+name)
	if name != "T" {
		return "", errors.New("no such value")
	}
	return "the-token", nil
}

func parseOne(t *testing.T, text string) imdstest.Case {
	t.Helper()
	cases, err := imdstest.Parse("x.http", text)
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) != 1 {
		t.Fatalf("%d cases, want 1", len(cases))
	}
	return cases[0]
}

func TestScriptSendsExactly(t *testing.T) {
	t.Parallel()
	e := &echo{}
	c := parseOne(t, `# a comment
case 40c all ways to send
state echo
> GET / HTTP/1.1
> Token: {{T}}
>> "Raw:\x00\n"
>> "ab" * 3
>> "\r\n"
>
status == 200
header x-state == echo
header X-State ~ ^ec
header X-Other absent
headers in order: X-State, Content-Length, Date, Server, Connection, Content-Type
length == 67
body == "\"GET / HTTP/1.1\\r\\nToken: the-token\\r\\nRaw:\\x00\\nababab\\r\\n\\r\\n\""
body ==
| "GET / HTTP/1.1\r\nToken: the-token\r\nRaw:\x00\nababab\r\n\r\n"
\ no newline
body ~ Token
body !~ Other
`)
	if c.Row != "40c" || c.Name != "all ways to send" || c.State != "echo" || c.Line != 2 || c.String() != "40c all ways to send" {
		t.Errorf("parsed as %+v", c)
	}
	err := c.Run(t.Context(), e)
	if err == nil || !strings.HasPrefix(err.Error(), `x.http:15: length is "64", want "67"`) || strings.Count(err.Error(), "x.http") != 1 {
		t.Errorf("got %v, want only the wrong length of line 15", err)
	}
	if len(e.asked) != 1 || e.asked[0] != "echo T" {
		t.Errorf("the target was asked for %q", e.asked)
	}
}

func TestScriptBodies(t *testing.T) {
	t.Parallel()
	const begin = "case 1 x\nstate lines\n> GET / HTTP/1.1\n>\nstatus == 200\nbody ==\n"
	for text, ok := range map[string]bool{
		"| a\n|\n| | b\n\\ no newline\n": true,
		"| a\n|\n| | b\n":                false, // one line feed too many
		"| a\n| \n| | b\n\\ no newline":  true,
		"| a\n| | b\n\\ no newline\n":    false,
	} {
		if err := parseOne(t, begin+text).Run(t.Context(), &echo{}); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestScriptSteps(t *testing.T) {
	t.Parallel()
	c := parseOne(t, `case 1 what one exchange brings, the next one sends
state echo
> A
>
status == 200
keep FIRST
> {{FIRST}}
>
status == 200
body ==
| "\"A\\r\\n\\r\\n\"\r\n\r\n"
\ no newline
`)
	if err := c.Run(t.Context(), &echo{}); err != nil {
		t.Error(err)
	}
}

func TestScriptReportsWhatHappens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ state, send, expect, want string }{
		{"mute", "x", "no answer", ""},
		{"mute", "x", "status == 200", "x.http:3: the connection was closed without an answer"},
		{"told", "x", "continued\nstatus == 200", ""},
		{"told", "x", "status == 200", "x.http:3: a 100 came before the answer: true, want false"},
		{"echo", "x", "continued\nstatus == 200", "x.http:3: a 100 came before the answer: false, want true"},
		{"left", "x", "no answer", ""},
		{"echo", "x", "no answer", "x.http:5: the answer is 200, want none"},
		{"echo", "x", "status == 201", `x.http:5: status is "200", want "201"`},
		{"echo", "x", "status == 200\nheader X-None == 1", "x.http:6: header X-None is there 0 times, want once"},
		{"echo", "x", "status == 200\nheader X-State == ech", `x.http:6: header X-State is "echo", want "ech"`},
		{"echo", "x", "status == 200\nheader X-State absent", `x.http:6: header X-State is "echo", want none`},
		{"echo", "x", "status == 200\nheader X-State ~ ^ch", `x.http:6: header X-State is "echo", want a match of ^ch`},
		{"echo", "x", "status == 200\nbody !~ x", `want no match of x`},
		{"echo", "x", "status == 200\nbody empty", `want ""`},
		{"echo", "{{U}}", "status == 200", "x.http:3: {{U}}: no such value"},
		{"echo", "{{T", "status == 200", "has no end"},
		{"down", "x", "status == 200", "x.http:3: connecting in state down: nobody is there"},
		{"broken", "x", "status == 200", "header Server is there 0 times"},
	} {
		err := parseOne(t, "case 1 x\nstate "+c.state+"\n> "+c.send+"\n>\n"+c.expect+"\n").Run(t.Context(), &echo{})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("state %s, send %q, expect %q: got %v, want %q", c.state, c.send, c.expect, err, c.want)
		}
	}
}

func TestEverySpoiledExpectationFails(t *testing.T) {
	t.Parallel()
	c := parseOne(t, `case 1 of each kind
state echo
> x
>
status == 200
header X-State == echo
header X-State ~ echo
header X-None absent
headers in order: X-State, Content-Length, Date, Server, Connection, Content-Type
length == 9
body ==
| "x\r\n\r\n"
\ no newline
body ~ x
body !~ y
> x
>
status == 200
`)
	if err := c.Run(t.Context(), &echo{}); err != nil && !strings.Contains(err.Error(), "length") {
		t.Fatal(err)
	}
	spoiled := append(c.Spoiled(), parseOne(t, "case 1 x\nstate mute\n> x\n>\nno answer\n").Spoiled()...)
	spoiled = append(spoiled, parseOne(t, "case 1 x\nstate told\n> x\n>\ncontinued\nstatus == 200\n").Spoiled()...)
	if len(spoiled) != 13 {
		t.Errorf("%d spoiled cases, want one for each of 13 expectations", len(spoiled))
	}
	for _, bad := range spoiled {
		if bad.Run(t.Context(), &echo{}) == nil {
			t.Errorf("%s passes", bad)
		}
	}
}

func TestParseLocatesFaults(t *testing.T) {
	t.Parallel()
	const begin = "case 1 x\nstate s\n> a\n>\nstatus == 200\n"
	for text, want := range map[string]string{
		"":                                   "no case",
		"# only words\n":                     "no case",
		"state s\n":                          ":1: ",
		"case x y\n":                         ":1: a case has a row",
		"case 1\n":                           ":1: a case has a row",
		"case 1bb x\n":                       ":1: a case has a row",
		"case 1 x\n> a\n":                    ":2: ",
		"case 1 x\nstate a b\n":              ":2: a case has one state",
		"case 1 x\nstate a\nstate b\n":       ":3: a case has one state",
		"case 1 x\nstate a\n":                ":2: the case 1 x of line 1 sends nothing",
		"case 1 x\nstate a\nstatus == 200\n": ":3: ",
		"case 1 x\nstate s\n> a\n":           "does not say its status",
		"case 1 x\nstate s\n> a\nbody ~ a\n> b\nstatus == 200\n": ":5: the exchange of line 3 does not say its status",
		begin + "case 1 x\n":                         ":6: the case of line 1 has the same row and name",
		begin + "stutus == 200\n":                    ":6: ",
		begin + "status == 2OO\n":                    ":6: ",
		begin + "status is 200\n":                    ":6: ",
		begin + "header A B\n":                       ":6: ",
		begin + "header A absent now\n":              ":6: ",
		begin + "header A ~ (\n":                     ":6: ",
		begin + "body ~\n":                           ":6: ",
		begin + "body full\n":                        ":6: ",
		begin + "headers A, B\n":                     ":6: ",
		begin + "length == -1\n":                     ":6: ",
		begin + "| text\n":                           ":6: ",
		begin + "body ==\n\\ no newline":             ":7: the body has no line yet",
		begin + "body ==\n| a\n\\ no newline\n| b\n": ":9: the body has ended",
		begin + "body ==\n|a\n":                      ":7: a line of a body",
		begin + "keep\n":                             ":6: keep wants a name",
		begin + "keep A\nlength == 1\n":              ":7: keep is the last line",
		begin + ">> a\n":                             ":6: after >> comes a Go string",
		begin + ">> \"a\" x\n":                       ":6: ",
		begin + ">> \"a\" * 0\n":                     ":6: ",
	} {
		cases, err := imdstest.Parse("f.http", text)
		if err == nil || !strings.Contains(err.Error(), "f.http") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %d cases and %v, want an error with %q", text, len(cases), err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := imdstest.Load(filepath.Join(dir, "*.http")); err == nil {
		t.Error("a pattern that finds nothing was no error")
	}
	for name, row := range map[string]string{"b.http": "2", "a.http": "1"} {
		text := "case " + row + " x\nstate s\n> a\n>\nno answer\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cases, err := imdstest.Load(filepath.Join(dir, "*.http"))
	if err != nil || len(cases) != 2 || cases[0].Row != "1" || cases[1].Row != "2" {
		t.Errorf("got %v and %v", cases, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("case 1 x\nstate s\n> a\n>> \"b\" * 2\n>\nstatus == 200\nheader A ~ b\nbody ==\n| a\n\\ no newline\nkeep A\n")
	f.Fuzz(func(t *testing.T, text string) {
		cases, err := imdstest.Parse("f.http", text)
		if (err == nil) != (len(cases) > 0) {
			t.Errorf("%d cases and %v", len(cases), err)
		}
		for _, c := range cases {
			if c.State == "" || c.Row == "" || len(c.Spoiled()) == 0 {
				t.Errorf("%+v cannot fail", c)
			}
		}
	})
}
