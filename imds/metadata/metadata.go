// Package metadata is the tree of paths and listings below meta-data/.
//
// # Why not
//
// Not http.ServeMux: it cleans paths by redirect, and no client of this
// service follows one. Not a file system: a leaf answers with and without a
// slash at its end, and so does a directory. Not a function for each leaf that
// changes: a listing is a promise, so a request has to find its leaves and its
// listings in one and the same state of the tree.
package metadata

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
)

// A Tree never changes; the next configuration makes a new one.
type Tree struct {
	leaves map[string]string   // path without slashes at its ends to value
	dirs   map[string][]string // path to its sorted entries; directories end in a slash
}

// New makes the tree of the leaves, whose paths have no slash at either end.
func New(leaves map[string]string) (*Tree, error) {
	t := &Tree{leaves: map[string]string{}, dirs: map[string][]string{"": nil}}
	for path, value := range leaves {
		if err := checkPath(path); err != nil {
			return nil, err
		}
		t.add(path, value)
	}
	for dir := range t.dirs {
		if _, both := t.leaves[dir]; both && dir != "" {
			return nil, fmt.Errorf("%q is a value and a directory at once", dir)
		}
	}
	t.sort()
	return t, nil
}

// With returns a function that gives the tree as it is at that moment: the
// leaves of t and those that live returns then. What t says counts more: a live
// leaf that has a value of t above it, or t's own entries in its place, is left
// out, and so is one whose path New would refuse. live is called concurrently,
// once a call, and does not change what it has returned.
func (t *Tree) With(live func() map[string]string) func() *Tree {
	type moment struct {
		live map[string]string
		tree *Tree
	}
	var newest atomic.Pointer[moment]
	return func() *Tree {
		now := live()
		if m := newest.Load(); m != nil && maps.Equal(m.live, now) {
			return m.tree
		}
		m := &moment{now, t.grown(now)}
		newest.Store(m)
		return m.tree
	}
}

// grown is t with more leaves, as far as they fit.
func (t *Tree) grown(more map[string]string) *Tree {
	g := &Tree{leaves: maps.Clone(t.leaves), dirs: map[string][]string{}}
	for dir, entries := range t.dirs {
		g.dirs[dir] = slices.Clone(entries)
	}
	for _, path := range slices.Sorted(maps.Keys(more)) {
		if checkPath(path) == nil && g.hasRoom(path) {
			g.add(path, more[path])
		}
	}
	g.sort()
	return g
}

// hasRoom reports whether path can become a leaf.
func (t *Tree) hasRoom(path string) bool {
	if _, isDir := t.dirs[path]; isDir {
		return false
	}
	for above := path; above != ""; above, _ = split(above) {
		if _, taken := t.leaves[above]; taken {
			return false
		}
	}
	return true
}

func (t *Tree) add(path, value string) {
	t.leaves[path] = value
	for entry := path; entry != ""; {
		dir, name := split(entry)
		if entry != path {
			name += "/"
		}
		if !slices.Contains(t.dirs[dir], name) {
			t.dirs[dir] = append(t.dirs[dir], name)
		}
		entry = dir
	}
}

func (t *Tree) sort() {
	for _, entries := range t.dirs {
		slices.Sort(entries)
	}
}

// split takes the last name off a path.
func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

func checkPath(path string) error {
	for seg := range strings.SplitSeq(path, "/") {
		if seg == "" || seg == "." || seg == ".." || strings.ContainsFunc(seg, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return fmt.Errorf("%q is no path of a value: it needs names with one slash between them", path)
		}
	}
	if path == "iam" || strings.HasPrefix(path, "iam/") {
		return fmt.Errorf("%q: what is below iam/ is served from the roles", path)
	}
	return nil
}

// Leaf returns the value at path.
func (t *Tree) Leaf(path string) (value string, ok bool) {
	value, ok = t.leaves[path]
	return value, ok
}

// List returns the listing of the directory at path, one entry a line and no
// line end after the last, with more entries where they belong by the
// alphabet.
func (t *Tree) List(path string, more ...string) (listing string, ok bool) {
	entries, ok := t.dirs[path]
	if !ok {
		return "", false
	}
	if len(more) > 0 {
		entries = append(slices.Clone(entries), more...)
		slices.Sort(entries)
	}
	return strings.Join(entries, "\n"), true
}
