package netns

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/hostrole/hostrole/imds/caller/kernel"
)

// Sizes and numbers of linux/rtnetlink.h, linux/neighbour.h, linux/if_link.h,
// linux/net_namespace.h and linux/if_bridge.h.
const (
	typeNewLink      = 16 // RTM_NEWLINK
	typeGetLink      = 18 // RTM_GETLINK
	typeNewNeighbour = 28 // RTM_NEWNEIGH
	typeGetNeighbour = 30 // RTM_GETNEIGH
	typeNewNumber    = 88 // RTM_NEWNSID
	typeGetNumber    = 90 // RTM_GETNSID

	familyIPv4   = 2
	familyBridge = 7
	familyIPv6   = 10

	neighbourSize = 12 // struct ndmsg
	linkSize      = 16 // struct ifinfomsg
	numberSize    = 4  // struct rtgenmsg, padded

	attrDestination = 1 // NDA_DST
	attrMAC         = 2 // NDA_LLADDR
	attrVLAN        = 5 // NDA_VLAN
	attrMaster      = 9 // NDA_MASTER

	stateIncomplete = 0x01 // NUD_*
	stateFailed     = 0x20
	statePermanent  = 0x80 // of an entry of a bridge: the host's own

	attrLinkInfo   = 18 // IFLA_LINKINFO
	attrNumber     = 37 // IFLA_LINK_NETNSID
	attrMask       = 29 // IFLA_EXT_MASK
	attrKind       = 1  // IFLA_INFO_KIND
	attrData       = 2  // IFLA_INFO_DATA
	attrOwnVLAN    = 39 // IFLA_BR_VLAN_DEFAULT_PVID
	withoutCounts  = 8  // RTEXT_FILTER_SKIP_STATS
	attrOfNumber   = 1  // NETNSA_NSID
	attrDescriptor = 3  // NETNSA_FD
)

// A mac is an Ethernet address.
type mac [6]byte

// unnumbered is the number of a network namespace that has none here.
const unnumbered = -1

