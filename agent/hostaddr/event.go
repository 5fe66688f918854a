package hostaddr

import (
	"fmt"
	"net/netip"
	"time"
)

// Kind is what an Event is about.
type Kind int

// The kinds of events.
const (
	// PutBack: somebody removed the address, and it is back.
	PutBack Kind = iota
	// Lost: the address cannot be put on the host, or not back. Run goes on
	// trying.
	Lost
	// Restored: an address that was lost is there.
	Restored
	// Rival: another program put the address on Link.
	Rival
	// Exposed: the route that stands in for the address while it is away could
	// not be put there, so that requests would leave the host meanwhile.
	Exposed
	// Deaf: the kernel's news of addresses were cut off. The host is looked at
	// anew, and they are asked for again.
	Deaf
)

// An Event is something that happened to a claim.
type Event struct {
	Kind Kind
	Addr netip.Addr // zero with Deaf
	Link string
	// Count is how often it happened since the last event of the same kind
	// and address: 1, or more where events came too fast to tell each.
	Count int
	// Within is the time in which it did so, at most; 0 when Count is 1.
	Within time.Duration
	Err    error // with Lost, Exposed and Deaf
}

// String is one line for a log.
func (e Event) String() string {
	often := ""
	if e.Count > 1 {
		often = fmt.Sprintf(" (%d times in %v)", e.Count, e.Within)
	}
	switch e.Kind {
	case PutBack:
		if e.Count > 1 {
			return fmt.Sprintf("%v was removed from %s %d times in %v, and put back: another program keeps removing it; a network manager has to be told to leave %s alone",
				e.Addr, e.Link, e.Count, e.Within, e.Link)
		}
		return fmt.Sprintf("%v was removed from %s by another program, and put back", e.Addr, e.Link)
	case Lost:
		return fmt.Sprintf("%v is not on %s%s: %v", e.Addr, e.Link, often, e.Err)
	case Restored:
		return fmt.Sprintf("%v is on %s again%s", e.Addr, e.Link, often)
	case Rival:
		return fmt.Sprintf("another program put %v on %s%s: requests may reach it instead; find it and stop it", e.Addr, e.Link, often)
	case Exposed:
		return fmt.Sprintf("if %v is removed from %s, requests leave the host until it is back%s: %v", e.Addr, e.Link, often, e.Err)
	case Deaf:
		return fmt.Sprintf("the kernel's news of addresses were cut off%s, and are asked for again: %v", often, e.Err)
	}
	return fmt.Sprintf("event %d of %v on %s", e.Kind, e.Addr, e.Link)
}

// quietFor is how long an event is not told again once it was, at most.
const quietFor = 10 * time.Second

type topic struct {
	kind Kind
	addr netip.Addr
}

// A tally holds back what was told a moment ago, and counts it.
type tally map[topic]*Event

// add returns e if it is to be told now.
func (t tally) add(e Event) (Event, bool) {
	k := topic{e.Kind, e.Addr}
	waiting, quiet := t[k]
	switch {
	case !quiet:
		t[k] = nil
		e.Count = 1
		return e, true
	case waiting == nil:
		e.Count = 1
		t[k] = &e
	default:
		e.Count = waiting.Count + 1
		*waiting = e
	}
	return Event{}, false
}

// drain returns what has been held back, and forgets what has not happened
// again. It is to be called each quietFor.
func (t tally) drain() (events []Event) {
	for k, e := range t {
		if e == nil {
			delete(t, k)
			continue
		}
		if e.Count > 1 {
			e.Within = quietFor
		}
		events = append(events, *e)
		t[k] = nil
	}
	return events
}
