package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A node is a value or a table of a file, and where it stands.
type node struct {
	path  string // "role.app.arn", "allow[0].uid[1]"
	name  spot   // of the key
	at    spot   // of the value; of a table, of its name
	kind  unstable.Kind
	text  string  // of a scalar, without quotes
	items []*node // of an Array or ArrayTable
	keys  map[string]*node
	order []string // of keys
	made  origin
	depth int // 0 for the root
}

// deepest is how deep a value may stand; nothing that is known is below 8, but
// for tokens that are shown for tokens. The length of paths, and time, would
// grow with the square of it.
const deepest = 16

// origin is how a table came to be, which decides how it may grow.
type origin int

const (
	implied  origin = iota // by [a.b], of a
	headed                 // by [a]
	dotted                 // by a.b = 1, of a
	finished               // by a = {}, or together with others; does not grow
)

func newTable(path string, at spot, made origin) *node {
	return &node{path: path, name: at, at: at, kind: unstable.Table, keys: map[string]*node{}, made: made}
}

func (n *node) add(name string, child *node) *node {
	n.keys[name], n.order = child, append(n.order, name)
	child.depth = n.depth + 1
	return child
}

func (n *node) child(name string) string {
	if n.path == "" {
		return name
	}
	return n.path + "." + name
}

// register enters n and all below it in x.
func (n *node) register(x index) {
	x[n.path] = n.at
	for _, k := range n.order {
		n.keys[k].register(x)
	}
	for _, i := range n.items {
		i.register(x)
	}
}

// A document is one file on its way to a tree. The library's parser says what
// is where; what a table may be made of is said here, because the library's
// decoder would end at the first table that is there twice.
type document struct {
	file   string
	data   []byte
	lines  []int // offsets at which lines begin
	base   int   // offset in data at which the parser began
	faults Faults
	parser unstable.Parser
}

func (d *document) spot(offset int) spot {
	i, exact := slices.BinarySearch(d.lines, offset)
	if !exact {
		i--
	}
	return spot{d.file, i + 1, offset - d.lines[i] + 1}
}

func (d *document) bad(at spot, key, problem, hint string) {
	d.faults = append(d.faults, Fault{at.file, at.line, at.column, key, problem, hint})
}

// read makes the tree. After a line that is not TOML it goes on with the next;
// whole tells whether nothing was left out.
func (d *document) read() (root *node, whole bool) {
	d.lines = []int{0}
	for i, c := range d.data {
		if c == '\n' && i+1 < len(d.data) {
			d.lines = append(d.lines, i+1)
		}
	}
	root = newTable("", spot{d.file, 1, 1}, headed)
	open, again, whole := root, false, true
	for {
		d.parser.Reset(d.data[d.base:])
		end := d.base // of what was read
		for d.parser.NextExpression() {
			switch e := d.parser.Expression(); e.Kind {
			case unstable.KeyValue:
				d.set(open, e, again)
				end = d.base + int(e.Raw.Offset+e.Raw.Length)
			default:
				open, again = d.header(root, e)
				for it := e.Key(); it.Next(); {
					end = d.base + int(it.Node().Raw.Offset+it.Node().Raw.Length)
				}
			}
		}
		var syntax *unstable.ParserError
		if !errors.As(d.parser.Error(), &syntax) {
			return root, whole
		}
		whole = false
		offset := min(d.base+int(d.parser.Range(syntax.Highlight).Offset), len(d.data)-1)
		begin, next := d.expression(end), bytes.IndexByte(d.data[offset:], '\n')
		at, from, hint := d.spot(offset), d.spot(begin), ""
		switch {
		case from.line != at.line:
			hint = fmt.Sprintf("what is not complete begins on line %d", from.line)
		case strings.HasSuffix(syntax.Message, "at start of value"):
			hint = "write a text in quotes, and true or false in small letters"
		}
		d.bad(at, "", "no TOML: "+withoutText(syntax.Message), hint)
		if next < 0 || from.line != at.line {
			return root, whole // a value over several lines: where it ends, only its author knows
		}
		if d.data[begin] == '[' {
			open, again = newTable("", d.spot(begin), finished), false // whose keys follow is not known
		}
		d.base = offset + next + 1
	}
}

// expression is where the first expression on the lines after offset begins,
// or on the same line if none has ended on it.
func (d *document) expression(offset int) int {
	if offset > d.base {
		if eol := bytes.IndexByte(d.data[offset:], '\n'); eol >= 0 {
			offset += eol
		}
	}
	for offset < len(d.data)-1 {
		switch d.data[offset] {
		case ' ', '\t', '\r', '\n':
			offset++
		case '#':
			if eol := bytes.IndexByte(d.data[offset:], '\n'); eol >= 0 {
				offset += eol
				continue
			}
			return offset
		default:
			return offset
		}
	}
	return offset
}

var (
	asciiText = expr(` ?(but got )?U\+00[0-7][0-9A-F]( '.')?`)
	spaces    = strings.NewReplacer("\n", " ", "\r", " ")
)

