// Package netns names callers from other network namespaces, such as the
// containers behind a bridge: it goes where the kernel sends the answer, and
// asks who has the connection there.
//
// # Why not
//
// Not the source address, nor a table of a runtime's that has it: a neighbour
// can take it, and it is used again for the next container. Not whatever
// namespace knows the connection, be it the only one: the socket may be what is
// left of a connection whose addresses a neighbour has taken, and the answer
// would go to the neighbour. And to ask them all would take longer with each
// container. Not a namespace that is kept for longer than a process is in it:
// it would outlive its container, whose successor may have the same address.
// Not a listener within the container's namespace, which would need no question
// at all: it would change the container, and is for later.
package netns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
)

// Why a bridged caller is unknown. Those of package host match as well.
var (
	// ErrPrivileges matches what this process may not do.
	ErrPrivileges = errors.New("this process may not look into other network namespaces")
	// ErrDevice matches a connection of a listener that is bound to no device.
	ErrDevice = errors.New("the connection came by no known device")
)

// resolve is how long the kernel may take to find its way to a caller that it has
// forgotten: it asks for it when it acknowledges the request, which it does 40 ms
// later at most.
const resolve = 64 * time.Millisecond

// guides is how many questions about ways can be under way at once.
const guides = 4

// An Enricher names callers from the namespaces behind a bridge, by its port,
// or behind another link, by its other end: UID, Inode and Cgroup, all as the
// host sees them. Which device it is says the connection: its listener must be
// bound to it. It may be used concurrently. Close releases what it holds.
type Enricher struct {
	host   *host.Enricher
	guides chan *guide // holds all of them but those in use
	close  sync.Once

	mu      sync.Mutex
	doors   map[uint32]*door // by the indexes of the links that lead there
	closed  bool
	ended   chan struct{}  // closed with it
	waiting sync.WaitGroup // for doors, and for what sweeps them

	sweeping bool
	idle     time.Duration
	most     int

	bridges map[uint32]link // by their indexes, which no other link gets
}

// known is how many bridges are remembered.
const known = 1024

// New returns an Enricher that asks with h, which the caller closes after it.
// It looks at nothing before it is asked.
func New(h *host.Enricher) *Enricher {
	e := &Enricher{host: h, guides: make(chan *guide, guides), doors: map[uint32]*door{}, bridges: map[uint32]link{}, ended: make(chan struct{}), idle: idle, most: most}
	for range guides {
		e.guides <- &guide{}
	}
	return e
}

// Enrich finds the namespace into which the answer to c will be sent, and asks
// there for the socket at the other end of c. On any doubt it returns an error
// and leaves who alone.
func (e *Enricher) Enrich(ctx context.Context, c caller.Conn, who *caller.Caller) error {
	if c.Raw == nil || !c.Remote.IsValid() {
		return host.ErrNoSocket
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := e.enrich(ctx, c, who)
	if errors.Is(err, host.ErrClosed) {
		err = e.enrich(ctx, c, who) // the door has closed between two steps
	}
	// The request is on its way, and the kernel will acknowledge it.
	for wait := time.Millisecond; errors.Is(err, errUnresolved) && wait < resolve; wait *= 2 {
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
			err = e.enrich(ctx, c, who)
		case <-ctx.Done():
			pause.Stop()
			err = ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("asking in the network namespace that the answer to %v is sent to: %w", c.Remote, err)
	}
	return nil
}

func (e *Enricher) enrich(ctx context.Context, c caller.Conn, who *caller.Caller) error {
	w, err := e.way(ctx, c)
	if err != nil {
		return err
	}
	if w.door == nil {
		if w.door, err = e.find(ctx, w); err != nil {
			return err
		}
	}
	return w.door.enrich(c, who)
}

// A way is where the kernel sends an answer.
type way struct {
	link   uint32 // the last one of this namespace
	door   *door  // into the next one; nil for none as yet, and then there is its number
	number int32
}

// way asks where the answer to c is sent.
func (e *Enricher) way(ctx context.Context, c caller.Conn) (w way, err error) {
	if w.link, err = deviceOf(c.Raw); err != nil {
		return w, err
	}
	var g *guide
	select {
	case g = <-e.guides:
	case <-ctx.Done():
		return w, ctx.Err()
	}
	if g == nil {
		return w, host.ErrClosed
	}
	defer func() { e.guides <- g }()
	if !g.line.IsOpen() { // as at first, and since a question that failed
		if err := g.open(); err != nil {
			return w, err
		}
	}
	device, err := e.device(g, w.link)
	if err != nil {
		return w, err
	}
	if device.bridge {
		if w.link, err = g.port(device, c.Remote.Addr().WithZone("")); err != nil {
			return w, err
		}
	}
	e.mu.Lock()
	d := e.doors[w.link]
	e.mu.Unlock()
	if d == nil || !d.isFresh() {
		if w.number, err = g.number(w.link); err != nil || d == nil || !d.confirm(w.number) {
			return w, err
		}
	}
	w.door = d
	return w, nil
}

// device is the link of an index. That it is a bridge is remembered; where
// another link leads to is not.
func (e *Enricher) device(g *guide, index uint32) (link, error) {
	e.mu.Lock()
	l, ok := e.bridges[index]
	e.mu.Unlock()
	if ok {
		return l, nil
	}
	l, err := g.link(index)
	if err == nil && l.bridge {
		e.mu.Lock()
		if len(e.bridges) >= known {
			clear(e.bridges)
		}
		e.bridges[index] = l
		e.mu.Unlock()
	}
	return l, err
}

// Close lets go of all namespaces. Every later question fails.
func (e *Enricher) Close() error {
	e.close.Do(func() {
		for range guides {
			(<-e.guides).line.Close()
		}
		close(e.guides)
		e.mu.Lock()
		e.closed = true
		close(e.ended)
		for _, d := range e.doors {
			d.close()
		}
		e.mu.Unlock()
		e.waiting.Wait()
	})
	return nil
}

// Probe returns an error that matches ErrPrivileges, and says what to do, where
// no namespace could be entered.
func (e *Enricher) Probe() error {
	if err := privileged(); err != nil {
		return fmt.Errorf("%w: %w; a service needs AmbientCapabilities=CAP_SYS_ADMIN CAP_SYS_PTRACE for listeners on bridges, and its user namespace must be the host's", ErrPrivileges, err)
	}
	return nil
}
