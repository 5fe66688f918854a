package netns_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
	"github.com/hostrole/hostrole/imds/caller/netns"
)

// name checks that e finds the container, and the socket that it has told of.
func name(t *testing.T, e *netns.Enricher, c caller.Conn, of *container, inode string) {
	t.Helper()
	var who caller.Caller
	if err := e.Enrich(t.Context(), c, &who); err != nil {
		t.Error(err)
	} else if who.UID != caller.NewID(of.uid) || fmt.Sprint(who.Inode) != inode || who.Cgroup == 0 || who.User != "" || who.Groups != nil {
		t.Errorf("got %+v, want uid %d and inode %s and a cgroup, and no names", who, of.uid, inode)
	}
}

// refuse checks that e does not name the caller, for one of the reasons given.
func refuse(t *testing.T, e *netns.Enricher, c caller.Conn, want ...error) {
	t.Helper()
	var who caller.Caller
	err := e.Enrich(t.Context(), c, &who)
	if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }) {
		t.Errorf("got %+v with error %v, want the error %v", who, err, want)
	}
	if who.Known() || who.Inode != 0 || who.Cgroup != 0 {
		t.Errorf("a refused caller has facts: %+v", who)
	}
}

func TestBridgedCaller(t *testing.T) {
	e := newEnricher(t)
	for what, address := range map[string]string{"IPv4": metadataV4 + ":0", "IPv6": "[" + metadataV6 + "]:0"} {
		t.Run(what, func(t *testing.T) {
			s := listen(t, address)
			a := contain(t, 1234, "", false)
			a.plug("172.30.0.2/24", "fd30::2/64")
			b := contain(t, 1235, "", false)
			b.plug("172.30.0.3/24", "fd30::3/64")
			ia := a.tell("dial - " + s.addr())
			_, ca := s.accept()
			ib := b.tell("dial - " + s.addr())
			_, cb := s.accept()
			name(t, e, ca, a, ia)
			name(t, e, cb, b, ib)
			name(t, e, ca, a, ia)
			var who caller.Caller
			if err := newHost(t).Enrich(t.Context(), ca, &who); !errors.Is(err, host.ErrNotFound) {
				t.Errorf("in the host's own namespace: %+v, %v: this test shows nothing", who, err)
			}
		})
	}
}

func TestContainerWithUsersOfItsOwn(t *testing.T) {
	if !ownnet.RealRoot() {
		t.Skip("SKIPPED, missing: root, to start processes of several users")
	}
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	c := contain(t, 1003, "172.30.0.2/24", true)
	inode := c.tell("dial - " + s.addr())
	_, conn := s.accept()
	name(t, e, conn, c, inode)
}

// A neighbour takes the address and the MAC address of another container. He
// has its connections for that, but not its name.
func TestSpoofedAddress(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	victim := contain(t, 1234, "172.30.0.2/24", false)
	before := victim.tell("dial 172.30.0.2:5000 " + s.addr())
	_, old := s.accept()
	name(t, e, old, victim, before)

	thief := contain(t, 1235, "172.30.0.2/24", false)
	thief.tell("mac " + victim.tell("which") + " 172.30.0.2/24")
	inode := thief.tell("dial 172.30.0.2:5001 " + s.addr())
	_, c := s.accept()
	if c.Remote.Addr() != old.Remote.Addr() {
		t.Fatalf("the thief comes from %v and not from %v: this test shows nothing", c.Remote, old.Remote)
	}
	thief.tell("say x") // so that the bridge sends to where it was heard last
	name(t, e, c, thief, inode)
	thief.tell("say x")
	// The answer would go to the thief; or to the victim, whose kernel has said
	// something of its own in between, and then it may be named.
	var who caller.Caller
	if err := e.Enrich(t.Context(), old, &who); !errors.Is(err, host.ErrNotFound) && (err != nil || fmt.Sprint(who.Inode) != before) {
		t.Errorf("got %+v with error %v, want the error %v, or the inode %s", who, err, host.ErrNotFound, before)
	}
}

// A container has lost its connection without a word, and holds the socket
// still. A neighbour takes its address, its MAC address and its port, and hides
// its own socket behind another address. The answer would go to the neighbour.
func TestStolenConnection(t *testing.T) {
	for what, hidden := range map[string]bool{"hidden": true, "open": false} {
		t.Run(what, func(t *testing.T) {
			e := newEnricher(t)
			s := listen(t, metadataV4+":0")
			victim := contain(t, 1234, "172.30.0.2/24", false)
			inode, mac := victim.tell("dial 172.30.0.2:5000 "+s.addr()), victim.tell("which")
			old, before := s.accept()
			name(t, e, before, victim, inode)
			victim.tell("vanish")
			if err := errors.Join(old.SetLinger(0), old.Close()); err != nil {
				t.Fatal(err)
			}

			thief := contain(t, 1235, "", false)
			thief.plug("172.30.0.3/24", "172.30.0.2/24")
			thief.tell("mac " + mac + " 172.30.0.3/24")
			from := "172.30.0.2:5000 "
			if hidden {
				thief.tell("nat " + from)
				from = "- "
			}
			inode = thief.tell("dial " + from + s.addr())
			_, c := s.accept()
			if c.Remote != before.Remote {
				t.Fatalf("the thief comes from %v and not from %v: this test shows nothing", c.Remote, before.Remote)
			}
			if hidden {
				refuse(t, e, c, host.ErrNotFound)
			} else {
				name(t, e, c, thief, inode)
			}
		})
	}
}

