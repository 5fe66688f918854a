package agent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A listing is one package as go list finds it. Files of other systems are
// among IgnoredGoFiles, so every system's code is held to the same rules.
type listing struct {
	Dir, ImportPath, Name                                        string
	GoFiles, CgoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string

	path  string // below the module; "." at its root
	files []source
}

// A source is one parsed file.
type source struct {
	path  string // below the module, with slashes
	test  bool
	lines int
	tree  *ast.File
}

var fset = token.NewFileSet()

// packages lists and parses the module, once.
var packages = sync.OnceValues(func() ([]listing, error) {
	cmd := exec.Command("go", "list", "-find", "-json=Dir,ImportPath,Name,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("go list: %w\n%s", err, exit.Stderr)
	} else if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []listing
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p listing
		if err := d.Decode(&p); err != nil {
			return nil, fmt.Errorf("reading what go list printed: %w", err)
		}
		p.path = path.Join(".", strings.TrimPrefix(p.ImportPath, house))
		for _, name := range slices.Concat(p.GoFiles, p.CgoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles) {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				return nil, err
			}
			tree, err := parser.ParseFile(fset, path.Join(p.path, name), text, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			p.files = append(p.files, source{path.Join(p.path, name), strings.HasSuffix(name, "_test.go"), bytes.Count(text, []byte("\n")), tree})
		}
		all = append(all, p)
	}
	return all, nil
})

func load(t *testing.T) []listing {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestHouseRoot(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(strings.Fields(topLevel), e.Name()) {
			t.Errorf("%s stands at the root of the repository, which is fixed", e.Name())
		}
	}
}

func TestHouseImports(t *testing.T) {
	t.Parallel()
	ours, more := table(t, imports), table(t, testImports)
	for _, p := range load(t) {
		row, known := lookup(ours, p.path)
		if !known {
			t.Errorf("package %s is not in the table: say in one sentence what it is for, and what it may import", p.path)
			continue
		}
		extra, _ := lookup(more, p.path)
		for _, f := range p.files {
			allowed := row
			if f.test {
				allowed = slices.Concat(row, extra, more["*"], []string{p.path})
			}
			for _, to := range imported(f.tree) {
				if below, ok := strings.CutPrefix(to, house+"/"); ok && !admits(allowed, below) {
					t.Errorf("%s imports %s, and its line does not say so", f.path, below)
				}
			}
		}
	}
}

func TestHouseLibraries(t *testing.T) {
	t.Parallel()
	for _, p := range load(t) {
		for _, f := range p.files {
			for _, to := range imported(f.tree) {
				host, _, _ := strings.Cut(to, "/")
				if f.test || !strings.Contains(host, ".") || within(to, house) {
					continue
				}
				i := slices.IndexFunc(libraries, func(l library) bool { return within(to, l.path) })
				if i < 0 || !admits(strings.Fields(libraries[i].users), p.path) {
					t.Errorf("%s imports %s, and the list of libraries does not say so", f.path, to)
				}
			}
		}
	}
}

func TestHouseHolds(t *testing.T) {
	t.Parallel()
	needed := make(map[string]bool) // rule and pattern
	for _, p := range load(t) {
		for _, f := range p.files {
			for deed, line := range deeds(f.tree) {
				for _, h := range held {
					if !h.speaksOf(deed) || f.test && h.tests {
						continue
					}
					named := false
					for pattern := range h.files {
						if ok, err := path.Match(pattern, f.path); err != nil {
							t.Fatalf("pattern %s: %v", pattern, err)
						} else if ok {
							named, needed[h.what+pattern] = true, true
						}
					}
					if !named {
						t.Errorf("%s:%d: %s is held to other files", f.path, line, deed)
					}
				}
			}
		}
	}
	for _, h := range held {
		for pattern, why := range h.files {
			if !needed[h.what+pattern] {
				t.Errorf("%s no longer needs %s (%s): take the line out", pattern, h.what, why)
			}
		}
	}
}

