package admin

import (
	"log/slog"
	"net"
	"sync"
)

const (
	// mostOfUser bounds the open connections of one user, and mostOfAll those
	// of all but root: a user who opens many must not keep the others out, and
	// nobody can keep root out.
	mostOfUser = 64
	mostOfAll  = 256
)

// A door is a listener that knows its peers.
type door struct {
	net.Listener
	peer func(net.Conn) (Peer, error)
	log  *slog.Logger

	mu   sync.Mutex
	open map[uint32]int // guarded by mu: connections by uid, without root's
	all  int            // guarded by mu
}

func newDoor(l net.Listener, peer func(net.Conn) (Peer, error), log *slog.Logger) *door {
	return &door{Listener: l, peer: peer, log: log, open: map[uint32]int{}}
}

// Accept returns the next connection whose peer is known and has not too many.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p, err := d.peer(c)
		if err != nil {
			d.log.Warn("the kernel does not say who is at the operator's socket", "error", err.Error())
			_ = c.Close()
			continue
		}
		if !d.enter(p) {
			_ = c.Close()
			continue
		}
		return &admitted{Conn: c, peer: p, leave: sync.OnceFunc(func() { d.leave(p) })}, nil
	}
}

func (d *door) enter(p Peer) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case p.UID == 0:
		return true
	case d.all >= mostOfAll || d.open[p.UID] >= mostOfUser:
		return false
	}
	d.all++
	d.open[p.UID]++
	return true
}

func (d *door) leave(p Peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.UID == 0 {
		return
	}
	d.all--
	if d.open[p.UID]--; d.open[p.UID] == 0 {
		delete(d.open, p.UID)
	}
}

// An admitted connection counts until it is closed.
type admitted struct {
	net.Conn
	peer  Peer
	leave func()
}

// Close closes the connection.
func (c *admitted) Close() error {
	c.leave()
	return c.Conn.Close()
}
