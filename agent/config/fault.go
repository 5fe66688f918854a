package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// A Fault is one thing that is wrong with the configuration, and where. Its
// texts hold no value of a key that may be a secret.
type Fault struct {
	File    string // as it was named to Parse or Load
	Line    int    // from 1; 0 where the file as a whole is meant
	Column  int    // from 1, in bytes
	Key     string // such as role.app.arn or allow[0].uid[2]; "" where no key is meant
	Problem string // what is wrong
	Hint    string // what would be right; "" when Problem says it
}

// String is the fault in one line: file:line:column: key: problem; hint.
func (f Fault) String() string {
	s := f.File
	if f.Line > 0 {
		s += fmt.Sprintf(":%d:%d", f.Line, f.Column)
	}
	if key := f.Key; key != "" {
		if strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }) {
			key = strconv.Quote(key)
		}
		s += ": " + key
	}
	s += ": " + f.Problem
	if f.Hint != "" {
		s += "; " + f.Hint
	}
	return s
}

// Faults are all that is wrong with a configuration, by position.
type Faults []Fault

// Error has one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// sorted orders fs by the order of the files and the position in them.
func (fs Faults) sorted(files []string) Faults {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(slices.Index(files, a.File)-slices.Index(files, b.File), a.Line-b.Line, a.Column-b.Column,
			strings.Compare(a.Key, b.Key), strings.Compare(a.Problem, b.Problem))
	})
	return slices.Compact(fs)
}

// A spot is a place in a file.
type spot struct {
	file         string
	line, column int
}

// An index leads from a key path to the place of its value, or of the name of
// its table; "" leads to the first place of the main file.
type index map[string]spot

func (x index) has(path string) bool { _, ok := x[path]; return ok }

// find is the place of path, or else of the table or list around it.
func (x index) find(path string) spot {
	for !x.has(path) {
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return x[path]
}

// Position is the place in the file of the value at a key path, such as
// role.app.policy.file or allow[0].uid[1]; of a table it is that of its name.
// For a key that is not in the file it is the place of the table around it.
func (c *Config) Position(keyPath string) (file string, line, col int) {
	s := c.index.find(keyPath)
	return s.file, s.line, s.column
}

// Fault makes a fault at the place of a key path, for what is found out after
// the file was read.
func (c *Config) Fault(keyPath, problem, hint string) Fault {
	file, line, col := c.Position(keyPath)
	return Fault{file, line, col, keyPath, problem, hint}
}

// nearest is the word that was probably meant, or "".
func nearest(word string, words []string) string {
	best, least := "", max(1, len(word)/3)+1
	if len(word) > 64 {
		return ""
	}
	for _, w := range words {
		if d := distance(strings.ToLower(word), w); d < least {
			best, least = w, d
		} else if best == "" && len(w) > 2 && strings.HasPrefix(word, w) {
			best = w
		}
	}
	return best
}

// meant is nearest as a hint.
func meant(word string, words []string) string {
	if w := nearest(word, words); w != "" {
		return fmt.Sprintf("%q was probably meant", w)
	}
	if len(words) == 0 {
		return "there is none"
	}
	if more := len(words) - 12; more > 0 {
		return fmt.Sprintf("there is %s, and %d more", strings.Join(words[:12], ", "), more)
	}
	return "there is " + strings.Join(words, ", ")
}

// distance counts the letters to insert, drop or change from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
