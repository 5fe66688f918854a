package rotation_test

import (
	"fmt"
	"time"

	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
)

// slack is what an answer in fair weather may take.
const slack = 4 * time.Second

// facts are what the test knows of a role beside its state. All times are
// real.
type facts struct {
	gen            int           // of the newest credential
	ended          time.Duration // of the newest attempt
	refusing       time.Duration // since when every answer is a definite no; 0 otherwise
	doomed         time.Duration // end of the newest attempt that began in foul weather
	lived          time.Duration // since when there is a live credential; 0 while there is none
	low            time.Duration // when less than half an hour remained last
	disturbed      time.Duration // newest step of the clock
	jumpedAt       time.Duration // newest step of the clock that cannot be overlooked
	wakened        time.Duration // end of the newest suspend
	slept          time.Duration // in all, while the newest outage lasts
	calls          ring
	refusedLengths int
	asked          time.Duration // Retry-After of the newest failure
}

// A ring remembers the newest calls of a role.
type ring struct {
	at [512]time.Duration
	n  int
}

func (r *ring) add(at time.Duration) { r.at[r.n%len(r.at)] = at; r.n++ }

// within counts the calls since then, of the newest most.
func (r *ring) within(since time.Duration) (n int) {
	for n < min(r.n, len(r.at)) && r.at[(r.n-1-n)%len(r.at)] > since {
		n++
	}
	return n
}

// A ledger is what retries have cost an upstream since it answered last.
type ledger struct {
	since  time.Duration
	n      int
	urgent int
}

func (k *simKey) trueLeft(now time.Duration) time.Duration {
	return k.Credential.Expires.Sub(epoch.Add(now))
}

// inNeed reports whether less than that is left of k, as its host sees it.
func inNeed(k *simKey, now rotation.Clock, than time.Duration) bool {
	return !now.Live(&k.Credential) || k.Credential.Left(now.Wall.Add(now.Skew), now.Boot) < than
}

// fairSince is since when nothing keeps an attempt of k from being answered.
func (h *simHost) fairSince(k *simKey) (time.Duration, bool) {
	since := max(k.up.since, k.ownSince, h.started, k.wakened)
	ok := k.up.weather.fair() && k.own.fair()
	if h.off.Abs() > tlsPatience {
		ok = false
	}
	if h.off.Abs() < tlsPatience {
		since = max(since, min(h.offSince, h.now))
	}
	if k.parent != nil {
		s, fine := h.fairSince(k.parent)
		since, ok = max(since, s), ok && fine
	}
	return since, ok
}

// check holds a role against what is promised, at one look.
func (h *simHost) check(k *simKey, now rotation.Clock) error {
	c := &k.Credential
	served := now.Live(c)
	fairSince, fair := h.fairSince(k)
	calm := h.now - max(fairSince, k.disturbed)
	left := k.trueLeft(h.now)
	if served {
		if c.RoleARN == "bad" {
			return fmt.Errorf("a bad answer is served")
		}
		if left < 4*time.Second { // 5, and a date is cut to seconds
			return fmt.Errorf("served with %v of real life", left)
		}
		h.sum.leastLeft = lesser(h.sum.leastLeft, left)
		if k.lived == 0 {
			k.lived = h.now
		}
		life := c.Expires.Sub(c.Issued)
		if fair && calm > 3*time.Hour {
			if floor := floorOf(life); left < floor-slack {
				return fmt.Errorf("served with %v of %v in calm, want %v", left, life, floor)
			}
			note(&h.sum.leastCalm, life, left, false)
		}
	} else {
		k.lived = 0
	}
	if inNeed(k, now, 30*time.Minute) {
		k.low = h.now
	}
	if !served && fair {
		most := 90*time.Second + h.rules.Splay
		if k.parent != nil {
			most *= 2
		}
		if calm > most {
			return fmt.Errorf("nothing is served %v after everything was well", calm)
		}
	}
	if !served {
		h.felt(k)
	}
	if fair && calm > 8*time.Minute && k.Failures > 0 && !k.orphan {
		return fmt.Errorf("%d failures %v after everything was well", k.Failures, calm)
	}
	if p := k.parent; p != nil && k.orphan && p.lived > 0 && h.clock(p.up).Live(&p.Credential) {
		if d := h.now - max(p.lived, k.wakened, h.started, k.disturbed+2*rotation.Nap); d > slack {
			return fmt.Errorf("a child waits %v after its parent is live", d)
		}
	}
	// A step is followed by an attempt within two naps, for the new skew; but
	// an ailing upstream is not asked sooner for that than its budget allows.
	ailing := k.Class == rotation.Transient || k.Class == rotation.Throttled
	if d := k.jumpedAt; d > 0 && !ailing && c.Complete() && h.now-max(d, k.wakened, h.started) > 2*rotation.Nap+slack && max(k.ended, k.began) < d {
		return fmt.Errorf("no attempt %v after the clock was stepped", h.now-d)
	}
	return nil
}

