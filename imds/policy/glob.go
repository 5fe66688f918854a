package policy

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"unicode/utf8"
)

// ErrPattern matches a pattern that no Glob can be made of.
var ErrPattern = errors.New("is no pattern")

// A Glob is a pattern for a whole name, by the rules of [path.Match]: * is
// anything but a slash, ? one character but a slash, [a-c] one of these, and \
// takes the meaning from what comes after it. The zero Glob matches nothing.
type Glob struct{ pattern string }

// NewGlob returns the Glob of a pattern. Its error matches ErrPattern.
func NewGlob(pattern string) (Glob, error) {
	if pattern == "" {
		return Glob{}, fmt.Errorf("%q %w: nothing has no name; write * for everything", pattern, ErrPattern)
	}
	if !utf8.ValidString(pattern) { // path.Match finds half a character within a whole one
		return Glob{}, fmt.Errorf("%q %w: write it in UTF-8", pattern, ErrPattern)
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return Glob{}, fmt.Errorf("%q %w: close what [ has begun, and write something after \\: %w", pattern, ErrPattern, err)
	}
	return Glob{pattern}, nil
}

// NewGlobs returns the Globs of patterns. Its error tells of the first one
// that is none.
func NewGlobs(patterns ...string) ([]Glob, error) {
	var all []Glob
	for _, p := range patterns {
		g, err := NewGlob(p)
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, nil
}

// String is the pattern.
func (g Glob) String() string { return g.pattern }

// Match reports whether g is a pattern for name, or name itself, letter by
// letter: systemd's names have backslashes, and mean no more than that. Nothing
// matches a name that is not known.
func (g Glob) Match(name string) bool {
	if name == "" {
		return false
	}
	ok, _ := path.Match(g.pattern, name) // NewGlob has seen its error
	return ok || name == g.pattern
}

func matchesAny(globs []Glob, name string) bool {
	return slices.ContainsFunc(globs, func(g Glob) bool { return g.Match(name) })
}
