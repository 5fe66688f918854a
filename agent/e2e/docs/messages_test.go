package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// upstreamWords are parts of messages in the pages of the sources that are none
// of hostrole's: somebody else's words, or made of parts.
var upstreamWords = map[string]string{
	"connection refused":               "the kernel's",
	"HTTP status 404":                  "made of a number",
	"HTTP status 403":                  "made of a number",
	"Untrusted certificate":            "Roles Anywhere's",
	"permission denied":                "Vault's",
	"invalid role or secret ID":        "Vault's",
	"cannot create resource":           "Kubernetes'",
	"shown was the certificate of":     "of two parts",
	"shown was a token of issuer":      "of two parts",
	"the response is for the audience": "of two parts",
	"the response was issued 6m0s ago": "made of a duration",
	"and STS takes it for 5m0s":        "made of a duration",
}

// TestMessages: what the pages of the sources quote as messages, hostrole says.
// Parts of less than 14 letters prove nothing and are left out.
func TestMessages(t *testing.T) {
	var source strings.Builder
	for _, folder := range []string{"agent", "cmd", "imds", "rotation"} {
		err := fs.WalkDir(os.DirFS(root), folder, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(filepath.Join(root, path))
			source.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	said := source.String()
	quoted, separator := regexp.MustCompile("`([^`]+)`"), regexp.MustCompile(`…|"[^"]*"|; |: |, `)
	checked, used := 0, map[string]bool{}
	for _, page := range pages(t) {
		if !strings.HasPrefix(page, "packaging/docs/sources/") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		_, table, _ := strings.Cut(string(text), "\n| message |")
		for line := range strings.Lines(table) {
			if !strings.HasPrefix(line, "| `") {
				if strings.HasPrefix(line, "## ") {
					break
				}
				continue
			}
			cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
			for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
				for _, part := range separator.Split(m[1], -1) {
					part = strings.Trim(part, " ,;:.?")
					if len(part) < 14 {
						continue
					}
					checked++
					if upstreamWords[part] != "" {
						used[part] = true
					} else if !strings.Contains(said, part) {
						t.Errorf("%s: nothing in the program says %q", page, part)
					}
				}
			}
		}
	}
	for part := range upstreamWords {
		if !used[part] {
			t.Errorf("no page quotes %q", part)
		}
	}
	if checked < 30 {
		t.Errorf("%d parts of messages were looked at: the tables are not where they were", checked)
	}
	t.Logf("%d parts of messages", checked)
}