// floorOf is the least life that a client is given in calm.
func floorOf(life time.Duration) time.Duration {
	switch {
	case life >= 12*time.Hour:
		return 11 * time.Hour
	case life >= 6*time.Hour:
		return 5 * time.Hour
	case life >= 2*time.Hour:
		return 65 * time.Minute
	case life >= time.Hour:
		return 30 * time.Minute
	}
	return life / 2
}

// pay holds a retry against what an ailing upstream may be asked: a burst, and
// then once in 5 s at the most, or in 18 s where nobody is in need.
func (h *simHost) pay(k *simKey, now rotation.Clock) error {
	s := &k.up.spent
	if s.n == 0 {
		s.since, s.urgent = h.now, 0
	}
	s.n++
	if inNeed(k, now, 31*time.Minute) {
		s.urgent++
	}
	passed := h.now - s.since
	if most := 32 + int(passed/(5*time.Second)) + 1; s.n > most {
		return fmt.Errorf("%d retries of one upstream in %v, want at most %d", s.n, passed, most)
	}
	if most := 8 + int(passed/(18*time.Second)) + 1; s.urgent == 0 && s.n > most {
		return fmt.Errorf("%d retries of one upstream in %v, with nobody in need, want at most %d", s.n, passed, most)
	}
	return nil
}

// count notes a call of k.
func (h *simHost) count(k *simKey) {
	k.calls.add(h.now)
	n := k.calls.within(h.now - time.Minute)
	h.sum.mostInAMinute = max(h.sum.mostInAMinute, n)
	if n > 14 {
		h.err = fmt.Errorf("%d calls in a minute", n)
	}
	n = k.calls.within(h.now - time.Hour)
	if n > 500 {
		h.err = fmt.Errorf("%d calls in an hour", n)
	}
	if h.now-max(k.low, h.started) > time.Hour {
		h.sum.mostInHour = max(h.sum.mostInHour, n)
		if n > 105 {
			h.err = fmt.Errorf("%d calls in an hour, with plenty of life", n)
		}
		if k.refusing > 0 && h.now-k.refusing > time.Hour && n > 40 {
			h.err = fmt.Errorf("%d calls in an hour of refusals, with plenty of life", n)
		}
	}
}

func (h *simHost) failed(k *simKey) {
	k.ended = h.now
	if since, fair := h.fairSince(k); !fair || k.began < since {
		k.doomed = h.now
	}
	k.asked = k.waits
	if k.comes == refused || k.comes == mistaken || k.comes == unproven {
		k.up.spent = ledger{}
		if k.refusing == 0 {
			k.refusing = h.now
		}
	} else {
		k.refusing = 0
	}
	if k.Class == rotation.Throttled {
		k.up.throttled = h.now
	}
}

