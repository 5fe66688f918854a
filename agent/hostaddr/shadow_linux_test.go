package hostaddr_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/agent/hostaddr"
)

func freebind(_, _ string, raw syscall.RawConn) (err error) {
	if failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) }); failed != nil {
		return failed
	}
	return err
}

// route adds a route by lan0, to a network and by a gateway, which may be "".
func route(t *testing.T, r netlink.Route, to, gateway string) {
	t.Helper()
	_, dst, err := net.ParseCIDR(to)
	if err != nil {
		t.Fatal(err)
	}
	r.Dst = dst
	if r.Type == 0 {
		r.LinkIndex = linkByName(t, "lan0").Attrs().Index
	}
	if gateway != "" {
		r.Gw = net.ParseIP(gateway)
	} else if dst.IP.To4() != nil && r.Type == 0 {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteAdd(&r); err != nil {
		t.Fatalf("adding the route %v: %v", r, err)
	}
	t.Cleanup(func() { _ = netlink.RouteDel(&r) })
}

func defaultRoutes(t *testing.T) {
	t.Helper()
	route(t, netlink.Route{}, "0.0.0.0/0", "192.0.2.1")
	route(t, netlink.Route{}, "::/0", "2001:db8::1")
}

func TestRealServiceIsNotHidden(t *testing.T) {
	plain, ec2 := firmware("sys_vendor", "QEMU"), firmware("sys_vendor", "Amazon EC2")
	for name, test := range map[string]struct {
		firmware fstest.MapFS
		routes   func(*testing.T)
		want     string // a part of the refusal; "" for none
	}{
		"a default route on an ordinary machine is no service": {plain, defaultRoutes, ""},
		"a default route on a cloud's machine is one":          {ec2, defaultRoutes, "Amazon EC2"},
		"a cloud's machine without a route is none":            {ec2, func(*testing.T) {}, ""},
		"a host route is one": {plain, func(t *testing.T) {
			route(t, netlink.Route{Protocol: unix.RTPROT_DHCP, Priority: 100}, metadataV4+"/32", "192.0.2.1")
		}, "169.254.169.254/32 via 192.0.2.1 dev lan0"},
		"a host route on the link is one": {plain, func(t *testing.T) {
			route(t, netlink.Route{}, metadataV4+"/32", "")
		}, "169.254.169.254/32 dev lan0"},
		"a host route for IPv6 is one": {plain, func(t *testing.T) {
			route(t, netlink.Route{}, metadataV6+"/128", "2001:db8::1")
		}, "fd00:ec2::254/128 via 2001:db8::1 dev lan0"},
		"a zeroconf route on an ordinary machine is no service": {plain, func(t *testing.T) {
			defaultRoutes(t)
			route(t, netlink.Route{Priority: 1000}, "169.254.0.0/16", "")
		}, ""},
		"a zeroconf route on a cloud's machine is one": {ec2, func(t *testing.T) {
			route(t, netlink.Route{Priority: 1000}, "169.254.0.0/16", "")
		}, "Amazon EC2"},
		"an own link-local address is no service": {plain, func(t *testing.T) { put(t, "lan0", "169.254.3.4/16") }, ""},
		"a link route by hand is one": {plain, func(t *testing.T) {
			route(t, netlink.Route{}, "169.254.0.0/16", "")
		}, "169.254.0.0/16 dev lan0"},
		"a prohibition on a cloud's machine is no service": {ec2, func(t *testing.T) {
			route(t, netlink.Route{}, "0.0.0.0/0", "192.0.2.1")
			route(t, netlink.Route{Type: unix.RTN_PROHIBIT}, metadataV4+"/32", "")
			route(t, netlink.Route{Type: unix.RTN_UNREACHABLE}, metadataV6+"/128", "")
		}, ""},
		"a black hole on a cloud's machine is no service": {ec2, func(t *testing.T) {
			defaultRoutes(t)
			route(t, netlink.Route{Type: unix.RTN_BLACKHOLE}, metadataV4+"/32", "")
			route(t, netlink.Route{Type: unix.RTN_BLACKHOLE}, metadataV6+"/128", "")
		}, ""},
		"several default routes on a cloud's machine are one": {ec2, func(t *testing.T) {
			at := linkByName(t, "lan0").Attrs().Index
			two := netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, MultiPath: []*netlink.NexthopInfo{
				{LinkIndex: at, Gw: net.ParseIP("192.0.2.1")}, {LinkIndex: at, Gw: net.ParseIP("192.0.2.3")}}}
			if err := netlink.RouteAdd(&two); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = netlink.RouteDel(&two) })
		}, "Amazon EC2"},
	} {
		t.Run(name, func(t *testing.T) {
			needNamespace(t)
			bridge(t, "lan0")
			put(t, "lan0", "192.0.2.2/24")
			put(t, "lan0", "2001:db8::2/64")
			test.routes(t)
			before := snapshot(t)
			o := hostaddr.Options{Addrs: []netip.Addr{v4, v6}}
			c, err := hostaddr.NewClaimOn(t.Context(), o, test.firmware)
			if test.want == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				if lost := c.Lost(); len(lost) > 0 {
					t.Errorf("lost %v", lost)
				}
				if err := c.Release(); err != nil {
					t.Error(err)
				}
			} else {
				if !errors.Is(err, hostaddr.ErrShadow) {
					t.Fatalf("got %v, want ErrShadow", err)
				}
				for _, want := range []string{test.want, "allow_shadow = true"} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("the error lacks %q: %v", want, err)
					}
				}
			}
			if diff := cmp.Diff(before, snapshot(t)); diff != "" {
				t.Errorf("the host is not as before (-before +after):\n%s", diff)
			}
			o.AllowShadow = true
			c, err = hostaddr.NewClaimOn(t.Context(), o, test.firmware)
			if err != nil {
				t.Fatalf("refused although it is allowed: %v", err)
			}
			if on(t, "lo", v4) == nil || on(t, "lo", v6) == nil {
				t.Error("an address is not there")
			}
			if err := c.Release(); err != nil {
				t.Error(err)
			}
		})
	}
}
