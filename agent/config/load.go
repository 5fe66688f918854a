package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Load reads and checks the file at path and its drop-ins, which are the files
// hostrole.d/*.toml beside it in the order of their names. A drop-in adds
// sources, roles, listeners, rules behind those that are there, and keys that
// other tables do not have yet; it replaces nothing. The error is [Faults],
// except for a file that may not be read: that one matches fs.ErrPermission.
func Load(path string) (*Config, error) {
	main, err := readFile(path)
	if err != nil {
		return nil, err
	}
	docs := []*document{main}
	dir := dropIns(path)
	entries, err := os.ReadDir(dir) // in the order of the names
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, unreadable(dir, err)
	}
	for _, e := range entries {
		if !dropIn(e.Name()) {
			continue
		}
		d, err := readFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		docs = append(docs, d)
	}
	return parse(docs)
}

func readFile(path string) (*document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	return &document{file: path, data: data}, nil
}

func unreadable(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	hint := ""
	if errors.Is(err, fs.ErrNotExist) {
		hint = "write it, or name another one with --config"
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return Faults{{File: path, Problem: "cannot be read: " + err.Error(), Hint: hint}}
}

// Parse reads and checks one file without drop-ins. The name stands in faults,
// and relative paths are relative to its folder. The error is [Faults]: all of
// them, by position.
func Parse(name string, data []byte) (*Config, error) {
	return parse([]*document{{file: name, data: data}})
}

func parse(docs []*document) (*Config, error) {
	d := decoder{whole: true}
	var files []string
	var root *node
	for i, doc := range docs {
		tree, whole := doc.read()
		if len(doc.faults) == 0 {
			doc.verify()
		}
		files = append(files, doc.file)
		d.faults = append(d.faults, doc.faults...)
		d.whole = d.whole && whole
		if i == 0 {
			root = tree
		} else {
			d.merge(root, tree)
		}
	}
	root.rename("")
	c := &Config{index: index{}}
	root.register(c.index)
	d.table(root, reflect.ValueOf(c).Elem(), "")
	if d.whole { // of what is missing, the fault may be that it could not be read
		check(&d, c)
	}
	if len(d.faults) > 0 {
		return nil, d.faults.sorted(files)
	}
	c.Warnings = Faults(c.Warnings).sorted(files)
	return c, nil
}

// merge puts what a drop-in has into root.
func (d *decoder) merge(to, from *node) {
	for _, name := range from.order {
		c, has := from.keys[name], to.keys[name]
		switch {
		case has == nil:
			to.add(name, c)
		case to.path == "" && has.list() && c.list():
			has.kind, has.items = unstable.ArrayTable, append(has.items, c.items...)
		case has.kind == unstable.Table && c.kind == unstable.Table && grows(c.path):
			d.merge(has, c)
		default:
			hint := "a drop-in adds and does not replace: keep one of them"
			if c.path == "version" {
				hint = "only the main file has it"
			}
			d.bad(&node{path: c.path, at: c.name}, fmt.Sprintf("is in %s:%d already", has.name.file, has.name.line), hint)
		}
	}
}

// list tells whether n may be the tables of [[name]].
func (n *node) list() bool {
	return n.kind == unstable.ArrayTable || n.kind == unstable.Array && !slices.ContainsFunc(n.items, func(i *node) bool { return i.kind != unstable.Table })
}

// grows tells whether a table may have keys from several files: a source or a
// role stands in one.
func grows(path string) bool {
	return !strings.Contains(path, ".") || path == "metadata.tags" || path == "metadata.extra"
}

// rename gives n and all below it the paths that they have where they are.
func (n *node) rename(path string) {
	n.path = path
	for _, name := range n.order {
		n.keys[name].rename(n.child(name))
	}
	for i, item := range n.items {
		item.rename(fmt.Sprintf("%s[%d]", path, i))
	}
}
