package imdstest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A Case is one row of a script.
type Case struct {
	File  string
	Line  int
	Row   string // of the protocol's table, with its letter, "40c"; or of the promises, "P-27"
	Name  string
	State string

	steps []step
}

// String is the row and the name, fit for a subtest.
func (c Case) String() string { return c.Row + " " + c.Name }

// A step is one exchange on a connection of its own.
type step struct {
	line   int
	send   []piece
	expect []expectation
	keep   string // name for the body, "" for none
}

// A piece is sent as often as it says, after its {{NAME}}s were replaced.
type piece struct {
	text  string
	times int
}

type expectation struct {
	file string
	line int
	kind string // "status", "header", "headers", "body", "length", "no answer", "continued"
	name string // of the header
	op   string // "==", "~", "!~", "absent"
	want string
	re   *regexp.Regexp // of op ~ and !~
}

// Load reads the scripts that a pattern of [filepath.Glob] finds, in order of
// their names. To find none is an error.
func Load(pattern string) ([]Case, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("looking for scripts: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("looking for scripts: %s finds none", pattern)
	}
	var all []Case
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading a script: %w", err)
		}
		cases, err := Parse(name, string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, cases...)
	}
	return all, nil
}

// Parse reads a script. name is that of the file; errors say file:line.
func Parse(name, text string) ([]Case, error) {
	p := parser{file: name, seen: map[string]int{}}
	// A line may end in \r that means it: only LF ends one.
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		p.line++
		if err := p.parse(line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, p.line, err)
		}
	}
	if err := p.endCase(); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", name, p.line, err)
	}
	if len(p.cases) == 0 {
		return nil, fmt.Errorf("%s: there is no case in it", name)
	}
	return p.cases, nil
}

type parser struct {
	file  string
	line  int
	cases []Case
	seen  map[string]int // case to line
	body  *expectation   // whose lines are being read; nil outside of a body
	noEOL bool           // it has ended with "\ no newline"
}

var rowForm = regexp.MustCompile(`^(P-)?[0-9]+[a-z]?$`)