// succeeded is asked before c becomes the credential of k.
func (h *simHost) succeeded(k *simKey, c credential.Credential, now rotation.Clock) error {
	k.ended, k.refusing = h.now, 0
	k.up.spent = ledger{}
	if k.comes == bad {
		return fmt.Errorf("a bad answer was accepted: %+v", c)
	}
	if k.life == 0 && !k.up.weather.short && !k.up.weather.stale && k.comes == answered {
		if got := c.Expires.Sub(c.Issued); got > k.longest {
			return fmt.Errorf("a session of %v from a role that allows %v", got, k.longest)
		}
	}
	since, fair := h.fairSince(k)
	if k.Failures == 0 || !fair || k.orphan || k.parent != nil {
		return nil
	}
	took := h.now - max(since, k.doomed, k.up.throttled)
	low := inNeed(k, now, 30*time.Minute-took-rotation.Nap) // all the while, and seen
	name, most := k.Class.String(), time.Minute
	switch {
	case k.asked > 0 && low:
		name, most = "asked to wait", 38*time.Second+3*time.Second
	case k.asked > 0:
		name, most = "asked to wait", 375*time.Second
	case k.Class == rotation.Transient && low:
		most = 15*time.Second + 3*time.Second
	case k.Class == rotation.Throttled && low:
		most = 33 * time.Second
	case k.Class == rotation.Throttled:
		most = 2 * time.Minute
	case k.Class != rotation.Transient && !low:
		most = 5 * time.Minute
	}
	if low {
		name += " in need"
	}
	if t := k.up.throttled; t > 0 && since-t < time.Minute && most < 45*time.Second {
		name, most = name+" with others throttled", 45*time.Second // the budget obeys the Retry-After of all
	}
	if k.wakened > 0 && k.wakened == since {
		name, most = name+" after a resume", most+rotation.Nap // until it is noticed
	}
	for _, other := range h.keys {
		if other.up == k.up && other != k && (other.own.kind == sick || other.ownSince > since) {
			// A role that faults of its own keep down takes its turn at the budget.
			name += " with another's faults"
			if most += 20 * time.Second; !low {
				most += 35 * time.Second
			}
			break
		}
	}
	note(&h.sum.longestRecovery, name, took, true)
	if took > most+slack {
		return fmt.Errorf("%s: answered %v after everything was well, want %v", name, took, most)
	}
	return nil
}

// beginOutage notes whose credentials must outlast an outage: those that fair
// weather has made as good as they can be.
func (h *simHost) beginOutage(u *simUpstream, fairFor time.Duration) {
	h.sum.outages++
	if fairFor < 70*time.Minute {
		return
	}
	for _, k := range h.keys {
		since, fair := h.fairBefore(k)
		if k.up == u && fair && k.life > 0 && k.Failures == 0 && k.Credential.Complete() && h.now-max(since, k.disturbed) > 3*time.Hour && h.off.Abs() < 2*time.Second {
			u.ailing = append(u.ailing, k)
			k.slept = 0
		}
	}
}

// fairBefore is fairSince but for the upstream's weather, which has turned.
func (h *simHost) fairBefore(k *simKey) (time.Duration, bool) {
	return max(k.ownSince, h.started, k.wakened, h.offSince), k.own.fair() && h.off.Abs() < tlsPatience
}

// felt notes that a role has nothing to give. Who lost its state, or saw its
// clock step, does not count.
func (h *simHost) felt(k *simKey) {
	for i, a := range k.up.ailing {
		if a != k {
			continue
		}
		if k.Credential.Complete() && h.started < k.up.since && k.disturbed < k.up.since {
			end := min(h.now, k.Credential.Expires.Sub(epoch)-5*time.Second)
			note(&h.sum.shortestGap, k.life, end-k.up.since, false)
		}
		k.up.ailing = append(k.up.ailing[:i], k.up.ailing[i+1:]...)
		return
	}
}

func (h *simHost) endOutage(u *simUpstream) {
	for _, k := range u.ailing {
		if k.Credential.Complete() && h.started < u.since && k.disturbed < u.since && h.now >= h.awake && h.clock(u).Live(&k.Credential) {
			note(&h.sum.longestSurvived, k.life, h.now-u.since, true)
		}
	}
	u.ailing = nil
}
