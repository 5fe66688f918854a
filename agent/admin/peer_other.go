//go:build !linux

package admin

import (
	"errors"
	"fmt"
	"net"
)

func peerOf(net.Conn) (Peer, error) {
	return Peer{}, fmt.Errorf("who is at a unix socket: %w", errors.ErrUnsupported)
}
