package rotation_test

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	simHours = flag.Int("sim.hours", 10_000, "host-hours of TestSimulation")
	simSeed  = flag.Uint64("sim.seed", 0, "run the one host of TestSimulation with this seed, and tell its story")
)

// hostLife is how long each simulated host is watched.
const hostLife = 200 * time.Hour

// The decisions of rotation, driven through years of hosts: outages, sick and
// lying upstreams, refusals, clocks that step, suspends, restarts and reboots.
// Every host is made from its seed, so that a failure can be run again.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		var sum tally
		h := newHost(*simSeed, &sum)
		h.story = t.Logf
		if err := h.live(hostLife); err != nil {
			t.Errorf("%v\n%s", err, h)
		}
		t.Log(&sum)
		return
	}
	hosts := uint64(max(1, *simHours/int(hostLife/time.Hour)))
	var seed, broken atomic.Uint64
	var all sync.WaitGroup
	var mu sync.Mutex
	var total tally
	began := time.Now()
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			var sum tally
			for n := seed.Add(1); n <= hosts && broken.Load() < 5; n = seed.Add(1) {
				h := newHost(n, &sum)
				if err := h.live(hostLife); err != nil {
					broken.Add(1)
					t.Errorf("%v\n%s\nrun it again: go test ./rotation -run 'TestSimulation$' -v -sim.seed=%d", err, h, n)
				}
			}
			mu.Lock()
			total.add(&sum)
			mu.Unlock()
		})
	}
	all.Wait()
	t.Logf("%v in %v", &total, time.Since(began).Round(time.Millisecond))
	if broken.Load() > 0 {
		return
	}
	// What is promised of outages, and that the run was hard enough to tell.
	for life, least := range map[time.Duration]time.Duration{6 * time.Hour: 5 * time.Hour, 12 * time.Hour: 11 * time.Hour} {
		if gap, ok := total.shortestGap[life]; ok && gap < least {
			t.Errorf("an outage was felt after %v with sessions of %v, want at least %v", gap, life, least)
		}
		if *simHours >= 200_000 && total.longestSurvived[life] < least {
			t.Errorf("the longest outage that was survived with sessions of %v is %v: not hard enough", life, total.longestSurvived[life])
		}
	}
}

// A tally is what a run has seen.
type tally struct {
	hosts, keys               int
	hours                     float64
	keyHours                  float64
	looks, calls, refused     int
	outcomes                  [outcomes]int // of attempts
	steps, suspends           int
	restarts, reboots, lost   int
	outages                   int
	leastLeft                 time.Duration // ever served
	leastCalm                 map[time.Duration]time.Duration
	longestRecovery           map[string]time.Duration
	longestSurvived           map[time.Duration]time.Duration
	shortestGap               map[time.Duration]time.Duration
	mostInAMinute, mostInHour int
}

func (a *tally) add(b *tally) {
	a.hosts, a.keys, a.hours, a.keyHours = a.hosts+b.hosts, a.keys+b.keys, a.hours+b.hours, a.keyHours+b.keyHours
	a.looks, a.calls, a.refused = a.looks+b.looks, a.calls+b.calls, a.refused+b.refused
	for i := range a.outcomes {
		a.outcomes[i] += b.outcomes[i]
	}
	a.steps, a.suspends, a.restarts, a.reboots, a.lost = a.steps+b.steps, a.suspends+b.suspends, a.restarts+b.restarts, a.reboots+b.reboots, a.lost+b.lost
	a.outages += b.outages
	a.leastLeft = lesser(a.leastLeft, b.leastLeft)
	a.mostInAMinute, a.mostInHour = max(a.mostInAMinute, b.mostInAMinute), max(a.mostInHour, b.mostInHour)
	for k, v := range b.leastCalm {
		note(&a.leastCalm, k, v, false)
	}
	for k, v := range b.longestRecovery {
		note(&a.longestRecovery, k, v, true)
	}
	for k, v := range b.longestSurvived {
		note(&a.longestSurvived, k, v, true)
	}
	for k, v := range b.shortestGap {
		note(&a.shortestGap, k, v, false)
	}
}

// lesser is the lesser of two, where 0 is none.
func lesser(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// note keeps the greatest, or the least, value of k.
func note[K comparable](m *map[K]time.Duration, k K, v time.Duration, greatest bool) {
	if *m == nil {
		*m = map[K]time.Duration{}
	}
	if was, ok := (*m)[k]; !ok || greatest && v > was || !greatest && v < was {
		(*m)[k] = v
	}
}

func (a *tally) String() string {
	var b strings.Builder
	faults := 0
	for o := answered + 1; o < outcomes; o++ {
		faults += a.outcomes[o]
	}
	fmt.Fprintf(&b, "%.0f host-hours (%.0f key-hours, %d hosts, %d keys), %d looks, %d calls\n", a.hours, a.keyHours, a.hosts, a.keys, a.looks, a.calls)
	fmt.Fprintf(&b, "faults: %d failed attempts (", faults)
	for o := answered + 1; o < outcomes; o++ {
		fmt.Fprintf(&b, "%s %d, ", o, a.outcomes[o])
	}
	fmt.Fprintf(&b, "too long a session %d), %d outages, %d clock steps, %d suspends, %d restarts and %d reboots of which %d lost the state\n",
		a.refused, a.outages, a.steps, a.suspends, a.restarts, a.reboots, a.lost)
	fmt.Fprintf(&b, "least life ever served: %v; in calm, by length of session: %v\n", a.leastLeft.Round(time.Millisecond), rounded(a.leastCalm))
	fmt.Fprintf(&b, "longest recovery: %v\n", rounded(a.longestRecovery))
	fmt.Fprintf(&b, "outages: the longest that nobody felt, by length of session: %v; the soonest that one was felt: %v\n", rounded(a.longestSurvived), rounded(a.shortestGap))
	fmt.Fprintf(&b, "most calls of a key: %d in a minute, %d in an hour while half an hour of life remained\n", a.mostInAMinute, a.mostInHour)
	return b.String()
}

func rounded[K comparable](m map[K]time.Duration) map[K]time.Duration {
	for k, v := range m {
		m[k] = v.Round(time.Second)
	}
	return m
}
