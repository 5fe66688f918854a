package redirect

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// dialled is the destination that the client's packets had before they were
// translated, or have if they were not.
func dialled(c *net.TCPConn) (at netip.AddrPort, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return at, err
	}
	is6 := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().Is6()
	var failed error
	err = raw.Control(func(fd uintptr) {
		if is6 {
			at, failed = original6(int(fd)) // #nosec G115 -- a descriptor
		} else {
			at, failed = original4(int(fd)) // #nosec G115 -- a descriptor
		}
	})
	if err == nil {
		err = failed
	}
	return at, err
}

// The structures that x/sys can read are not those of this option, but large
// enough, and of known content: a sockaddr_in, and a sockaddr_in6.

func original4(fd int) (netip.AddrPort, error) {
	m, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := m.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:])), nil
}

func original6(fd int) (netip.AddrPort, error) {
	m, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], m.Addr.Port)
	return netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), binary.BigEndian.Uint16(port[:])), nil
}
