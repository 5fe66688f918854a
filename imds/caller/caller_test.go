package caller_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/hostrole/hostrole/imds/caller"
)

var remote = netip.MustParseAddrPort("127.0.0.1:40001")

func TestID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		id    caller.ID
		n     uint32
		known bool
		text  string
	}{
		{"the zero value is unknown", caller.ID{}, 0, false, "unknown"},
		{"0 is root, and known", caller.NewID(0), 0, true, "0"},
		{"1", caller.NewID(1), 1, true, "1"},
		{"a user", caller.NewID(1000), 1000, true, "1000"},
		{"more than 31 bits", caller.NewID(1 << 31), 1 << 31, true, "2147483648"},
		{"the last is itself, not unknown", caller.NewID(1<<32 - 1), 1<<32 - 1, true, "4294967295"},
	} {
		if n, known := c.id.Get(); n != c.n || known != c.known {
			t.Errorf("%s: Get() = %d, %v, want %d, %v", c.name, n, known, c.n, c.known)
		}
		if got := fmt.Sprint(c.id); got != c.text {
			t.Errorf("%s: printed as %q, want %q", c.name, got, c.text)
		}
	}
	// Ids are compared as they are: in a struct, as the key of a map.
	ids := map[caller.ID]bool{{}: true, caller.NewID(0): true, caller.NewID(7): true}
	if len(ids) != 3 || !ids[caller.NewID(7)] || ids[caller.NewID(8)] {
		t.Errorf("unknown, 0 and 7 are %v", ids)
	}
}

func TestCallerIsKnownByItsUIDOrItsPod(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		who  caller.Caller
		want bool
	}{
		{"the zero Caller", caller.Caller{}, false},
		{"root", caller.Caller{UID: caller.NewID(0)}, true},
		{"a uid that has no name", caller.Caller{UID: caller.NewID(4711)}, true},
		{"a pod", caller.Caller{Pod: "shop/api"}, true},
		{"a pod of a known uid", caller.Caller{Pod: "shop/api", UID: caller.NewID(7)}, true},
		{"all but a uid and a pod", caller.Caller{Listener: "host", Remote: remote, User: "root", Groups: []string{"root"}, Cgroup: 42, Inode: 42,
			Unit: "app.service", Slice: "system.slice", Container: "web", Runtime: "lxc"}, false},
	} {
		if got := c.who.Known(); got != c.want {
			t.Errorf("%s: Known() = %v, want %v", c.name, got, c.want)
		}
	}
}

