package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

func coded(code string, status int, kind error) *source.Error {
	return &source.Error{Op: "call", Code: code, Status: status, Kind: kind}
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		err  error
		want rotation.Class
	}{
		{nil, rotation.Fine},
		{errors.New("connection refused"), rotation.Transient},
		{context.DeadlineExceeded, rotation.Transient},
		{coded("InternalFailure", 500, nil), rotation.Transient},
		{coded("ExpiredToken", 403, nil), rotation.Transient}, // the base: it is renewed
		{coded("Throttling", 400, nil), rotation.Throttled},
		{coded("ThrottlingException", 400, nil), rotation.Throttled},
		{coded("RequestLimitExceeded", 400, nil), rotation.Throttled},
		{coded("", 429, nil), rotation.Throttled},
		{coded("InvalidIdentityToken", 400, source.ErrRefused), rotation.Refetch},
		{coded("ExpiredTokenException", 400, source.ErrRefused), rotation.Refetch},
		{coded("AccessDenied", 403, source.ErrAccessDenied), rotation.Slow},
		{source.ErrRefused, rotation.Slow},
		{coded("ValidationError", 400, source.ErrRefused), rotation.Misconfigured},
		{coded("MalformedPolicyDocument", 400, source.ErrRefused), rotation.Misconfigured},
		{fmt.Errorf("base credential: %w", coded("AccessDenied", 403, source.ErrAccessDenied)), rotation.Slow},
	} {
		if got := rotation.Classify(c.err); got != c.want {
			t.Errorf("Classify(%v) = %v, want %v", c.err, got, c.want)
		}
	}
}

// The waits after the first failures, at the late edge of the draw and with
// hours, or nothing, left.
func TestWaits(t *testing.T) {
	begun := rotation.Clock{Wall: epoch, Boot: time.Hour}
	hold := func(n int) error {
		e := coded("", 429, nil)
		e.RetryAfter = time.Duration(n) * time.Second
		return e
	}
	for name, c := range map[string]struct {
		err          error
		plenty, none []time.Duration
	}{
		"transient": {errors.New("down"),
			seconds(1, 2, 4, 8, 16, 32, 60, 60), seconds(1, 2, 4, 8, 15, 15)},
		"throttled": {coded("Throttling", 400, nil),
			seconds(2, 4, 8, 16, 32, 64, 120, 120), seconds(2, 4, 8, 16, 30, 30)},
		"an assertion is fetched again quickly, at most twice": {coded("InvalidIdentityToken", 400, source.ErrRefused),
			seconds(1, 2, 60, 120, 240, 300, 300), seconds(1, 2, 60, 60)},
		"refused": {coded("AccessDenied", 403, source.ErrAccessDenied),
			seconds(15, 30, 60, 120, 240, 300, 300), seconds(15, 30, 60, 60)},
		"misconfigured": {coded("ValidationError", 400, source.ErrRefused),
			seconds(15, 30, 60, 120, 240, 300, 300), seconds(15, 30, 60, 60)},
		"asked to wait": {hold(45),
			seconds(45, 45, 45, 45, 45, 64), seconds(30, 30, 30)},
		"asked to wait for ever": {hold(86400),
			seconds(300, 300, 300), seconds(30, 30, 30)},
	} {
		t.Run(name, func(t *testing.T) {
			for what, want := range map[string][]time.Duration{"plenty": c.plenty, "none": c.none} {
				var had credential.Credential
				if what == "plenty" {
					had = generation(1, begun.Wall, begun.Boot, 12*time.Hour)
				}
				s := rotation.Begin(had, begun, 0)
				now := begun
				for i, w := range want {
					now.Boot, now.Wall = now.Boot+time.Second, now.Wall.Add(time.Second)
					s.Failure(c.err, now, nil, 0, false)
					if got := s.Next(now, rotation.Rules{RefreshAfter: time.Hour}, nil, rotation.NoParent); got != w {
						t.Errorf("%s: after failure %d: %v, want %v", what, i+1, got, w)
					}
				}
				if s.Credential != had {
					t.Error("a failure touched the credential")
				}
			}
		})
	}
}

func seconds(n ...int) (all []time.Duration) {
	for _, s := range n {
		all = append(all, time.Duration(s)*time.Second)
	}
	return all
}