func natively(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// neighbourOf asks for the neighbour that has an address, on one device.
func neighbourOf(device uint32, address netip.Addr) []byte {
	b := make([]byte, kernel.HeaderSize+neighbourSize+4+address.BitLen()/8)
	kernel.Head(b, typeGetNeighbour)
	b[kernel.HeaderSize] = familyIPv4
	if address.Is6() {
		b[kernel.HeaderSize] = familyIPv6
	}
	binary.NativeEndian.PutUint32(b[kernel.HeaderSize+4:], device)
	kernel.Attribute(b[kernel.HeaderSize+neighbourSize:], attrDestination, address.AsSlice())
	return b
}

// entryOf asks for a bridge's entry of an Ethernet address, in a VLAN unless it
// is 0.
func entryOf(bridge uint32, address mac, vlan uint16) []byte {
	size := kernel.HeaderSize + neighbourSize + 12 + 8
	if vlan != 0 {
		size += 8
	}
	b := make([]byte, size)
	kernel.Head(b, typeGetNeighbour)
	b[kernel.HeaderSize] = familyBridge
	rest := kernel.Attribute(b[kernel.HeaderSize+neighbourSize:], attrMAC, address[:])
	rest = kernel.Attribute(rest, attrMaster, natively(bridge))
	if vlan != 0 {
		kernel.Attribute(rest, attrVLAN, binary.NativeEndian.AppendUint16(nil, vlan))
	}
	return b
}

// linkOf asks for a link.
func linkOf(index uint32) []byte {
	b := make([]byte, kernel.HeaderSize+linkSize+8)
	kernel.Head(b, typeGetLink)
	binary.NativeEndian.PutUint32(b[kernel.HeaderSize+4:], index)
	kernel.Attribute(b[kernel.HeaderSize+linkSize:], attrMask, natively(withoutCounts))
	return b
}

// numberOf asks for the number of the network namespace that a descriptor is of.
func numberOf(descriptor int) []byte {
	b := make([]byte, kernel.HeaderSize+numberSize+8)
	kernel.Head(b, typeGetNumber)
	kernel.Attribute(b[kernel.HeaderSize+numberSize:], attrDescriptor, natively(uint32(descriptor))) // #nosec G115 -- a descriptor
	return b
}

// A neighbour is an answer to neighbourOf or entryOf.
type neighbour struct {
	family uint8
	index  uint32 // of the link; of a bridge's entry, of the port
	state  uint16
	mac    mac
	hasMAC bool
	master uint32
	at     netip.Addr // zero for a bridge's entry
}

func readNeighbour(kind uint16, body []byte, err error) (n neighbour, _ error) {
	if err := expect(kind, typeNewNeighbour, body, neighbourSize, err); err != nil {
		return n, err
	}
	n.family, n.index, n.state = body[0], binary.NativeEndian.Uint32(body[4:]), binary.NativeEndian.Uint16(body[8:])
	err = kernel.Attributes(body[neighbourSize:], func(kind uint16, value []byte) (err error) {
		switch kind {
		case attrMAC:
			n.hasMAC = copy(n.mac[:], value) == len(n.mac) && len(value) == len(n.mac)
		case attrDestination:
			n.at, _ = netip.AddrFromSlice(value)
		case attrMaster:
			n.master, err = word(value)
		}
		return err
	})
	return n, err
}

// A link is an answer to linkOf.
type link struct {
	index  uint32
	number int32 // of the namespace that the other end is in
	bridge bool
	vlan   uint16 // the one that a bridge's own packets are in, unless a port says otherwise
}

func readLink(kind uint16, body []byte, err error) (l link, _ error) {
	l.number = unnumbered
	if err := expect(kind, typeNewLink, body, linkSize, err); err != nil {
		return l, err
	}
	l.index = binary.NativeEndian.Uint32(body[4:])
	err = kernel.Attributes(body[linkSize:], func(kind uint16, value []byte) error {
		switch kind {
		case attrNumber:
			n, err := word(value)
			l.number = int32(n) // #nosec G115 -- it is signed
			return err
		case attrLinkInfo:
			return kernel.Attributes(value, l.readInfo)
		}
		return nil
	})
	return l, err
}

func (l *link) readInfo(kind uint16, value []byte) error {
	switch {
	case kind == attrKind:
		l.bridge = string(value) == "bridge\x00"
	case kind == attrData && l.bridge: // the kind is said before
		return kernel.Attributes(value, func(kind uint16, value []byte) error {
			if kind == attrOwnVLAN && len(value) == 2 {
				l.vlan = binary.NativeEndian.Uint16(value)
			}
			return nil
		})
	}
	return nil
}

// readNumber reads an answer to numberOf.
func readNumber(kind uint16, body []byte, err error) (number int32, _ error) {
	number = unnumbered
	if err := expect(kind, typeNewNumber, body, numberSize, err); err != nil {
		return number, err
	}
	err = kernel.Attributes(body[numberSize:], func(kind uint16, value []byte) error {
		if kind != attrOfNumber {
			return nil
		}
		n, err := word(value)
		number = int32(n) // #nosec G115 -- it is signed
		return err
	})
	return number, err
}

func expect(kind, want uint16, body []byte, size int, err error) error {
	switch {
	case err != nil:
		return err
	case kind != want:
		return fmt.Errorf("%w: it is of type %d, not %d", kernel.ErrMalformed, kind, want)
	case len(body) < size:
		return fmt.Errorf("%w: a body of %d bytes", kernel.ErrMalformed, len(body))
	}
	return nil
}

func word(value []byte) (uint32, error) {
	if len(value) != 4 {
		return 0, fmt.Errorf("%w: a number of %d bytes", kernel.ErrMalformed, len(value))
	}
	return binary.NativeEndian.Uint32(value), nil
}
