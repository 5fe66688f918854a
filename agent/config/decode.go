package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A decoder puts nodes into structs by their tags and goes on after a fault.
type decoder struct {
	faults Faults
	whole  bool   // nothing was left out, so that what is not there is missing
	kind   string // of the table that is read, or of the one around it
}

func (d *decoder) bad(n *node, problem, hint string) {
	d.faults = append(d.faults, Fault{n.at.file, n.at.line, n.at.column, n.path, problem, hint})
}

// what names a kind of value in a message.
func what(k unstable.Kind) string {
	switch k {
	case unstable.String:
		return "a string"
	case unstable.Integer:
		return "an integer"
	case unstable.Float:
		return "a number with a fraction"
	case unstable.Bool:
		return "true or false"
	case unstable.Array:
		return "a list"
	case unstable.ArrayTable:
		return "a list of tables"
	case unstable.Table:
		return "a table"
	}
	return "a date"
}

// is tells whether n is of the kind that is wanted, and what to write if not.
func (d *decoder) is(n *node, want unstable.Kind, example string) bool {
	if n.kind == want {
		return true
	}
	d.bad(n, fmt.Sprintf("must be %s, not %s", what(want), what(n.kind)), "write "+example)
	return false
}

// table reads n into the struct v. schema is the path of n with * for names.
func (d *decoder) table(n *node, v reflect.Value, schema string) {
	fields := map[string]reflect.StructField{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("toml")
		if name == "" {
			continue
		}
		fields[name] = f
		if text, ok := f.Tag.Lookup("default"); ok && f.Tag.Get("kinds") == "" {
			setDefault(v.Field(i), text)
		}
		if schema == "" && n.keys[name] == nil && f.Type.Kind() == reflect.Struct {
			d.table(newTable(name, n.at, implied), v.Field(i), name)
		}
	}
	if !d.is(n, unstable.Table, tableExample(n, v, schema)) {
		return
	}
	around, kind := d.kind, d.kind
	defer func() { d.kind = around }()
	if fields["kind"].Name != "" {
		kind = ""
	}
	if c := n.keys["kind"]; c != nil && fields["kind"].Name != "" {
		before := len(d.faults)
		d.value(c, v.FieldByIndex(fields["kind"].Index), join(schema, "kind"), fields["kind"].Tag)
		kind = c.text
		if len(d.faults) > before {
			kind = ""
		}
	}
	d.kind = kind
	// Of what the kind of n does not have, nothing is expected.
	has := func(f reflect.StructField) bool { return d.listed(f.Tag.Get("kinds")) }
	for _, f := range fields {
		if text, ok := f.Tag.Lookup("default"); ok && f.Tag.Get("kinds") != "" && has(f) {
			setDefault(v.FieldByIndex(f.Index), text)
		}
	}
	for _, name := range n.order {
		c, s := n.keys[name], join(schema, name)
		f, known := fields[name]
		switch {
		case name == "kind" && known:
		case !known:
			possible := maps.Clone(fields)
			maps.DeleteFunc(possible, func(_ string, f reflect.StructField) bool { return kind != "" && !has(f) })
			names := slices.Sorted(maps.Keys(possible))
			hint := meant(name, names)
			if tables := whose(name); tables != "" && nearest(name, names) == "" {
				hint = "it belongs below " + tables
			}
			d.bad(&node{path: c.path, at: c.name}, "is not known", hint)
		case kind != "" && !has(f):
			d.bad(&node{path: c.path, at: c.name}, fmt.Sprintf("does not belong to kind %q", kind), "it belongs to "+strings.ReplaceAll(f.Tag.Get("kinds"), " ", " and "))
		default:
			d.value(c, v.FieldByIndex(f.Index), s, f.Tag)
		}
	}
	for name, f := range fields {
		if need := f.Tag.Get("need"); need != "" && d.whole && n.keys[name] == nil && has(f) && d.listed(f.Tag.Get("needed")) {
			d.bad(&node{path: n.child(name), at: n.at}, "is missing", need)
		}
	}
}

// listed tells whether a list of kinds is empty, which is all of them, or has
// the one that is read.
func (d *decoder) listed(kinds string) bool {
	return kinds == "" || slices.Contains(strings.Fields(kinds), d.kind)
}

// whose is the tables that have a key.
func whose(key string) string {
	var tables []string
	root := reflect.TypeFor[Config]()
	for i := range root.NumField() {
		f := root.Field(i)
		t, header := f.Type, f.Tag.Get("toml")
		switch t.Kind() {
		case reflect.Map:
			t, header = t.Elem(), header+".NAME"
		case reflect.Slice:
			t, header = t.Elem(), "["+header+"]"
		}
		for j := 0; key != "" && t.Kind() == reflect.Struct && j < t.NumField(); j++ {
			if t.Field(j).Tag.Get("toml") == key {
				tables = append(tables, "["+header+"]")
			}
		}
	}
	return strings.Join(tables, " or ")
}

// tableExample is how a table that is read into v is written.
func tableExample(n *node, v reflect.Value, schema string) string {
	if f := v.Type().Field(0); f.Tag.Get("toml") == "file" {
		return "{ file = '…' }"
	}
	if strings.HasSuffix(n.path, "]") {
		return "[[" + schema + "]]"
	}
	return "[" + n.path + "] and its keys below it"
}

func join(schema, name string) string { return strings.TrimPrefix(schema+"."+name, ".") }

// read is what a type implements that may be written in more than one way.
type reader interface {
	read(d *decoder, n *node, schema string)
}

