package metadata_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hostrole/hostrole/imds/metadata"
)

// crawl finds all values by what the listings say, from the root down, as
// cloud-init does, and checks each listing by the way.
func crawl(t interface{ Errorf(string, ...any) }, tree *metadata.Tree) map[string]string {
	found := map[string]string{}
	var walk func(dir string)
	walk = func(dir string) {
		listing, ok := tree.List(strings.TrimSuffix(dir, "/"))
		if !ok {
			t.Errorf("%q is listed and has no listing", dir)
		}
		if listing == "" && dir == "" {
			return
		}
		names := strings.Split(listing, "\n")
		if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
			t.Errorf("%q lists %q: not in order, or something twice", dir, names)
		}
		for _, name := range names {
			path := dir + name
			if below, isDir := strings.CutSuffix(name, "/"); isDir {
				if value, ok := tree.Leaf(dir + below); ok {
					t.Errorf("the directory %q has the value %q", path, value)
				}
				walk(path)
			} else if value, ok := tree.Leaf(path); ok && name != "" {
				found[path] = value
			} else {
				t.Errorf("%q is listed and has no value", path)
			}
		}
	}
	walk("")
	return found
}

var (
	goodPath = regexp.MustCompile(`^[^/\x00-\x20\x7f]+(/[^/\x00-\x20\x7f]+)*$`)
	badPart  = regexp.MustCompile(`(^|/)\.{1,2}(/|$)|^iam(/|$)`)
)

// welcome reports whether the paths make a tree, by patterns and prefixes
// instead of segments.
func welcome(paths map[string]string) bool {
	for a := range paths {
		if !goodPath.MatchString(a) || badPart.MatchString(a) {
			return false
		}
		for b := range paths {
			if strings.HasPrefix(b, a+"/") {
				return false
			}
		}
	}
	return true
}

// check makes a tree of the leaves, or none if it must not be one.
func check(t interface{ Errorf(string, ...any) }, leaves map[string]string) (made bool) {
	tree, err := metadata.New(leaves)
	if want := welcome(leaves); want != (err == nil) || (err == nil) != (tree != nil) {
		t.Errorf("%q: the error is %v, want none: %v", leaves, err, want)
	}
	if tree == nil {
		return false
	}
	found := crawl(t, tree)
	if len(found) != len(leaves) {
		t.Errorf("%q: the crawl found %d values: %q", leaves, len(found), found)
	}
	for path, want := range leaves {
		if got, ok := found[path]; got != want || !ok {
			t.Errorf("%q: the crawl found %q at %q, want %q", leaves, got, path, want)
		}
	}
	return true
}

func TestWhatIsListedIsAllThatThereIs(t *testing.T) {
	t.Parallel()
	part := rapid.SampledFrom([]string{"a", "b", "ab", "a-b", "a.b", "A", "iam", "..", "ä", ""})
	path := rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(part, 1, 4).Draw(t, "parts")
		if rapid.IntRange(0, 3).Draw(t, "clean") > 0 {
			parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" || s == ".." })
		}
		return strings.Join(parts, "/")
	})
	made, refused := 0, 0
	for made+refused < 2000 {
		rapid.Check(t, func(t *rapid.T) {
			if check(t, rapid.MapOfN(path, rapid.String(), 0, 6).Draw(t, "leaves")) {
				made++
			} else {
				refused++
			}
		})
	}
	if min(made, refused) < 200 {
		t.Errorf("%d trees were made and %d refused: one kind is hardly tried", made, refused)
	}
}

func FuzzNew(f *testing.F) {
	for _, pair := range [][2]string{
		{"instance-id", "placement/region"}, {"a", "a/b"}, {"a/b/c", "a/b"}, {"a/b", "a-b"}, {"", "/"}, {"a//b", "./a"}, {"iam", "iamb"}, {"x/iam", "iam/info"},
		{"tags/instance/a+b=c,d@e", "tags/instance/ä"}, {"a\n", "a\x7f"}, {"\xff", "\xff/\xfe"}, {"...", "..a/b.."}, {"a", "a"},
	} {
		f.Add(pair[0], pair[1], "value")
	}
	f.Fuzz(func(t *testing.T, a, b, value string) {
		check(t, map[string]string{a: value, b: "another " + value})
		check(t, map[string]string{a + "/x": value, b + "/x/y": "another " + value})
	})
}
