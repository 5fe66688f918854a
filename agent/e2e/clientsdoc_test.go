//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const clientsDoc = "../../packaging/docs/clients.md"

// words are what the page calls a request.
var words = []struct {
	path *regexp.Regexp
	word string
}{
	{regexp.MustCompile(`^PUT /latest/api/token$`), "token"},
	{regexp.MustCompile(`^GET .*/iam/security-credentials/$`), "list"},
	{regexp.MustCompile(`^GET .*/iam/security-credentials$`), "list without its slash"},
	{regexp.MustCompile(`^GET .*/iam/security-credentials/ROLE$`), "role"},
	{regexp.MustCompile(`^GET .*/iam/security-credentials//ROLE$`), "role after two slashes"},
	{regexp.MustCompile(`^GET .*/instance-identity/document$`), "identity document"},
	{regexp.MustCompile(`^GET .*/placement/availability-zone/$`), "zone"},
	{regexp.MustCompile(`^GET .*/placement/region$`), "region"},
}

// asks says in words what a golden file has, each kind of request once. More
// than five leaves are the tree.
func asks(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "sdk", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	tree := 0
	for line := range strings.Lines(string(text)) {
		request := strings.Join(strings.Fields(line)[:2], " ")
		word := "leaves"
		for _, w := range words {
			if w.path.MatchString(request) {
				word = w.word
			}
		}
		if word == "leaves" || strings.Contains(word, "identity") {
			tree++
		}
		if !slices.Contains(said, word) {
			said = append(said, word)
		}
	}
	if tree > 5 {
		said = slices.DeleteFunc(said, func(word string) bool { return word != "token" })
		said = append(said, "the tree")
	}
	return strings.Join(said, ", ")
}

// clientsTable is the table of the page, as the matrix has it.
func clientsTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| client | version | asks for | hostrole restarts | its token is refused | its credential is over | finds its region by | runs in |\n|---|---|---|---|---|---|---|---|\n")
	row := func(c sdk, job string) {
		region := "–"
		if c.region != "" {
			region = strings.TrimPrefix(asks(t, c.region), "token, ")
			if !slices.ContainsFunc([]string{"identity document", "zone", "region"}, func(word string) bool { return strings.Contains(region, word) }) {
				region = "does not ask"
			}
		}
		l := c.life
		for _, s := range []*string{&l.restart, &l.on401, &l.expiry} {
			if *s == "" {
				*s = "–"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", c.name, c.version, asks(t, c.name), l.restart, l.on401, l.expiry, region, job)
	}
	for _, c := range sdks {
		row(c, "every CI run")
	}
	for _, c := range field {
		row(c, "`make clients`")
	}
	for _, c := range older {
		row(c, "`make clients`, `tokens = \"optional\"`")
	}
	return b.String()
}

var tableLines = regexp.MustCompile(`(?m)(^\|.*\n)+`)

// TestClientsDoc: the page's table is what the matrix and the golden files say.
func TestClientsDoc(t *testing.T) {
	page, err := os.ReadFile(clientsDoc)
	if err != nil {
		t.Fatal(err)
	}
	want := clientsTable(t)
	if *update {
		page = tableLines.ReplaceAllLiteral(page, []byte(want))
		if err := os.WriteFile(clientsDoc, page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(tableLines.Find(page)); got != want {
		t.Errorf("the table of %s differs: run go test -run TestClientsDoc -update\ngot:\n%s\nwant:\n%s", clientsDoc, got, want)
	}
	for _, c := range slices.Concat(sdks, field, older) {
		if c.version == "" || c.loop != nil && c.life == (life{}) {
			t.Errorf("%s: the matrix says nothing of its version, or of its life", c.name)
		}
	}
}
