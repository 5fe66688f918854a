package imdstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Target is what scripts run against: a server in memory, or the program
// behind a real address.
type Target interface {
	// Dial connects to a server that is in the state of that name.
	Dial(ctx context.Context, state string) (net.Conn, error)
	// Value is what {{name}} stands for in that state. T is a valid session
	// token.
	Value(ctx context.Context, state, name string) (string, error)
}

// A Checker is a Target whose answers are not EC2's. It says what is wrong with
// one whatever it answers, in the place of [Answer.Check].
type Checker interface {
	Check(a Answer, toHead bool) error
}

// patience bounds one exchange. In a bubble it costs nothing; on a real
// connection a server that hangs is found in time.
const patience = 10 * time.Second

// never and always match nothing and everything.
var never, always = regexp.MustCompile(`[^\s\S]`), regexp.MustCompile(``)

// Run exchanges what the case says, and reports everything that is not as it
// must be, each with its place in the script.
func (c Case) Run(ctx context.Context, target Target) error {
	kept := map[string]string{}
	for _, s := range c.steps {
		if err := c.run(ctx, s, target, kept); err != nil {
			return err
		}
	}
	return nil
}

func (c Case) run(ctx context.Context, s step, target Target, kept map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	fail := func(line int, err error) error { return fmt.Errorf("%s:%d: %w", c.File, line, err) }
	var raw strings.Builder
	for _, p := range s.send {
		text, err := expand(p.text, func(name string) (string, error) {
			if value, ok := kept[name]; ok {
				return value, nil
			}
			return target.Value(ctx, c.State, name)
		})
		if err != nil {
			return fail(s.line, err)
		}
		for range p.times {
			raw.WriteString(text)
		}
	}
	conn, err := target.Dial(ctx, c.State)
	if err != nil {
		return fail(s.line, fmt.Errorf("connecting in state %s: %w", c.State, err))
	}
	a, err := Exchange(ctx, conn, raw.String())
	if errors.Is(err, ErrNoAnswer) {
		if len(s.expect) == 1 && s.expect[0].kind == "no answer" {
			return nil
		}
		return fail(s.line, err)
	}
	if err != nil {
		return fail(s.line, err)
	}
	var errs []error
	check := Answer.Check
	if c, ok := target.(Checker); ok {
		check = func(a Answer, toHead bool) error { return c.Check(a, toHead) }
	}
	if err := check(a, strings.HasPrefix(raw.String(), "HEAD ")); err != nil {
		errs = append(errs, fail(s.line, err))
	}
	if said := slices.ContainsFunc(s.expect, func(e expectation) bool { return e.kind == "continued" }); said != a.Continued {
		errs = append(errs, fail(s.line, fmt.Errorf("a 100 came before the answer: %v, want %v", a.Continued, said)))
	}
	for _, e := range s.expect {
		if err := e.check(a); err != nil {
			errs = append(errs, fail(e.line, err))
		}
	}
	if s.keep != "" {
		kept[s.keep] = string(a.Body)
	}
	return errors.Join(errs...)
}

// expand replaces each {{NAME}}.
func expand(text string, value func(name string) (string, error)) (string, error) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{{")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		name, after, ok := strings.Cut(rest, "}}")
		if !ok {
			return "", fmt.Errorf("{{%.20s has no end", rest)
		}
		v, err := value(name)
		if err != nil {
			return "", fmt.Errorf("{{%s}}: %w", name, err)
		}
		b.WriteString(v)
		text = after
	}
}

func (e expectation) check(a Answer) error {
	switch e.kind {
	case "no answer":
		return fmt.Errorf("the answer is %d, want none", a.Status)
	case "continued": // looked at for all exchanges
		return nil
	case "status":
		return equal("status", strconv.Itoa(a.Status), e.want)
	case "length":
		got, _ := a.Lookup("Content-Length")
		return equal("length", got, e.want)
	case "headers":
		var names []string
		for _, f := range a.Header {
			names = append(names, f.Name)
		}
		return equal("headers in order", strings.Join(names, ", "), e.want)
	case "body":
		return e.compare("body", string(a.Body))
	}
	got, n := a.Lookup(e.name)
	switch {
	case e.op == "absent" && n > 0:
		return fmt.Errorf("header %s is %q, want none", e.name, got)
	case e.op == "absent":
		return nil
	case n != 1:
		return fmt.Errorf("header %s is there %d times, want once", e.name, n)
	}
	return e.compare("header "+e.name, got)
}

func (e expectation) compare(what, got string) error {
	switch {
	case e.op == "~" && !e.re.MatchString(got):
		return fmt.Errorf("%s is %q, want a match of %s", what, got, e.re)
	case e.op == "!~" && e.re.MatchString(got):
		return fmt.Errorf("%s is %q, want no match of %s", what, got, e.re)
	case e.op == "==":
		return equal(what, got, e.want)
	}
	return nil
}

func equal(what, got, want string) error {
	if got != want {
		return fmt.Errorf("%s is %q, want %q", what, got, want)
	}
	return nil
}

// Spoiled returns copies of c, each with one expectation that was changed a
// little and cannot be met any more. A case that passes spoiled proves nothing.
func (c Case) Spoiled() []Case {
	var all []Case
	for i, s := range c.steps {
		for j, e := range s.expect {
			bad := c
			bad.Name = fmt.Sprintf("%s, line %d spoiled", c.Name, e.line)
			bad.steps = slices.Clone(c.steps)
			bad.steps[i].expect = slices.Clone(s.expect)
			bad.steps[i].expect[j] = e.spoil()
			all = append(all, bad)
		}
	}
	return all
}

func (e expectation) spoil() expectation {
	switch {
	case e.kind == "no answer", e.kind == "continued":
		e.kind, e.op, e.want = "status", "==", "299"
	case e.op == "absent":
		e.name = "Server"
	case e.op == "~":
		e.re = never
	case e.op == "!~":
		e.re = always
	case e.want == "":
		e.want = "\n"
	default: // one bit of the last byte: 200 is 201, LF is VT, a letter its neighbour
		last := len(e.want) - 1
		e.want = e.want[:last] + string([]byte{e.want[last] ^ 1})
	}
	return e
}
