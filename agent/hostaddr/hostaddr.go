// Package hostaddr puts the metadata addresses on the host with netlink, heals
// them, and takes them off.
//
// # Order
//
// Open the listening sockets first, with IP_FREEBIND, and claim then. A second
// daemon fails at the port before it gets here, and so never takes the first
// one's address for a left-over of a crash.
//
// # Why not
//
// Not the ip program: it is a process for each look, and its words change. Not
// a poll: between two looks, requests would go to whoever is next on the way.
// Not a file that remembers what was put where: it does not survive what the
// address survives, or survives what the address does not; the address itself
// is marked. Not a packet to find out whether a real metadata service answers:
// it could be taken for a workload's, and answered with keys.
//
// # The mark
//
// What is not marked is not ours: it is neither used nor removed. An IPv4
// address has a label, made of the link's name and "hostrole". A link that we
// made has "hostrole" as its alias. IPv6 addresses have no label, and the
// protocol number that newer kernels keep in its place is missing before Linux
// 5.18, and in the library; their mark is a combination that no tool produces
// by itself: a /128 without duplicate address detection, without a prefix
// route, and deprecated from the start. Each of the three has its own use. The
// first makes the address work at once. The second keeps the main table clean:
// with a prefix route there, the kernel removes the wrong one of two when the
// address goes. The third keeps the address from being chosen as the source of
// other traffic, as scope host does for IPv4. Who gives an address all three by
// hand on the link that hostrole uses has it taken off when hostrole stops.
package hostaddr

import (
	"errors"
	"fmt"
	"net/netip"
)

// loopback is the link that every host has, and nobody makes.
const loopback = "lo"

// mark is the alias of a link that we made, and a part of the label of an
// address that we put on the host.
const mark = "hostrole"

var (
	// ErrHeld matches the refusal to claim an address that is on the host
	// already and was not put there by us.
	ErrHeld = errors.New("the address is in use")
	// ErrOpen matches the refusal to take a link that leads to others.
	ErrOpen = errors.New("the link leads to others")
	// ErrShadow matches the refusal to hide a real metadata service.
	ErrShadow = errors.New("a real metadata service may answer there")

	errNoLink = errors.New("there is no such link")
)

// Options of a Claim.
type Options struct {
	// Link carries the addresses: "lo", the default, or another. If there is
	// none of the name it is made, as a dummy, or as a bridge without ports
	// where the kernel has no dummies, and deleted at the end.
	Link string
	// Addrs are the addresses, at least one.
	Addrs []netip.Addr
	// AllowShadow claims an address also where a real metadata service may
	// answer.
	AllowShadow bool
	// Observe is told what happens to the addresses, by NewClaim and Run, one
	// at a time. It must not block: while it runs, nothing is put back. nil is
	// for nobody.
	Observe func(Event)
}

// settle checks o and fills in what it leaves out.
func (o Options) settle() (Options, error) {
	if o.Link == "" {
		o.Link = loopback
	}
	if len(o.Link) > nameMost {
		return o, fmt.Errorf("claiming: the link's name %q is too long: the kernel takes %d bytes", o.Link, nameMost)
	}
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	seen := map[netip.Addr]bool{}
	var addrs []netip.Addr
	for _, a := range o.Addrs {
		a = a.Unmap()
		if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Zone() != "" {
			return o, fmt.Errorf("claiming %v: it is not an address that a host can take on", a)
		}
		if !seen[a] {
			seen[a] = true
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		return o, errors.New("claiming: no address is given")
	}
	o.Addrs = addrs
	return o, nil
}

// nameMost is the length in bytes of the name of a link, and of a label.
const nameMost = 15

// label marks an IPv4 address on a link as ours. What is too long is cut at
// the end, so that old programs, which take what precedes the colon for a
// link, find it; of the longest names, three bytes go to the mark.
func label(link string) string {
	const least = len(":ho")
	l := link[:min(len(link), nameMost-least)] + ":" + mark
	return l[:min(len(l), nameMost)]
}

// A link is an interface of the host.
type link struct {
	name   string
	index  int
	ours   bool // it has our alias
	closed bool // nobody can be at its other end, whoever made it
}

// A place is where an address was found.
type place struct {
	link link
	ours bool // the address has our mark
}

func heldError(a netip.Addr, p place) error {
	return fmt.Errorf("claiming %v: %w: it is on %s, and hostrole did not put it there: "+
		"find out who did, and take it off with `ip addr del %v dev %s`, or set manage_address = false to serve on it as it is",
		a, ErrHeld, p.link.name, netip.PrefixFrom(a, a.BitLen()), p.link.name)
}
