package hostaddr

import (
	"context"
	"errors"
	"time"
)

const (
	// everyLook is how often the host is looked at without an occasion.
	everyLook = 30 * time.Second

	// looksAtOnce is how many looks go without delay, and anotherLook when one
	// more of them may. Together they bound a fight with another program: it
	// costs forty looks a second, and the address is back within 100 ms still.
	looksAtOnce = 64
	anotherLook = 25 * time.Millisecond

	// The first wait before a lost address is tried again, and before the
	// kernel is asked again for its news; each doubles up to the longest.
	firstRetry   = time.Second
	firstReopen  = 100 * time.Millisecond
	longestRetry = everyLook
)

// news is what the kernel says of addresses and links, as it happens.
type news struct {
	addrs  <-chan addrNews
	links  <-chan linkNews
	failed <-chan error // what went wrong; something may have been missed
	close  func()       // ends it, and waits for that
}

// pending is how much news is looked at as one.
const pending = 64

// Run keeps the addresses on the host until ctx ends, and returns nil then. It
// listens to the kernel, so that what was removed is back within a
// millisecond; when news are lost, and every 30 seconds in any case, it looks
// at the host itself. It starts no goroutine but those of the library, which
// have ended when it returns. It takes nothing off; Release does.
func (c *Claim) Run(ctx context.Context) error {
	k := &keeper{
		c: c, news: &news{close: func() {}}, said: tally{}, looks: looksAtOnce,
		every: time.NewTicker(everyLook), count: time.NewTicker(quietFor),
		open: time.NewTimer(0), pace: stopped(), retry: stopped(),
	}
	defer k.stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-k.news.addrs:
			k.hear(ok, ok && c.concerns(u))
		case u, ok := <-k.news.links:
			k.hear(ok, ok && c.concernsLink(u))
		case err := <-k.news.failed:
			k.deaf(err)
		case <-k.open.C:
			k.reopen()
		case <-k.every.C:
			k.deafness = 0
			k.look()
		case <-k.retry.C:
			k.look()
		case <-k.pace.C:
			k.pacing = false
			k.looks++
		case <-k.count.C:
			k.tell(k.said.drain()...)
		}
		k.act()
	}
}

// A keeper is a Run.
type keeper struct {
	c    *Claim
	news *news
	said tally

	due      bool // the host has to be looked at
	looks    int  // how many looks may be had now
	lost     int  // looks in a row that ended with an address lost
	deafness int  // ends of the news in a row
	pacing   bool // pace runs

	every, count      *time.Ticker
	open, pace, retry *time.Timer
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (k *keeper) stop() {
	k.news.close()
	k.every.Stop()
	k.count.Stop()
	for _, t := range []*time.Timer{k.open, k.pace, k.retry} {
		t.Stop()
	}
}

// hear takes one piece of news, and what else there is with it: a look is for
// all of them.
func (k *keeper) hear(ok, concerns bool) {
	k.due = k.due || concerns
	for range pending {
		if !ok {
			k.deaf(errors.New("the kernel ended them"))
			return
		}
		select {
		case u, more := <-k.news.addrs:
			ok = more
			k.due = k.due || more && k.c.concerns(u)
		case u, more := <-k.news.links:
			ok = more
			k.due = k.due || more && k.c.concernsLink(u)
		default:
			return
		}
	}
}

// deaf ends the news, because some may have been missed, and sees to it that
// they are asked for again.
func (k *keeper) deaf(err error) {
	select {
	case err = <-k.news.failed: // says it better than the end itself
	default:
	}
	k.news.close()
	k.news = &news{close: func() {}}
	k.tell(Event{Kind: Deaf, Link: k.c.o.Link, Err: err})
	wait := time.Duration(0)
	if k.deafness > 0 {
		wait = backOff(firstReopen, k.deafness-1)
	}
	k.deafness++
	k.open.Reset(wait)
}

func (k *keeper) reopen() {
	n, err := k.c.subscribe()
	if err != nil {
		k.deaf(err)
	} else {
		k.news = n
	}
	k.look() // what happened meanwhile is not told by anyone
}

// act looks at the host if that is due and allowed.
func (k *keeper) act() {
	if k.due && k.looks > 0 {
		k.looks--
		k.look()
	}
	if k.looks < looksAtOnce && !k.pacing {
		k.pacing = true
		k.pace.Reset(anotherLook)
	}
}

func (k *keeper) look() {
	k.due = false
	events, lost := k.c.look()
	k.tell(events...)
	if !lost {
		k.lost = 0
		k.retry.Stop()
		return
	}
	k.retry.Reset(backOff(firstRetry, k.lost))
	k.lost++
}

// tell observes events, but for those that were told a moment ago.
func (k *keeper) tell(events ...Event) {
	for _, e := range events {
		if e.Count > 0 { // comes out of the tally
			k.c.o.Observe(e)
		} else if e, now := k.said.add(e); now {
			k.c.o.Observe(e)
		}
	}
}

func backOff(first time.Duration, times int) time.Duration {
	return min(first<<min(times, 16), longestRetry)
}

// look puts back what is missing, and says what happened, and whether
// something is missing still.
func (c *Claim) look() (events []Event, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.released {
		return nil, false
	}
	absent := c.findAgain()
	for _, h := range c.holdings {
		was, put, why := *h, false, absent
		if why == nil {
			put, why = c.keep(h)
		}
		h.why = why
		say := func(k Kind, link string, err error) {
			events = append(events, Event{Kind: k, Addr: h.addr, Link: link, Err: err})
		}
		switch {
		case h.why != nil && (was.why == nil || was.why.Error() != h.why.Error()):
			say(Lost, c.o.Link, h.why)
		case h.why == nil && was.why != nil:
			say(Restored, c.o.Link, nil)
		case put:
			say(PutBack, c.o.Link, nil)
		}
		if h.rival != "" && h.rival != was.rival {
			say(Rival, h.rival, nil)
		}
		if h.exposed != nil && was.exposed == nil {
			say(Exposed, c.o.Link, h.exposed)
		}
		lost = lost || h.why != nil
	}
	return events, lost
}

// findAgain finds the link, and makes it anew if we had made it. It has c.mu.
func (c *Claim) findAgain() error {
	l, err := findLink(c.o.Link)
	if errors.Is(err, errNoLink) && c.link.ours {
		l, err = makeLink(c.o.Link)
	}
	if err != nil {
		return err
	}
	c.link = l
	return nil
}

// keep sees to it that h is on c.link, and reports whether it was put there.
// It has c.mu.
func (c *Claim) keep(h *holding) (put bool, err error) {
	places, err := findAddress(h.addr)
	if err != nil {
		return false, err
	}
	h.rival = ""
	first, here := !h.tried, false
	h.tried = true
	var elsewhere []place
	for _, p := range places {
		if !p.ours {
			h.rival = p.link.name
			if first || h.why != nil {
				return false, heldError(h.addr, p) // somebody came first
			}
		}
		if p.link.index == c.link.index {
			here = true
		} else if p.ours {
			elsewhere = append(elsewhere, p)
		}
	}
	if !here || first { // a left-over, too: it shows whether we may
		if err := putAddress(c.link, h.addr); err != nil {
			return false, err
		}
	}
	if first {
		for _, p := range elsewhere {
			// Left over from another configuration. If one cannot be removed,
			// the address works all the same.
			_ = errors.Join(removeAddress(p.link, h.addr), deleteLink(p.link))
		}
	}
	h.exposed = putFence(h.addr)
	return !here, nil
}
