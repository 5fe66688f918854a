package metadata_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/hostrole/hostrole/imds/metadata"
)

func TestLiveLeaves(t *testing.T) {
	t.Parallel()
	live := map[string]string{"local-ipv4": "10.0.0.1", "placement/rack": "r12"}
	now := newTree(t, leaves).With(func() map[string]string { return live })
	want := func(path, value, listing string) {
		t.Helper()
		tree := now()
		if got, ok := tree.Leaf(path); got != value || ok != (value != "") {
			t.Errorf("%s is %q, %v, want %q", path, got, ok, value)
		}
		if got, _ := tree.List("placement"); got != listing {
			t.Errorf("placement/ lists %q, want %q", got, listing)
		}
		if got, _ := tree.Leaf("instance-id"); got != leaves["instance-id"] {
			t.Errorf("the fixed instance-id is %q", got)
		}
	}
	want("local-ipv4", "10.0.0.1", "availability-zone\nrack\nregion")
	first := now()
	if now() != first {
		t.Error("what did not change is another tree")
	}
	live = map[string]string{"local-ipv4": "10.0.0.2"}
	want("local-ipv4", "10.0.0.2", "availability-zone\nregion")
	live = nil
	want("local-ipv4", "", "availability-zone\nregion")
	if got, _ := first.Leaf("local-ipv4"); got != "10.0.0.1" {
		t.Errorf("the tree of before says %q: it must not change", got)
	}
}

// What the operator wrote is never covered, and nothing live can spoil it.
func TestFixedLeavesComeFirst(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ fixed, live string }{
		"the same path":            {"mac", "mac"},
		"a value above it":         {"network", "network/interfaces/macs/x/mac"},
		"a value right above it":   {"network/interfaces/macs", "network/interfaces/macs/x"},
		"a directory in its place": {"mac/x", "mac"},
		"a path that is none":      {"fine", "a//b"},
		"a path of roles":          {"fine", "iam/info"},
	} {
		fixed := map[string]string{c.fixed: "fixed"}
		got := crawl(t, newTree(t, fixed).With(func() map[string]string { return map[string]string{c.live: "live"} })())
		if !maps.Equal(got, fixed) {
			t.Errorf("%s: the tree has %q, want the fixed %q alone", name, got, c.fixed)
		}
	}
}

// Whatever is live, the listings are true, and what is fixed is there.
func TestLiveTreesAreTrees(t *testing.T) {
	t.Parallel()
	path := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "a-b", "c"}), 1, 3).Draw(t, "parts"), "/")
	})
	rapid.Check(t, func(t *rapid.T) {
		fixed := rapid.MapOfN(path, rapid.Just("fixed"), 0, 4).Draw(t, "fixed")
		live := rapid.MapOfN(path, rapid.Just("live"), 0, 6).Draw(t, "live")
		tree, err := metadata.New(fixed)
		if err != nil {
			return
		}
		before := crawl(t, tree)
		found := crawl(t, tree.With(func() map[string]string { return live })())
		for p := range fixed {
			if found[p] != "fixed" {
				t.Errorf("%q and live %q: %s is %q", fixed, live, p, found[p])
			}
		}
		for p, v := range found {
			if v == "live" && live[p] != "live" {
				t.Errorf("%q and live %q: %s came from nowhere", fixed, live, p)
			}
		}
		for p := range live {
			together := maps.Clone(found)
			together[p] = "live"
			if _, there := found[p]; !there && welcome(together) {
				t.Errorf("%q and live %q: %s would fit and is missing", fixed, live, p)
			}
		}
		if after := crawl(t, tree); !maps.Equal(before, after) {
			t.Errorf("the fixed tree changed from %q to %q", before, after)
		}
	})
}

func TestLiveAtOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	n := 0
	states := []map[string]string{{"x/a": "1"}, {"x/a": "2", "x/b": "2"}}
	now := newTree(t, leaves).With(func() map[string]string {
		mu.Lock()
		defer mu.Unlock()
		n++
		return states[n/7%2]
	})
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 200 {
				tree := now()
				listing, _ := tree.List("x")
				for name := range strings.SplitSeq(listing, "\n") {
					if _, ok := tree.Leaf("x/" + name); !ok {
						t.Errorf("%q is listed and has no value", name)
					}
				}
				if !slices.Contains([]string{"a", "a\nb"}, listing) {
					t.Errorf("x/ lists %q", listing)
				}
			}
		})
	}
	all.Wait()
}

func TestLiveLeavesThatStayCostNothing(t *testing.T) {
	live := map[string]string{"local-ipv4": "10.0.0.1"}
	now := newTree(t, leaves).With(func() map[string]string { return live })
	now()
	if got := testing.AllocsPerRun(100, func() { now() }); got > 0 {
		t.Errorf("a look at what did not change takes %v allocations", got)
	}
}