// Where a life allows it, nobody is handed what is left of it in the windows in
// which clients ask again.
func TestRenewsBeforeTheClientsWindows(t *testing.T) {
	for life := 32 * time.Minute; life <= 12*time.Hour; life += time.Minute {
		c := generation(1, epoch, 0, life)
		left := life - rotation.RenewAt(c, time.Hour, 0)
		want := 25 * time.Minute
		if life >= 90*time.Minute {
			want = 65 * time.Minute
		}
		if left < want {
			t.Errorf("%v: %v is left at the renewal, want %v", life, left, want)
		}
		if early := life - rotation.RenewAt(c, time.Hour, 0.999999); early-left > life/10 {
			t.Errorf("%v: the spread is %v", life, early-left)
		}
	}
}

func TestDrawsAreOfTheHostAndTheKey(t *testing.T) {
	first := func(host, key string) float64 { return rotation.Draws(host, credential.NewKey(key))() }
	if first("a", "k") != first("a", "k") {
		t.Error("the same host and key draw differently at the next start")
	}
	if first("a", "k") == first("b", "k") || first("a", "k") == first("a", "l") {
		t.Error("two hosts, or two keys, draw alike")
	}
	var low int
	for i := range 1000 {
		if v := first(fmt.Sprint(i), "k"); v < 0 || v >= 1 {
			t.Fatal(v)
		} else if v < 0.5 {
			low++
		}
	}
	if low < 440 || low > 560 {
		t.Errorf("%d of 1000 hosts draw from the lower half", low)
	}
}

// Twenty roles of an upstream that is down ask it no more often than one or
// two would; when it is back, the first answer lets all of them go.
func TestRolesShareTheBudgetOfTheirUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{life: time.Hour}
		s.fail(errors.New("down"))
		r := start(t, rotation.Options{}, func(r *rig) (jobs []rotation.Job) {
			s.boot = r.boot
			for i := range 20 {
				jobs = append(jobs, rotation.Job{Key: credential.NewKey(fmt.Sprint(i)), Source: s, Timeout: 20 * time.Second, Upstream: "sts"})
			}
			return jobs
		})
		time.Sleep(5 * time.Minute)
		before := s.calls.Load()
		time.Sleep(10 * time.Minute)
		if n := s.calls.Load() - before; n < 50 || n > 70 {
			t.Errorf("%d calls in 10 minutes, want one in 10 s", n)
		}
		s.fail(nil)
		time.Sleep(16 * time.Second)
		for i := range 20 {
			if e := r.m.Entry(credential.NewKey(fmt.Sprint(i))); e.Err != nil {
				t.Fatalf("role %d is not back 16 s after its upstream: %v", i, e.Err)
			}
		}
	})
}

// The longest session that a role allows is found in one attempt, remembered,
// and found again when the role allows less.
func TestLongest(t *testing.T) {
	for name, c := range map[string]struct {
		needs credential.Key
		asked []time.Duration
	}{
		"twelve hours are refused": {asked: []time.Duration{12 * time.Hour, 6 * time.Hour, 4 * time.Hour}},
		"a chain asks for an hour": {needs: credential.NewKey("hub"), asked: []time.Duration{time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var limit atomic.Int64
				limit.Store(int64(4 * time.Hour))
				var mu sync.Mutex
				var asked []time.Duration // guarded by mu
				all := func() []time.Duration { mu.Lock(); defer mu.Unlock(); return slices.Clone(asked) }
				hub := &script{life: 12 * time.Hour}
				r := start(t, rotation.Options{}, func(r *rig) []rotation.Job {
					hub.boot = r.boot
					longest := func(d time.Duration) source.Source {
						return source.Func(func(context.Context) (credential.Credential, error) {
							mu.Lock()
							defer mu.Unlock()
							asked = append(asked, d)
							if d > time.Duration(limit.Load()) {
								return credential.Credential{}, coded("ValidationError", 400, source.ErrRefused)
							}
							return generation(int64(len(asked)), r.now(), r.boot(), d), nil
						})
					}
					return []rotation.Job{
						{Key: key, Longest: longest, Needs: c.needs, Timeout: 20 * time.Second},
						{Key: credential.NewKey("hub"), Source: hub, Timeout: 20 * time.Second},
					}
				})
				synctest.Wait()
				if e := r.m.Entry(key); e.Err != nil || !e.Credential.Complete() || !slices.Equal(all(), c.asked) {
					t.Fatalf("asked for %v: %v; want %v", all(), e.Err, c.asked)
				}
				time.Sleep(70 * time.Minute)
				if got := all(); len(got) == len(c.asked) || got[len(got)-1] != c.asked[len(c.asked)-1] {
					t.Errorf("what was found is not remembered: %v", got)
				}
				if limit.Store(int64(2 * time.Hour)); c.needs == (credential.Key{}) {
					time.Sleep(70 * time.Minute)
					if got := all(); got[len(got)-1] != 2*time.Hour {
						t.Errorf("the role allows 2h now: asked for %v", got)
					}
				}
				limit.Store(int64(time.Minute))
				time.Sleep(50 * time.Minute)
				if e := r.m.Entry(key); rotation.Classify(e.Err) != rotation.Misconfigured || !e.Credential.Complete() {
					t.Errorf("no length is valid: %v", e.Err)
				}
			})
		})
	}
}

