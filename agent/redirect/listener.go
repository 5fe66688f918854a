package redirect

import (
	"net"
	"net/netip"
)

// Behind returns l without the connections that did not come through a
// redirect: who dials the port behind it is reset. The others say that their
// local address is what the client dialled, which is how the kernel knows the
// client's own socket. l must be on [Port].
func Behind(l net.Listener) net.Listener { return behind{l} }

type behind struct{ net.Listener }

// Accept is that of the listener.
func (b behind) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		t, is := c.(*net.TCPConn)
		if !is {
			_ = c.Close()
			continue
		}
		local := t.LocalAddr().(*net.TCPAddr).AddrPort()
		want := netip.AddrPortFrom(local.Addr().Unmap(), From)
		if got, err := dialled(t); err != nil || got != want {
			_ = t.SetLinger(0)
			_ = t.Close()
			continue
		}
		return conn{t, net.TCPAddrFromAddrPort(want)}, nil
	}
}

// A conn came through a redirect.
type conn struct {
	*net.TCPConn
	dialled *net.TCPAddr
}

// LocalAddr is what the client dialled.
func (c conn) LocalAddr() net.Addr { return c.dialled }
