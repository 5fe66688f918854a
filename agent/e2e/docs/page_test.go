package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is that of the repository.
const root = "../../.."

// A block is one fenced example of a page.
type block struct {
	page    string // its path from the root of the repository
	section string // the heading of second degree that it is below
	line    int    // of its first line, from 1
	info    string
	text    string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

// A command is one that a page tells people to type.
type command struct {
	line int
	text string
	want []string // lines that it shows; nil when the page says nothing of them
}

// commands are those of a block: what stands behind "$ ", with the lines that
// continue it. A line is continued behind a backslash, a pipe and an open quote.
func (b block) commands() (all []command, err error) {
	open := false
	n := b.line - 1
	for line := range strings.Lines(b.text) {
		n++
		line = strings.TrimSuffix(line, "\n")
		switch text, is := strings.CutPrefix(line, "$ "); {
		case open:
			last := &all[len(all)-1]
			last.text += "\n" + line
			open = unfinished(last.text)
		case is:
			all = append(all, command{line: n, text: text})
			open = unfinished(text)
		case len(all) == 0:
			return nil, fmt.Errorf("%v: the block begins with no command: write \"$ \" before it", b)
		default:
			last := &all[len(all)-1]
			last.want = append(last.want, line)
		}
	}
	if open {
		return nil, fmt.Errorf("%v: the last command has no end", b)
	}
	return all, nil
}

// unfinished reports whether a shell would read on.
func unfinished(text string) bool {
	text = strings.TrimRight(text, " ")
	return strings.HasSuffix(text, `\`) || strings.HasSuffix(text, "|") || strings.Count(text, "'")%2 == 1
}

// blocks are the fenced examples of a page.
func blocks(t *testing.T, page string) (found []block) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	var open *block
	n, section := 0, ""
	for line := range strings.Lines(string(text)) {
		n++
		switch heading, is := strings.CutPrefix(line, "## "); {
		case open == nil && is:
			section = strings.TrimSpace(heading)
		case open == nil && strings.HasPrefix(line, "```"):
			open = &block{page: page, section: section, line: n + 1, info: strings.TrimSpace(line[3:])}
		case open != nil && strings.HasPrefix(line, "```"):
			found = append(found, *open)
			open = nil
		case open != nil:
			open.text += line
		}
	}
	if open != nil {
		t.Fatalf("%v: the block has no end", open)
	}
	return found
}

// pages are README.md and all pages of packaging/docs.
func pages(t *testing.T) []string {
	t.Helper()
	found := []string{"README.md"}
	err := fs.WalkDir(os.DirFS(root), "packaging/docs", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && filepath.Ext(path) == ".md" {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// shows is what is missing in the output of a command: the first line of want
// that does not come, in this order, or "". "…" stands for anything within a
// line, and alone for any lines. Without such a line, the output has to be of
// these lines and no others.
func shows(want []string, got string) string {
	var pattern strings.Builder
	pattern.WriteString(`(?s)\A`)
	for i, line := range want {
		if line == "…" {
			pattern.WriteString(`(?:.*\n)?`)
			continue
		}
		parts := strings.Split(line, "…")
		for j, p := range parts {
			parts[j] = regexp.QuoteMeta(strings.TrimRight(p, " "))
			if j < len(parts)-1 { // what leads to a mark keeps its spaces
				parts[j] = regexp.QuoteMeta(p)
			}
		}
		pattern.WriteString(strings.Join(parts, `[^\n]*`) + ` *\n`)
		if !regexp.MustCompile(pattern.String()).MatchString(got) {
			return fmt.Sprintf("line %d is not shown: %s", i+1, line)
		}
	}
	if !regexp.MustCompile(pattern.String() + `\z`).MatchString(got) {
		return "more is shown than the page has"
	}
	return ""
}

func TestShows(t *testing.T) {
	for _, c := range []struct {
		name      string
		want, got string
		good      bool
	}{
		{"the same", "a\nb", "a\nb\n", true},
		{"spaces at the end", "a\nb", "a  \nb\n", true},
		{"another line", "a\nb", "a\nc\n", false},
		{"a line more", "a", "a\nb\n", false},
		{"a line less", "a\nb", "a\n", false},
		{"anything within a line", "a … c", "a b c\n", true},
		{"nothing of another line", "a … c", "a b\n c\n", false},
		{"any lines", "a\n…\nd", "a\nb\nc\nd\n", true},
		{"none", "a\n…\nd", "a\nd\n", true},
		{"any lines at the end", "a\n…", "a\nb\n", true},
		{"any lines at the beginning", "…\nb", "a\nb\n", true},
		{"any lines, and one that is missing", "…\nc\n…", "a\nb\n", false},
	} {
		if got := shows(strings.Split(c.want, "\n"), c.got); (got == "") != c.good {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestCommands(t *testing.T) {
	b := block{page: "page.md", line: 7, text: "$ a \\\n    b\nshown\n$ printf 'x\ny' |\n  tee z\n"}
	got, err := b.commands()
	if err != nil || len(got) != 2 || got[0].text != "a \\\n    b" || strings.Join(got[0].want, "") != "shown" || got[1].line != 10 || got[1].text != "printf 'x\ny' |\n  tee z" || got[1].want != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, text := range []string{"a\n", "$ a \\\n", "$ echo 'a\n"} {
		if got, err := (block{page: "page.md", text: text}).commands(); err == nil {
			t.Errorf("%q is taken: %+v", text, got)
		}
	}
}