// A clock that was stepped is noticed within one nap, with hours to the next
// renewal, and whichever way it went.
func TestAStepIsNoticedWithinOneNap(t *testing.T) {
	for _, by := range []time.Duration{6 * time.Hour, -6 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{life: 12 * time.Hour}
			r := start(t, rotation.Options{}, one(s))
			time.Sleep(2 * time.Minute)
			r.step.Store(int64(by))
			time.Sleep(31 * time.Second)
			if n := s.calls.Load(); n != 2 {
				t.Errorf("%v: %d calls half a minute after the step, want 2", by, n)
			}
			time.Sleep(10 * time.Minute)
			if n := s.calls.Load(); n != 2 {
				t.Errorf("%v: %d calls ten minutes after the step, want 2", by, n)
			}
		})
	}
}

// A slow answer does not live longer than its issuer says.
func TestASlowAnswerEndsWhenItsIssuerSays(t *testing.T) {
	now := rotation.Clock{Wall: epoch, Boot: time.Hour}
	s := rotation.Begin(credential.Credential{}, now, 0)
	c, err := s.Accept(generation(1, epoch.Add(-15*time.Second), now.Boot, time.Hour), now, now.Boot-15*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	later := rotation.Clock{Wall: epoch.Add(-6 * time.Hour), Boot: now.Boot + time.Hour - 15*time.Second}
	if later.Live(&c) {
		t.Error("it is live past its expiry, by a host whose wall clock has been set back")
	}
}

// Only a call is paid for: a child that finds no parent makes none, and goes at
// once when its parent is there, whatever the others have spent.
func TestAChildWithoutItsParentPaysNothing(t *testing.T) {
	now := rotation.Clock{Wall: epoch, Boot: time.Hour}
	later := rotation.Clock{Wall: epoch.Add(time.Minute), Boot: now.Boot + time.Minute}
	rules := rotation.Rules{RefreshAfter: time.Hour}
	for name, c := range map[string]struct {
		orphaned bool
		parent   rotation.Parent
		waits    bool
	}{
		"no child":                            {false, rotation.NoParent, true},
		"a child that failed by itself":       {false, rotation.ParentLive, true},
		"its parent has gone since":           {false, rotation.ParentDead, false},
		"its parent was not there, and is":    {true, rotation.ParentLive, false},
		"its parent was not there, and isn't": {true, rotation.ParentDead, false},
	} {
		var b rotation.Budget
		s := rotation.Begin(credential.Credential{}, now, 0.5)
		s.Failure(errors.New("down"), now, &b, 0.5, c.orphaned)
		b.Throttle(later.Boot, 0)
		if wait := s.Next(later, rules, &b, c.parent); (wait > 0) != c.waits {
			t.Errorf("%s: waits %v", name, wait)
		}
	}
}

// Without a Draw, each key draws its own place in the splay, and the same one
// at the next start.
func TestSplayIsOfTheHost(t *testing.T) {
	when := func(host string) (first time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			boot := func() time.Duration { return time.Since(began) + time.Hour }
			s := &script{life: time.Hour, boot: boot}
			ctx, cancel := context.WithCancel(t.Context())
			m := rotation.New(&store.Store{}, rotation.Options{RefreshAfter: time.Hour, Splay: time.Minute, Parallel: 1, Now: time.Now, Boot: boot, Host: host,
				Observe: func(rotation.Event) { first = time.Since(began); cancel() }}, []rotation.Job{{Key: key, Source: s, Timeout: time.Second}})
			m.Run(ctx)
		})
		return first
	}
	if a, again, b := when("a"), when("a"), when("b"); a != again || a == b || a > time.Minute || a == 0 {
		t.Errorf("first calls after %v, and %v at the next start; of another host %v", a, again, b)
	}
}