// value reads n into v. A value that is wrong is left out of v.
func (d *decoder) value(n *node, v reflect.Value, schema string, tag reflect.StructTag) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch x := v.Addr().Interface().(type) {
	case reader:
		x.read(d, n, schema)
		return
	case encoding.TextUnmarshaler:
		if d.is(n, unstable.String, example(v)) {
			if err := x.UnmarshalText([]byte(n.text)); err != nil {
				d.bad(n, err.Error(), "write "+example(v))
				return
			}
			d.between(n, v, tag)
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		d.text(n, v, tag)
	case reflect.Bool:
		if d.is(n, unstable.Bool, "true or false, without quotes") {
			v.SetBool(n.text == "true")
		}
	case reflect.Int, reflect.Uint32:
		d.integer(n, v, tag)
	case reflect.Slice:
		d.list(n, v, schema, tag)
	case reflect.Map:
		d.named(n, v, schema, tag)
	case reflect.Struct:
		d.table(n, v, schema)
	default:
		panic("config: no way to read a " + v.Type().String())
	}
}

func (d *decoder) text(n *node, v reflect.Value, tag reflect.StructTag) {
	if !d.is(n, unstable.String, "it in quotes") {
		return
	}
	if all := strings.Fields(tag.Get("oneof")); len(all) > 0 && !slices.Contains(all, n.text) {
		d.bad(n, fmt.Sprintf("%.40q is not known", n.text), meant(n.text, all))
		return
	}
	text, problem, hint := form(tag.Get("form"), n.text, n.at.file)
	if problem != "" {
		d.bad(n, problem, hint)
		return
	}
	v.SetString(text)
}

func (d *decoder) integer(n *node, v reflect.Value, tag reflect.StructTag) {
	if !d.is(n, unstable.Integer, "a whole number, without quotes") {
		return
	}
	i, err := strconv.ParseInt(n.text, 0, 64)
	switch {
	case v.Kind() == reflect.Uint32 && (err != nil || i < 0 || i > 1<<32-1):
		d.bad(n, "is no id of a user", "write a number from 0 to 4294967295")
	case err != nil:
		d.bad(n, "is too large a number", "")
	case v.Kind() == reflect.Uint32:
		v.SetUint(uint64(i)) // #nosec G115 -- looked at above
	default:
		v.SetInt(i)
		d.between(n, v, tag)
	}
}

// between holds a number or a span to its limits.
func (d *decoder) between(n *node, v reflect.Value, tag reflect.StructTag) {
	least, most, ok := strings.Cut(tag.Get("between"), " ")
	if !ok {
		return
	}
	low, high := reflect.New(v.Type()).Elem(), reflect.New(v.Type()).Elem()
	setDefault(low, least)
	setDefault(high, most)
	if v.Interface() != Max && (v.Int() < low.Int() || v.Int() > high.Int()) {
		d.bad(n, fmt.Sprintf("%v is out of range", v), fmt.Sprintf("%s to %s is possible", least, most))
	}
}

// list reads a list, or the tables of [[name]].
func (d *decoder) list(n *node, v reflect.Value, schema string, tag reflect.StructTag) {
	_, scalar := reflect.New(v.Type().Elem()).Interface().(encoding.TextUnmarshaler)
	tables := v.Type().Elem().Kind() == reflect.Struct && !scalar
	switch {
	case tables && n.kind == unstable.Table:
		d.bad(n, "must be a list of tables, not a table", fmt.Sprintf("write [[%s]] with two brackets", n.path))
		return
	case n.kind != unstable.ArrayTable || !tables:
		if !d.is(n, unstable.Array, "a list in brackets, ['…']") {
			return
		}
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	for i, c := range n.items {
		d.value(c, v.Index(i), schema, tag)
	}
	if len(n.items) == 0 {
		if tag.Get("empty") == "" {
			d.bad(n, "is empty", "take it out, or write what belongs into it")
		}
		return
	}
	if argv, ok := v.Interface().([]string); ok && tag.Get("form") == "argv" {
		problem, hint := "", ""
		if argv[0], problem, hint = program(argv[0], n.at.file); problem != "" && n.items[0].kind == unstable.String {
			d.bad(n.items[0], problem, hint)
		}
	}
}

// named reads a table of names that are the operator's.
func (d *decoder) named(n *node, v reflect.Value, schema string, tag reflect.StructTag) {
	example := "a table of names in quotes and their values"
	if v.Type().Elem().Kind() == reflect.Struct {
		example = fmt.Sprintf("[%s.NAME]", n.path)
	}
	if !d.is(n, unstable.Table, example) {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, name := range n.order {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(n.keys[name], e, schema+".*", tag)
		v.SetMapIndex(reflect.ValueOf(name), e)
	}
}

// setDefault sets v from the text of a tag, which a test reads for every field.
func setDefault(v reflect.Value, text string) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	var err error
	switch x := v.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		err = x.UnmarshalText([]byte(text))
	case *string:
		*x = text
	case *bool:
		*x, err = strconv.ParseBool(text)
	case *int:
		*x, err = strconv.Atoi(text)
	default:
		err = fmt.Errorf("no way to set a %T", x)
	}
	if err != nil {
		panic("config: " + err.Error()) // a fault of a tag
	}
}

// example is how a value of the type of v is written.
func example(v reflect.Value) string {
	switch v.Interface().(type) {
	case Timestamp:
		return "a time in quotes, such as '2026-01-02T03:04:05Z'"
	case Prefix:
		return "an address or a range in quotes, such as '172.17.0.0/16'"
	}
	if v.CanInt() && v.Type().ConvertibleTo(reflect.TypeFor[time.Duration]()) {
		return "a time span in quotes, such as '90s', '15m' or '1h30m'"
	}
	return "an IP address and a port in quotes, such as '169.254.169.254:80' or '[fd00:ec2::254]:80'"
}
