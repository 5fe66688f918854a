package redirect

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

const (
	// everyLook is how often the table is looked at without an occasion.
	everyLook = 30 * time.Second
	// pause is the least time between two looks. On a host whose rules change
	// all the time they cost forty small questions a second, and the redirect is
	// back within 100 ms.
	pause = 25 * time.Millisecond
	// quiet is how long an event is not told again once it was.
	quiet = 10 * time.Second
)

// Kind is what an Event is about.
type Kind int

// The kinds of events.
const (
	// PutBack: somebody removed or changed the table, and it is back.
	PutBack Kind = iota
	// Lost: it cannot be put back. Run goes on trying.
	Lost
	// Restored: a redirect that was lost is there.
	Restored
)

// An Event is something that happened to a Redirect.
type Event struct {
	Kind  Kind
	Addr  netip.Addr
	Table string
	Count int   // how often since the last event of this kind, with PutBack
	Err   error // with Lost
}

// String is one line for a log.
func (e Event) String() string {
	switch e.Kind {
	case PutBack:
		if e.Count > 1 {
			return fmt.Sprintf("the nftables table %s was removed or changed %d times in %v, and put back: another program keeps doing so; tell it to leave tables of others alone", e.Table, e.Count, quiet)
		}
		return fmt.Sprintf("the nftables table %s was removed or changed by another program, and put back", e.Table)
	case Lost:
		return fmt.Sprintf("requests to %v reach whoever has port %d: %v", e.Addr, From, e.Err)
	case Restored:
		return fmt.Sprintf("the redirect of %v is there again", e.Addr)
	}
	return fmt.Sprintf("event %d of the redirect of %v", e.Kind, e.Addr)
}

// Run keeps the redirect until ctx ends, and returns nil then. It listens to the
// kernel, so that what was removed is back within milliseconds; when news are
// lost, and every 30 seconds in any case, it looks by itself. It takes nothing
// off; Release does.
func (r *Redirect) Run(ctx context.Context) error {
	heard := make(chan struct{}, 1)
	stop := r.kernel.listen(ctx, heard)
	defer stop()
	k := keeper{r: r}
	every, count, rest := time.NewTicker(everyLook), time.NewTicker(quiet), time.NewTimer(0)
	defer every.Stop()
	defer count.Stop()
	defer rest.Stop()
	due, resting := false, true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-heard:
			due = true
		case <-every.C:
			due = true
		case <-count.C:
			k.tell()
		case <-rest.C:
			resting = false
			due = due || k.lost
		}
		if due && !resting {
			due, resting = false, true
			rest.Reset(k.look())
		}
	}
}

// A keeper is a Run.
type keeper struct {
	r       *Redirect
	lost    bool
	waiting int  // events that were not told yet
	told    bool // one was told a moment ago
}

// look has a look, and says how long the next one has to wait.
func (k *keeper) look() time.Duration {
	put, err := k.r.look()
	e := Event{Addr: k.r.o.Addr, Table: k.r.Table(), Count: 1, Err: err}
	switch {
	case err != nil:
		if e.Kind = Lost; !k.lost {
			k.r.o.Observe(e)
		}
		k.lost = true
		return time.Second
	case k.lost:
		k.lost = false
		e.Kind = Restored
		k.r.o.Observe(e)
	case put:
		k.waiting++
		if !k.told {
			k.tell()
		}
	}
	return pause
}

// tell tells what waits. It is to be called each quiet.
func (k *keeper) tell() {
	k.told = k.waiting > 0
	if k.told {
		k.r.o.Observe(Event{Kind: PutBack, Addr: k.r.o.Addr, Table: k.r.Table(), Count: k.waiting})
	}
	k.waiting = 0
}