// A container makes up a socket for another one's connection. It gets nothing
// for that, and the other one loses nothing.
func TestMadeUpConnection(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	victim := contain(t, 1234, "172.30.0.2/24", false)
	inode := victim.tell("dial 172.30.0.2:5000 " + s.addr())
	_, c := s.accept()
	neighbour := contain(t, 1236, "172.30.0.3/24", false)
	neighbour.tell("pretend 172.30.0.2:5000 " + s.addr())
	name(t, e, c, victim, inode)
	neighbour.tell("close")
	name(t, e, c, victim, inode)
}

// A container vanishes without a word, and another one gets its address.
func TestAddressIsUsedAgain(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	for i := range uint32(3) {
		first := contain(t, 1300+i, "172.30.0.2/24", false)
		inode := first.tell("dial 172.30.0.2:5000 " + s.addr())
		old, c := s.accept()
		name(t, e, c, first, inode)
		first.tell("vanish")
		first.end()
		// Its socket, which nobody holds, is there until the kernel has taken the
		// namespace away.
		refuse(t, e, c, host.ErrNotFound, host.ErrGone)

		second := contain(t, 1400+i, "172.30.0.2/24", false)
		refuse(t, e, c, host.ErrNotFound, host.ErrGone)
		inode = second.tell("dial 172.30.0.2:6000 " + s.addr())
		_, next := s.accept()
		name(t, e, next, second, inode)
		refuse(t, e, c, host.ErrNotFound)
		second.end()
		if err := old.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		_ = old.Close()
	}
}

func TestClientThatHasClosed(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	c := contain(t, 1234, "172.30.0.2/24", false)
	c.tell("dial - " + s.addr())
	_, conn := s.accept()
	c.tell("close")
	refuse(t, e, conn, host.ErrGone)
}

// A neighbour listens on the port that a client has.
func TestListenerOnTheClientsPort(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	client, neighbour := contain(t, 1234, "172.30.0.2/24", false), contain(t, 1235, "172.30.0.3/24", false)
	neighbour.tell("listen 0.0.0.0:5000")
	inode := client.tell("dial 172.30.0.2:5000 " + s.addr())
	_, c := s.accept()
	name(t, e, c, client, inode)
	client.tell("close")
	var who caller.Caller
	if err := e.Enrich(t.Context(), c, &who); !errors.Is(err, host.ErrGone) && !errors.Is(err, host.ErrOther) || who.Known() {
		t.Errorf("got %+v, %v", who, err)
	}
}

