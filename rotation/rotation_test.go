package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/store"
)

// A script is a source that does what the test says and counts how often it
// was asked. It runs inside a synctest bubble.
type script struct {
	calls  atomic.Int64
	inside atomic.Int64
	most   atomic.Int64
	life   time.Duration
	takes  time.Duration
	mu     sync.Mutex
	err    error // guarded by mu
	boot   func() time.Duration
	now    func() time.Time // nil: the bubble's, whatever the rig's clock says
}

func (s *script) fail(err error) { s.mu.Lock(); s.err = err; s.mu.Unlock() }

func (s *script) Fetch(ctx context.Context) (credential.Credential, error) {
	n := s.calls.Add(1)
	defer s.inside.Add(-1)
	s.most.Store(max(s.most.Load(), s.inside.Add(1)))
	if s.takes > 0 {
		select {
		case <-time.After(s.takes):
		case <-ctx.Done():
			return credential.Credential{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return credential.Credential{}, s.err
	}
	now := time.Now
	if s.now != nil {
		now = s.now
	}
	return generation(n, now(), s.boot(), s.life), nil
}

// generation stamps all four parts with n.
func generation(n int64, now time.Time, boot, life time.Duration) credential.Credential {
	return credential.Credential{
		AccessKeyID: fmt.Sprintf("ASIA%016d", n),
		SecretKey:   credential.NewSecret(fmt.Sprintf("secret-%d", n)),
		Token:       credential.NewSecret(fmt.Sprintf("token-%d", n)),
		Issued:      now.UTC(), Received: boot, Expires: now.Add(life).UTC(),
	}
}

// A rig is a manager of one or more jobs in a bubble, with clocks that a test
// can step.
type rig struct {
	m      *rotation.Manager
	start  time.Time
	step   atomic.Int64 // wall clock minus the bubble's
	asleep atomic.Int64 // time that the machine was suspended
	events chan rotation.Event
	stop   func()
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.step.Load() + r.asleep.Load())) }
func (r *rig) boot() time.Duration {
	return time.Since(r.start) + time.Duration(r.asleep.Load()) + time.Hour
}

var key = credential.NewKey("the key")

func start(t *testing.T, o rotation.Options, jobs func(*rig) []rotation.Job) *rig {
	t.Helper()
	r := &rig{start: time.Now(), events: make(chan rotation.Event, 10_000)}
	o.Now, o.Boot = r.now, r.boot
	if o.RefreshAfter == 0 {
		o.RefreshAfter = time.Hour
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if o.Draw == nil {
		o.Draw = func() float64 { return 0.5 }
	}
	o.Observe = func(e rotation.Event) { r.events <- e }
	r.m = rotation.New(&store.Store{}, o, jobs(r))
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { r.m.Run(ctx) })
	r.stop = func() { cancel(); run.Wait() }
	t.Cleanup(r.stop)
	return r
}

func one(s *script) func(*rig) []rotation.Job {
	return func(r *rig) []rotation.Job {
		s.boot = r.boot
		return []rotation.Job{{Key: key, Name: "app", Source: s, Timeout: 20 * time.Second}}
	}
}

func get(t *testing.T, r *rig) (credential.Credential, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	return r.m.Credential(ctx, key)
}

func TestRenewsAtHalfOfLife(t *testing.T) {
	for _, c := range []struct {
		life, after time.Duration
		draw        float64
		want        time.Duration
	}{
		{time.Hour, time.Hour, 0, 30 * time.Minute},
		{time.Hour, time.Hour, 0.999999, 27 * time.Minute},
		{12 * time.Hour, time.Hour, 0, time.Hour},
		{12 * time.Hour, time.Hour, 0.5, 57 * time.Minute},
		{15 * time.Minute, time.Hour, 0, 450 * time.Second},
	} {
		cr := generation(1, time.Unix(0, 0), 0, c.life)
		got := rotation.RenewAt(cr, c.after, c.draw)
		if d := (got - c.want).Abs(); d > time.Second {
			t.Errorf("RenewAt(life %v, after %v, draw %v) = %v, want %v", c.life, c.after, c.draw, got, c.want)
		}
	}
}

func TestADayOfRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour}
		var draws atomic.Int64
		r := start(t, rotation.Options{Draw: func() float64 { draws.Add(1); return 0 }}, one(s))
		for range 24 * 60 {
			time.Sleep(time.Minute)
			c, err := get(t, r)
			if err != nil {
				t.Fatal(err)
			}
			if left := c.Expires.Sub(r.now()); left < 30*time.Minute-time.Second {
				t.Fatalf("served a credential with %v left", left)
			}
		}
		if n := s.calls.Load(); n < 48 || n > 49 {
			t.Errorf("%d calls in a day of 1h sessions, want one each half hour", n)
		}
		if n := draws.Load(); n > s.calls.Load()+1 {
			t.Errorf("%d draws for %d credentials: the spread is not drawn once each", n, s.calls.Load())
		}
	})
}

func TestFirstRequestsMakeOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour, takes: 300 * time.Millisecond}
		r := start(t, rotation.Options{Splay: time.Minute}, one(s))
		var all sync.WaitGroup
		var failed atomic.Int64
		began := time.Now()
		for range 500 {
			all.Go(func() {
				if _, err := get(t, r); err != nil {
					failed.Add(1)
				}
			})
		}
		all.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Errorf("500 first requests made %d calls, want 1", n)
		}
		if failed.Load() != 0 {
			t.Errorf("%d of 500 requests failed", failed.Load())
		}
		if d := time.Since(began); d > 400*time.Millisecond {
			t.Errorf("they were held %v: the first request did not cut the splay short", d)
		}
	})
}

func TestHoldEndsWithTheContextAndTheCallGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour, takes: 2 * time.Second}
		r := start(t, rotation.Options{}, one(s))
		began := time.Now()
		_, err := get(t, r)
		if !errors.Is(err, rotation.ErrNotReady) {
			t.Fatalf("got %v, want ErrNotReady", err)
		}
		if d := time.Since(began); d != 400*time.Millisecond {
			t.Errorf("held %v, want 400ms", d)
		}
		time.Sleep(2 * time.Second)
		if _, err := get(t, r); err != nil {
			t.Errorf("the call did not go on after its first reader had gone: %v", err)
		}
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

// A failure stands beside the credential and never over it: it is served to
// its real end and not a moment longer.
func TestOutageServesToTheRealExpiry(t *testing.T) {
	for name, failure := range map[string]error{
		"down":    errors.New("connection refused"),
		"refused": &source.Error{Op: "AssumeRole", Code: "AccessDenied", Kind: source.ErrAccessDenied},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{life: time.Hour}
				r := start(t, rotation.Options{}, one(s))
				synctest.Wait()
				c, err := get(t, r)
				if err != nil {
					t.Fatal(err)
				}
				s.fail(failure)
				// In its last 5 s, what is signed with it may arrive dead.
				time.Sleep(c.Expires.Sub(r.now()) - 6*time.Second)
				if got, err := get(t, r); err != nil || got.AccessKeyID != c.AccessKeyID {
					t.Errorf("6s before its end: %v, %v", got.ID(), err)
				}
				if e := r.m.Entry(key); e.Err == nil || e.Failures == 0 || e.Since.IsZero() {
					t.Errorf("the failure does not show: %+v", e)
				}
				time.Sleep(time.Second)
				if got, err := get(t, r); err == nil {
					t.Errorf("%v was served at its end", got.ID())
				} else if name == "refused" && !errors.Is(err, source.ErrAccessDenied) {
					t.Errorf("the refusal lost its kind: %v", err)
				}
				s.fail(nil)
				time.Sleep(time.Minute)
				if _, err := get(t, r); err != nil {
					t.Errorf("not back a minute after the upstream was: %v", err)
				}
			})
		})
	}
}

func TestSickUpstreamIsAskedAboutOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: 12 * time.Hour}
		r := start(t, rotation.Options{Draw: func() float64 { return 0.999 }}, one(s))
		time.Sleep(55 * time.Minute)
		s.fail(errors.New("503"))
		before := s.calls.Load()
		for range 3600 {
			time.Sleep(time.Second)
			_, _ = get(t, r)
		}
		if n := s.calls.Load() - before; n > 130 {
			t.Errorf("%d calls in an hour of outage", n)
		}
		r.stop()
	})
}

// Readers that wait for a key without a credential must not turn into calls.
func TestCrowdDoesNotShortenTheBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour}
		s.fail(errors.New("503"))
		r := start(t, rotation.Options{}, one(s))
		for range 600 {
			_, _ = get(t, r)
		}
		elapsed := 600 * 400 * time.Millisecond
		if n, most := s.calls.Load(), int64(elapsed/(7*time.Second))+6; n > most {
			t.Errorf("%d calls in %v of crowd, want at most %d", n, elapsed, most)
		}
	})
}

