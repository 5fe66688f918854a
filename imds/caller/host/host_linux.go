package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A conversation is a netlink socket with one question under way at most.
type conversation struct {
	fd      int // -1 when there is none
	seq     uint32
	request [requestSize]byte
	reply   [4096]byte // 150 bytes are usual; what does not fit is malformed

	// The answer of look, which is made once: a closure per question would
	// be the only thing that a question allocates.
	look     func(fd uintptr)
	state    uint8
	stateErr error
}

func newConversation() *conversation {
	c := &conversation{fd: -1}
	c.look = func(fd uintptr) { c.state, c.stateErr = tcpState(int(fd)) } // #nosec G115 -- a descriptor
	return c
}

// open opens a socket that hears nobody but the kernel.
func (c *conversation) open() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err == nil {
			err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
		}
		if err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		return fmt.Errorf("opening a socket for questions about sockets: %w; the kernel needs CONFIG_INET_DIAG, and a service's RestrictAddressFamilies= must have AF_NETLINK", err)
	}
	c.fd = fd
	return nil
}

func (c *conversation) hangUp() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
		c.fd = -1
	}
}

// ask returns what the kernel says of the client's socket. After anything but
// an answer the socket is replaced: a late answer must meet nobody.
func (c *conversation) ask(q question) (answer, error) {
	if c.fd < 0 {
		if err := c.open(); err != nil {
			return answer{}, err
		}
	}
	c.seq++
	encode(&c.request, q, c.seq)
	n, err := c.exchange()
	if err != nil {
		c.hangUp()
		return answer{}, fmt.Errorf("no answer from the kernel: %w", err)
	}
	a, err := decode(c.reply[:n], c.seq)
	if err != nil && !errors.Is(err, ErrNotFound) {
		c.hangUp()
	}
	return a, err
}

func (c *conversation) exchange() (n int, err error) {
	// With a timeout set, the kernel does not go on after a signal by itself.
	for {
		_, err = unix.Write(c.fd, c.request[:])
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, err
	}
	for {
		n, err = unix.Read(c.fd, c.reply[:])
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// stateOf returns the state of our own socket.
func (c *conversation) stateOf(raw syscall.RawConn) (uint8, error) {
	c.state, c.stateErr = 0, nil
	if err := raw.Control(c.look); err != nil {
		return 0, err
	}
	return c.state, c.stateErr
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
