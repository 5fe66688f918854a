package facts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Network is the host's interfaces and their addresses as they are now. The
// zero Network is ready, and may be used concurrently.
//
// Nothing looks at the interfaces in the background. The kernel keeps news of
// them in a socket until somebody asks: a look then costs one system call, and
// the interfaces are read again when there are news.
type Network struct {
	mu     sync.Mutex
	closed bool              // guarded by mu, and so is all below
	news   news              // nil: not asked for yet, or not to be had
	leaves map[string]string // nil: not read since the last news
}

// News tell what came since they were last asked.
type news interface {
	io.Closer
	// some reports whether anything came. An error is for good.
	some() (bool, error)
	// wait returns when something comes or ctx ends. An error is for good.
	wait(ctx context.Context) error
}

// What is what [Changes] tells of.
type What int

const (
	// Links are links alone. On a router there is news of routes all the time.
	Links What = iota
	// All is links, addresses and routes.
	All
)

// Changes calls changed each time that what has changed, until ctx ends. A
// change is given as long as calm says to be followed by others: a link comes
// up, then has an address, then a route. Its error says that the kernel does not tell, and matches
// errors.ErrUnsupported where it never does.
func Changes(ctx context.Context, what What, calm time.Duration, changed func()) (err error) {
	n, err := listen(what)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	for {
		err := n.wait(ctx)
		if err == nil && ctx.Err() == nil {
			still := time.NewTimer(calm)
			select {
			case <-still.C:
			case <-ctx.Done():
				still.Stop()
			}
			_, err = n.some()
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("waiting for news of the network: %w", err)
		}
		changed()
	}
}

// Close gives the socket back. A Network that is used after it reads the
// interfaces each time.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed, n.leaves = true, nil
	return n.forget()
}

func (n *Network) forget() error {
	if n.news == nil {
		return nil
	}
	err := n.news.Close()
	n.news = nil
	return err
}

// Leaves are the paths below meta-data/ that the interfaces have, with their
// values: mac, local-ipv4, ipv6 and network/interfaces/macs/. What cannot be
// read is not there. The map is the same one until something changes; nobody
// changes it.
func (n *Network) Leaves() map[string]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	// Ask for news first: what changes while the interfaces are read is news
	// to the next look.
	if n.news == nil && !n.closed {
		n.news, _ = listen(All) // without, each look reads
	}
	if n.news == nil {
		n.leaves = nil
	} else if came, err := n.news.some(); came || err != nil {
		n.leaves = nil
		if err != nil {
			_ = n.forget()
		}
	}
	if n.leaves != nil {
		return n.leaves
	}
	links, addrs, uplinks, err := read()
	if err != nil {
		return nil
	}
	n.leaves = leavesOf(interfaces(links, addrs, uplinks))
	return n.leaves
}

// A link is what the kernel says of one, as far as it is needed here.
type link struct {
	index    int
	mac      net.HardwareAddr
	up, loop bool
	kind     string // of the driver; "device" for hardware, and for what a virtual machine takes for it
	master   int    // index of the bridge or bond that it is a port of; 0 for none
	parent   int    // index of what it is stacked on; 0 for none in this namespace
}

// An address is one of a link.
type address struct {
	link     int
	prefix   netip.Prefix // with the host's part
	hostOnly bool         // scope host: not for others
	unfit    bool         // temporary, deprecated or not confirmed
}

// An instanceInterface is one of the instance's.
type instanceInterface struct {
	mac   string
	addrs []netip.Prefix // in the kernel's order
}

// metadataV6 is where EC2's link-local services are in IPv6: [fd00:ec2::254]
// is no address of the host, though it is on it.
var metadataV6 = netip.MustParsePrefix("fd00:ec2::/32")

