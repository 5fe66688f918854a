package hostaddr_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/hostrole/hostrole/agent/hostaddr"
)

func TestLinkIsProvided(t *testing.T) {
	needNamespace(t)
	before := snapshot(t)
	undo, err := hostaddr.Provide("imds0")
	if err != nil {
		t.Fatal(err)
	}
	again, err := hostaddr.Provide("imds0")
	if err != nil {
		t.Fatal(err)
	}
	if err := again(); err != nil || linkByName(t, "imds0") == nil {
		t.Fatalf("who did not make it deletes it: %v", err)
	}
	c := claim(t, hostaddr.Options{Link: "imds0", Addrs: []netip.Addr{v4}})
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	if err := undo(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, snapshot(t)); diff != "" {
		t.Errorf("the host is not as before (-before +after):\n%s", diff)
	}
	undo, err = hostaddr.Provide("imds0")
	if err != nil {
		t.Fatal(err)
	}
	if err := undo(); err != nil {
		t.Error(err)
	}
}

// Everybody who is on a link reaches the sockets that are bound to it.
func TestLinkThatLeadsToOthersIsRefused(t *testing.T) {
	needNamespace(t)
	for _, l := range []netlink.Link{
		&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "theirs0"}},
		&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "theirs0"}, PeerName: "theirs1"},
	} {
		if err := netlink.LinkAdd(l); err != nil {
			t.Fatal(err)
		}
		if _, err := hostaddr.Provide("theirs0"); !errors.Is(err, hostaddr.ErrOpen) {
			t.Errorf("%s: %v", l.Type(), err)
		}
		if err := netlink.LinkDel(linkByName(t, "theirs0")); err != nil {
			t.Fatal(err)
		}
	}
	undo, err := hostaddr.Provide("lo")
	if err := errors.Join(err, undo()); err != nil {
		t.Errorf("lo: %v", err)
	}
}

func TestLinkIsMadeAnew(t *testing.T) {
	needNamespace(t)
	c := claim(t, hostaddr.Options{Link: "imds0", Addrs: []netip.Addr{v4}})
	run(t, c)
	hearing(t, c, v4, "imds0")
	for range 3 { // each time, however fast one follows the other
		if err := netlink.LinkDel(linkByName(t, "imds0")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the link and its address are back", func() bool { return on(t, "imds0", v4) != nil })
	}
}
