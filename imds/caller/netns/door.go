package netns

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
)

const (
	// fresh is how long it is taken for granted that a link leads into the
	// namespace that it led into: who may change that may read all that passes
	// there. To ask costs as much as all the rest.
	fresh = time.Second
	// idle is how long a door stays open at which nobody asks; twice as long at
	// most. Its process may have gone to another namespace
	// meanwhile, and the door may be all that keeps this one.
	idle = time.Minute
	// most is how many doors are open at once. Each takes two descriptors.
	most = 1024
)

// A door is a socket for questions in another network namespace. It keeps the
// namespace alive, so that it closes as soon as the process ends that was found
// in there.
type door struct {
	number  int32 // of the namespace
	process *process

	mu      sync.Mutex
	ask     *host.Inquiry // nil once the door is closed
	used    bool          // since the last look
	checked time.Time     // when it was where the link leads
}

func (d *door) enrich(c caller.Conn, who *caller.Caller) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ask == nil {
		return host.ErrClosed
	}
	d.used = true
	err := d.ask.Enrich(c, who)
	if !d.ask.IsOpen() {
		d.shut()
	}
	return err
}

// close closes the door, and ends the wait for its process.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut()
}

func (d *door) shut() {
	if d.ask != nil {
		d.ask.Close()
		d.ask = nil
		d.process.close()
	}
}

// wasUsed reports whether somebody has asked since it was called the last time.
func (d *door) wasUsed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	used := d.used
	d.used = false
	return used
}

// isFresh reports whether d is open, and was where its link leads a moment ago.
func (d *door) isFresh() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ask != nil && time.Since(d.checked) < fresh
}

// confirm has d be where its link leads, if that is so. It reports whether it is.
func (d *door) confirm(number int32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ask == nil || d.number != number {
		return false
	}
	d.checked = time.Now()
	return true
}

// find opens the door at the end of a way, and keeps it for later questions. It
// looks for a process in there, which takes longer the more processes there are.
func (e *Enricher) find(ctx context.Context, w way) (*door, error) {
	in, p, err := search(ctx, w.number)
	if err != nil {
		return nil, err
	}
	d := &door{number: w.number, process: p, checked: time.Now()}
	err = in.enter(func() (err error) {
		d.ask, err = e.host.Open()
		return err
	})
	in.close()
	if err != nil {
		p.close()
		return nil, fmt.Errorf("opening a socket in there: %w", err)
	}
	return e.keep(w.link, d)
}

// keep has later questions go by d, until its process ends. Where somebody was
// quicker, it returns the door of theirs.
func (e *Enricher) keep(link uint32, d *door) (*door, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch before := e.doors[link]; {
	case e.closed:
		d.close()
		return nil, host.ErrClosed
	case before != nil && before.confirm(d.number):
		d.close()
		return before, nil
	case before != nil:
		before.close()
	case len(e.doors) >= e.most:
		e.shutOne()
	}
	e.doors[link] = d
	e.waiting.Go(func() {
		d.process.wait()
		e.shut(link, d)
	})
	if !e.sweeping {
		e.sweeping = true
		e.waiting.Go(e.sweep)
	}
	return d, nil
}

// sweep closes the doors that are not in use, until the Enricher is closed.
func (e *Enricher) sweep() {
	every := time.NewTicker(e.idle)
	defer every.Stop()
	for {
		select {
		case <-e.ended:
			return
		case <-every.C:
		}
		e.mu.Lock()
		for link, d := range e.doors {
			if !d.wasUsed() {
				delete(e.doors, link)
				d.close()
			}
		}
		e.mu.Unlock()
	}
}

// shut closes a door, and forgets it.
func (e *Enricher) shut(link uint32, d *door) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.doors[link] == d {
		delete(e.doors, link)
	}
	d.close()
}

// shutOne closes one door to make room, and rather one that is not in use.
// e.mu is held.
func (e *Enricher) shutOne() {
	var victim uint32
	for link, d := range e.doors {
		victim = link
		if !d.wasUsed() {
			break
		}
	}
	e.doors[victim].close()
	delete(e.doors, victim)
}
