package facts_test

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"github.com/vishvananda/netlink"

	"github.com/hostrole/hostrole/agent/facts"
)

func TestMain(m *testing.M) { os.Exit(ownnet.Main(m, ownnet.Plan{})) }

// A host is a namespace with a pair of veths, of which one leads out.
type host struct {
	t    *testing.T
	link netlink.Link
}

func newHost(t *testing.T) *host {
	t.Helper()
	ownnet.Need(t)
	h := &host{t: t}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "out0"
	h.do(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "world0"}))
	t.Cleanup(func() { _ = netlink.LinkDel(h.link) })
	for _, name := range []string{"lo", "world0", "out0"} {
		l, err := netlink.LinkByName(name)
		h.do(err)
		h.do(netlink.LinkSetUp(l))
		h.link = l
	}
	return h
}

func (h *host) do(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) address(text string) *netlink.Addr {
	a, err := netlink.ParseAddr(text)
	h.do(err)
	if a.IP.To4() == nil {
		a.Flags = syscall.IFA_F_NODAD
	}
	return a
}

func (h *host) add(text string) { h.t.Helper(); h.do(netlink.AddrAdd(h.link, h.address(text))) }

func (h *host) route() *netlink.Route {
	return &netlink.Route{LinkIndex: h.link.Attrs().Index, Gw: h.address("10.1.2.1/32").IP}
}

// Every change shows at the next look.
func TestNetworkIsLive(t *testing.T) {
	h := newHost(t)
	var n facts.Network
	defer func() { h.do(n.Close()) }()
	mac := h.link.Attrs().HardwareAddr.String()
	dir := "network/interfaces/macs/" + mac + "/"
	want := func(when string, leaves map[string]string) {
		t.Helper()
		got := n.Leaves()
		for path, value := range leaves {
			if got[path] != value {
				t.Errorf("%s: %s is %q, want %q, in %q", when, path, got[path], value, got)
			}
		}
	}
	if got := n.Leaves(); len(got) != 0 {
		t.Errorf("a host without an address has %q", got)
	}
	h.add("10.1.2.3/24")
	want("a veth that leads nowhere", map[string]string{"mac": ""})
	h.do(netlink.RouteAdd(h.route()))
	want("with a way out", map[string]string{"mac": mac, "local-ipv4": "10.1.2.3", dir + "subnet-ipv4-cidr-block": "10.1.2.0/24", dir + "ipv6s": ""})
	h.add("2001:db8:1::5/64")
	h.add("169.254.169.254/32")
	h.add("10.1.2.4/24")
	want("with more", map[string]string{"ipv6": "2001:db8:1::5", dir + "local-ipv4s": "10.1.2.3\n10.1.2.4", dir + "ipv6s": "2001:db8:1::5"})
	for i := range 100 {
		text := fmt.Sprintf("10.1.3.%d/32", i)
		h.add(text)
		want("one more", map[string]string{dir + "local-ipv4s": "10.1.2.3\n10.1.3." + fmt.Sprint(i) + "\n10.1.2.4"})
		h.do(netlink.AddrDel(h.link, h.address(text)))
		want("one less", map[string]string{dir + "local-ipv4s": "10.1.2.3\n10.1.2.4"})
	}
	// More news than the socket can hold.
	for i := range 200 {
		text := fmt.Sprintf("10.1.3.%d/32", i)
		h.add(text)
		h.do(netlink.AddrDel(h.link, h.address(text)))
	}
	h.do(netlink.AddrDel(h.link, h.address("10.1.2.4/24")))
	want("after many", map[string]string{dir + "local-ipv4s": "10.1.2.3"})
	h.do(netlink.RouteDel(h.route()))
	want("without a way out", map[string]string{"mac": "", "local-ipv4": ""})
	h.do(netlink.RouteAdd(h.route()))
	h.do(netlink.LinkSetDown(h.link))
	want("down", map[string]string{"mac": "", "local-ipv4": ""})
}

func TestNetworkThatStaysIsNotReadAgain(t *testing.T) {
	h := newHost(t)
	h.add("10.1.2.3/24")
	h.do(netlink.RouteAdd(h.route()))
	var n facts.Network
	defer func() { h.do(n.Close()) }()
	if n.Leaves()["local-ipv4"] != "10.1.2.3" {
		t.Fatalf("the leaves are %q", n.Leaves())
	}
	n.Leaves()                                                              // a neighbour's address may have come up meanwhile
	if got := testing.AllocsPerRun(1000, func() { n.Leaves() }); got > 10 { // a reading takes hundreds
		t.Errorf("a look at what stays takes %v allocations: it is read again", got)
	}
}

func TestNetworkAfterClose(t *testing.T) {
	h := newHost(t)
	h.add("10.1.2.3/24")
	h.do(netlink.RouteAdd(h.route()))
	var n facts.Network
	n.Leaves()
	h.do(n.Close())
	h.do(n.Close())
	h.add("10.1.2.4/24")
	if got := n.Leaves()["network/interfaces/macs/"+h.link.Attrs().HardwareAddr.String()+"/local-ipv4s"]; got != "10.1.2.3\n10.1.2.4" {
		t.Errorf("after Close the addresses are %q", got)
	}
}

func TestNetworkAtOnce(t *testing.T) {
	h := newHost(t)
	h.add("10.1.2.3/24")
	h.do(netlink.RouteAdd(h.route()))
	var n facts.Network
	defer func() { h.do(n.Close()) }()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if got := n.Leaves()["local-ipv4"]; got != "10.1.2.3" {
					t.Errorf("local-ipv4 is %q", got)
				}
			}
		})
	}
	for i := range 50 {
		text := fmt.Sprintf("10.1.3.%d/32", i)
		h.add(text)
		h.do(netlink.AddrDel(h.link, h.address(text)))
	}
	all.Wait()
}

func BenchmarkNetwork(b *testing.B) {
	var n facts.Network
	defer func() { _ = n.Close() }()
	b.ReportAllocs()
	for b.Loop() {
		n.Leaves()
	}
}
