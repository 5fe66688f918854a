// Package metadata is the tree of paths and listings below meta-data/.
//
// # Why not
//
// Not http.ServeMux: it cleans paths by redirect, and no client of this
// service follows one. Not a file system: a leaf answers with and without a
// slash at its end, and so does a directory.
package metadata

import (
	"fmt"
	"slices"
	"strings"
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
		t.leaves[path] = value
		for entry := path; entry != ""; {
			dir, name := "", entry
			if i := strings.LastIndexByte(entry, '/'); i >= 0 {
				dir, name = entry[:i], entry[i+1:]
			}
			if entry != path {
				name += "/"
			}
			if !slices.Contains(t.dirs[dir], name) {
				t.dirs[dir] = append(t.dirs[dir], name)
			}
			entry = dir
		}
	}
	for dir, entries := range t.dirs {
		if _, both := t.leaves[dir]; both && dir != "" {
			return nil, fmt.Errorf("%q is a value and a directory at once", dir)
		}
		slices.Sort(entries)
	}
	return t, nil
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
