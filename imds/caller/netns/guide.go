package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/hostrole/hostrole/imds/caller/host"
	"github.com/hostrole/hostrole/imds/caller/kernel"
)

// errUnresolved matches what the kernel will know as soon as it has something to
// send: it forgets its neighbours when a bridge changes its Ethernet address, as
// it may with each container that comes or goes.
var errUnresolved = errors.New("the way is not known")

// A guide asks the kernel of this host where it sends packets.
type guide struct{ line kernel.Line }

func (g *guide) open() error {
	if err := g.line.Open(kernel.Links); err != nil {
		return fmt.Errorf("opening a socket for questions about links: %w; a service's RestrictAddressFamilies= must have AF_NETLINK", err)
	}
	return nil
}

// link asks for a link.
func (g *guide) link(index uint32) (link, error) {
	l, err := readLink(g.line.Ask(linkOf(index)))
	switch {
	case err != nil:
		return l, fmt.Errorf("asking for link %d: %w", index, err)
	case l.index != index:
		return l, fmt.Errorf("asking for link %d: %w: it is about %d", index, kernel.ErrMalformed, l.index)
	}
	return l, nil
}

// number is that of the network namespace into which a link leads. Its error
// matches [host.ErrNotFound] where it leads into none.
func (g *guide) number(index uint32) (int32, error) {
	l, err := g.link(index)
	if err == nil && l.number == unnumbered {
		err = fmt.Errorf("%w: link %d leads to no network namespace of this host", host.ErrNotFound, index)
	}
	return l.number, err
}

// port is the link by which a bridge sends what is for an address. Its errors
// match [host.ErrNotFound] where there is none.
func (g *guide) port(bridge link, address netip.Addr) (uint32, error) {
	to, err := readNeighbour(g.line.Ask(neighbourOf(bridge.index, address)))
	switch {
	case errors.Is(err, syscall.ENOENT):
		return 0, fmt.Errorf("%w: %w: no neighbour on link %d has this address", errUnresolved, host.ErrNotFound, bridge.index)
	case err != nil:
		return 0, fmt.Errorf("asking for a neighbour: %w", err)
	case to.index != bridge.index || to.at != address:
		return 0, fmt.Errorf("asking for a neighbour: %w: it is about %v on link %d", kernel.ErrMalformed, to.at, to.index)
	case !to.hasMAC || to.state&(stateIncomplete|stateFailed) != 0:
		return 0, fmt.Errorf("%w: %w: the neighbour that had this address does not answer", errUnresolved, host.ErrNotFound)
	}
	entry, err := readNeighbour(g.line.Ask(entryOf(bridge.index, to.mac, 0)))
	if errors.Is(err, syscall.ENOENT) && bridge.vlan != 0 { // a bridge that tells VLANs apart
		entry, err = readNeighbour(g.line.Ask(entryOf(bridge.index, to.mac, bridge.vlan)))
	}
	switch {
	case errors.Is(err, syscall.ENOENT):
		return 0, fmt.Errorf("%w: %w: the bridge does not know which port leads to it; it must learn addresses, and have callers in the VLAN of its own packets", errUnresolved, host.ErrNotFound)
	case err != nil:
		return 0, fmt.Errorf("asking a bridge for a port: %w", err)
	case entry.family != familyBridge || entry.master != bridge.index || entry.mac != to.mac || !entry.hasMAC:
		return 0, fmt.Errorf("asking a bridge for a port: %w: it is about %x on bridge %d", kernel.ErrMalformed, entry.mac, entry.master)
	case entry.state&statePermanent != 0:
		return 0, fmt.Errorf("%w: the bridge takes its address for one of the host's own", host.ErrNotFound)
	}
	return entry.index, nil
}
