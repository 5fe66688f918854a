package hostaddr

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeTo finds the route that packets to a would take off this host, and
// whether there is one. Nothing is sent.
func routeTo(a netip.Addr) (route, bool, error) {
	found, err := netlink.RouteGetWithOptions(a.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	for _, none := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL, unix.EAFNOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, none) { // no route, or one that ends here: unreachable, prohibit, blackhole
			return route{}, false, nil
		}
	}
	if err != nil {
		return route{}, false, fmt.Errorf("finding the route to %v: %w", a, err)
	}
	if len(found) == 0 || found[0].Type != unix.RTN_UNICAST {
		return route{}, false, nil
	}
	f := found[0]
	r := route{prefix: netip.PrefixFrom(zeroOf(a), 0), metric: f.Priority, kernel: f.Protocol == unix.RTPROT_KERNEL}
	if f.Dst != nil {
		dst, _ := netip.AddrFromSlice(f.Dst.IP)
		ones, _ := f.Dst.Mask.Size()
		r.prefix = netip.PrefixFrom(dst.Unmap(), ones)
	}
	r.gateway, _ = netip.AddrFromSlice(f.Gw)
	r.source, _ = netip.AddrFromSlice(f.Src)
	r.gateway, r.source = r.gateway.Unmap(), r.source.Unmap()
	if len(f.MultiPath) > 0 && f.LinkIndex == 0 {
		f.LinkIndex = f.MultiPath[0].LinkIndex
		r.gateway, _ = netip.AddrFromSlice(f.MultiPath[0].Gw)
		r.gateway = r.gateway.Unmap()
	}
	l, err := whole(func() (netlink.Link, error) { return netlink.LinkByIndex(f.LinkIndex) })
	if err != nil {
		return route{}, false, fmt.Errorf("finding the link of the route to %v: %w", a, err)
	}
	r.link = l.Attrs().Name
	return r, r.link != loopback, nil
}

// isLocal reports whether packets to a stay on this host.
func isLocal(a netip.Addr) bool {
	found, err := netlink.RouteGet(a.AsSlice())
	return err == nil && len(found) > 0 && found[0].Type == unix.RTN_LOCAL
}

func zeroOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// fenceProtocol tells our routes from those of others.
const fenceProtocol netlink.RouteProtocol = 0xec

// fence is a route that counts while the address is away: requests fail then,
// instead of leaving the host for whoever would answer them. While the address
// is there the local table, which comes first, decides.
func fence(a netip.Addr) *netlink.Route {
	f := &netlink.Route{Dst: hostNet(a), Type: unix.RTN_UNREACHABLE, Protocol: fenceProtocol, Table: unix.RT_TABLE_MAIN}
	if a.Is6() {
		f.Priority = 1 // 0 would be 1024
	}
	return f
}

// putFence adds the fence. A route of the same rank by someone else stays: it
// is that of the real service which allow_shadow hides.
func putFence(a netip.Addr) error {
	if err := netlink.RouteAdd(fence(a)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding the route unreachable %v: %w", a, hint(err))
	}
	return nil
}

func removeFence(a netip.Addr) error {
	err := netlink.RouteDel(fence(a))
	if err == nil || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return fmt.Errorf("removing the route unreachable %v: %w", a, hint(err))
}