func TestManyAtOnce(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	c := contain(t, 1234, "172.30.0.2/24", false)
	inode := c.tell("dial - " + s.addr())
	_, conn := s.accept()
	before := descriptors(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				name(t, e, conn, c, inode)
			}
		})
	}
	group.Wait()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if after := descriptors(t); after > before { // the runtime's poller is one of those before, or not
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
	refuse(t, e, conn, host.ErrClosed)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if at, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net"); err == nil && at != home {
			t.Errorf("thread %s is in %s, and not at home in %s", task.Name(), at, home)
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// While a container is asked about, its namespace is held. When its process has
// ended it goes, with its links, as if nobody had asked.
func TestContainerThatEnds(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	c := contain(t, 1234, "172.30.0.2/24", false)
	port := fmt.Sprintf("v%d", containers)
	inode := c.tell("dial - " + s.addr())
	_, conn := s.accept()
	name(t, e, conn, c, inode)
	if e.Doors() != 1 {
		t.Fatalf("%d namespaces are held: this test shows nothing", e.Doors())
	}
	c.end()
	until(t, "its link is gone", func() bool {
		_, err := netlink.LinkByName(port)
		return err != nil
	})
	refuse(t, e, conn, host.ErrNotFound)
	if e.Doors() != 0 {
		t.Errorf("%d namespaces are held", e.Doors())
	}
}

// The kernel forgets its neighbours, and finds them again when it has something
// to send to them, which is when they have asked for something.
func TestForgottenNeighbour(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	c := contain(t, 1234, "172.30.0.2/24", false)
	inode := c.tell("dial - " + s.addr())
	_, conn := s.accept()
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		t.Fatal(err)
	}
	forget := func() {
		if err := netlink.NeighDel(&netlink.Neigh{LinkIndex: br.Attrs().Index, IP: net.IPv4(172, 30, 0, 2)}); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	c.tell("say GET")
	name(t, e, conn, c, inode)
	forget()
	time.AfterFunc(5*time.Millisecond, func() { c.tell("say GET") })
	name(t, e, conn, c, inode)
}

// What nobody asks about is not held: its process may be elsewhere by now.
func TestNamespaceOutOfUse(t *testing.T) {
	e := newEnricher(t)
	e.Hurry(20*time.Millisecond, 10)
	s := listen(t, metadataV4+":0")
	c := contain(t, 1234, "172.30.0.2/24", false)
	inode := c.tell("dial - " + s.addr())
	_, conn := s.accept()
	for range 3 {
		name(t, e, conn, c, inode)
		until(t, "no namespace is held", func() bool { return e.Doors() == 0 })
	}
}

// With more containers than namespaces may be held, all are known still.
func TestDoorsAreBounded(t *testing.T) {
	e := newEnricher(t)
	e.Hurry(time.Hour, 2)
	s := listen(t, metadataV4+":0")
	var all []*container
	var conns []caller.Conn
	var inodes []string
	for i := range uint32(4) {
		c := contain(t, 1234+i, fmt.Sprintf("172.30.0.%d/24", 2+i), false)
		inodes = append(inodes, c.tell("dial - "+s.addr()))
		_, conn := s.accept()
		all, conns = append(all, c), append(conns, conn)
	}
	for range 3 {
		for i, c := range all {
			name(t, e, conns[i], c, inodes[i])
			if e.Doors() > 2 {
				t.Errorf("%d namespaces are held", e.Doors())
			}
		}
	}
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 500 {
		if holds() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("not within 5s: %s", what)
}

func TestNobodyBehindTheDevice(t *testing.T) {
	e := newEnricher(t)
	s := listenOn(t, "", metadataV4+":0")
	c := contain(t, 1234, "172.30.0.2/24", false)
	c.tell("dial - " + s.addr())
	_, conn := s.accept()
	refuse(t, e, conn, netns.ErrDevice)
	s = listen(t, metadataV4+":0")
	inode := c.tell("dial - " + s.addr())
	_, conn = s.accept()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var who caller.Caller
	if err := e.Enrich(ctx, conn, &who); !errors.Is(err, context.Canceled) || who.Known() {
		t.Errorf("with a context that has ended: %v", err)
	}
	name(t, e, conn, c, inode)
	conn.Raw = nil
	refuse(t, e, conn, host.ErrNoSocket)
}

// lead gives c a link of a name, and the host an address at its end, or on the
// bridge that it belongs to.
func (c *container) lead(name, bridge, gateway, address string) {
	c.t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsPid(c.cmd.Process.Pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = netlink.LinkDel(veth) })
	at := name
	if bridge != "" {
		br, err := netlink.LinkByName(bridge)
		if err != nil {
			c.t.Fatal(err)
		}
		if err := errors.Join(netlink.LinkSetMaster(veth, br), netlink.LinkSetUp(veth)); err != nil {
			c.t.Fatal(err)
		}
		at = bridge
	}
	if err := set(at, gateway+"/24"); err != nil {
		c.t.Fatal(err)
	}
	c.tell("link " + address + "/24 " + gateway)
}

// A link that leads to a container without a bridge.
func TestLinkOfAContainer(t *testing.T) {
	e := newEnricher(t)
	c := contain(t, 1234, "", false)
	c.lead("direct", "", "172.31.0.1", "172.31.0.2")
	s := listenOn(t, "direct", metadataV4+":0")
	inode := c.tell("dial - " + s.addr())
	_, conn := s.accept()
	name(t, e, conn, c, inode)
}

// A bridge that tells VLANs apart has other entries.
func TestBridgeWithVLANs(t *testing.T) {
	e := newEnricher(t)
	yes := true
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "vlans"}, VlanFiltering: &yes}
	if err := netlink.LinkAdd(br); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("SKIPPED, missing: a kernel whose bridges have VLANs: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(br) })
	c := contain(t, 1234, "", false)
	c.lead("port", "vlans", "172.31.0.1", "172.31.0.2")
	s := listenOn(t, "vlans", metadataV4+":0")
	inode := c.tell("dial - " + s.addr())
	_, conn := s.accept()
	name(t, e, conn, c, inode)
}

func TestProbe(t *testing.T) {
	e := newEnricher(t)
	if err := e.Probe(); err != nil {
		t.Error(err)
	}
	if !ownnet.RealRoot() {
		t.Skip("SKIPPED, missing: root, to start a process without rights")
	}
	cmd := ownnet.Command("probe", 0)
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 1234, Gid: 1234}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EACCES) {
		t.Skipf("SKIPPED, missing: a test binary that others may run: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "CAP_SYS_ADMIN and CAP_SYS_PTRACE") || !strings.Contains(string(out), netns.ErrPrivileges.Error()) {
		t.Errorf("without rights it says %q, %v", out, err)
	}
}
