package hostaddr_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/hostrole/hostrole/agent/hostaddr"
)

func TestLeftAddressesEndByThemselves(t *testing.T) {
	needNamespace(t)
	before := snapshot(t)
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4, v6}})
	for range 2 {
		if err := c.Leave(time.Second); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []netip.Addr{v4, v6} {
		if on(t, "lo", a) == nil {
			t.Errorf("%v is gone at once", a)
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for cmp.Diff(before, snapshot(t)) != "" && time.Now().Before(deadline) {
		hearing := time.NewTimer(50 * time.Millisecond)
		<-hearing.C
	}
	if diff := cmp.Diff(before, snapshot(t)); diff != "" {
		t.Errorf("the host is not as before (-before +after):\n%s", diff)
	}
}

func TestSuccessorKeepsWhatWasLeft(t *testing.T) {
	needNamespace(t)
	o := hostaddr.Options{Addrs: []netip.Addr{v4, v6}}
	first := claim(t, o)
	fresh := map[netip.Addr]*netlink.Addr{v4: on(t, "lo", v4), v6: on(t, "lo", v6)}
	if err := first.Leave(time.Hour); err != nil {
		t.Fatal(err)
	}
	for a, was := range fresh {
		if is := on(t, "lo", a); is == nil || is.ValidLft > 3600 || is.ValidLft == was.ValidLft {
			t.Fatalf("%v was left as %+v", a, is)
		}
	}
	claim(t, o)
	for a, was := range fresh {
		if is := on(t, "lo", a); is == nil || is.ValidLft != was.ValidLft || is.Flags != was.Flags {
			t.Errorf("%v is\n%+v, and was\n%+v", a, is, was)
		}
	}
}

func TestLinkThatWasMadeIsNotLeft(t *testing.T) {
	needNamespace(t)
	before := snapshot(t)
	c := claim(t, hostaddr.Options{Link: "imds0", Addrs: []netip.Addr{v4}})
	if err := c.Leave(time.Hour); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t)); diff != "" {
		t.Errorf("the host is not as before (-before +after):\n%s", diff)
	}
}
