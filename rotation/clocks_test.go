package rotation_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/rotation"
)

func TestStepsAndSuspend(t *testing.T) {
	for name, jump := range map[string]func(*rig){
		"8h suspend":     func(r *rig) { r.asleep.Store(int64(8 * time.Hour)) },
		"clock 6h ahead": func(r *rig) { r.step.Store(int64(6 * time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{life: time.Hour}
				r := start(t, rotation.Options{}, one(s))
				time.Sleep(time.Minute)
				was, err := get(t, r)
				if err != nil {
					t.Fatal(err)
				}
				s.takes = 50 * time.Millisecond
				jump(r)
				c, err := get(t, r)
				if name == "8h suspend" {
					// The script issues by the bubble's clock, which the suspend did not stop.
					if err == nil && c.AccessKeyID == was.AccessKeyID {
						t.Error("an expired credential was served after the resume")
					}
				}
				if n := s.calls.Load(); n < 2 {
					t.Errorf("the jump was not noticed by the first request: %d calls", n)
				}
			})
		})
	}
	t.Run("clock 6h back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{life: time.Hour}
			r := start(t, rotation.Options{}, one(s))
			time.Sleep(time.Minute)
			s.fail(errors.New("down"))
			r.step.Store(int64(-6 * time.Hour))
			time.Sleep(time.Hour)
			if _, err := get(t, r); err == nil {
				t.Error("a credential outlived its life because the clock went back")
			}
		})
	})
}

// Nobody asks, and the resume is noticed all the same.
func TestResumeIsNoticedWithinOneNap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: 12 * time.Hour}
		r := start(t, rotation.Options{}, one(s))
		time.Sleep(time.Minute)
		s.mu.Lock()
		s.now = r.now
		s.mu.Unlock()
		r.asleep.Store(int64(2 * time.Hour))
		time.Sleep(31 * time.Second)
		if n := s.calls.Load(); n != 2 {
			t.Errorf("%d calls half a minute after a resume, want 2", n)
		}
	})
}

// An issuer that dates its answers hours back must not be asked in a loop.
func TestOldDatesDoNotMakeALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: 12 * time.Hour}
		r := start(t, rotation.Options{}, func(r *rig) []rotation.Job {
			r.step.Store(int64(4 * time.Hour)) // and the skew is not known
			return one(s)(r)
		})
		time.Sleep(time.Hour)
		if n := s.calls.Load(); n > 125 {
			t.Errorf("%d calls in an hour", n)
		}
		if _, err := get(t, r); err != nil {
			t.Error(err)
		}
	})
}

// The issuer's clock counts: a host whose own is wrong by hours serves what
// the issuer calls live.
func TestSkewedHostServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour}
		r := start(t, rotation.Options{}, func(r *rig) []rotation.Job {
			s.boot = r.boot
			r.step.Store(int64(3 * time.Hour))
			return []rotation.Job{{Key: key, Source: s, Timeout: time.Second, Skew: func() time.Duration { return -3 * time.Hour }}}
		})
		synctest.Wait()
		for range 10 {
			if _, err := get(t, r); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
		}
		if n := s.calls.Load(); n > 5 {
			t.Errorf("%d calls in 100 minutes", n)
		}
	})
}
