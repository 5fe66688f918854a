package rotation_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
)

// A person's word renews at once, with a live credential and in the middle of
// the wait after a failure, and changes nothing of the rules after it.
func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour}
		r := start(t, rotation.Options{}, one(s))
		synctest.Wait()
		first, err := get(t, r)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.m.Renew(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if now, err := get(t, r); err != nil || now == first || s.calls.Load() != 2 {
			t.Errorf("after Renew: %v, %v, %d calls; want a new one by the second call", now.ID(), err, s.calls.Load())
		}
		time.Sleep(20 * time.Minute)
		if n := s.calls.Load(); n != 2 {
			t.Errorf("%d calls before half of the new life; the schedule begins anew", n)
		}

		// Down: the live credential stays, the failures count, the waits grow.
		down := errors.New("down")
		s.fail(down)
		if err := r.m.Renew(t.Context(), key); !errors.Is(err, down) {
			t.Errorf("Renew says %v, want what the upstream said", err)
		}
		if _, err := get(t, r); err != nil {
			t.Errorf("a failed Renew took the live credential: %v", err)
		}
		if e := r.m.Entry(key); e.Failures != 1 {
			t.Errorf("%d failures on record, want 1", e.Failures)
		}
		time.Sleep(3 * time.Minute)
		before := s.calls.Load()
		s.fail(nil)
		synctest.Wait()
		if s.calls.Load() != before {
			t.Fatal("an attempt was due in this very moment: choose another")
		}
		if err := r.m.Renew(t.Context(), key); err != nil || s.calls.Load() != before+1 {
			t.Errorf("in the wait after a failure: %v after %d calls, want one", err, s.calls.Load()-before)
		}
		if e := r.m.Entry(key); e.Failures != 0 || e.Err != nil {
			t.Errorf("after the end of the failure: %+v", e)
		}
	})
}

// The attempt begins after the word: one that was under way does not count.
// Words that meet share an attempt, and attempts never overlap.
func TestRenewDuringAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour, takes: 2 * time.Second}
		r := start(t, rotation.Options{}, one(s))
		time.Sleep(2 * time.Second)
		synctest.Wait() // the splay has ended, and the first attempt may be under way
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				began := s.calls.Load()
				if err := r.m.Renew(t.Context(), key); err != nil {
					t.Error(err)
				}
				if s.calls.Load() == began {
					t.Error("Renew returned without an attempt of its own time")
				}
			})
		}
		all.Wait()
		if n := s.calls.Load(); n > 4 {
			t.Errorf("%d calls for 8 words at once", n)
		}
		if s.most.Load() != 1 {
			t.Errorf("%d attempts at once", s.most.Load())
		}
	})
}

func TestRenewEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour, takes: 10 * time.Second}
		r := start(t, rotation.Options{}, one(s))
		if err := r.m.Renew(t.Context(), credential.NewKey("nobody's")); !errors.Is(err, rotation.ErrNotReady) {
			t.Errorf("a key that is not there: %v", err)
		}
		for range 2 { // before, and in, the attempt
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := r.m.Renew(ctx, key); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("out of time: %v", err)
			}
			cancel()
		}
		// A key that goes, and a manager that ends, leave nobody waiting.
		ended := make(chan error, 1)
		go func() { ended <- r.m.Renew(t.Context(), key) }()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		r.stop()
		if err := <-ended; !errors.Is(err, context.Canceled) && !errors.Is(err, rotation.ErrNotReady) {
			t.Errorf("at the end: %v", err)
		}
	})
}
