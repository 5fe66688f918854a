//go:build !linux

package imds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Listen works on Linux only: elsewhere a socket cannot be bound to a device.
func Listen(_ context.Context, addr netip.AddrPort, _ string) (net.Listener, error) {
	return nil, fmt.Errorf("listening on %v: %w", addr, errors.ErrUnsupported)
}

func limitHops(net.Conn, int) {}
