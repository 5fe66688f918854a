// Package pulse shows whether connections are taken from a listener, for the
// watchdog.
//
// # Why not
//
// Not a request to ourselves: it would need a token, a caller and a place among
// the others, and fail with the first of these. Not a heartbeat of its own: it
// beats on while every handler hangs.
package pulse

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Listener is a listener that shows whether connections are taken from it.
type Listener struct {
	net.Listener
	boot func() time.Duration
	away atomic.Int64 // boot time since when nobody waits for a connection; 0 while somebody does
}

// New returns a Listener. boot is the time since boot, suspend included.
func New(l net.Listener, boot func() time.Duration) *Listener {
	p := &Listener{Listener: l, boot: boot}
	p.away.Store(int64(boot()))
	return p
}

// Accept is that of the listener.
func (p *Listener) Accept() (net.Conn, error) {
	p.away.Store(0)
	c, err := p.Listener.Accept()
	p.away.Store(int64(p.boot()))
	return c, err
}

// A Set are the listeners that are served. The zero Set has none. It may be used
// concurrently.
type Set struct {
	mu  sync.Mutex
	all map[*Listener]bool
}

// Add has p be one of them.
func (s *Set) Add(p *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*Listener]bool{}
	}
	s.all[p] = true
}

// Remove has p be none of them.
func (s *Set) Remove(p *Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, p)
}

// Beating reports whether no listener has been left alone for longer than that.
func (s *Set) Beating(now, than time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.all {
		if away := p.away.Load(); away != 0 && now-time.Duration(away) > than {
			return false
		}
	}
	return true
}
