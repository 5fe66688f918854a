package metadata_test

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/hostrole/hostrole/imds/metadata"
)

var leaves = map[string]string{
	"ami-id":                      "ami-0123456789abcdef0",
	"hostname":                    "db-7.example.com",
	"instance-id":                 "i-0123456789abcdef0",
	"placement/availability-zone": "eu-central-1a",
	"placement/region":            "eu-central-1",
	"public-keys/0=my-key":        "",
	"services/domain":             "amazonaws.com",
	"tags/instance/Name":          "db-7",
	"tags/instance/a+b=c,d@e":     "odd",
	"tags/instance/name":          "in small letters",
	"user/iam/x":                  "not the iam/ of roles",
}

func newTree(t *testing.T, leaves map[string]string) *metadata.Tree {
	t.Helper()
	tree, err := metadata.New(leaves)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestLeaf(t *testing.T) {
	t.Parallel()
	tree := newTree(t, leaves)
	for path, want := range leaves {
		if got, ok := tree.Leaf(path); got != want || !ok {
			t.Errorf("%q is %q, %v, want %q", path, got, ok, want)
		}
	}
	for name, path := range map[string]string{
		"the root": "", "a directory": "placement", "a directory within": "tags/instance", "another name": "nope", "a name in a directory": "placement/nope",
		"another case": "Instance-Id", "a part of a name": "instance", "more than a name": "instance-id2", "below a value": "instance-id/x",
		"a name without its directory": "region", "a slash at the end": "instance-id/", "a slash at the beginning": "/instance-id", "two slashes": "placement//region",
	} {
		if got, ok := tree.Leaf(path); got != "" || ok {
			t.Errorf("%s, %q: is %q, %v, want no value", name, path, got, ok)
		}
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	tree := newTree(t, leaves)
	for path, want := range map[string]string{
		"":              "ami-id\nhostname\ninstance-id\nplacement/\npublic-keys/\nservices/\ntags/\nuser/",
		"placement":     "availability-zone\nregion",
		"public-keys":   "0=my-key",
		"services":      "domain",
		"tags":          "instance/",
		"tags/instance": "Name\na+b=c,d@e\nname",
		"user":          "iam/",
		"user/iam":      "x",
	} {
		if got, ok := tree.List(path); got != want || !ok {
			t.Errorf("%q lists %q, %v, want %q", path, got, ok, want)
		}
	}
	for name, path := range map[string]string{
		"a value": "instance-id", "another name": "nope", "another case": "Placement", "a part of a name": "place", "a directory elsewhere": "instance",
		"a slash at the end": "placement/", "the root with a slash": "/", "below a value": "instance-id/x",
	} {
		if got, ok := tree.List(path); got != "" || ok {
			t.Errorf("%s, %q: lists %q, %v, want no listing", name, path, got, ok)
		}
		if got, ok := tree.List(path, "iam/"); got != "" || ok {
			t.Errorf("%s, %q: lists %q, %v when there is more, want no listing", name, path, got, ok)
		}
	}
}

func TestListWithMore(t *testing.T) {
	t.Parallel()
	tree := newTree(t, leaves)
	const plain = "ami-id\nhostname\ninstance-id\nplacement/\npublic-keys/\nservices/\ntags/\nuser/"
	for _, c := range []struct {
		name, path string
		more       []string
		want       string
	}{
		{"in the middle", "", []string{"iam/"}, "ami-id\nhostname\niam/\ninstance-id\nplacement/\npublic-keys/\nservices/\ntags/\nuser/"},
		{"first", "", []string{"a"}, "a\n" + plain},
		{"last", "", []string{"z"}, plain + "\nz"},
		{"several, in any order", "services", []string{"z", "a/", "b"}, "a/\nb\ndomain\nz"},
		{"none", "services", []string{}, "domain"},
		{"first of three", "tags/instance", []string{"A"}, "A\nName\na+b=c,d@e\nname"},
	} {
		before := strings.Join(c.more, " ")
		if got, ok := tree.List(c.path, c.more...); got != c.want || !ok {
			t.Errorf("%s: lists %q, %v, want %q", c.name, got, ok, c.want)
		}
		if after := strings.Join(c.more, " "); after != before {
			t.Errorf("%s: the caller's own list became %q", c.name, after)
		}
	}
	for path, want := range map[string]string{"": plain, "services": "domain", "tags/instance": "Name\na+b=c,d@e\nname"} {
		if got, _ := tree.List(path); got != want {
			t.Errorf("%q itself lists %q after all that, want %q", path, got, want)
		}
	}
}

// Every request of a caller with a role lists with more.
func TestListsAtOnce(t *testing.T) {
	t.Parallel()
	tree := newTree(t, leaves)
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			more := fmt.Sprintf("own-%d", i)
			for range 100 {
				got, _ := tree.List("tags/instance", more)
				if want := "Name\na+b=c,d@e\nname\n" + more; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
	all.Wait()
}

func TestTreeOfNothing(t *testing.T) {
	t.Parallel()
	tree := newTree(t, nil)
	if got, ok := tree.List(""); got != "" || !ok {
		t.Errorf("the root lists %q, %v, want an empty listing", got, ok)
	}
	if got, ok := tree.List("", "iam/"); got != "iam/" || !ok {
		t.Errorf("the root lists %q, %v, want iam/", got, ok)
	}
	if got, ok := tree.Leaf(""); ok {
		t.Errorf("the root has the value %q", got)
	}
}

func TestTreeNeverChanges(t *testing.T) {
	t.Parallel()
	mine := maps.Clone(leaves)
	tree := newTree(t, mine)
	mine["instance-id"], mine["more"] = "another", "x"
	delete(mine, "hostname")
	if got, _ := tree.Leaf("instance-id"); got != leaves["instance-id"] {
		t.Errorf("a value became %q", got)
	}
	if got, ok := tree.Leaf("more"); ok {
		t.Errorf("a new value %q is there", got)
	}
	if _, ok := tree.Leaf("hostname"); !ok {
		t.Error("a value went away")
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"a", "a/b", "a/b/c/d/e/f/g/h", "0=my-key", "02:29:96:8f:6a:2d", "a+b=c,d@e_f:g.h", "..a", "a..", "...", ".a/b.", "-", "%2f", "~", "ä/日本", `a\b`, "a?b", "a;b",
		"iamb", "ia", "IAM", "x/iam", "x/iam/info", "iam-x/y"} {
		tree, err := metadata.New(map[string]string{path: "v"})
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		if got, ok := tree.Leaf(path); got != "v" || !ok {
			t.Errorf("%q is %q, %v", path, got, ok)
		}
	}
	for name, path := range map[string]string{
		"nothing": "", "a slash": "/", "a slash at the beginning": "/a", "a slash at the end": "a/", "two slashes": "a//b",
		"a dot": ".", "two dots": "..", "a dot at the beginning": "./a", "a dot within": "a/./b", "two dots within": "a/../b", "two dots at the end": "a/..",
		"a space": "a b", "a space at the end": "a/b ", "a tab": "a\tb", "a line end": "a\nb", "a carriage return": "a/b\r", "a zero byte": "a\x00", "an escape": "\x1b[1m", "a delete": "a\x7fb",
		"all of iam": "iam", "the profile": "iam/info", "a role": "iam/security-credentials/app",
	} {
		if tree, err := metadata.New(map[string]string{"fine": "", path: "v"}); err == nil || tree != nil {
			t.Errorf("%s, %q: got %v and %v, want an error alone", name, path, tree, err)
		} else if want := fmt.Sprintf("%q", path); !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error does not name %s: %v", name, want, err)
		}
	}
}

func TestValueAndDirectoryAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ value, below string }{
		"at the top":       {"a", "a/b"},
		"further down":     {"a/b", "a/b/c"},
		"some levels down": {"a", "a/b/c/d"},
		"in the middle":    {"x/a", "x/a/b/c"},
	} {
		tree, err := metadata.New(map[string]string{c.value: "", c.below: "v", "fine": "v", "x/fine": "v"})
		if err == nil || tree != nil {
			t.Errorf("%s: got %v and %v, want an error alone", name, tree, err)
		} else if want := fmt.Sprintf("%q", c.value); !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error does not name %s: %v", name, want, err)
		}
	}
	// Names that only begin alike.
	newTree(t, map[string]string{"a": "", "ab/c": "", "a-b": "", "x/a": "", "x/ab/a": ""})
}
