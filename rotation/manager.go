// Package rotation decides when a credential is renewed: the schedule, the
// back-off, one Rotator for each key, and the Manager of them all.
//
// # Why not
//
// Not a fetch inside a request: a client waits half a second and the upstream
// may take twenty. Not a timer set for the day of expiry: see [RenewAt] and
// the naps. Not goroutines that decide: a [State] decides and does nothing, so
// that a test can go through a century of it. Not the eviction of a credential
// that failed to renew: it is live until its own end, whatever the upstream
// says today.
package rotation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/store"
)

// ErrNotReady matches the failure of a key that has no live credential and may
// soon have one.
var ErrNotReady = errors.New("no live credential yet")

// A Job is one key and the way to its credentials.
type Job struct {
	Key     credential.Key
	Name    string // of the role, for people
	Source  source.Source
	Needs   credential.Key       // key of the credential that signs the calls; zero for none
	Timeout time.Duration        // of one attempt; required
	Skew    func() time.Duration // the issuer's clock minus ours; nil for none

	// One of many keys leaves half of the attempts at once to those that are few: a
	// crowd of new ones must not hold up the renewal of a role.
	OfMany bool
	// Upstream names what is called: keys of one name share a budget of retries; "" is without.
	Upstream string
	// Longest, in place of Source, is for the longest session that the role allows: it makes the
	// source of one of [Lengths], a shorter one when that is refused as invalid, then always that.
	Longest func(time.Duration) source.Source
}

func (j *Job) chained() bool { return j.Needs != credential.Key{} }

// Options are what all keys share. Every field but Observe, and one of Draw and
// Host, is required.
type Options struct {
	RefreshAfter time.Duration        // see [RenewAt]
	Splay        time.Duration        // spread of the first attempts
	Parallel     int                  // attempts at once
	Now          func() time.Time     // wall clock
	Boot         func() time.Duration // time since boot, suspend included
	Draw         func() float64       // uniform in [0,1), used concurrently; nil: [Draws] of Host for each key
	Host         string               // what no other host has, such as the machine id
	Observe      func(Event)          // called after each attempt, from the key's goroutine; nil for nobody
}

// An Event is the outcome of one attempt.
type Event struct {
	Name       string                // of the role
	Key        credential.Key        //
	Credential credential.Credential // the new one; the last good one, or none, after a failure
	Err        error                 // nil after a success
	Class      Class                 // of Err; Fine after a success
	Failures   int                   // in a row; 0 after a success
	Recovered  int                   // failures that this success ended
	Took       time.Duration         // of the attempt
	Next       time.Duration         // until the next attempt
}

// A Manager keeps the credentials of a set of keys fresh. It may be used
// concurrently.
type Manager struct {
	o     Options
	store *store.Store
	slots chan struct{} // one for each attempt that may run
	crowd chan struct{} // one for each attempt that may run for a key of many

	rotators atomic.Pointer[map[credential.Key]*Rotator] // replaced whole, under mu

	mu   sync.Mutex                            // held while the set of keys changes
	ctx  context.Context                       // guarded by mu: of Run; nil while it does not run
	all  sync.WaitGroup                        // of the rotators that run
	stop map[credential.Key]context.CancelFunc // guarded by mu
	jobs []Job                                 // guarded by mu: of Update
	more map[credential.Key]Job                // guarded by mu: of Add

	budgets atomic.Pointer[map[string]*Budget] // by upstream; replaced whole, under mu
}

// New makes a Manager whose outcomes go to st. Nothing runs before Run.
func New(st *store.Store, o Options, jobs []Job) *Manager {
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	m := &Manager{o: o, store: st, slots: make(chan struct{}, o.Parallel), crowd: make(chan struct{}, max(1, o.Parallel/2)),
		stop: map[credential.Key]context.CancelFunc{}, more: map[credential.Key]Job{}}
	m.rotators.Store(&map[credential.Key]*Rotator{})
	m.budgets.Store(&map[string]*Budget{})
	m.Update(jobs)
	return m
}

// begin starts the goroutine of r. The caller holds m.mu.
func (m *Manager) begin(k credential.Key, r *Rotator) {
	ctx, stop := context.WithCancel(m.ctx)
	m.stop[k] = stop
	m.all.Go(func() { r.run(ctx) })
}

// Run renews credentials until ctx ends, and returns when no goroutine of it
// is left. It is called once.
func (m *Manager) Run(ctx context.Context) {
	m.mu.Lock()
	m.ctx = ctx
	for k, r := range *m.rotators.Load() {
		m.begin(k, r)
	}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock() // who updates from now on starts nothing
	m.ctx = nil
	for _, stop := range m.stop {
		stop()
	}
	m.mu.Unlock()
	m.all.Wait()
}

// rotator is that of k, or nil.
func (m *Manager) rotator(k credential.Key) *Rotator { return (*m.rotators.Load())[k] }

// budget is that of an upstream, or nil.
func (m *Manager) budget(upstream string) *Budget { return (*m.budgets.Load())[upstream] }

func (m *Manager) rules() Rules { return Rules{RefreshAfter: m.o.RefreshAfter, Splay: m.o.Splay} }

// wake has all keys of an upstream look at its budget, which has been filled.
func (m *Manager) wake(upstream string) {
	for _, r := range *m.rotators.Load() {
		if r.job.Load().Upstream == upstream {
			r.kick()
		}
	}
}

// Credential returns the live credential of k. For a key that has none it
// waits, within ctx, for the attempt that is under way or due. It never makes
// a call itself, so that any number of readers cause none. Its errors match
// [source.ErrRefused], [source.ErrAccessDenied] or [ErrNotReady].
func (m *Manager) Credential(ctx context.Context, k credential.Key) (credential.Credential, error) {
	r := m.rotator(k)
	if r == nil {
		return credential.Credential{}, fmt.Errorf("%w: no such key", ErrNotReady)
	}
	for {
		e := r.slot.Load()
		if r.live(e.Credential) {
			return e.Credential, nil
		}
		if errors.Is(e.Err, source.ErrRefused) {
			return credential.Credential{}, e.Err
		}
		r.ask()
		select {
		case <-e.Replaced():
		case <-ctx.Done():
			if e.Err != nil {
				return credential.Credential{}, fmt.Errorf("%w: %w", ErrNotReady, e.Err)
			}
			return credential.Credential{}, fmt.Errorf("%w: the first attempt is under way", ErrNotReady)
		}
	}
}

// Ask tells that somebody waits for a credential of k, as Credential does for
// its readers: the first call is not put off any longer, and a wait after a
// failure is as long as it was. A key that is not there is ignored.
func (m *Manager) Ask(k credential.Key) {
	if r := m.rotator(k); r != nil {
		r.ask()
	}
}

// Entry returns the newest outcome of k, or nil for a key that is not there.
func (m *Manager) Entry(k credential.Key) *store.Entry {
	if r := m.rotator(k); r != nil {
		return r.slot.Load()
	}
	return nil
}

// Left is the life that remains of c, a credential of k, by the clock that
// says less; 0 when c is not live.
func (m *Manager) Left(k credential.Key, c credential.Credential) time.Duration {
	r := m.rotator(k)
	if r == nil || !r.live(c) {
		return 0
	}
	now := r.clock()
	return c.Left(now.issuer(), now.Boot)
}