func TestBadDataNeverReplacesGood(t *testing.T) {
	good := generation(1, time.Now(), time.Hour, time.Hour)
	for name, spoil := range map[string]func(*credential.Credential){
		"no key id": func(c *credential.Credential) { c.AccessKeyID = "" },
		"no secret": func(c *credential.Credential) { c.SecretKey = credential.Secret{} },
		"past":      func(c *credential.Credential) { c.Expires = c.Issued.Add(-time.Minute) },
		"expired": func(c *credential.Credential) {
			c.Issued, c.Expires = c.Issued.Add(-3*time.Hour), c.Issued.Add(-2*time.Hour)
		},
		"newline":       func(c *credential.Credential) { c.Token = credential.NewSecret("a\nb") },
		"quote":         func(c *credential.Credential) { c.AccessKeyID = `ASIA"` },
		"without issue": func(c *credential.Credential) { c.Issued = time.Time{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int64
				r := start(t, rotation.Options{}, func(r *rig) []rotation.Job {
					return []rotation.Job{{Key: key, Timeout: time.Second, Source: source.Func(func(context.Context) (credential.Credential, error) {
						c := good
						c.Issued, c.Received, c.Expires = time.Now().UTC(), r.boot(), time.Now().Add(time.Hour).UTC()
						if n.Add(1) > 1 {
							spoil(&c)
						}
						return c, nil
					})}}
				})
				time.Sleep(35 * time.Minute)
				if n.Load() < 2 {
					t.Fatal("no renewal was tried")
				}
				if c, err := get(t, r); err != nil || c.AccessKeyID != good.AccessKeyID || c.Token.Reveal() != good.Token.Reveal() {
					t.Errorf("the good credential is gone: %v %v", c.ID(), err)
				}
				if r.m.Entry(key).Err == nil {
					t.Error("the failure does not show")
				}
			})
		})
	}
}

func TestPanicIsAFailureOfItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := credential.NewKey("other")
		s := &script{life: time.Hour}
		r := start(t, rotation.Options{}, func(r *rig) []rotation.Job {
			s.boot = r.boot
			return []rotation.Job{
				{Key: key, Timeout: time.Second, Source: source.Func(func(context.Context) (credential.Credential, error) { panic("boom") })},
				{Key: other, Timeout: time.Second, Source: s},
			}
		})
		synctest.Wait()
		_, err := get(t, r)
		var p *rotation.PanicError
		if !errors.As(err, &p) || p.Value != "boom" || len(p.Stack) == 0 {
			t.Errorf("got %v", err)
		}
		if _, err := r.m.Credential(t.Context(), other); err != nil {
			t.Errorf("the other key suffers: %v", err)
		}
	})
}

func TestParallelIsALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour, takes: time.Second}
		r := start(t, rotation.Options{Parallel: 3}, func(r *rig) []rotation.Job {
			s.boot = r.boot
			var jobs []rotation.Job
			for i := range 20 {
				jobs = append(jobs, rotation.Job{Key: credential.NewKey(fmt.Sprint(i)), Source: s, Timeout: 20 * time.Second})
			}
			return jobs
		})
		time.Sleep(10 * time.Second)
		if n := s.most.Load(); n != 3 {
			t.Errorf("%d attempts at once, want 3", n)
		}
		if n := s.calls.Load(); n != 20 {
			t.Errorf("%d of 20 keys were tried", n)
		}
		_ = r
	})
}

// One slot, and a child that is asked before its parent: it must not hold the
// slot that its parent needs, and must go on as soon as the parent is there.
func TestChildWaitsForItsParentWithoutASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := credential.NewKey("hub")
		parent, child := &script{life: time.Hour, takes: 100 * time.Millisecond}, &script{life: time.Hour}
		parent.fail(&source.Error{Op: "AssumeRole hub", Code: "AccessDenied", Kind: source.ErrAccessDenied})
		r := start(t, rotation.Options{Parallel: 1}, func(r *rig) []rotation.Job {
			parent.boot, child.boot = r.boot, r.boot
			return []rotation.Job{
				{Key: key, Name: "app", Source: child, Needs: hub, Timeout: 20 * time.Second},
				{Key: hub, Name: "hub", Source: parent, Timeout: 20 * time.Second},
			}
		})
		time.Sleep(time.Second)
		if _, err := get(t, r); !errors.Is(err, source.ErrAccessDenied) {
			t.Errorf("the parent's refusal does not reach the child's reader: %v", err)
		}
		if n := child.calls.Load(); n != 0 {
			t.Errorf("the child called %d times without a base", n)
		}
		parent.fail(nil)
		for parent.calls.Load() < 2 {
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		if _, err := get(t, r); err != nil {
			t.Errorf("a second after its parent, the child is not there: %v", err)
		}
	})
}

func TestRunLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour, takes: time.Minute}
		r := start(t, rotation.Options{}, one(s))
		time.Sleep(time.Second)
		r.stop() // a bubble that keeps a goroutine fails the test
		if e := r.m.Entry(key); e.Err != nil || e.Credential.Complete() {
			t.Errorf("an attempt that was cut off by the end left an outcome: %+v", e)
		}
	})
}
