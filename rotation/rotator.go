package rotation

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
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

	// Owned by run.
	draw     float64       // of the current credential or failure
	tried    time.Duration // boot time at the end of the newest attempt
	hasty    bool          // a reader waits for the first attempt: no splay
	orphaned bool          // the newest attempt failed for want of the parent's credential
}

// wall is the time by the issuer's clock.
func (r *Rotator) wall() time.Time { return r.m.o.Now().Add(r.job.Load().Skew()) }

// live reports whether c may be given out: it has not expired, and what is
// signed with it now will not arrive dead.
func (r *Rotator) live(c credential.Credential) bool {
	if c.Expires.IsZero() {
		return c.Complete()
	}
	return c.Complete() && c.Left(r.wall(), r.m.o.Boot()) > lastMoments(c)
}

// kick has the rotator look at its clocks now instead of at the end of its
// nap. It does not shorten the wait after a failure: a crowd of clients must
// not become a crowd at the upstream.
func (r *Rotator) kick() {
	select {
	case r.kicked <- struct{}{}:
	default:
	}
}

func (r *Rotator) run(ctx context.Context) {
	r.draw = r.m.o.Draw()
	started := r.m.o.Boot()
	for ctx.Err() == nil {
		wait := r.due(started)
		if wait <= 0 {
			r.attempt(ctx)
			continue
		}
		var parent <-chan struct{}
		if r.orphaned {
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
			r.hasty = true
		}
		sleep.Stop()
	}
}

// due is the time until the next attempt, by the clock that says sooner.
func (r *Rotator) due(started time.Duration) time.Duration {
	e, boot := r.slot.Load(), r.m.o.Boot()
	switch {
	case r.orphaned && r.parentLive():
		return 0
	case e.Err != nil:
		return r.tried + RetryAfter(e.Err, e.Failures, r.left(e.Credential), r.draw) - boot
	case e.Credential.Complete():
		c := e.Credential
		age := RenewAt(c, r.m.o.RefreshAfter, r.draw)
		// An issuer whose dates are behind its own clock would have every new
		// credential replaced at once: wall time counts once a nap.
		byWall := max(c.Issued.Add(age).Sub(r.wall()), r.tried+nap-boot)
		return min(c.Received+age-boot, byWall)
	case r.hasty:
		return 0
	default:
		return started + time.Duration(r.draw*float64(r.m.o.Splay)) - boot
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

func (r *Rotator) parentLive() bool {
	p := r.parent()
	return p != nil && p.live(p.slot.Load().Credential)
}

func (r *Rotator) left(c credential.Credential) time.Duration {
	if !r.live(c) {
		return 0
	}
	if c.Expires.IsZero() {
		return slowest + lowLife // no hurry
	}
	return c.Left(r.wall(), r.m.o.Boot())
}

// attempt asks the source once and publishes what came of it.
func (r *Rotator) attempt(ctx context.Context) {
	was := r.slot.Load()
	c, took, err := r.fetch(ctx)
	if ctx.Err() != nil {
		return
	}
	r.tried, r.draw = r.m.o.Boot(), r.m.o.Draw()
	ev := Event{Name: r.job.Load().Name, Took: took}
	if err == nil {
		ev.Credential, ev.Recovered = c, was.Failures
		ev.Next = RenewAt(c, r.m.o.RefreshAfter, r.draw)
		r.slot.Publish(c, r.m.o.Now().Add(ev.Next))
	} else {
		ev.Credential, ev.Err, ev.Failures = was.Credential, err, was.Failures+1
		ev.Next = RetryAfter(err, ev.Failures, r.left(was.Credential), r.draw)
		now := r.m.o.Now()
		r.slot.PublishError(err, now, now.Add(ev.Next))
	}
	r.m.o.Observe(ev)
}

func (r *Rotator) fetch(ctx context.Context) (c credential.Credential, took time.Duration, err error) {
	job := r.job.Load()
	ctx, cancel := context.WithTimeout(ctx, job.Timeout)
	defer cancel()
	// A child waits for its parent before it takes a slot: children that held
	// all of them would wait for ever.
	r.orphaned = false
	if job.Needs != (credential.Key{}) {
		if err := r.awaitParent(ctx); err != nil {
			r.orphaned = true
			return credential.Credential{}, 0, fmt.Errorf("the role that it is assumed from: %w", err)
		}
	}
	select {
	case r.m.slots <- struct{}{}:
		defer func() { <-r.m.slots }()
	case <-ctx.Done():
		return credential.Credential{}, 0, fmt.Errorf("waiting for another role's attempt to end: %w", ctx.Err())
	}
	from := r.m.o.Boot()
	defer func() {
		took = r.m.o.Boot() - from
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
		if err == nil {
			err = r.check(c)
		}
	}()
	c, err = job.Source.Fetch(ctx)
	return c, 0, err
}

// check is the last look before anybody may be given c.
func (r *Rotator) check(c credential.Credential) error {
	if err := credential.Check(c); err != nil {
		return err
	}
	if !r.live(c) {
		return errors.New("the answer has expired already")
	}
	return nil
}

// A PanicError is a panic of a source, contained where it happened.
type PanicError struct {
	Value any
	Stack []byte
}

// Error names the panic without its stack.
func (e *PanicError) Error() string { return fmt.Sprintf("a fault in this program: %v", e.Value) }
