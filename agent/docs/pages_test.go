// The pages of packaging/docs are for operators. What they show is tried here, so
// that it stays true: each example of a configuration goes through the reader
// that hostrole has, each JSON text is JSON, and each link leads to a page.
//
// The word behind "toml" on a fence says what the example is:
//
//	toml            a whole hostrole.toml, which has a version; without, a part of one
//	toml fragment   a part of one: the test adds what it needs to be whole
//	toml elsewhere  a file of another program
//
// A fragment stands for itself: what it names and does not define, such as the
// source of a role, is defined by the test.

package docs_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/pelletier/go-toml/v2"
)

// A block is one fenced example of a page.
type block struct {
	page string
	line int // of its first line, from 1
	info string
	text string
}

// blocks are the fenced examples of a page, and the text around them.
func blocks(page, text string) (found []block, prose string, err error) {
	var open *block
	var fence string
	n := 0
	for line := range strings.Lines(text) {
		n++
		trimmed := strings.TrimSpace(line)
		switch marks := trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, "`"))]; {
		case open == nil && len(marks) >= 3:
			fence = marks
			open = &block{page: page, line: n + 1, info: strings.Join(strings.Fields(trimmed[len(marks):]), " ")}
		case open != nil && len(marks) >= len(fence) && marks == trimmed:
			found = append(found, *open)
			open = nil
		case open != nil:
			open.text += line
		default:
			prose += line
		}
	}
	if open != nil {
		return found, prose, fmt.Errorf("%s:%d: the example has no end: write %s behind it", page, open.line, fence)
	}
	return found, prose, nil
}

// folder has the pages.
const folder = "../../packaging/docs"

// pages are the pages by their paths below folder.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS(folder), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		text, err := os.ReadFile(filepath.Join(folder, path))
		found[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatal("there is no page here: this test shows nothing")
	}
	return found
}

func TestExamples(t *testing.T) {
	t.Parallel()
	configurations := 0
	for page, text := range pages(t) {
		examples, _, err := blocks(page, text)
		if err != nil {
			t.Error(err)
		}
		for _, b := range examples {
			if strings.HasPrefix(b.info, "toml") {
				configurations++
			}
			t.Run(fmt.Sprintf("%s:%d", page, b.line), func(t *testing.T) {
				t.Parallel()
				if err := try(t.TempDir(), b); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if configurations == 0 {
		t.Error("no page has a configuration: this test shows nothing")
	}
}

// try returns what is wrong with an example.
func try(dir string, b block) error {
	switch b.info {
	case "json":
		var v any
		if err := json.Unmarshal([]byte(b.text), &v); err != nil {
			return fmt.Errorf("%s:%d: %w", b.page, b.line, err)
		}
	case "toml elsewhere":
		var v map[string]any
		if err := toml.Unmarshal([]byte(b.text), &v); err != nil {
			return fmt.Errorf("%s:%d: %w", b.page, b.line, err)
		}
	case "toml", "toml fragment":
		return load(dir, b)
	default:
		if strings.HasPrefix(b.info, "toml") {
			return fmt.Errorf("%s:%d: %q is no kind of example: write toml, toml fragment or toml elsewhere", b.page, b.line, b.info)
		}
	}
	return nil
}

// load reads a configuration as hostrole does. Its faults have the lines of the
// page: what stands above the example there is empty here.
func load(dir string, b block) error {
	above := strings.Repeat("\n", b.line-1)
	versioned := regexp.MustCompile(`(?m)^version\s*=`).MatchString(b.text)
	if b.info == "toml fragment" || !versioned {
		added, err := complement(b)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", b.page, b.line, err)
		}
		// What is added comes as a drop-in does, which replaces nothing.
		if err := os.MkdirAll(filepath.Join(dir, "hostrole.d"), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "hostrole.d", "added-by-the-test.toml"), added, 0o600); err != nil {
			return err
		}
		if !versioned {
			above = strings.Repeat("\n", b.line-2) + "version = 1\n"
		}
	}
	file := filepath.Join(dir, filepath.Base(b.page))
	if err := os.WriteFile(file, []byte(above+b.text), 0o600); err != nil {
		return err
	}
	_, err := config.Load(file)
	return err
}

// A part is what a fragment may have, as far as it has to be known to complete
// it.
type part struct {
	Upstream struct {
		Region string `toml:"region"`
	} `toml:"upstream"`
	Listener []struct {
		Name string `toml:"name"`
	} `toml:"listener"`
	Source map[string]any `toml:"source"`
	Role   map[string]struct {
		From any `toml:"from"`
	} `toml:"role"`
	Allow []struct {
		Listener []string `toml:"listener"`
		Roles    []string `toml:"roles"`
	} `toml:"allow"`
}

// complement is what makes a fragment a whole configuration.
func complement(b block) ([]byte, error) {
	var p part
	if err := toml.Unmarshal([]byte(b.text), &p); err != nil {
		return nil, err
	}
	var add strings.Builder
	if p.Upstream.Region == "" {
		add.WriteString("[upstream]\nregion = \"eu-central-1\"\n")
	}
	roles := slices.Sorted(maps.Keys(p.Role))
	sources := slices.Sorted(maps.Keys(p.Source))
	role := func(name, from string) {
		if !slices.Contains(roles, name) {
			roles = append(roles, name)
			fmt.Fprintf(&add, "[role.%s]\narn = \"arn:aws:iam::111122223333:role/%s\"\nfrom = %q\n", name, name, from)
		}
	}
	source := func(name string) string {
		if !slices.Contains(sources, name) {
			sources = append(sources, name)
			fmt.Fprintf(&add, "[source.%s]\nkind = \"process\"\ncommand = [\"/usr/bin/fetch\"]\n", name)
		}
		return "source." + name
	}
	for _, name := range roles {
		for _, from := range texts(p.Role[name].From) {
			switch kind, name, _ := strings.Cut(from, "."); kind {
			case "source":
				source(name)
			case "role":
				role(name, source("added"))
			}
		}
	}
	own := slices.Sorted(maps.Keys(p.Source))
	for _, a := range p.Allow {
		for _, name := range a.Roles {
			role(name, cmp.Or(first(own, "source."), source("added")))
		}
		for _, name := range a.Listener {
			listens := name == "host" && len(p.Listener) == 0
			for _, l := range p.Listener {
				listens = listens || l.Name == name
			}
			if !listens {
				p.Listener = append(p.Listener, struct {
					Name string `toml:"name"`
				}{name})
				fmt.Fprintf(&add, "[[listener]]\nname = %q\nkind = \"imds\"\ningress = %q\n", name, name)
			}
		}
	}
	if len(roles) == 0 {
		role("app", cmp.Or(first(own, "source."), "source.added"))
		if len(own) == 0 {
			source("added")
		}
	}
	if len(p.Allow) == 0 {
		fmt.Fprintf(&add, "[[allow]]\nany = true\nroles = [%q]\n", roles[0])
	}
	return []byte(add.String()), nil
}

// first is the first of some names behind a prefix, or "".
func first(names []string, prefix string) string {
	if len(names) == 0 {
		return ""
	}
	return prefix + names[0]
}

// texts are those of a value that is one or a list of them.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, each := range v {
			all = append(all, texts(each)...)
		}
		return all
	}
	return nil
}

