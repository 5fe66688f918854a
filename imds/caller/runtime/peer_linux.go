package runtime

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// trusted returns an error unless the socket's other end was made by root or
// by the user of this process.
func trusted(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	err2 := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) // #nosec G115 -- a descriptor
	})
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("asking whose socket it is: %w", err)
	}
	if peer.Uid != 0 && int64(peer.Uid) != int64(os.Geteuid()) {
		return fmt.Errorf("uid %d answers there, and not root", peer.Uid)
	}
	return nil
}
