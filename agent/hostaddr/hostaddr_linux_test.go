package hostaddr_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/agent/hostaddr"
)

var (
	v4 = netip.MustParseAddr(metadataV4)
	v6 = netip.MustParseAddr(metadataV6)
)

// A listener keeps the events of a claim.
type listener struct {
	mu     sync.Mutex
	events []hostaddr.Event
}

func (l *listener) observe(e hostaddr.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// heard are the events of one kind.
func (l *listener) heard(k hostaddr.Kind) (events []hostaddr.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == k {
			events = append(events, e)
		}
	}
	return events
}

// claim claims, and releases at the end.
func claim(t *testing.T, o hostaddr.Options) *hostaddr.Claim {
	t.Helper()
	c, err := hostaddr.NewClaimOn(t.Context(), o, firmware())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Release(); err != nil {
			t.Error("releasing:", err)
		}
	})
	return c
}

func linkByName(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("finding %s: %v", name, err)
	}
	return l
}

func addressOf(t *testing.T, cidr string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// put puts an address on a link as another program would.
func put(t *testing.T, link, cidr string) {
	t.Helper()
	a := addressOf(t, cidr)
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD // else it takes seconds to be there
	}
	if err := netlink.AddrAdd(linkByName(t, link), a); err != nil {
		t.Fatalf("adding %s to %s: %v", cidr, link, err)
	}
	t.Cleanup(func() {
		if l, err := netlink.LinkByName(link); err == nil {
			_ = netlink.AddrDel(l, addressOf(t, cidr))
		}
	})
}

// on is the address as it is on a link, or nil.
func on(t *testing.T, link string, a netip.Addr) *netlink.Addr {
	t.Helper()
	l, err := netlink.LinkByName(link)
	if err != nil {
		return nil
	}
	list, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range list {
		if found.IP.Equal(a.AsSlice()) {
			return &found
		}
	}
	return nil
}

func remove(t *testing.T, link string, a netip.Addr) {
	t.Helper()
	if err := netlink.AddrDel(linkByName(t, link), &netlink.Addr{IPNet: netlink.NewIPNet(a.AsSlice())}); err != nil {
		t.Fatalf("removing %v from %s: %v", a, link, err)
	}
}

// bridge makes a link of another program.
func bridge(t *testing.T, name string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	b := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(b); err != nil {
		t.Fatalf("adding the bridge %s: %v", name, err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(b) })
	if err := netlink.LinkSetIP6AddrGenMode(b, 1); err != nil { // none: no address that appears later
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(b); err != nil {
		t.Fatal(err)
	}
}

func TestClaimAndReleaseLeaveNoTrace(t *testing.T) {
	needNamespace(t)
	before := snapshot(t)
	c := claim(t, hostaddr.Options{Link: "lo", Addrs: []netip.Addr{v4, v6, v4}})
	if lost := c.Lost(); len(lost) != 0 {
		t.Errorf("lost %v", lost)
	}
	got := on(t, "lo", v4)
	if got == nil || got.Label != "lo:hostrole" || got.Scope != unix.RT_SCOPE_HOST {
		t.Errorf("%v is on lo as %+v, want the label lo:hostrole and scope host", v4, got)
	}
	if ones, _ := got.Mask.Size(); ones != 32 {
		t.Errorf("%v has a mask of %d bits", v4, ones)
	}
	got = on(t, "lo", v6)
	if want := unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE; got == nil || got.Flags&want != want || got.Flags&unix.IFA_F_TENTATIVE != 0 {
		t.Errorf("%v is on lo as %+v, want it without duplicate address detection and prefix route", v6, got)
	}
	for range 2 {
		if err := c.Release(); err != nil {
			t.Error("releasing:", err)
		}
	}
	if diff := cmp.Diff(before, snapshot(t)); diff != "" {
		t.Errorf("the host is not as before (-before +after):\n%s", diff)
	}
}

func TestClaimedAddressServesAtOnce(t *testing.T) {
	needNamespace(t)
	claim(t, hostaddr.Options{Addrs: []netip.Addr{v4, v6}})
	for _, a := range []netip.Addr{v4, v6} {
		l, err := net.Listen("tcp", netip.AddrPortFrom(a, 80).String())
		if err != nil {
			t.Errorf("listening: %v", err)
			continue
		}
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Errorf("dialling: %v", err)
		} else {
			if from := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(); from != a {
				t.Errorf("a local caller of %v comes from %v", a, from)
			}
			_ = conn.Close()
		}
		_ = l.Close()
	}
}

