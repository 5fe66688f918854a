package imds

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/hostrole/hostrole/imds/caller"
)

const (
	maxServed = 1024          // connections that are served at once
	maxOpen   = 2 * maxServed // those, and those that wait for their turn

	// Up to half of the places are for whoever comes. Of the other half nobody
	// gets more while they have a quarter of all.
	freeForAll = maxServed / 2
	fairShare  = maxServed / 4
)

// An admission gives the places of a server to its connections, so that the
// crowd of one party does not stand in another's way. Who has no place waits,
// and is not refused: SDKs take a refusal for an answer. A place that becomes
// free goes to the party with the fewest, and there to who came first.
//
// Waiting is cheap, but not free, and whose a connection is can only be known
// once it is accepted. So when as many are open as may be, the party with the
// most loses the one that has waited longest, whose client has given up by
// then, if any has.
type admission struct {
	room chan struct{} // has one element for each open connection

	mu      sync.Mutex
	served  int
	crowds  map[party]*crowd // of all parties that are served or wait
	waiting map[party]*crowd // of those that wait
	tickets uint64           // drawn so far
}

// A party shares its places: what one user does from the host, or from one
// neighbour's address.
type party struct {
	uid  caller.ID
	from netip.Prefix // the zero Prefix is the host itself
}

// A crowd are the connections of a party.
type crowd struct {
	served int
	queue  []*ticket
}

// A ticket is a connection that waits.
type ticket struct {
	number uint64
	called chan bool // true for a place, false when it must go
}

func newAdmission() *admission {
	return &admission{room: make(chan struct{}, maxOpen), crowds: map[party]*crowd{}, waiting: map[party]*crowd{}}
}

// partyOf tells neighbours apart by their addresses, of which every IPv6 host
// has 2^64. On the host any process can take any loopback address.
func partyOf(who caller.Caller, c caller.Conn) party {
	p := party{uid: who.UID}
	from := c.Remote.Addr()
	if !from.IsValid() || from.IsLoopback() || from == c.Local.Addr() {
		return p
	}
	p.from, _ = from.Prefix(min(from.BitLen(), 64))
	return p
}

// open makes room for one more connection, or waits for it until ctx ends.
func (a *admission) open(ctx context.Context) bool {
	select {
	case a.room <- struct{}{}:
		return true
	default:
		a.evict()
	}
	select {
	case a.room <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// closed gives back the room of a connection.
func (a *admission) closed() { <-a.room }

// evict sends away one that waits, of the party with the most connections.
func (a *admission) evict() {
	a.mu.Lock()
	defer a.mu.Unlock()
	var most party
	var crowded *crowd
	for p, c := range a.waiting {
		if crowded == nil || c.served+len(c.queue) > crowded.served+len(crowded.queue) {
			most, crowded = p, c
		}
	}
	if crowded != nil {
		a.pop(most, crowded).called <- false
	}
}

// enter waits for a place of p. It reports false when there will be none: ctx
// has ended, or the connection must go.
func (a *admission) enter(ctx context.Context, p party) bool {
	a.mu.Lock()
	c := a.crowds[p]
	if c == nil {
		c = &crowd{}
		a.crowds[p] = c
	}
	if a.admits(c) {
		c.served++
		a.served++
		a.mu.Unlock()
		return true
	}
	a.tickets++
	t := &ticket{a.tickets, make(chan bool, 1)}
	c.queue = append(c.queue, t)
	a.waiting[p] = c
	a.mu.Unlock()
	select {
	case ok := <-t.called:
		return ok
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case ok := <-t.called: // in the same moment
		return ok
	default:
	}
	c.queue = slices.DeleteFunc(c.queue, func(other *ticket) bool { return other == t })
	a.tidy(p, c)
	return false
}

// leave gives a place of p to who may have it next.
func (a *admission) leave(p party) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.crowds[p]
	c.served--
	a.served--
	a.tidy(p, c)
	for {
		var next party
		var chosen *crowd
		for p, c := range a.waiting {
			if a.admits(c) && (chosen == nil || c.served < chosen.served || c.served == chosen.served && c.queue[0].number < chosen.queue[0].number) {
				next, chosen = p, c
			}
		}
		if chosen == nil {
			return
		}
		chosen.served++
		a.served++
		a.pop(next, chosen).called <- true
	}
}

// admits reports whether c may have one more place. Nobody waits whom it would
// admit, so who comes next passes nobody.
func (a *admission) admits(c *crowd) bool {
	return a.served < freeForAll || a.served < maxServed && c.served < fairShare
}

// pop takes the first of a queue out of it.
func (a *admission) pop(p party, c *crowd) *ticket {
	t := c.queue[0]
	c.queue = c.queue[1:]
	a.tidy(p, c)
	return t
}

// tidy forgets what c is no longer.
func (a *admission) tidy(p party, c *crowd) {
	if len(c.queue) > 0 {
		return
	}
	c.queue = nil
	delete(a.waiting, p)
	if c.served == 0 {
		delete(a.crowds, p)
	}
}
