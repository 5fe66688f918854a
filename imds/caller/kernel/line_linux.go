package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What a [Line] can ask about.
const (
	Sockets = unix.NETLINK_INET_DIAG
	Links   = unix.NETLINK_ROUTE
)

// A Line is a netlink socket with one question under way at most. It is about
// the network namespace of the thread that opened it, whatever thread asks, and
// keeps that namespace alive. It is not safe for concurrent use.
type Line struct {
	fd       int
	open     bool
	question uint32
	answer   [4096]byte // 1,500 bytes for a link, 150 for others; what does not fit is malformed
}

// Open opens a socket that hears nobody but the kernel, for one subject.
func (l *Line) Open(about int) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, about)
	if err != nil {
		return err
	}
	err = unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	}
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	l.fd, l.open = fd, true
	return nil
}

// IsOpen reports whether the Line can ask.
func (l *Line) IsOpen() bool { return l.open }

// Close closes the socket. It is safe to call twice.
func (l *Line) Close() {
	if l.open {
		_ = unix.Close(l.fd)
		l.open = false
	}
}

// Ask sends a request, as [Head] begins it, waits for the kernel's answer for a
// second at most, and returns what [Answer] reads of it, which is good until
// the next question. After anything but an answer the Line is closed: a late
// one must meet nobody.
func (l *Line) Ask(request []byte) (kind uint16, body []byte, err error) {
	l.question++
	number(request, l.question)
	if err := l.Send(request); err != nil {
		l.Close()
		return 0, nil, fmt.Errorf("no question to the kernel: %w", err)
	}
	b, err := l.Receive()
	if err != nil {
		l.Close()
		return 0, nil, fmt.Errorf("no answer from the kernel: %w", err)
	}
	kind, body, err = Answer(b, l.question)
	if errors.Is(err, ErrMalformed) {
		l.Close()
	}
	return kind, body, err
}

// Send sends a message. With a timeout set, the kernel does not go on after a
// signal by itself.
func (l *Line) Send(message []byte) error {
	for {
		if _, err := unix.Write(l.fd, message); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Receive returns the next message, which is good until the next call.
func (l *Line) Receive() ([]byte, error) {
	for {
		if n, err := unix.Read(l.fd, l.answer[:]); !errors.Is(err, unix.EINTR) {
			return l.answer[:max(n, 0)], err
		}
	}
}
