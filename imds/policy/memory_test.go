package policy_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/policy"
)

// What is remembered is what the rules say, of every caller, each time.
func TestMemoryDecidesAsThePolicy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy.Policy(rapid.SliceOfN(anyRule, 0, 20).Draw(t, "rules"))
		m := policy.NewMemory(p)
		all := rapid.SliceOfN(anyCaller, 1, 20).Draw(t, "callers")
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(all)-1), 1, 40).Draw(t, "order") {
			if diff := cmp.Diff(p.Decide(all[i]), m.Decide(all[i])); diff != "" {
				t.Fatalf("%v under %d rules: -the rules +remembered\n%s", all[i], len(p), diff)
			}
			if p.Hinges(all[i]) != m.Hinges(all[i]) {
				t.Fatalf("%v under %d rules: hinges on the runtime by one of the two only", all[i], len(p))
			}
		}
	})
}

// No two callers are taken for the same who differ in something that a rule can
// ask about. A new fact has to be in the memory, or in the list here.
func TestMemoryKnowsEveryFact(t *testing.T) {
	m := policy.NewMemory(policy.Policy{{Any: true, Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}})
	unasked := []string{"Cgroup", "Inode"} // of no rule
	for i := range reflect.TypeFor[caller.Caller]().NumField() {
		var who caller.Caller
		f := reflect.ValueOf(&who).Elem().Field(i)
		name := reflect.TypeFor[caller.Caller]().Field(i).Name
		switch f.Interface().(type) {
		case string:
			f.SetString("x")
		case []string:
			f.Set(reflect.ValueOf([]string{"x"}))
		case map[string]string:
			f.Set(reflect.ValueOf(map[string]string{"x": ""}))
		case caller.ID:
			f.Set(reflect.ValueOf(caller.NewID(0)))
		case netip.AddrPort:
			f.Set(reflect.ValueOf(netip.MustParseAddrPort("10.0.0.1:80")))
		case uint64, uint32:
			f.SetUint(7)
		default:
			t.Errorf("%s: this test does not know its kind", name)
		}
		if same := m.Same(who, caller.Caller{}); same != slices.Contains(unasked, name) {
			t.Errorf("%s: taken for the same is %v", name, same)
		}
	}
	for what, pair := range map[string][2]caller.Caller{
		"groups with a zero":    {{Groups: []string{"a\x00b", "c"}}, {Groups: []string{"a", "b", "c"}}},
		"groups with an escape": {{Groups: []string{"a\x01\x03b", "c"}}, {Groups: []string{"a\x00b", "c"}}},
		"one group and several": {{Groups: []string{"a", "b"}}, {Groups: []string{"a\x00b\x00"}}},
		"a label and its value": {{Labels: map[string]string{"a": "b", "c": "d"}}, {Labels: map[string]string{"a": "d", "c": "b"}}},
	} {
		if m.Same(pair[0], pair[1]) {
			t.Errorf("%s: taken for the same", what)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := policy.NewMemory(many(10))
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 5000 {
				who := busy
				who.Unit = fmt.Sprintf("app-%d-%d.service", g, i)
				if len(m.Decide(who).Roles) != 1 {
					t.Error("no role")
					return
				}
			}
		})
	}
	all.Wait()
	if n := m.Remembered(); n == 0 || n > 4096 {
		t.Errorf("%d callers are remembered", n)
	}
}

func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			m := policy.NewMemory(many(n))
			b.ReportAllocs()
			for b.Loop() {
				if len(m.Decide(busy).Roles) != 1 {
					b.Fatal("no role")
				}
			}
		})
	}
}