// withoutText takes the operator's text out of a message of the library: it
// may be the first letter of a secret that stands where it should not. Letters
// that no secret has are left, because they cannot be seen in an editor.
func withoutText(message string) string {
	return spaces.Replace(asciiText.ReplaceAllString(message, ""))
}

const tooDeep = "is nested too deeply"

// header opens the table of [a.b] or [[a.b]]. again tells that it was open
// before: its new keys are read, and those that are there already go with the
// fault about the table.
func (d *document) header(root *node, e *unstable.Node) (open *node, again bool) {
	list := e.Kind == unstable.ArrayTable
	t := root
	for it := e.Key(); it.Next(); {
		name, at, last := string(it.Node().Data), d.spot(d.base+int(it.Node().Raw.Offset)), it.IsLast()
		path, c := t.child(name), t.keys[name]
		switch {
		case t.depth == deepest:
			d.bad(at, t.path, tooDeep, "")
			return newTable("", at, headed), false
		case c == nil && last && list:
			c = t.add(name, &node{path: path, name: at, at: at, kind: unstable.ArrayTable})
			c = c.push(at)
		case c == nil && last:
			c = t.add(name, newTable(path, at, headed))
		case c == nil:
			c = t.add(name, newTable(path, at, implied))
		case c.kind == unstable.ArrayTable && last && list:
			c = c.push(at)
		case c.kind == unstable.ArrayTable && !last:
			c = c.items[len(c.items)-1]
		case c.kind == unstable.Table && c.made == implied && last && !list:
			c.made, c.name, c.at = headed, at, at
		case c.kind == unstable.Table && c.made != finished && !last:
		case c.kind == unstable.Table && c.made == headed && last && !list:
			d.bad(at, path, fmt.Sprintf("repeated; the first is on line %d", c.at.line), "put the keys of both into one table")
			again = true
		default:
			d.bad(at, path, fmt.Sprintf("is %s on line %d already", what(c.kind), c.at.line), "keep one of them")
			return newTable(path, at, headed), false
		}
		t = c
	}
	return t, again
}

func (n *node) push(at spot) *node {
	c := newTable(fmt.Sprintf("%s[%d]", n.path, len(n.items)), at, headed)
	c.depth = n.depth + 1
	n.items = append(n.items, c)
	return c
}

// set reads a line a.b = value into t.
func (d *document) set(t *node, e *unstable.Node, again bool) {
	for it := e.Key(); it.Next(); {
		k := it.Node()
		name, at := string(k.Data), d.spot(d.base+int(k.Raw.Offset))
		path, c := t.child(name), t.keys[name]
		switch {
		case t.depth == deepest:
			d.bad(at, t.path, tooDeep, "")
			return
		case !it.IsLast() && c == nil:
			c = t.add(name, newTable(path, at, dotted))
		case !it.IsLast() && c.kind == unstable.Table && c.made == dotted:
		case c == nil:
			after := d.base + int(k.Raw.Offset+k.Raw.Length)
			after += bytes.IndexByte(d.data[after:], '=') + 1
			after += len(d.data[after:]) - len(bytes.TrimLeft(d.data[after:], " \t"))
			t.add(name, d.value(e.Value(), path, d.spot(after), t.depth+1)).name = at
		default:
			if !again {
				d.bad(at, path, fmt.Sprintf("repeated; the first is on line %d", c.at.line), "keep one of them")
			}
			return
		}
		t = c
	}
}

func (d *document) value(e *unstable.Node, path string, at spot, depth int) *node {
	n := &node{path: path, at: at, kind: e.Kind, text: string(e.Data)}
	switch {
	case depth > deepest:
		d.bad(at, path, tooDeep, "")
	case e.Kind == unstable.Array:
		for it := e.Children(); it.Next(); {
			if it.Node().Raw.Length > 0 { // a list in a list has no place of its own
				at = d.spot(d.base + int(it.Node().Raw.Offset))
			}
			n.items = append(n.items, d.value(it.Node(), fmt.Sprintf("%s[%d]", path, len(n.items)), at, depth+1))
		}
	case e.Kind == unstable.InlineTable:
		n = newTable(path, at, dotted)
		n.depth = depth
		for it := e.Children(); it.Next(); {
			d.set(n, it.Node(), false)
		}
		n.finish()
	}
	return n
}

func (n *node) finish() {
	n.made = finished
	for _, c := range n.keys {
		if c.kind == unstable.Table {
			c.finish()
		}
	}
}

// verify asks the library for the last word: what is accepted here is TOML.
func (d *document) verify() {
	var decode *toml.DecodeError
	switch err := toml.Unmarshal(d.data, &map[string]any{}); {
	case errors.As(err, &decode):
		line, column := decode.Position()
		d.bad(spot{d.file, line, column}, strings.Join(decode.Key(), "."), "no TOML: "+withoutText(strings.TrimPrefix(decode.Error(), "toml: ")), "")
	case err != nil:
		d.bad(spot{d.file, 1, 1}, "", "no TOML", "")
	}
}
