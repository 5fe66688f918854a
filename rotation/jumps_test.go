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

// An issuer is an upstream with a clock that is right, whatever is done to that
// of the host. The host knows the difference from the newest answer.
type issuer struct {
	calls atomic.Int64
	life  time.Duration
	rig   *rig
	skew  atomic.Int64
	// patience is how wrong the host's clock may be before it takes the
	// certificate of the issuer for one of another time; 0 is any.
	patience time.Duration
}

// now is the true time.
func (i *issuer) now() time.Time { return time.Now().Add(time.Duration(i.rig.asleep.Load())) }

func (i *issuer) Fetch(context.Context) (credential.Credential, error) {
	n := i.calls.Add(1)
	off := i.rig.now().Sub(i.now())
	if i.patience > 0 && off.Abs() > i.patience {
		return credential.Credential{}, errors.New("x509: certificate has expired or is not yet valid")
	}
	i.skew.Store(int64(-off))
	return generation(n, i.now(), i.rig.boot(), i.life), nil
}

func (i *issuer) job(r *rig) []rotation.Job {
	i.rig = r
	return []rotation.Job{{Key: key, Source: i, Timeout: time.Second, Skew: func() time.Duration { return time.Duration(i.skew.Load()) }}}
}

// Whatever the clock does, the first answer is a credential that is live by the
// true time, or none; and one nap later it is one, of a renewal that was made
// after the clock did it.
func TestWhatTheClockDoes(t *testing.T) {
	const year = 365 * 24 * time.Hour
	step := func(by time.Duration) func(*rig) { return func(r *rig) { r.step.Add(int64(by)) } }
	for name, does := range map[string]func(*rig){
		"a suspend of 8 hours":                     func(r *rig) { r.asleep.Add(int64(8 * time.Hour)) },
		"a suspend of 8 hours that the RTC missed": func(r *rig) { r.asleep.Add(int64(8 * time.Hour)); r.step.Add(-int64(8 * time.Hour)) },
		"6 hours ahead":                            step(6 * time.Hour),
		"6 hours back":                             step(-6 * time.Hour),
		"a year ahead":                             step(year),
		"a year back":                              step(-year),
	} {
		for _, life := range []time.Duration{time.Hour, 6 * time.Hour, 12 * time.Hour} {
			t.Run(fmt.Sprintf("%s, sessions of %v", name, life), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					i := &issuer{life: life}
					r := start(t, rotation.Options{}, i.job)
					time.Sleep(17 * time.Minute)
					before := i.calls.Load()
					does(r)
					if c, err := get(t, r); err == nil && !c.Expires.After(i.now()) {
						t.Errorf("the first answer ended %v ago", i.now().Sub(c.Expires))
					} else if err != nil && !errors.Is(err, rotation.ErrNotReady) {
						t.Error(err)
					}
					time.Sleep(rotation.Nap + time.Second)
					c, err := get(t, r)
					switch {
					case err != nil:
						t.Errorf("a nap later: %v", err)
					case i.calls.Load() == before:
						t.Error("a nap later: nobody was asked")
					case c.Expires.Sub(i.now()) < life-rotation.Nap-2*time.Second:
						t.Errorf("a nap later: %v are left", c.Expires.Sub(i.now()))
					}
					calls := i.calls.Load()
					time.Sleep(10 * time.Minute)
					if n := i.calls.Load() - calls; n > 1 {
						t.Errorf("%d calls in the ten minutes after", n)
					}
				})
			})
		}
	}
}

// A host begins with a clock that is wrong by a year. Where TLS lets it through,
// the first answer is right; where the certificate is of another time to it, there
// is none until the clock is set, and then within one nap.
func TestAClockThatIsWrongByAYearAtBoot(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, off := range []time.Duration{year, -year, -5 * time.Minute} {
		for _, patience := range []time.Duration{0, 90 * 24 * time.Hour} {
			t.Run(fmt.Sprintf("by %v, patience %v", off, patience), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					i := &issuer{life: time.Hour, patience: patience}
					r := start(t, rotation.Options{}, func(r *rig) []rotation.Job {
						r.step.Store(int64(off))
						return i.job(r)
					})
					synctest.Wait()
					right := func(when string) {
						t.Helper()
						if c, err := get(t, r); err != nil || c.Expires.Sub(i.now()) < 29*time.Minute {
							t.Errorf("%s: %v left: %v", when, c.Expires.Sub(i.now()), err)
						}
					}
					if patience == 0 || off.Abs() < patience {
						right("the first answer")
						time.Sleep(3 * time.Hour)
						if n := i.calls.Load(); n > 8 {
							t.Errorf("%d calls in 3 hours", n)
						}
						right("3 hours later")
					} else {
						time.Sleep(time.Hour)
						if _, err := get(t, r); !errors.Is(err, rotation.ErrNotReady) {
							t.Errorf("TLS fails: %v", err)
						}
					}
					r.step.Store(0) // NTP
					time.Sleep(rotation.Nap + time.Second)
					right("a nap after the clock is set")
				})
			})
		}
	}
}

// The longest session that a role allows is not looked for again after a
// restart: what is left from before tells it.
func TestTheLongestIsKnownAfterARestart(t *testing.T) {
	for left, want := range map[time.Duration]time.Duration{
		0: 12 * time.Hour, 12 * time.Hour: 12 * time.Hour, 6 * time.Hour: 6 * time.Hour, 4*time.Hour - 3*time.Second: 4 * time.Hour,
		time.Hour: time.Hour, 3 * time.Hour: 12 * time.Hour,
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			boot := func() time.Duration { return time.Since(began) + 100*time.Hour }
			st := &store.Store{}
			if left > 0 {
				st.Slot(key).Publish(generation(1, time.Now(), boot(), left), time.Now())
			}
			var mu sync.Mutex
			var asked []time.Duration // guarded by mu
			ctx, cancel := context.WithCancel(t.Context())
			longest := func(d time.Duration) source.Source {
				return source.Func(func(context.Context) (credential.Credential, error) {
					mu.Lock()
					defer mu.Unlock()
					asked = append(asked, d)
					return generation(2, time.Now(), boot(), d), nil
				})
			}
			m := rotation.New(st, rotation.Options{RefreshAfter: time.Hour, Parallel: 1, Now: time.Now, Boot: boot, Host: "a",
				Observe: func(rotation.Event) { cancel() }}, []rotation.Job{{Key: key, Longest: longest, Timeout: time.Second}})
			m.Run(ctx)
			if !slices.Equal(asked, []time.Duration{want}) {
				t.Errorf("with %v left from before: asked for %v, want %v", left, asked, want)
			}
		})
	}
}