// interfaces are those that an instance has: by which others reach the host.
// One has a hardware address of Ethernet's form, is up, and has an address that
// is of use on a network. It is hardware, or stands on hardware, as a bond, a
// VLAN, or a bridge with such a port does; or the way to the rest of the world
// goes through it, as through the veth of a container. That leaves out
// loopback, tunnels, dummies, and the bridges and veths of the host's own
// guests. A port is its bridge's or bond's, which has the addresses. Links that
// share a hardware address, as a VLAN and what it is on, are one interface. The
// first of the uplinks comes first; the others follow in the kernel's order.
func interfaces(links []link, addrs []address, uplinks []int) []instanceInterface {
	byIndex := map[int]link{}
	for _, l := range links {
		byIndex[l.index] = l
	}
	var real func(l link, deep int) bool
	real = func(l link, deep int) bool {
		switch l.kind {
		case "device":
			return !l.loop
		case "bridge", "bond", "team":
			return deep > 0 && slices.ContainsFunc(links, func(p link) bool { return p.master == l.index && real(p, deep-1) })
		case "vlan", "macvlan", "macvtap", "ipvlan":
			on, here := byIndex[l.parent]
			return deep > 0 && here && real(on, deep-1)
		}
		return false
	}
	ours := slices.DeleteFunc(slices.Clone(links), func(l link) bool {
		return !l.up || l.loop || l.master != 0 || len(l.mac) != 6 || !slices.Contains(uplinks, l.index) && !real(l, 8)
	})
	slices.SortFunc(ours, func(a, b link) int { return a.index - b.index })
	if len(uplinks) > 0 {
		if i := slices.IndexFunc(ours, func(l link) bool { return l.index == uplinks[0] }); i > 0 {
			first := ours[i]
			ours = slices.Insert(slices.Delete(ours, i, i+1), 0, first)
		}
	}
	var all []instanceInterface
	for _, l := range ours {
		var mine []netip.Prefix
		for _, a := range addrs {
			ip := a.prefix.Addr()
			if a.link == l.index && !a.hostOnly && !a.unfit && ip.IsGlobalUnicast() && !metadataV6.Contains(ip) {
				mine = append(mine, a.prefix)
			}
		}
		if len(mine) == 0 {
			continue
		}
		mac := l.mac.String()
		if i := slices.IndexFunc(all, func(f instanceInterface) bool { return f.mac == mac }); i >= 0 {
			all[i].addrs = append(all[i].addrs, mine...)
			continue
		}
		all = append(all, instanceInterface{mac, mine})
	}
	return all
}

// leavesOf has what is true of an interface anywhere. Ids of interfaces,
// subnets and VPCs, security groups, public addresses and network cards are
// EC2's own; an operator who has something of the kind gives it below
// metadata.extra.
func leavesOf(all []instanceInterface) map[string]string {
	leaves := map[string]string{}
	for i, f := range all {
		dir := "network/interfaces/macs/" + f.mac + "/"
		leaves[dir+"mac"] = f.mac
		leaves[dir+"device-number"] = fmt.Sprint(i)
		var v4, v6, nets6 []string
		for _, p := range f.addrs {
			if net := p.Masked().String(); p.Addr().Is4() {
				if len(v4) == 0 {
					leaves[dir+"subnet-ipv4-cidr-block"] = net
				}
				v4 = append(v4, p.Addr().String())
			} else {
				v6 = append(v6, p.Addr().String())
				if !slices.Contains(nets6, net) {
					nets6 = append(nets6, net)
				}
			}
		}
		for name, lines := range map[string][]string{"local-ipv4s": v4, "ipv6s": v6, "subnet-ipv6-cidr-blocks": nets6} {
			if len(lines) > 0 {
				leaves[dir+name] = strings.Join(lines, "\n")
			}
		}
		if i > 0 {
			continue
		}
		leaves["mac"] = f.mac
		if len(v4) > 0 {
			leaves["local-ipv4"] = v4[0]
		}
		if len(v6) > 0 {
			leaves["ipv6"] = v6[0]
		}
	}
	return leaves
}