func TestSocketMayComeFirst(t *testing.T) {
	needNamespace(t)
	lc := net.ListenConfig{Control: freebind}
	l, err := lc.Listen(t.Context(), "tcp4", metadataV4+":80")
	if err != nil {
		t.Fatal("listening before the address is there:", err)
	}
	defer func() { _ = l.Close() }()
	claim(t, hostaddr.Options{Addrs: []netip.Addr{v4}})
	conn, err := net.Dial("tcp4", metadataV4+":80")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

func TestWithoutTheAddressNothingLeaves(t *testing.T) {
	needNamespace(t)
	bridge(t, "lan0")
	put(t, "lan0", "192.0.2.2/24")
	put(t, "lan0", "2001:db8::2/64")
	defaultRoutes(t)
	// A real service, which is hidden on purpose, and must not come forward.
	route(t, netlink.Route{Priority: 100}, metadataV4+"/32", "192.0.2.1")
	route(t, netlink.Route{Priority: 100}, metadataV6+"/128", "2001:db8::1")
	claim(t, hostaddr.Options{Addrs: []netip.Addr{v4, v6}, AllowShadow: true})
	for _, a := range []netip.Addr{v4, v6} {
		remove(t, "lo", a) // Run does not run
		if routes, err := netlink.RouteGet(a.AsSlice()); err == nil {
			t.Errorf("without the address packets to %v take %v", a, routes)
		}
	}
}

func TestForeignAddressIsRefusedAndStays(t *testing.T) {
	for name, test := range map[string]struct {
		link, cidr string
		addr       netip.Addr
	}{
		"on our link":                  {"lo", metadataV4 + "/32", v4},
		"on our link, IPv6":            {"lo", metadataV6 + "/128", v6},
		"on another link":              {"other0", metadataV4 + "/32", v4},
		"on another link, IPv6":        {"other0", metadataV6 + "/64", v6},
		"on another link as a network": {"other0", metadataV4 + "/16", v4},
	} {
		t.Run(name, func(t *testing.T) {
			needNamespace(t)
			bridge(t, "other0")
			put(t, test.link, test.cidr)
			before := snapshot(t)
			_, err := hostaddr.NewClaimOn(t.Context(), hostaddr.Options{Addrs: []netip.Addr{v4, v6}, AllowShadow: true}, firmware())
			if !errors.Is(err, hostaddr.ErrHeld) {
				t.Fatalf("got %v, want ErrHeld", err)
			}
			for _, want := range []string{test.addr.String(), " on " + test.link, "manage_address = false"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
			if diff := cmp.Diff(before, snapshot(t)); diff != "" {
				t.Errorf("the refusal changed the host (-before +after):\n%s", diff)
			}
		})
	}
}

func TestLeftOverIsOurs(t *testing.T) {
	for _, link := range []string{"lo", "metadata1234567"} {
		t.Run(link, func(t *testing.T) {
			needNamespace(t)
			o := hostaddr.Options{Link: link, Addrs: []netip.Addr{v4, v6}}
			if _, err := hostaddr.NewClaimOn(t.Context(), o, firmware()); err != nil { // crashes
				t.Fatal(err)
			}
			left := snapshot(t)
			c := claim(t, o)
			if diff := cmp.Diff(left, snapshot(t)); diff != "" {
				t.Errorf("claiming what was left over changed the host (-before +after):\n%s", diff)
			}
			if err := c.Release(); err != nil {
				t.Fatal(err)
			}
			for _, a := range o.Addrs {
				if got := on(t, link, a); got != nil {
					t.Errorf("%v is still there: %v", a, got)
				}
			}
		})
	}
}

func TestLeftOverOfAnotherConfigurationMoves(t *testing.T) {
	needNamespace(t)
	if _, err := hostaddr.NewClaimOn(t.Context(), hostaddr.Options{Link: "imds0", Addrs: []netip.Addr{v4, v6}}, firmware()); err != nil { // crashes
		t.Fatal(err)
	}
	claim(t, hostaddr.Options{Addrs: []netip.Addr{v4, v6}})
	for _, a := range []netip.Addr{v4, v6} {
		if on(t, "lo", a) == nil {
			t.Errorf("%v is not on lo", a)
		}
	}
	if l, err := netlink.LinkByName("imds0"); err == nil {
		t.Errorf("the link is left over: %v", l)
	}
}

func TestLeftOverMovesFromForeignLinkThatStays(t *testing.T) {
	needNamespace(t)
	bridge(t, "other0")
	before := snapshot(t)
	if _, err := hostaddr.NewClaimOn(t.Context(), hostaddr.Options{Link: "other0", Addrs: []netip.Addr{v4, v6}}, firmware()); err != nil { // crashes
		t.Fatal(err)
	}
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4, v6}})
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t)); diff != "" {
		t.Errorf("the host is not as before (-before +after):\n%s", diff)
	}
}

func TestLinkIsMadeAndDeleted(t *testing.T) {
	needNamespace(t)
	c := claim(t, hostaddr.Options{Link: "imds0", Addrs: []netip.Addr{v4, v6}})
	l := linkByName(t, "imds0")
	if l.Attrs().Alias != hostaddr.Mark || l.Attrs().Flags&net.FlagUp == 0 {
		t.Errorf("the link is %+v, want it up and marked", l.Attrs())
	}
	t.Logf("the link is a %s", l.Type()) // a bridge where the kernel has no dummies
	if all, err := netlink.AddrList(l, netlink.FAMILY_ALL); err != nil || len(all) != 2 {
		t.Errorf("the link has %v (%v), want the two addresses", all, err)
	}
	if on(t, "imds0", v4) == nil || on(t, "imds0", v6) == nil {
		t.Error("an address is not there")
	}
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName("imds0"); err == nil {
		t.Error("the link is left over")
	}
}

