package rotation_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
)

// A new set of keys keeps the credentials of those that stay, with their
// schedule, and asks by the new job; what has gone is forgotten.
func TestUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := &script{life: time.Hour}
		r := start(t, rotation.Options{}, one(old))
		synctest.Wait()
		first, err := get(t, r)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		renamed, other := &script{life: time.Hour, boot: r.boot}, &script{life: time.Hour, boot: r.boot}
		second := credential.NewKey("another")
		r.m.Update([]rotation.Job{
			{Key: key, Name: "renamed", Source: renamed, Timeout: time.Second},
			{Key: second, Name: "other", Source: other, Timeout: time.Second},
		})
		synctest.Wait()
		if now, err := get(t, r); err != nil || now != first || renamed.calls.Load() != 0 {
			t.Errorf("a key that stayed has %v, %v after %d new calls", now.ID(), err, renamed.calls.Load())
		}
		if c, err := r.m.Credential(t.Context(), second); err != nil || !c.Complete() {
			t.Errorf("a key that came has %v, %v", c.ID(), err)
		}
		time.Sleep(20 * time.Minute) // its renewal is due
		if renamed.calls.Load() != 1 || old.calls.Load() != 1 {
			t.Errorf("the new job was asked %d times, the old one %d times; want once each", renamed.calls.Load(), old.calls.Load())
		}

		r.m.Update([]rotation.Job{{Key: second, Name: "other", Source: other, Timeout: time.Second}})
		if _, err := get(t, r); !errors.Is(err, rotation.ErrNotReady) || r.m.Entry(key) != nil {
			t.Errorf("a key that went: %v, %+v", err, r.m.Entry(key))
		}
		time.Sleep(24 * time.Hour)
		if n := renamed.calls.Load(); n != 1 {
			t.Errorf("a key that went was renewed %d times more", n-1)
		}

		// One that comes back begins anew.
		again := &script{life: time.Hour, boot: r.boot, takes: time.Second}
		r.m.Update([]rotation.Job{{Key: key, Name: "app", Source: again, Timeout: 20 * time.Second}})
		if _, err := get(t, r); !errors.Is(err, rotation.ErrNotReady) {
			t.Errorf("a key that came back has its old credential: %v", err)
		}
	})
}

func TestUpdateAfterTheEndStartsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour}
		r := start(t, rotation.Options{}, one(s))
		r.stop()
		late := &script{life: time.Hour, boot: r.boot}
		r.m.Update([]rotation.Job{{Key: credential.NewKey("late"), Name: "late", Source: late, Timeout: time.Second}})
		time.Sleep(time.Hour)
		if n := late.calls.Load(); n != 0 {
			t.Errorf("%d calls after the end", n)
		}
	})
}

// Readers, renewals and updates may meet.
func TestUpdateUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: 10 * time.Second}
		r := start(t, rotation.Options{}, one(s))
		synctest.Wait()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 200 {
					if _, err := get(t, r); err != nil {
						t.Errorf("a key that stays was not served: %v", err)
						return
					}
					time.Sleep(100 * time.Millisecond)
				}
			})
		}
		for i := range 50 {
			other := &script{life: time.Hour, boot: r.boot}
			jobs := []rotation.Job{{Key: key, Name: "app", Source: s, Timeout: time.Second}}
			if i%2 == 0 {
				jobs = append(jobs, rotation.Job{Key: credential.NewKey("other"), Name: "other", Source: other, Timeout: time.Second})
			}
			r.m.Update(jobs)
			time.Sleep(300 * time.Millisecond)
		}
		all.Wait()
	})
}