func TestCallerInALogLine(t *testing.T) {
	t.Parallel()
	for want, who := range map[string]caller.Caller{
		"uid 1000 (app) on host":                    {Listener: "host", Remote: remote, UID: caller.NewID(1000), User: "app", Groups: []string{"app"}},
		"uid 0 (root) on docker":                    {Listener: "docker", Remote: remote, UID: caller.NewID(0), User: "root"},
		"uid 4294967294 on host":                    {Listener: "host", Remote: remote, UID: caller.NewID(1<<32 - 2)},
		"uid 1000 (app) in app.service on host":     {Listener: "host", UID: caller.NewID(1000), User: "app", Unit: "app.service", Slice: "system.slice"},
		"uid 7 in container web on docker":          {Listener: "docker", UID: caller.NewID(7), Unit: "machine-web.scope", Container: "web"},
		"pod shop/api on eks":                       {Listener: "eks", Pod: "shop/api"},
		"pod shop/api uid 7 in container ab on eks": {Listener: "eks", UID: caller.NewID(7), Container: "ab", Pod: "shop/api"},
		"unknown caller [fd00::2]:40001 on host":    {Listener: "host", Remote: netip.MustParseAddrPort("[fd00::2]:40001"), Unit: "app.service", Container: "web"},
		"unknown caller 127.0.0.1:40001 on host":    {Listener: "host", Remote: remote},
		"unknown caller [fd00::1]:40001 on host":    {Listener: "host", Remote: netip.MustParseAddrPort("[fd00::1]:40001"), User: "root", Inode: 1},
		"unknown caller invalid AddrPort on docker": {Listener: "docker"},
	} {
		if got := fmt.Sprint(who); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A step is an Enricher that is a function.
type step func(ctx context.Context, c caller.Conn, who *caller.Caller) error

func (s step) Enrich(ctx context.Context, c caller.Conn, who *caller.Caller) error {
	return s(ctx, c, who)
}

// A raw connection of ours, to be found again.
type raw struct{ number int }

func (*raw) Control(func(uintptr)) error    { return errors.ErrUnsupported }
func (*raw) Read(func(uintptr) bool) error  { return errors.ErrUnsupported }
func (*raw) Write(func(uintptr) bool) error { return errors.ErrUnsupported }

var conn = caller.Conn{Local: netip.MustParseAddrPort("169.254.169.254:80"), Remote: remote, Raw: &raw{7}}

func TestChainAddsUp(t *testing.T) {
	t.Parallel()
	type mark struct{}
	ctx := context.WithValue(t.Context(), mark{}, "mine")
	var order []string
	add := func(name string, change func(*caller.Caller)) caller.Enricher {
		return step(func(got context.Context, c caller.Conn, who *caller.Caller) error {
			order = append(order, fmt.Sprintf("%s of %v", name, who))
			if got.Value(mark{}) != "mine" || c != conn {
				t.Errorf("%s was asked about %v in another context, or about another connection", name, c)
			}
			change(who)
			return nil
		})
	}
	who, err := caller.Chain{
		add("the socket", func(w *caller.Caller) { w.UID, w.Inode = caller.NewID(1000), 7 }),
		add("one that knows nothing", func(*caller.Caller) {}),
		add("the user database", func(w *caller.Caller) { w.User, w.Groups = "app", []string{"app"} }),
		add("the cgroup", func(w *caller.Caller) { w.Cgroup = 42 }),
	}.Identify(ctx, "host", conn)
	want := caller.Caller{Listener: "host", Remote: remote, UID: caller.NewID(1000), User: "app", Groups: []string{"app"}, Cgroup: 42, Inode: 7}
	if err != nil || !reflect.DeepEqual(who, want) {
		t.Errorf("got %+v and %v, want %+v", who, err, want)
	}
	wantOrder := []string{"the socket of unknown caller 127.0.0.1:40001 on host", "one that knows nothing of uid 1000 on host",
		"the user database of uid 1000 on host", "the cgroup of uid 1000 (app) on host"}
	if !slices.Equal(order, wantOrder) {
		t.Errorf("asked\n%q, want\n%q", order, wantOrder)
	}
}

func TestChainWithoutEvidence(t *testing.T) {
	t.Parallel()
	for name, chain := range map[string]caller.Chain{
		"empty":         nil,
		"knows nothing": {step(func(context.Context, caller.Conn, *caller.Caller) error { return nil })},
	} {
		who, err := chain.Identify(t.Context(), "docker", conn)
		if want := (caller.Caller{Listener: "docker", Remote: remote}); err != nil || !reflect.DeepEqual(who, want) || who.Known() {
			t.Errorf("a chain that is %s: %+v and %v, want %+v", name, who, err, want)
		}
	}
}

// What was found before a contradiction is no evidence any more, and what
// comes behind it is not asked.
func TestChainStopsAtTheFirstError(t *testing.T) {
	t.Parallel()
	contradiction, another := errors.New("the tuple is not the one that was asked about"), errors.New("another error")
	asked := 0
	fine := step(func(_ context.Context, _ caller.Conn, who *caller.Caller) error {
		asked++
		who.UID, who.User, who.Groups, who.Cgroup, who.Inode = caller.NewID(0), "root", []string{"root"}, 42, 7
		return nil
	})
	bad := step(func(_ context.Context, _ caller.Conn, who *caller.Caller) error {
		asked++
		*who = caller.Caller{Listener: "another", Remote: netip.MustParseAddrPort("10.0.0.1:1"), UID: caller.NewID(1000), User: "app"}
		return contradiction
	})
	worse := step(func(context.Context, caller.Conn, *caller.Caller) error { asked++; return another })
	for _, c := range []struct {
		name  string
		chain caller.Chain
		asked int
	}{
		{"at once", caller.Chain{bad, fine}, 1},
		{"after evidence", caller.Chain{fine, bad}, 2},
		{"between", caller.Chain{fine, fine, bad, fine}, 3},
		{"before another", caller.Chain{fine, bad, worse}, 2},
	} {
		asked = 0
		who, err := c.chain.Identify(t.Context(), "host", conn)
		if !errors.Is(err, contradiction) || errors.Is(err, another) {
			t.Errorf("%s: the error is %v, want %v", c.name, err, contradiction)
		}
		if asked != c.asked {
			t.Errorf("%s: %d enrichers were asked, want %d", c.name, asked, c.asked)
		}
		if want := (caller.Caller{Listener: "host", Remote: remote}); !reflect.DeepEqual(who, want) || who.Known() {
			t.Errorf("%s: what is left of the caller is %+v, want %+v", c.name, who, want)
		}
	}
}
