package prompt

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// silence keeps a terminal from showing what is typed, until shown is called.
func silence(f *os.File) (shown func(), err error) {
	was, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	quiet := *was
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETSF, &quiet); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETSF, was) }, nil
}

// readable waits a moment for something to read.
func readable(ctx context.Context, f *os.File) bool {
	if ctx.Err() != nil {
		return false
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}, 200) // #nosec G115 -- a descriptor
	return n > 0 || err != nil && err != unix.EINTR
}