func (p *parser) parse(line string) error {
	if p.body != nil && (strings.HasPrefix(line, "|") || strings.HasPrefix(line, `\`)) {
		return p.bodyLine(line)
	}
	p.body, p.noEOL = nil, false
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case strings.TrimSpace(line) == "", strings.HasPrefix(line, "#"):
		return nil
	case word == "case":
		return p.beginCase(rest)
	case len(p.cases) == 0:
		return fmt.Errorf("%q before the first case", line)
	}
	c := &p.cases[len(p.cases)-1]
	switch {
	case word == "state":
		if c.State != "" || rest == "" || strings.ContainsAny(rest, " \t") {
			return errors.New("a case has one state, of one word")
		}
		c.State = rest
		return nil
	case c.State == "":
		return fmt.Errorf("%q before the state of the case", line)
	case word == ">", word == ">>":
		return p.send(c, word, rest)
	case len(c.steps) == 0:
		return fmt.Errorf("%q before the request", line)
	}
	s := &c.steps[len(c.steps)-1]
	if s.keep != "" {
		return errors.New("keep is the last line of an exchange")
	}
	if word == "keep" {
		if rest == "" || strings.ContainsAny(rest, " {}") {
			return errors.New("keep wants a name of one word")
		}
		s.keep = rest
		return nil
	}
	return p.expect(s, line, word, rest)
}

func (p *parser) beginCase(rest string) error {
	if err := p.endCase(); err != nil {
		return err
	}
	row, name, _ := strings.Cut(rest, " ")
	if !rowForm.MatchString(row) || strings.TrimSpace(name) == "" {
		return errors.New("a case has a row, such as 12, 40c or P-27, and a name")
	}
	if at := p.seen[rest]; at != 0 {
		return fmt.Errorf("the case of line %d has the same row and name", at)
	}
	p.seen[rest] = p.line
	p.cases = append(p.cases, Case{File: p.file, Line: p.line, Row: row, Name: name})
	return nil
}

// endCase checks that the newest case can fail.
func (p *parser) endCase() error {
	if len(p.cases) == 0 {
		return nil
	}
	c := p.cases[len(p.cases)-1]
	if len(c.steps) == 0 {
		return fmt.Errorf("the case %s of line %d sends nothing", c, c.Line)
	}
	return c.steps[len(c.steps)-1].complete()
}

func (s *step) complete() error {
	for _, e := range s.expect {
		if e.kind == "status" || e.kind == "no answer" {
			return nil
		}
	}
	return fmt.Errorf("the exchange of line %d does not say its status, or no answer", s.line)
}

func (p *parser) send(c *Case, word, rest string) error {
	one := piece{text: rest + "\r\n", times: 1}
	if word == ">>" {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return fmt.Errorf(`after >> comes a Go string: %w`, err)
		}
		one.text, _ = strconv.Unquote(quoted)
		if times, ok := strings.CutPrefix(rest[len(quoted):], " * "); ok {
			if one.times, err = strconv.Atoi(times); err != nil || one.times < 1 {
				return fmt.Errorf("%q is no number of times", times)
			}
		} else if rest != quoted {
			return fmt.Errorf(`%q after the string; "* N" may be`, rest[len(quoted):])
		}
	}
	if n := len(c.steps); n == 0 || len(c.steps[n-1].expect) > 0 {
		if n > 0 {
			if err := c.steps[n-1].complete(); err != nil {
				return err
			}
		}
		c.steps = append(c.steps, step{line: p.line})
	}
	s := &c.steps[len(c.steps)-1]
	s.send = append(s.send, one)
	return nil
}

func (p *parser) expect(s *step, line, word, rest string) error {
	e := expectation{file: p.file, line: p.line, kind: word}
	op, want, _ := strings.Cut(rest, " ")
	e.op, e.want = op, want
	block := false
	switch {
	case line == "no answer", line == "continued":
		e.kind, e.op, e.want = line, "", ""
	case (word == "status" || word == "length") && op == "==":
		if _, err := strconv.ParseUint(want, 10, 31); err != nil {
			return fmt.Errorf("%s: %q is no number", word, want)
		}
	case word == "header":
		e.name = op
		e.op, e.want, _ = strings.Cut(want, " ")
		if e.op != "==" && e.op != "~" && (e.op != "absent" || e.want != "") {
			return fmt.Errorf("after the name of the header comes ==, ~ or absent, not %q", want)
		}
	case word == "headers" && strings.HasPrefix(rest, "in order: "):
		e.op, e.want = "==", strings.TrimPrefix(rest, "in order: ")
	case word == "body" && rest == "empty":
		e.op, e.want = "==", ""
	case word == "body" && rest == "==":
		block = true
	case word == "body" && op == "==":
		text, err := strconv.Unquote(want)
		if err != nil || want[0] != '"' {
			return errors.New(`body == is followed by lines that begin with "| ", or by a Go string`)
		}
		e.want = text
	case word == "body" && (op == "~" || op == "!~"):
	default:
		return fmt.Errorf("%q is nothing that a script can say", line)
	}
	if e.op == "~" || e.op == "!~" {
		if e.want == "" {
			return fmt.Errorf("%s wants a regular expression", e.op)
		}
		re, err := regexp.Compile(e.want)
		if err != nil {
			return err
		}
		e.re = re
	}
	s.expect = append(s.expect, e)
	if block {
		p.body = &s.expect[len(s.expect)-1]
	}
	return nil
}

func (p *parser) bodyLine(line string) error {
	if p.noEOL {
		return errors.New("the body has ended")
	}
	if line == `\ no newline` {
		if p.body.want == "" {
			return errors.New("the body has no line yet; an empty one is: body empty")
		}
		p.body.want, p.noEOL = strings.TrimSuffix(p.body.want, "\n"), true
		return nil
	}
	text, ok := strings.CutPrefix(line, "| ")
	if !ok && line != "|" {
		return errors.New(`a line of a body begins with "| ", or is \ no newline`)
	}
	if line == "|" {
		text = ""
	}
	p.body.want += text + "\n"
	return nil
}
