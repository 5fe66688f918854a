package estate

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// deviceOf is the device that a listening socket is bound to; "" for none.
func deviceOf(c syscall.Conn) (device string, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return "", err
	}
	listens := 0
	var failed error
	err = raw.Control(func(fd uintptr) {
		if listens, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN); failed == nil { // #nosec G115 -- a descriptor
			device, failed = unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE) // #nosec G115
		}
	})
	switch {
	case err != nil:
		return "", err
	case failed != nil:
		return "", fmt.Errorf("asking what a socket is bound to: %w", failed)
	case listens == 0:
		return "", fmt.Errorf("it does not listen: %w", os.ErrInvalid)
	}
	return device, nil
}
