package rotation_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
)

// What is added is kept whatever Update says, until it is retired; what both
// have is Update's.
func TestAdd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour}
		r := start(t, rotation.Options{}, one(s))
		synctest.Wait()
		first, err := get(t, r)
		if err != nil {
			t.Fatal(err)
		}
		more, added := credential.NewKey("more"), &script{life: time.Hour, boot: r.boot}
		job := rotation.Job{Key: more, Name: "more", Source: added, Timeout: time.Second}
		live := func(k credential.Key) bool {
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			_, err := r.m.Credential(ctx, k)
			return err == nil
		}
		r.m.Add(job)
		if !live(more) || added.calls.Load() != 1 {
			t.Fatalf("a key that was added is not live after %d calls", added.calls.Load())
		}
		if e := <-r.events; e.Key != key {
			t.Errorf("the first event is of %v", e.Key)
		}
		if e := <-r.events; e.Key != more || e.Name != "more" {
			t.Errorf("the second event is of %v", e.Key)
		}
		again := &script{life: time.Hour, boot: r.boot}
		job.Source = again
		r.m.Add(job) // another way to the same
		r.m.Update([]rotation.Job{{Key: key, Name: "app", Source: s, Timeout: time.Second}})
		if now, err := get(t, r); err != nil || now != first || !live(more) || again.calls.Load() != 0 {
			t.Errorf("an update: %v, %v after %d new calls", now.ID(), err, again.calls.Load())
		}
		time.Sleep(31 * time.Minute)
		if added.calls.Load() != 1 || again.calls.Load() != 1 {
			t.Errorf("the new job was asked %d times, and the old one %d times", again.calls.Load(), added.calls.Load())
		}

		// Both have it: it lasts as long as one of them, and asks as Update says.
		both := &script{life: time.Hour, boot: r.boot}
		r.m.Update([]rotation.Job{{Key: more, Name: "more", Source: both, Timeout: time.Second}})
		time.Sleep(31 * time.Minute)
		if both.calls.Load() != 1 || again.calls.Load() != 1 {
			t.Errorf("Update's job was asked %d times, and Add's %d times", both.calls.Load(), again.calls.Load()-1)
		}
		r.m.Retire(more, credential.NewKey("never there"))
		if !live(more) {
			t.Error("a key of Update was retired")
		}
		r.m.Update(nil)
		if r.m.Entry(more) != nil || live(more) {
			t.Error("a key that both have given up is there")
		}
		r.m.Add(job)
		r.m.Retire(more)
		time.Sleep(24 * time.Hour)
		if r.m.Entry(more) != nil || again.calls.Load() != 1 {
			t.Errorf("a key that was retired was asked for %d times more", again.calls.Load()-1)
		}
	})
}

// A crowd of new keys leaves room for the others, however long it is, and waits
// for its turn without a failure.
func TestACrowdLeavesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour, takes: time.Second}
		r := start(t, rotation.Options{}, func(r *rig) []rotation.Job {
			s.boot = r.boot
			return nil
		})
		for i := range 200 { // of which two at a time take 100 s
			r.m.Add(rotation.Job{Key: credential.NewKey("crowd", string(rune('a'+i))), Name: "crowd", Source: s, Timeout: 20 * time.Second, OfMany: true})
		}
		time.Sleep(10 * time.Second)
		other := &script{life: time.Hour, takes: 100 * time.Millisecond, boot: r.boot}
		r.m.Update([]rotation.Job{{Key: key, Name: "app", Source: other, Timeout: 20 * time.Second}})
		if _, err := get(t, r); err != nil {
			t.Errorf("a role waits for the crowd: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if n := s.most.Load(); n != 2 {
			t.Errorf("%d of 4 attempts at once are the crowd's", n)
		}
		if n := s.calls.Load(); n != 200 {
			t.Errorf("%d calls for 200 keys", n)
		}
	})
}

func TestRenewMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &script{life: time.Hour}, &script{life: time.Hour, takes: time.Second}
		second := credential.NewKey("second")
		r := start(t, rotation.Options{}, func(r *rig) []rotation.Job {
			a.boot, b.boot = r.boot, r.boot
			return []rotation.Job{{Key: key, Name: "a", Source: a, Timeout: 20 * time.Second}, {Key: second, Name: "b", Source: b, Timeout: 20 * time.Second}}
		})
		time.Sleep(2 * time.Second)
		began := time.Now()
		if err := r.m.Renew(t.Context(), second, key); err != nil || a.calls.Load() != 2 || b.calls.Load() != 2 {
			t.Errorf("%v after %d and %d calls", err, a.calls.Load(), b.calls.Load())
		}
		if took := time.Since(began); took > 1100*time.Millisecond {
			t.Errorf("it took %v: not at the same time", took)
		}
		down := errors.New("down")
		a.fail(down)
		if err := r.m.Renew(t.Context(), key, second); !errors.Is(err, down) || b.calls.Load() != 3 {
			t.Errorf("one is down: %v after %d calls of the other", err, b.calls.Load())
		}
		if err := r.m.Renew(t.Context()); err != nil {
			t.Errorf("none: %v", err)
		}
	})
}
