package rotation

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/store"
)

// A Rotator keeps one key fresh. Its goroutine is the only writer of the
// key's slot and the only one that calls its source, so that attempts never
// overlap.
type Rotator struct {
	m      *Manager
	job    atomic.Pointer[Job]
	slot   *store.Slot
	kicked chan struct{} // holds one kick; readers send, run receives
	wishes chan wish     // unbuffered: run receives between two attempts; see Manager.Renew
	asked  atomic.Bool   // a reader waits

	// Owned by run.
	draw  func() float64
	state State
}

// clock looks at the time.
func (r *Rotator) clock() Clock {
	return Clock{Wall: r.m.o.Now(), Skew: r.job.Load().Skew(), Boot: r.m.o.Boot()}
}

func (r *Rotator) live(c credential.Credential) bool { return r.clock().Live(&c) }

// kick has the rotator look at its clocks now instead of at the end of its
// nap.
func (r *Rotator) kick() {
	select {
	case r.kicked <- struct{}{}:
	default:
	}
}

// ask is the kick of a reader that waits.
func (r *Rotator) ask() {
	r.asked.Store(true)
	r.kick()
}

func (r *Rotator) run(ctx context.Context) {
	r.state = Begin(r.slot.Load().Credential, r.clock(), r.draw())
	if job := r.job.Load(); job.Longest != nil {
		r.state.Recall(Lengths(job.chained()))
	}
	for ctx.Err() == nil {
		if r.asked.Swap(false) {
			r.state.Ask()
		}
		wait := r.state.Next(r.clock(), r.m.rules(), r.budget(), r.parentState())
		if wait <= 0 {
			r.attempt(ctx)
			continue
		}
		var parent <-chan struct{}
		if r.state.orphaned {
			if p := r.parent(); p != nil {
				parent = p.slot.Load().Replaced()
			}
		}
		sleep := time.NewTimer(min(wait, nap))
		select {
		case <-ctx.Done():
		case <-sleep.C:
		case <-parent:
		case <-r.kicked:
		case w := <-r.wishes:
			r.grant(ctx, w)
		}
		sleep.Stop()
	}
}

// awaitParent waits for a parent that makes its first attempt. One that has
// failed is not waited for: its failure is ours, and its recovery wakes us.
func (r *Rotator) awaitParent(ctx context.Context) error {
	if p := r.parent(); p != nil {
		if e := p.slot.Load(); e.Err != nil && !p.live(e.Credential) {
			return e.Err
		}
	}
	_, err := r.m.Credential(ctx, r.job.Load().Needs)
	return err
}

// parent is the rotator of the key that signs this one's calls, or nil.
func (r *Rotator) parent() *Rotator { return r.m.rotator(r.job.Load().Needs) }

func (r *Rotator) parentState() Parent {
	switch p := r.parent(); {
	case !r.job.Load().chained():
		return NoParent
	case p != nil && p.live(p.slot.Load().Credential):
		return ParentLive
	}
	return ParentDead
}

// budget is what the retries of this key's upstream may take, or nil.
func (r *Rotator) budget() *Budget { return r.m.budget(r.job.Load().Upstream) }

// attempt asks the source once and publishes what came of it. A session that
// was too long is asked for again at once, shorter.
func (r *Rotator) attempt(ctx context.Context) {
	was := r.slot.Load()
	src, lengths := r.source()
	c, took, orphaned, err := r.fetch(ctx, src)
	for err != nil && ctx.Err() == nil && r.state.Shorten(err, lengths) {
		src, lengths = r.source()
		c, took, orphaned, err = r.fetch(ctx, src)
	}
	if ctx.Err() != nil {
		return
	}
	now := r.clock()
	ev := Event{Name: r.job.Load().Name, Key: r.job.Load().Key, Took: took}
	var wake bool
	if err == nil {
		wake = r.state.Success(c, now, r.budget(), r.draw())
		ev.Credential, ev.Recovered = c, was.Failures
	} else {
		wake = r.state.Failure(err, now, r.budget(), r.draw(), orphaned)
		ev.Credential, ev.Err, ev.Failures, ev.Class = was.Credential, err, r.state.Failures, r.state.Class
	}
	ev.Next = max(r.state.due(now, r.m.rules(), ParentDead), 0)
	if err == nil {
		r.slot.Publish(c, now.Wall.Add(ev.Next))
	} else {
		r.slot.PublishError(err, now.Wall, now.Wall.Add(ev.Next))
	}
	if wake {
		r.m.wake(r.job.Load().Upstream)
	}
	r.m.o.Observe(ev)
}

// source is where this attempt asks, and how many lengths of session there are.
func (r *Rotator) source() (source.Source, int) {
	job := r.job.Load()
	if job.Longest == nil {
		return job.Source, 0
	}
	all := Lengths(job.chained())
	return job.Longest(all[min(r.state.Length, len(all)-1)]), len(all)
}

func (r *Rotator) fetch(ctx context.Context, src source.Source) (c credential.Credential, took time.Duration, orphaned bool, err error) {
	job := r.job.Load()
	if job.OfMany { // however long: a crowd is no failure of the upstream
		select {
		case r.m.crowd <- struct{}{}:
			defer func() { <-r.m.crowd }()
		case <-ctx.Done():
			return c, 0, false, ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, job.Timeout)
	defer cancel()
	// A child waits for its parent before it takes a slot: children that held
	// all of them would wait for ever.
	if job.chained() {
		if err := r.awaitParent(ctx); err != nil {
			return c, 0, true, fmt.Errorf("the role that it is assumed from: %w", err)
		}
	}
	select {
	case r.m.slots <- struct{}{}:
		defer func() { <-r.m.slots }()
	case <-ctx.Done():
		return c, 0, false, fmt.Errorf("waiting for another role's attempt to end: %w", ctx.Err())
	}
	from := r.m.o.Boot()
	defer func() {
		took = r.m.o.Boot() - from
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
		if err == nil {
			c, err = r.state.Accept(c, r.clock(), from)
		}
	}()
	c, err = src.Fetch(ctx)
	return c, 0, false, err
}

// A PanicError is a panic of a source, contained where it happened.
type PanicError struct {
	Value any
	Stack []byte
}

// Error names the panic without its stack.
func (e *PanicError) Error() string { return fmt.Sprintf("a fault in this program: %v", e.Value) }