// TestHouseSees keeps TestHouseHolds honest: a walk that finds nothing would
// hold everything.
func TestHouseSees(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`import "log"`:      `import "log"`,
		`import l "log"`:    `import "log"`,
		`import . "fmt"`:    `import . "..."`,
		`import "log/slog"`: ``,
		`import "github.com/vishvananda/netlink/nl"`:                 `import "github.com/vishvananda/netlink/..."`,
		`import "github.com/vishvananda/netlinker"`:                  ``,
		`import "time"; var now = time.Now`:                          `wall clock`,
		`import t "time"; var d = t.Since(t.Time{})`:                 `wall clock`,
		`import "time"; var d = time.Until(x)`:                       `wall clock`,
		`import "time"; var _ = f(time.Sleep)`:                       `time.Sleep`,
		`import ("testing/synctest"; "time"); var _ = f(time.Sleep)`: ``,
		`import "time"; var n = time.Nanosecond`:                     ``,
		`import "os"; func f() { os.Exit(1) }`:                       `os.Exit`,
		`import "syscall"; func f() { syscall.Exit(1) }`:             `os.Exit`,
		`var _ = c.Token.Reveal()`:                                   `Reveal`,
		`var _ = credential.Secret.Reveal`:                           `Reveal`,
		`func (s Secret) Reveal() {}`:                                ``,
		`func f() { go f() }`:                                        `goroutine`,
		`func f() { group.Go(f) }`:                                   `goroutine`,
		`import "time"; var _ = time.AfterFunc(1, f)`:                `goroutine`,
		`import "context"; var _ = context.AfterFunc(c, f)`:          `goroutine`,
	} {
		tree, err := parser.ParseFile(fset, "x.go", "package x\n"+text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var got []string
		for deed := range deeds(tree) {
			for _, h := range held {
				if h.speaksOf(deed) {
					got = append(got, h.what)
				}
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: seen as %q, want %q", text, got, want)
		}
	}
}

func TestHouseSizes(t *testing.T) {
	t.Parallel()
	needed := make(map[string]bool)
	check := func(what string, lines, limit int) {
		if lines <= limit {
			return
		}
		needed[what] = true
		if long[what] == "" {
			t.Errorf("%s has %d lines, the limit is %d: split it or argue for it", what, lines, limit)
		}
	}
	for _, p := range load(t) {
		sum := 0
		for _, f := range p.files {
			check(f.path, f.lines, 500)
			if !f.test {
				sum += f.lines
			}
		}
		check(p.path, sum, 1000)
	}
	for what := range long {
		if !needed[what] {
			t.Errorf("%s is not long any more: take the line out", what)
		}
	}
}

func TestHouseDocs(t *testing.T) {
	t.Parallel()
	for _, p := range load(t) {
		begin, docs, code := "Package "+p.Name+" ", 0, 0
		if p.Name == "main" {
			begin = "Command " + path.Base(p.path) + " "
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			code++
			if f.tree.Doc != nil {
				docs++
				if text := f.tree.Doc.Text(); !strings.HasPrefix(text, begin) || !strings.Contains(text, "\n# Why not\n") {
					t.Errorf("%s: the package comment does not begin %q, or has no section %q", f.path, begin, "# Why not")
				}
			}
			for _, name := range undocumented(f.tree) {
				t.Errorf("%s: %s has no doc comment", f.path, name)
			}
		}
		if docs != 1 && code > 0 {
			t.Errorf("package %s has %d package comments, want 1", p.path, docs)
		}
	}
}

// table reads lines of "package : packages".
func table(t *testing.T, text string) map[string][]string {
	t.Helper()
	rows := make(map[string][]string)
	for line := range strings.Lines(text) {
		from, to, ok := strings.Cut(line, ":")
		if from = strings.TrimSpace(from); from == "" {
			continue
		}
		if _, twice := rows[from]; twice || !ok {
			t.Fatalf("table: the line of %s is malformed, or there twice", from)
		}
		rows[from] = strings.Fields(to)
	}
	return rows
}

// lookup finds the line of a package: its own, or that of its folder.
func lookup(rows map[string][]string, pkg string) ([]string, bool) {
	if row, ok := rows[pkg]; ok {
		return row, true
	}
	row, ok := rows[path.Dir(pkg)+"/*"]
	return row, ok
}

// admits reports whether a list names pkg. A double must be named in full.
func admits(list []string, pkg string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		folder, all := strings.CutSuffix(entry, "/*")
		return entry == pkg || all && strings.HasPrefix(pkg, folder+"/") && !slices.Contains(strings.Fields(doubles), pkg)
	})
}

// within reports whether an import path is tree or below it.
func within(pkg, tree string) bool { return pkg == tree || strings.HasPrefix(pkg, tree+"/") }

func imported(f *ast.File) []string {
	var paths []string
	for _, spec := range f.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// speaksOf reports whether the rule is about a deed.
func (r rule) speaksOf(deed string) bool {
	if tree, ok := strings.CutSuffix(r.what, `/..."`); ok {
		return within(strings.TrimSuffix(deed, `"`), tree)
	}
	return r.what == deed
}

// calls are the functions of other packages that count as a deed.
var calls = map[string]string{
	"time.Now": "wall clock", "time.Since": "wall clock", "time.Until": "wall clock",
	"os.Exit": "os.Exit", "syscall.Exit": "os.Exit", "golang.org/x/sys/unix.Exit": "os.Exit",
	"time.Sleep":     "time.Sleep",
	"time.AfterFunc": "goroutine", "context.AfterFunc": "goroutine",
}

// deeds lists what a file does that a rule may speak of, with a line of each.
// It goes by names, without types: any method Reveal or Go counts.
func deeds(f *ast.File) map[string]int {
	found := make(map[string]int)
	add := func(what string, n ast.Node) {
		if found[what] == 0 {
			found[what] = fset.Position(n.Pos()).Line
		}
	}
	names := make(map[string]string) // as the file calls a package: its path
	for _, spec := range f.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = p
		add("import "+strconv.Quote(p), spec)
		if name == "." {
			add(`import . "..."`, spec)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			add("goroutine", n)
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok {
				if what, ok := calls[names[x.Name]+"."+n.Sel.Name]; ok {
					add(what, n)
				}
			}
			switch n.Sel.Name {
			case "Go":
				add("goroutine", n)
			case "Reveal":
				add("Reveal", n)
			}
		}
		return true
	})
	if found[`import "testing/synctest"`] != 0 {
		delete(found, "time.Sleep") // in a bubble it takes no time
	}
	return found
}

// receiver is the name of a method's type.
func receiver(d *ast.FuncDecl) string {
	for x := d.Recv.List[0].Type; ; {
		switch y := x.(type) {
		case *ast.StarExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.IndexListExpr:
			x = y.X
		case *ast.Ident:
			return y.Name
		default:
			return ""
		}
	}
}

// undocumented lists the exported names of a file that have no comment.
func undocumented(f *ast.File) []string {
	var names []string
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || ast.IsExported(receiver(d))) {
				names = append(names, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil {
						names = append(names, spec.Name.Name)
					}
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						if name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
							names = append(names, name.Name)
						}
					}
				}
			}
		}
	}
	return names
}
