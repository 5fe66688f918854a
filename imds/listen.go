package imds

import (
	"net"
	"net/netip"
	"syscall"

	"github.com/hostrole/hostrole/imds/caller"
)

// connOf takes from an accepted connection what identifies its other end.
func connOf(conn net.Conn) caller.Conn {
	c := caller.Conn{Local: addrPort(conn.LocalAddr()), Remote: addrPort(conn.RemoteAddr())}
	if s, ok := conn.(syscall.Conn); ok {
		c.Raw, _ = s.SyscallConn()
	}
	return c
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
