package agent_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// A promise without its test is a wish: every test that SPECIFICATION.md names
// is there.
func TestHouseSpecification(t *testing.T) {
	text, err := os.ReadFile("../SPECIFICATION.md")
	if err != nil {
		t.Fatal(err)
	}
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, p := range all {
		for _, f := range p.files {
			for _, d := range f.tree.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && f.test && fn.Recv == nil {
					there[fn.Name.Name] = true
				}
			}
		}
	}
	apart, err := filepath.Glob("../packaging/*_test.go") // a module of its own
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range apart {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)`).FindAllSubmatch(source, -1) {
			there[string(m[1])] = true
		}
	}
	named := regexp.MustCompile(`\b(Test|Fuzz|Benchmark)[A-Z]\w*`).FindAllString(string(text), -1)
	if len(named) == 0 {
		t.Error("SPECIFICATION.md names no test")
	}
	for _, n := range named {
		if !there[n] {
			t.Errorf("SPECIFICATION.md names %s, and there is no such test", n)
		}
	}
}