func TestForeignLinkStays(t *testing.T) {
	needNamespace(t)
	bridge(t, "other0")
	before := snapshot(t)
	c := claim(t, hostaddr.Options{Link: "other0", Addrs: []netip.Addr{v4, v6}})
	if on(t, "other0", v4) == nil || on(t, "other0", v6) == nil {
		t.Error("an address is not there")
	}
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t)); diff != "" {
		t.Errorf("the host is not as before (-before +after):\n%s", diff)
	}
}

func TestReleaseLeavesWhatOthersPutInItsPlace(t *testing.T) {
	needNamespace(t)
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4, v6}})
	for _, a := range []netip.Addr{v4, v6} {
		remove(t, "lo", a)
		put(t, "lo", netip.PrefixFrom(a, a.BitLen()).String())
	}
	if err := c.Release(); err != nil {
		t.Error(err)
	}
	for _, a := range []netip.Addr{v4, v6} {
		if on(t, "lo", a) == nil {
			t.Errorf("%v of another program was taken off", a)
		}
	}
}

func TestReleaseOfOldLeavesNew(t *testing.T) {
	needNamespace(t)
	before := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4}})
	if err := before.Release(); err != nil {
		t.Fatal(err)
	}
	claim(t, hostaddr.Options{Addrs: []netip.Addr{v4}})
	if err := before.Release(); err != nil {
		t.Fatal(err)
	}
	if on(t, "lo", v4) == nil {
		t.Error("the second release of a claim took the address of the next one")
	}
}

func TestReleaseAfterLoss(t *testing.T) {
	needNamespace(t)
	c := claim(t, hostaddr.Options{Link: "imds0", Addrs: []netip.Addr{v4, v6}})
	if err := netlink.LinkDel(linkByName(t, "imds0")); err != nil {
		t.Fatal(err)
	}
	if err := c.Release(); err != nil {
		t.Error("releasing what is gone:", err)
	}
	c = claim(t, hostaddr.Options{Addrs: []netip.Addr{v4, v6}})
	remove(t, "lo", v4)
	remove(t, "lo", v6)
	if err := c.Release(); err != nil {
		t.Error("releasing what is gone:", err)
	}
}

// unprivileged runs f on a thread without CAP_NET_ADMIN, which ends with it.
func unprivileged(f func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		err := unix.Capset(&head, &none[0])
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}

// claimUnprivileged is NewClaim without CAP_NET_ADMIN; it has to fail.
func claimUnprivileged(t *testing.T, o hostaddr.Options) error {
	t.Helper()
	var claimed error
	err := unprivileged(func() { _, claimed = hostaddr.NewClaimOn(context.Background(), o, firmware()) })
	if err != nil {
		t.Fatal("giving up capabilities:", err)
	}
	if !errors.Is(claimed, os.ErrPermission) {
		t.Fatalf("got %v, want os.ErrPermission", claimed)
	}
	return claimed
}

func TestMissingCapabilityIsNamed(t *testing.T) {
	for _, link := range []string{"lo", "imds0"} {
		t.Run(link, func(t *testing.T) {
			needNamespace(t)
			err := claimUnprivileged(t, hostaddr.Options{Link: link, Addrs: []netip.Addr{v4, v6}})
			for _, want := range []string{link, "CAP_NET_ADMIN", "manage_address = false"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error says it for each address: %v", err)
			}
		})
	}
}

// What could be neither healed nor taken off is not claimed.
func TestLeftOverWithoutCapabilityIsAnError(t *testing.T) {
	needNamespace(t)
	o := hostaddr.Options{Addrs: []netip.Addr{v4}}
	claim(t, o)
	before := snapshot(t)
	_ = claimUnprivileged(t, o)
	if diff := cmp.Diff(before, snapshot(t)); diff != "" {
		t.Errorf("the host is not as before (-before +after):\n%s", diff)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	needNamespace(t)
	for name, o := range map[string]hostaddr.Options{
		"no address":             {},
		"zero address":           {Addrs: []netip.Addr{{}}},
		"loopback":               {Addrs: []netip.Addr{v4, netip.MustParseAddr("127.0.0.1")}},
		"wildcard":               {Addrs: []netip.Addr{netip.MustParseAddr("0.0.0.0")}},
		"multicast":              {Addrs: []netip.Addr{netip.MustParseAddr("ff02::1")}},
		"zone":                   {Addrs: []netip.Addr{netip.MustParseAddr("fe80::1%lo")}},
		"too long a link's name": {Link: "metadata12345678", Addrs: []netip.Addr{v4}},
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := hostaddr.NewClaim(t.Context(), o); err == nil {
				t.Errorf("%+v is accepted", o)
				_ = c.Release()
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hostaddr.NewClaim(ctx, hostaddr.Options{Addrs: []netip.Addr{v4}}); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestMappedAddressIsIPv4(t *testing.T) {
	needNamespace(t)
	claim(t, hostaddr.Options{Addrs: []netip.Addr{netip.MustParseAddr("::ffff:" + metadataV4)}})
	if on(t, "lo", v4) == nil {
		t.Error("the address is not there")
	}
}
