package host

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An end looks at our own socket. The answer of look is kept here, and look is
// made once: a closure per question would be the only thing that a question
// allocates.
type end struct {
	look func(fd uintptr)
	is   uint8
	err  error
}

func newEnd() *end {
	e := &end{}
	e.look = func(fd uintptr) { e.is, e.err = tcpState(int(fd)) } // #nosec G115 -- a descriptor
	return e
}

// state returns that of our own socket.
func (e *end) state(raw syscall.RawConn) (uint8, error) {
	e.is, e.err = 0, nil
	if err := raw.Control(e.look); err != nil {
		return 0, err
	}
	return e.is, e.err
}

// tcpState reads the first four bytes of struct tcp_info, of which the very
// first is the state.
func tcpState(fd int) (uint8, error) {
	n, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, err
	}
	var info [4]byte
	binary.NativeEndian.PutUint32(info[:], uint32(n)) // #nosec G115 -- four bytes, whatever they mean
	return info[0], nil
}

// inodeOf returns the inode of a socket of ours.
func inodeOf(raw syscall.RawConn) (inode uint64, err error) {
	err2 := raw.Control(func(fd uintptr) {
		var st unix.Stat_t
		err = unix.Fstat(int(fd), &st) // #nosec G115 -- a descriptor
		inode = st.Ino
	})
	if err2 != nil {
		return 0, err2
	}
	return inode, err
}

// monotonic is the time since some fixed moment.
func monotonic() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(fmt.Sprintf("reading the monotonic clock: %v", err)) // every Linux has one
	}
	return time.Duration(now.Nano())
}
