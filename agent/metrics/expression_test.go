package metrics_test

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What follows is as much of PromQL as the packaged rules and the dashboard
// use. An increase is the difference of two scrapes, so that the range counts
// only in a rate.
//
//	or      = and *( "or" and )
//	and     = compare *( ( "and" / "unless" ) compare )
//	compare = sum [ ( "==" / "!=" / "<" / "<=" / ">" / ">=" ) sum ]
//	sum     = product *( ( "+" / "-" ) product )
//	product = atom *( ( "*" / "/" ) atom )
//	atom    = number / "(" or ")" / name "(" [ or *( "," or ) ] ")" / ( "sum" / "min" / "max" / "count" ) [ "by" "(" names ")" ] "(" or ")"
//	        / name [ "{" matchers "}" ] [ "[" range "]" ]

// A series is one line of a scrape; its name is among its labels.
type series struct {
	labels map[string]string
	value  float64
}

const nameLabel = "__name__"

// key is what makes series match each other: all labels but the name.
func (s series) key() string {
	l := maps.Clone(s.labels)
	delete(l, nameLabel)
	return fmt.Sprint(l) // sorted
}

// Scrapes are what an expression is evaluated on.
type scrapes struct{ before, after []series }

// A result is a number or a vector.
type result struct {
	number float64
	vector []series
	scalar bool
}

// An expression evaluates itself, and knows what it selects.
type expression struct {
	eval     func(scrapes) result
	selected []selector
}

// A selector names a metric and the labels that are matched.
type selector struct {
	name   string
	labels []string
}

type parser struct {
	tokens   []string
	selected []selector
}

var tokens = regexp.MustCompile(`"[^"]*"|\[[^\]]*\]|[A-Za-z_][A-Za-z0-9_]*|[0-9.]+|[=!<>]=|[=!]~|\S`)

// parse parses an expression; its panics are caught here.
func parse(text string) (e expression, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %v", text, p)
		}
	}()
	p := &parser{tokens: tokens.FindAllString(text, -1)}
	e.eval = p.binary(0)
	if len(p.tokens) > 0 {
		panic("too much: " + p.tokens[0])
	}
	e.selected = p.selected
	return e, nil
}

func (p *parser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *parser) next() string {
	t := p.peek()
	if t == "" {
		panic("ends too early")
	}
	p.tokens = p.tokens[1:]
	return t
}

func (p *parser) expect(t string) {
	if got := p.next(); got != t {
		panic("want " + t + ", got " + got)
	}
}

var levels = [][]string{{"or"}, {"and", "unless"}, {"==", "!=", "<", "<=", ">", ">="}, {"+", "-"}, {"*", "/"}}

func (p *parser) binary(level int) func(scrapes) result {
	if level == len(levels) {
		return p.atom()
	}
	left := p.binary(level + 1)
	for slices.Contains(levels[level], p.peek()) {
		op, l, r := p.next(), left, p.binary(level+1)
		left = func(s scrapes) result { return combine(op, l(s), r(s)) }
	}
	return left
}

func (p *parser) names() (names []string) {
	p.expect("(")
	for p.peek() != ")" {
		names = append(names, p.next())
		if p.peek() == "," {
			p.next()
		}
	}
	p.expect(")")
	return names
}

func (p *parser) atom() func(scrapes) result {
	t := p.next()
	if n, err := strconv.ParseFloat(t, 64); err == nil {
		return func(scrapes) result { return result{number: n, scalar: true} }
	}
	switch t {
	case "(":
		in := p.binary(0)
		p.expect(")")
		return in
	case "sum", "min", "max", "count":
		var by []string
		if p.peek() == "by" {
			p.next()
			by = p.names()
		}
		p.expect("(")
		in := p.binary(0)
		p.expect(")")
		return func(s scrapes) result { return aggregate(t, by, in(s).vector) }
	}
	if !regexp.MustCompile(`^[A-Za-z_]`).MatchString(t) {
		panic("unexpected " + t)
	}
	if p.peek() == "(" {
		return p.function(t)
	}
	return p.selector(t)
}

func (p *parser) function(name string) func(scrapes) result {
	if !slices.Contains([]string{"abs", "time", "rate", "increase", "histogram_quantile"}, name) {
		panic("no function " + name)
	}
	p.expect("(")
	var args []func(scrapes) result
	span := time.Second
	for p.peek() != ")" {
		args = append(args, p.binary(0))
		if t := p.peek(); strings.HasPrefix(t, "[") {
			if d, err := time.ParseDuration(strings.Trim(p.next(), "[]")); err == nil {
				span = d
			}
		}
		if p.peek() == "," {
			p.next()
		}
	}
	p.expect(")")
	return func(s scrapes) result {
		switch name {
		case "time":
			return result{number: float64(time.Now().Unix()), scalar: true}
		case "abs":
			return each(args[0](s), math.Abs)
		case "increase":
			return grown(args[0], s, 1)
		case "rate":
			return grown(args[0], s, span.Seconds())
		}
		panic(name + " is not evaluated")
	}
}

