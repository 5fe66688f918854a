package netns_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"github.com/vishvananda/netlink"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
)

const (
	// churns is how often an address changes hands in CI, and soak how often
	// where HOSTROLE_SOAK is set.
	churns, soak = 100, 10_000

	sharedAddress, sharedMAC = "172.30.0.2/24", "02:42:ac:1e:00:02"
)

// A tenancy is one container's time with the shared address.
type tenancy struct {
	of   *container
	port *netlink.Veth
}

// move gives c a new network namespace with the shared address, which leads to
// nobody as yet.
func (c *container) move(name string) tenancy {
	c.t.Helper()
	c.tell("renew")
	mac, err := net.ParseMAC(sharedMAC)
	if err != nil {
		c.t.Fatal(err)
	}
	port := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsPid(c.cmd.Process.Pid), PeerHardwareAddr: mac}
	if err := netlink.LinkAdd(port); err != nil {
		c.t.Fatalf("making a link: %v", err)
	}
	if err := netlink.LinkSetUp(port); err != nil {
		c.t.Fatal(err)
	}
	c.tell("plug " + sharedAddress)
	return tenancy{c, port}
}

// begin connects a tenancy to the bridge.
func (n tenancy) begin(br netlink.Link) {
	n.of.t.Helper()
	if err := netlink.LinkSetMaster(n.port, br); err != nil {
		n.of.t.Fatal(err)
	}
}

// One address goes from a container to the next, again and again, and the next
// one calls at once. It is itself, or nobody: never the one before. What the
// one before has left open is nobody's.
func TestAddressChangesHands(t *testing.T) {
	count := churns
	if os.Getenv("HOSTROLE_SOAK") != "" {
		count = soak
	}
	e := newEnricher(t)
	if !ownnet.RealRoot() {
		t.Skip("SKIPPED, missing: root, to have containers of several users")
	}
	s := listen(t, metadataV4+":0")
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		t.Fatal(err)
	}
	tenants := [2]*container{contain(t, 1300, "", false), contain(t, 1400, "", false)}
	var waits []time.Duration
	named, unnamed := 0, 0
	now := tenants[0].move("first")
	now.begin(br)
	now.of.tell("dial - " + s.addr())
	for i := range count {
		old, before := s.accept()
		next := tenants[(i+1)%2].move(fmt.Sprintf("t%d", i))
		var who caller.Caller
		if err := e.Enrich(t.Context(), before, &who); err != nil || who.UID != caller.NewID(now.of.uid) {
			t.Fatalf("change %d: the tenant is named %v, %v, want uid %d", i, who.UID, err, now.of.uid)
		}
		if err := netlink.LinkDel(now.port); err != nil { // as a runtime does; nobody is told
			t.Fatal(err)
		}
		gone := time.Now()
		next.begin(br)
		waits = append(waits, time.Since(gone))
		inode := next.of.tell("dial - " + s.addr())
		opened, c := s.accept()
		who = caller.Caller{}
		switch err := e.Enrich(t.Context(), c, &who); {
		case err != nil:
			unnamed++
			t.Logf("change %d: %v", i, err)
		case who.UID != caller.NewID(next.of.uid):
			t.Fatalf("change %d: a connection of uid %d was taken for one of %v", i, next.of.uid, who.UID)
		default:
			named++
		}
		who = caller.Caller{}
		if err := e.Enrich(t.Context(), before, &who); !errors.Is(err, host.ErrNotFound) && !errors.Is(err, host.ErrGone) || who.Known() {
			t.Fatalf("change %d: what the one before has left is %v's: %v", i, who.UID, err)
		}
		if i%1000 == 999 {
			t.Logf("%d changes: inode %s", i+1, inode)
		}
		if err := old.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		_ = old.Close()
		_ = opened.Close()
		now = next
		// The one that is there calls again, to be the one before.
		now.of.tell("close")
		now.of.tell("dial - " + s.addr())
	}
	slices.Sort(waits)
	within := 0
	for _, w := range waits {
		if w <= time.Millisecond {
			within++
		}
	}
	t.Logf("%d changes, none wrong: %d named, %d not named; the next one called %v at the median and %v at most after the one before had gone, %d within 1ms",
		count, named, unnamed, waits[len(waits)/2], waits[len(waits)-1], within)
	if unnamed > count/100 {
		t.Errorf("%d of %d were not named", unnamed, count)
	}
}