// A page that another one names is there.
func TestLinks(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s#]+)(?:#[^)\s]*)?\)`)
	for page, text := range pages(t) {
		_, prose, err := blocks(page, text)
		if err != nil {
			t.Error(err)
		}
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			if strings.Contains(m[1], ":") {
				continue
			}
			if _, err := os.Stat(filepath.Join(folder, filepath.Dir(page), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s: a link leads to %s, which is not there", page, m[1])
			}
		}
	}
}

// TestTryRefuses keeps the tests above honest: a reader that takes everything
// would find every page good.
func TestTryRefuses(t *testing.T) {
	t.Parallel()
	const whole = "version = 1\n[upstream]\nregion = \"eu-central-1\"\n[source.a]\nkind = \"process\"\ncommand = [\"/bin/a\"]\n" +
		"[role.a]\nfrom = \"source.a\"\n[[allow]]\nany = true\nroles = [\"a\"]\n"
	for name, c := range map[string]struct {
		info, text, want string // want "" for an example that is good
	}{
		"a whole file":                        {"toml", whole, ""},
		"a part that does not say so":         {"toml", "[source.a]\nkind = \"process\"\ncommand = [\"/bin/a\"]\n", ""},
		"a whole file with a part missing":    {"toml", strings.Replace(whole, "[role.a]\nfrom = \"source.a\"\n", "", 1), "allow[0].roles"},
		"a key that is not there":             {"toml", whole + "nonsense = true\n", "page.md:21:1: allow[0].nonsense"},
		"a part":                              {"toml fragment", "[source.a]\nkind = \"process\"\ncommand = [\"/bin/a\"]\n", ""},
		"a part with a wrong key":             {"toml fragment", "[source.a]\nkind = \"process\"\nargv = [\"/bin/a\"]\n", "page.md:12:1: source.a.argv"},
		"a role whose source is not shown":    {"toml fragment", "[role.a]\narn = \"arn:aws:iam::111122223333:role/a\"\nfrom = [\"source.x\", \"role.y\"]\n", ""},
		"a rule whose role is not shown":      {"toml fragment", "[[allow]]\nuser = [\"app\"]\nlistener = [\"docker0\"]\nroles = [\"x\", \"y\"]\n", ""},
		"a table that a part shares":          {"toml fragment", "[upstream]\nendpoint = \"https://sts.example.com\"\n", ""},
		"a part that is no TOML":              {"toml fragment", "[source.a\n", "page.md:10"},
		"a file of another program":           {"toml elsewhere", "[plugins]\nnonsense = true\n", ""},
		"one of another program, and no TOML": {"toml elsewhere", "[plugins\n", "page.md:10"},
		"a kind of example that is not there": {"toml part", whole, "is no kind of example"},
		"JSON":                                {"json", `{"Version": "2012-10-17"}`, ""},
		"no JSON":                             {"json", `{"Version": "2012-10-17",}`, "page.md:10"},
		"a text":                              {"sh", "hostrole check\n", ""},
	} {
		err := try(t.TempDir(), block{page: "page.md", line: 10, info: c.info, text: c.text})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want a fault with %q", name, err, c.want)
		}
	}
	if _, _, err := blocks("page.md", "# Title\n```toml\nversion = 1\n"); err == nil {
		t.Error("an example without an end is taken")
	}
	if got, prose, err := blocks("page.md", "a\n```toml fragment\nb\n```\nc\n"); err != nil || len(got) != 1 || got[0].line != 3 || got[0].text != "b\n" || prose != "a\nc\n" {
		t.Errorf("got %+v, prose %q, %v", got, prose, err)
	}
}