func grown(of func(scrapes) result, s scrapes, by float64) result {
	was := map[string]float64{}
	for _, b := range of(scrapes{after: s.before}).vector {
		was[b.key()] = b.value
	}
	var grew result
	for _, a := range of(s).vector {
		if b, there := was[a.key()]; there { // of one that is new nobody knows
			grew.vector = append(grew.vector, series{a.labels, (a.value - b) / by})
		}
	}
	return grew
}

func (p *parser) selector(name string) func(scrapes) result {
	type matcher struct {
		label  string
		admits func(string) bool
	}
	all, sel := []matcher{{nameLabel, func(v string) bool { return v == name }}}, selector{name: name}
	if p.peek() == "{" {
		p.next()
		for p.peek() != "}" {
			label, op, text := p.next(), p.next(), strings.Trim(p.next(), `"`)
			if p.peek() == "," {
				p.next()
			}
			whole := regexp.MustCompile(`^(?:` + text + `)$`)
			all = append(all, matcher{label, map[string]func(string) bool{
				"=":  func(v string) bool { return v == text },
				"!=": func(v string) bool { return v != text },
				"=~": whole.MatchString,
				"!~": func(v string) bool { return !whole.MatchString(v) },
			}[op]})
			sel.labels = append(sel.labels, label)
		}
		p.next()
	}
	p.selected = append(p.selected, sel)
	return func(s scrapes) (r result) {
		for _, one := range s.after {
			if !slices.ContainsFunc(all, func(m matcher) bool { return !m.admits(one.labels[m.label]) }) {
				r.vector = append(r.vector, one)
			}
		}
		return r
	}
}

func each(r result, f func(float64) float64) result {
	if r.scalar {
		return result{number: f(r.number), scalar: true}
	}
	var out result
	for _, s := range r.vector {
		out.vector = append(out.vector, series{s.labels, f(s.value)})
	}
	return out
}

func aggregate(how string, by []string, vector []series) (r result) {
	groups := map[string]*series{}
	for _, s := range vector {
		labels := map[string]string{}
		for _, name := range by {
			labels[name] = s.labels[name]
		}
		g := groups[fmt.Sprint(labels)]
		if g == nil {
			g = &series{labels, map[string]float64{"min": math.Inf(1), "max": math.Inf(-1)}[how]}
			groups[fmt.Sprint(labels)] = g
		}
		switch how {
		case "sum":
			g.value += s.value
		case "min":
			g.value = min(g.value, s.value)
		case "max":
			g.value = max(g.value, s.value)
		case "count":
			g.value++
		}
	}
	for _, g := range groups {
		r.vector = append(r.vector, *g)
	}
	return r
}

// combine applies an operator: on vectors, to those series that match one to
// one. A comparison lets what is true through.
func combine(op string, l, r result) (out result) {
	right := map[string]series{}
	for _, s := range r.vector {
		right[s.key()] = s
	}
	switch op {
	case "or":
		seen := map[string]bool{}
		for _, s := range l.vector {
			seen[s.key()] = true
		}
		out.vector = slices.Clone(l.vector)
		for _, s := range r.vector {
			if !seen[s.key()] {
				out.vector = append(out.vector, s)
			}
		}
		return out
	case "and", "unless":
		for _, s := range l.vector {
			if _, there := right[s.key()]; there == (op == "and") {
				out.vector = append(out.vector, s)
			}
		}
		return out
	}
	calculate := map[string]func(a, b float64) float64{
		"+": func(a, b float64) float64 { return a + b }, "-": func(a, b float64) float64 { return a - b },
		"*": func(a, b float64) float64 { return a * b }, "/": func(a, b float64) float64 { return a / b },
	}[op]
	holds := map[string]func(a, b float64) bool{
		"==": func(a, b float64) bool { return a == b }, "!=": func(a, b float64) bool { return a != b },
		"<": func(a, b float64) bool { return a < b }, "<=": func(a, b float64) bool { return a <= b },
		">": func(a, b float64) bool { return a > b }, ">=": func(a, b float64) bool { return a >= b },
	}[op]
	one := func(s series, a, b, kept float64) {
		switch {
		case calculate != nil:
			out.vector = append(out.vector, series{s.labels, calculate(a, b)})
		case holds(a, b):
			out.vector = append(out.vector, series{s.labels, kept})
		}
	}
	switch {
	case l.scalar && r.scalar:
		return result{number: calculate(l.number, r.number), scalar: true}
	case l.scalar:
		for _, s := range r.vector {
			one(s, l.number, s.value, s.value)
		}
	case r.scalar:
		for _, s := range l.vector {
			one(s, s.value, r.number, s.value)
		}
	default:
		for _, s := range l.vector {
			if other, there := right[s.key()]; there {
				one(s, s.value, other.value, s.value)
			}
		}
	}
	return out
}
