package imds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listen opens a listening socket on addr. With a device, only packets that
// arrive on it reach the socket: an address on lo answers the neighbours on
// every network otherwise. The address need not be on the host yet.
func Listen(ctx context.Context, addr netip.AddrPort, device string) (net.Listener, error) {
	network := "tcp4"
	if addr.Addr().Is6() {
		network = "tcp6"
	}
	lc := net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{Enable: false}, // a connection lives for seconds
		KeepAlive:       -1,
		Control: func(_, _ string, raw syscall.RawConn) error {
			return control(raw, func(fd int) error { return prepare(fd, addr.Addr(), device) })
		},
	}
	l, err := lc.Listen(ctx, network, addr.String())
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("listening on %v: %w: another program has port %d, be it on this address or on all; `ss -ltnp 'sport = :%d'` names it", addr, err, addr.Port(), addr.Port())
	case errors.Is(err, unix.EACCES):
		return nil, fmt.Errorf("listening on %v: %w: a port below 1024 needs CAP_NET_BIND_SERVICE", addr, err)
	case err != nil:
		return nil, fmt.Errorf("listening on %v: %w", addr, err)
	}
	return l, nil
}

func prepare(fd int, addr netip.Addr, device string) error {
	level, freebind := unix.SOL_IP, unix.IP_FREEBIND
	if addr.Is6() {
		level, freebind = unix.SOL_IPV6, unix.IPV6_FREEBIND
	}
	if err := unix.SetsockoptInt(fd, level, freebind, 1); err != nil {
		return fmt.Errorf("IP_FREEBIND: %w", err)
	}
	if device == "" {
		return nil
	}
	if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, device); err != nil {
		return fmt.Errorf("binding to the device %s: %w", device, err)
	}
	// The boundary of the whole service: believe it only when it is read back.
	if got, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err != nil || got != device {
		return fmt.Errorf("binding to the device %s: the kernel says %q, %w", device, got, errors.Join(err, errors.ErrUnsupported))
	}
	return nil
}

// limitHops sets the TTL of what conn sends from now on.
func limitHops(conn net.Conn, hops int) {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	_ = control(raw, func(fd int) error {
		if addrPort(conn.LocalAddr()).Addr().Is6() {
			return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS, hops)
		}
		return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TTL, hops)
	})
}

func control(raw syscall.RawConn, f func(fd int) error) error {
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil { // #nosec G115 -- a descriptor
		return err
	}
	return ferr
}
