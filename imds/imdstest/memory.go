package imdstest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	backlog    = 4096     // connections that wait for Accept, as the kernel keeps them
	windowSize = 64 << 10 // bytes on their way in one direction
)

// A Listener accepts connections that never leave the process. Its waits are
// all on channels, so that it works inside a synctest bubble.
type Listener struct {
	addr   net.TCPAddr
	queue  chan *Conn
	closed chan struct{}

	mu   sync.Mutex
	done bool   // guarded by mu
	port uint16 // guarded by mu: of the newest connection
}

// NewListener listens on an address that is only a name, such as
// 169.254.169.254:80.
func NewListener(addr string) *Listener {
	return &Listener{
		addr:  *net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)),
		queue: make(chan *Conn, backlog), closed: make(chan struct{}), port: 32767,
	}
}

// Dial connects from a new port of the listener's own address, as a program
// on the same host does. Like a TCP handshake, it does not wait for Accept.
func (l *Listener) Dial(ctx context.Context) (*Conn, error) {
	l.mu.Lock()
	if l.port++; l.port == 0 {
		l.port = 32768
	}
	port := l.port
	l.mu.Unlock()
	return l.DialFrom(ctx, netip.AddrPortFrom(l.addr.AddrPort().Addr(), port))
}

// DialFrom connects from an address.
func (l *Listener) DialFrom(ctx context.Context, from netip.AddrPort) (*Conn, error) {
	remote := *net.TCPAddrFromAddrPort(from)
	up, down := newPipe(), newPipe()
	client := &Conn{in: down, out: up, local: remote, remote: l.addr}
	server := &Conn{in: up, out: down, local: l.addr, remote: remote}
	// Under the lock, so that Close finds all that was queued before it.
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: &l.addr, Err: err}
	}
	if l.done {
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: &l.addr, Err: syscall.ECONNREFUSED}
	}
	select {
	case l.queue <- server:
		return client, nil
	default:
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: &l.addr, Err: syscall.ETIMEDOUT}
	}
}

// Accept waits for a connection, or for Close.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed: // also when there are connections left
		return nil, l.gone()
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, l.gone()
	}
}

func (l *Listener) gone() error {
	return &net.OpError{Op: "accept", Net: "memory", Addr: &l.addr, Err: net.ErrClosed}
}

// Close ends Accept and resets the connections that were waiting for it.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return l.gone()
	}
	l.done = true
	close(l.closed)
	for {
		select {
		case c := <-l.queue:
			c.out.finish(syscall.ECONNRESET)
			_ = c.Close()
		default:
			return nil
		}
	}
}

// Addr is the name that the listener was given.
func (l *Listener) Addr() net.Addr { return &l.addr }

// A Conn is one end of a connection in memory. Where it matters to a server it
// behaves as TCP does: writes wait only for a full window; bytes that nobody
// had read when their reader closed turn the end of the stream that it sent
// into a reset.
type Conn struct {
	in, out       *pipe
	local, remote net.TCPAddr
}

// Read reads what the other end wrote; at its end, io.EOF.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &net.OpError{Op: "read", Net: "memory", Source: &c.local, Addr: &c.remote, Err: err}
	}
	return n, err
}

// Write returns when all of b is on its way.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	if err != nil {
		err = &net.OpError{Op: "write", Net: "memory", Source: &c.local, Addr: &c.remote, Err: err}
	}
	return n, err
}

// Close ends both directions.
func (c *Conn) Close() error {
	if c.in.abandon() {
		c.out.finish(syscall.ECONNRESET)
	}
	c.out.finish(io.EOF)
	return nil
}

// CloseWrite ends the direction that this end writes to.
func (c *Conn) CloseWrite() error { c.out.finish(io.EOF); return nil }

// LocalAddr is this end's address.
func (c *Conn) LocalAddr() net.Addr { return &c.local }

// RemoteAddr is the other end's address.
func (c *Conn) RemoteAddr() net.Addr { return &c.remote }

// SetDeadline sets both deadlines; the zero time is none.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline is also heeded by a Read that is already waiting.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.change(func() { c.in.readBy = t })
	return nil
}

// SetWriteDeadline is also heeded by a Write that is already waiting.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.change(func() { c.out.writeBy = t })
	return nil
}

// A pipe is one direction of a connection.
type pipe struct {
	mu              sync.Mutex // guards all below
	data            []byte     // written and not yet read
	end             error      // what a reader gets after data; nil while there may be more
	left            bool       // the reader has closed
	readBy, writeBy time.Time
	changed         chan struct{} // closed and replaced at every change
}

func newPipe() *pipe { return &pipe{changed: make(chan struct{})} }

// change makes a change and wakes those who wait for one.
func (p *pipe) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.wake()
}

// wake is called with mu held.
func (p *pipe) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) read(b []byte) (int, error) {
	for {
		p.mu.Lock()
		n, err := p.take(b)
		wait, by := p.changed, p.readBy
		p.mu.Unlock()
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		if err := await(wait, by); err != nil {
			return 0, err
		}
	}
}

// take is called with mu held.
func (p *pipe) take(b []byte) (int, error) {
	if p.left {
		return 0, net.ErrClosed
	}
	n := copy(b, p.data)
	if n == 0 {
		return 0, p.end
	}
	p.data = p.data[n:]
	p.wake()
	return n, nil
}

func (p *pipe) write(b []byte) (n int, err error) {
	for {
		p.mu.Lock()
		m, err := p.put(b[n:])
		n += m
		wait, by := p.changed, p.writeBy
		p.mu.Unlock()
		if n == len(b) || err != nil {
			return n, err
		}
		if err := await(wait, by); err != nil {
			return n, err
		}
	}
}

// put is called with mu held.
func (p *pipe) put(b []byte) (int, error) {
	switch {
	case p.end != nil:
		return 0, net.ErrClosed
	case p.left:
		return 0, syscall.EPIPE
	}
	n := min(windowSize-len(p.data), len(b))
	if n > 0 {
		p.data = append(p.data, b[:n]...)
		p.wake()
	}
	return n, nil
}

// await waits for a change until the deadline, if there is one. A deadline
// ends a wait and nothing else: what is there is read after it, too.
func await(changed <-chan struct{}, by time.Time) error {
	if by.IsZero() {
		<-changed
		return nil
	}
	ctx, cancel := context.WithDeadline(context.Background(), by)
	defer cancel()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return os.ErrDeadlineExceeded
	}
}

// finish ends the direction for its writer. A reset replaces an end that was
// in good order.
func (p *pipe) finish(end error) {
	p.change(func() {
		if p.end == nil || !errors.Is(end, io.EOF) {
			p.end = end
		}
	})
}

// abandon ends the direction for its reader, and reports whether there were
// bytes that it had not read.
func (p *pipe) abandon() (unread bool) {
	p.change(func() { p.left, unread = true, len(p.data) > 0 })
	return unread
}
