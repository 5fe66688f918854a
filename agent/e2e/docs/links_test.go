package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// anchor is how a heading is named in a link, as GitHub makes it.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(heading))
}

var (
	fenced  = regexp.MustCompile("(?ms)^```.*?^```")
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// TestLinks: each link of a page leads to a file that is there, and to a heading
// that it has.
func TestLinks(t *testing.T) {
	prose := func(path string) string {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		return fenced.ReplaceAllString(string(text), "")
	}
	anchored := 0
	for _, page := range append(pages(t), "CONTRIBUTING.md", "SECURITY.md") {
		for _, m := range link.FindAllStringSubmatch(prose(page), -1) {
			file, to, deep := strings.Cut(m[1], "#")
			if strings.Contains(file, ":") {
				continue
			}
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: %s is not there", page, m[1])
				continue
			}
			if !deep {
				continue
			}
			anchored++
			var has []string
			for _, h := range heading.FindAllStringSubmatch(prose(target), -1) {
				has = append(has, anchor(h[1]))
			}
			if !slices.Contains(has, to) {
				t.Errorf("%s: %s has no heading #%s", page, target, to)
			}
		}
	}
	if anchored == 0 {
		t.Error("no link leads to a heading: this test shows nothing")
	}
	t.Logf("%d links to headings", anchored)
}
