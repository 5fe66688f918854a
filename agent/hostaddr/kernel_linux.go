package hostaddr

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// signature are the flags of an IPv6 address of ours, beside its length; the
// last is for having no time in which it is preferred.
const (
	asked     = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	signature = asked | unix.IFA_F_DEPRECATED

	forever = math.MaxUint32 & math.MaxInt // seconds; where an int is short, 68 years
)

// dumps is how often a list is asked for, if it changes while it is written.
const dumps = 10

// whole asks for a list until it has it whole.
func whole[T any](list func() (T, error)) (l T, err error) {
	for range dumps {
		if l, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return l, err
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

func linkOf(l netlink.Link) link {
	at := l.Attrs()
	return link{name: at.Name, index: at.Index, ours: at.Name != loopback && at.Alias == mark, closed: at.Name == loopback || l.Type() == "dummy"}
}

// findLink finds a link by its name; errNoLink if there is none.
func findLink(name string) (link, error) {
	l, err := whole(func() (netlink.Link, error) { return netlink.LinkByName(name) })
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return link{}, fmt.Errorf("%w: %s", errNoLink, name)
	}
	if err != nil {
		return link{}, fmt.Errorf("finding the link %s: %w", name, err)
	}
	return linkOf(l), nil
}

// makeLink makes a link that needs no other, marks it, and sets it up.
func makeLink(name string) (link, error) {
	made, err := addLink(name)
	if err != nil {
		return link{}, fmt.Errorf("making the link %s: %w", name, hint(err))
	}
	// Nobody but us has business on it: no address that the kernel adds. Without
	// IPv6 that fails, and is not needed.
	const none = 1 // IN6_ADDR_GEN_MODE_NONE
	_ = netlink.LinkSetIP6AddrGenMode(made, none)
	err = netlink.LinkSetAlias(made, mark)
	if err == nil {
		err = netlink.LinkSetUp(made)
	}
	if err != nil {
		return link{}, errors.Join(fmt.Errorf("setting up the link %s: %w", name, hint(err)), netlink.LinkDel(made))
	}
	return findLink(name)
}

func addLink(name string) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	var made netlink.Link = &netlink.Dummy{LinkAttrs: attrs}
	err := netlink.LinkAdd(made)
	if errors.Is(err, unix.EOPNOTSUPP) {
		made = &netlink.Bridge{LinkAttrs: attrs}
		err = netlink.LinkAdd(made)
	}
	return made, err
}

// deleteLink deletes a link that has our mark, and no other; that there is
// none is no error.
func deleteLink(l link) error {
	found, err := whole(func() (netlink.Link, error) { return netlink.LinkByIndex(l.index) })
	if err == nil && linkOf(found).ours {
		err = netlink.LinkDel(found)
	}
	if err == nil || errors.As(err, &netlink.LinkNotFoundError{}) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("deleting the link %s: %w", l.name, hint(err))
}

// findAddress finds where a is on the host.
func findAddress(a netip.Addr) ([]place, error) {
	list, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, family(a)) })
	if err != nil {
		return nil, fmt.Errorf("listing the addresses of the host to find %v: %w", a, err)
	}
	var places []place
	for _, found := range list {
		if !found.IP.Equal(a.AsSlice()) {
			continue
		}
		l, err := whole(func() (netlink.Link, error) { return netlink.LinkByIndex(found.LinkIndex) })
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue // gone since
		}
		if err != nil {
			return nil, fmt.Errorf("finding the link that has %v: %w", a, err)
		}
		p := place{link: linkOf(l)}
		ones, bits := found.Mask.Size()
		p.ours = ones == bits && (found.Label == label(p.link.name) || a.Is6() && found.Flags&signature == signature)
		places = append(places, p)
	}
	return places, nil
}

func addressOn(l link, a netip.Addr) *netlink.Addr {
	at := &netlink.Addr{IPNet: hostNet(a), LinkIndex: l.index}
	if a.Is4() {
		at.Label, at.Scope = label(l.name), unix.RT_SCOPE_HOST
	} else {
		at.Flags, at.ValidLft = asked, forever
	}
	return at
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// putAddress puts a on l with our mark.
func putAddress(l link, a netip.Addr) error {
	err := netlink.AddrReplace(nil, addressOn(l, a))
	switch {
	case err == nil:
		return nil
	case a.Is6() && errors.Is(err, unix.EACCES):
		// Not %w: nobody lacks a permission.
		return fmt.Errorf("putting %v on %s: IPv6 is switched off there by the sysctl net.ipv6.conf.%s.disable_ipv6: set it to 0, or take the address out of the listener", a, l.name, l.name)
	case errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("putting %v on %s: %w: the kernel lacks this kind of address: take it out of the listener", a, l.name, err)
	}
	return fmt.Errorf("putting %v on %s: %w", a, l.name, hint(err))
}

// removeAddress takes a off l, if it has our mark; that it is not there is no
// error.
func removeAddress(l link, a netip.Addr) error {
	err := netlink.AddrDel(nil, addressOn(l, a))
	if err == nil || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("taking %v off %s: %w", a, l.name, hint(err))
}

// hint adds what to do about a missing capability.
func hint(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: this needs CAP_NET_ADMIN: give it to the daemon, or set manage_address = false and put the address on the host by other means", err)
	}
	return err
}
