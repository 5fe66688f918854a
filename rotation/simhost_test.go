package rotation_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

// epoch is the upstream's clock at the start. All other times of the
// simulation are counted from there, in real time.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	never       = time.Duration(1 << 62)
	timeLimit   = 20 * time.Second // of an attempt
	simRefresh  = time.Hour
	tlsPatience = 300 * 24 * time.Hour // beyond, a wrong clock breaks TLS
)

var theSecret = credential.NewSecret("secret")

// A simUpstream is what several roles of a host call.
type simUpstream struct {
	weather spell
	since   time.Duration // of the weather
	budget  *rotation.Budget
	skew    time.Duration // as this host has measured it
	ailing  []*simKey     // in an outage: who had been well
	spent   ledger

	throttled time.Duration // when it answered so last
}

// A simKey is one role: the state under test, and what the test knows of it.
type simKey struct {
	rotation.State
	name     int
	up       *simUpstream
	parent   *simKey
	own      spell         // weather of this role
	ownSince time.Duration // of the own weather
	life     time.Duration // of the sessions that are asked for; 0 for the longest
	longest  time.Duration // that the role allows

	at        time.Duration // of the next look, or of the answer
	calling   bool          // an attempt is under way
	awaiting  bool          // it waits for the parent
	began     time.Duration // real time
	beganBoot time.Duration
	comes     outcome // of the attempt
	waits     time.Duration
	orphan    bool

	facts // see simcheck_test.go
}

// A simHost is one machine.
type simHost struct {
	r     *rand.Rand
	seed  uint64
	rules rotation.Rules
	ups   []*simUpstream
	keys  []*simKey
	sum   *tally
	story func(string, ...any)
	gen   int
	err   error

	now      time.Duration
	booted   time.Duration // when boot time was 0
	off      time.Duration // wall clock minus the upstream's
	offSince time.Duration
	started  time.Duration // of the process
	awake    time.Duration // end of the newest suspend

	read, step, sleep, restart time.Duration // of the next
}

func newHost(seed uint64, sum *tally) *simHost {
	h := &simHost{r: rand.New(rand.NewPCG(seed, 1)), seed: seed, sum: sum, story: func(string, ...any) {}}
	r := h.r
	h.booted = -time.Duration(r.Float64() * float64(100*time.Hour))
	h.rules = rotation.Rules{RefreshAfter: simRefresh, Splay: time.Duration(r.IntN(120)) * time.Second}
	for range 1 + r.IntN(2) {
		h.ups = append(h.ups, &simUpstream{weather: spell{until: about(r, 8*time.Hour)}})
	}
	for i := range 1 + r.IntN(5) {
		k := &simKey{name: i, up: h.ups[r.IntN(len(h.ups))], longest: 12 * time.Hour, own: spell{until: about(r, 40*time.Hour)}}
		switch r.IntN(10) {
		case 0:
			k.life = 15 * time.Minute
		case 1:
			k.life = 2 * time.Hour
		case 2, 3:
			k.life = time.Hour
		case 4, 5, 6:
			k.life = 6 * time.Hour
		case 7, 8:
			k.life = 12 * time.Hour
		case 9:
			k.longest = rotation.Lengths(false)[r.IntN(5)]
		}
		if i > 0 && k.life == time.Hour {
			k.parent, k.up = h.keys[0], h.keys[0].up
			if h.keys[0].parent != nil {
				k.parent = nil
			}
		}
		h.keys = append(h.keys, k)
	}
	h.read, h.step, h.sleep, h.restart = about(r, time.Hour), about(r, 60*time.Hour), about(r, 50*time.Hour), about(r, 80*time.Hour)
	h.wrongClock()
	h.begin(false)
	sum.hosts++
	sum.keys += len(h.keys)
	return h
}

// String is the configuration of the host, and where it stands.
func (h *simHost) String() string {
	s := fmt.Sprintf("seed %d at %v, splay %v, clock off by %v", h.seed, h.now, h.rules.Splay, h.off)
	for _, k := range h.keys {
		parent := ""
		if k.parent != nil {
			parent = fmt.Sprint(" from ", k.parent.name)
		}
		s += fmt.Sprintf("\n  role %d%s: session %v, longest %v; own weather %v (%v), upstream's %v (%v); %d failures (%v), left %v",
			k.name, parent, k.life, k.longest, k.own.kind, k.own.share, k.up.weather.kind, k.up.weather.share, k.Failures, k.Class, k.trueLeft(h.now))
	}
	return s
}

func (h *simHost) clock(u *simUpstream) rotation.Clock {
	return rotation.Clock{Wall: epoch.Add(h.now + h.off), Skew: u.skew, Boot: h.now - h.booted}
}

// begin starts the process, with the credentials from before or without.
func (h *simHost) begin(kept bool) {
	h.started = h.now
	for _, u := range h.ups {
		u.budget, u.skew, u.spent = &rotation.Budget{}, 0, ledger{}
	}
	for _, k := range h.keys {
		was := k.Credential
		if !kept {
			was = credential.Credential{}
		}
		k.State = rotation.Begin(was, h.clock(k.up), h.r.Float64())
		k.calling, k.awaiting, k.orphan, k.at = false, false, false, h.now
		k.facts = facts{gen: k.gen, refusedLengths: 0}
	}
}

// wrongClock sets the wall clock as it may be at boot.
func (h *simHost) wrongClock() {
	h.offSince = h.now
	switch h.r.IntN(8) {
	case 0:
		h.off = -56 * 365 * 24 * time.Hour
	case 1:
		h.off = 365 * 24 * time.Hour
	case 2:
		h.off = -5 * time.Minute
	case 3:
		h.off = time.Duration((h.r.Float64()*2 - 1) * float64(6*time.Hour))
	default:
		h.off = time.Duration((h.r.Float64()*2 - 1) * float64(time.Second))
		return
	}
	h.step = h.now + about(h.r, 3*time.Minute) // until NTP is there
}

// live runs the host until the end, and returns the first promise that it
// breaks.
func (h *simHost) live(end time.Duration) error {
	for h.now < end {
		next := min(h.read, h.step, h.sleep, h.restart)
		for _, u := range h.ups {
			next = min(next, u.weather.until)
		}
		for _, k := range h.keys {
			next = min(next, k.at, k.own.until)
		}
		h.now = next
		for _, u := range h.ups {
			if u.weather.until <= h.now {
				h.changeWeather(u)
			}
		}
		for _, k := range h.keys {
			if k.own.until <= h.now {
				k.own, k.ownSince = k.own.nextOwn(h.r), h.now
				h.story("%v: role %d: own weather %+v", h.now, k.name, k.own)
			}
		}
		h.happen()
		if h.now < h.awake {
			continue
		}
		for _, k := range h.keys {
			if k.at > h.now {
				continue
			}
			if err := h.turn(k); err != nil {
				return fmt.Errorf("role %d: %w", k.name, err)
			}
		}
	}
	h.sum.hours += end.Hours()
	h.sum.keyHours += end.Hours() * float64(len(h.keys))
	return nil
}

func (h *simHost) changeWeather(u *simUpstream) {
	if u.weather.total() {
		h.endOutage(u)
	}
	fair := h.now - u.since
	if !u.weather.fair() {
		fair = 0
	}
	u.weather, u.since = u.weather.next(h.r), h.now
	h.story("%v: weather %+v", h.now, u.weather)
	if u.weather.total() {
		h.beginOutage(u, fair)
	}
}

// happen lets come what comes to a host.
func (h *simHost) happen() {
	r := h.r
	if h.now >= h.step {
		h.sum.steps++
		was := h.off
		if h.off.Abs() > time.Second {
			h.off = 0
			h.step = h.now + about(r, 60*time.Hour)
		} else {
			h.off = time.Duration((r.Float64()*2 - 1) * float64(6*time.Hour))
			h.step = h.now + about(r, time.Hour)
		}
		h.offSince = h.now
		h.story("%v: the clock steps from %v to %v", h.now, was, h.off)
		for _, k := range h.keys {
			// There and back within a nap, or a suspend, cannot be seen and need not be.
			if h.now-k.disturbed < 2*rotation.Nap+slack || h.now < h.awake {
				k.jumpedAt = 0
			} else if (h.off - was).Abs() > 61*time.Second {
				k.jumpedAt = h.now
			}
			k.disturbed = h.now
		}
	}
	if h.now >= h.sleep {
		h.sum.suspends++
		d := []time.Duration{about(r, 10*time.Second), about(r, 20*time.Minute), 8 * time.Hour}[r.IntN(3)]
		h.sleep = h.now + d + about(r, 50*time.Hour)
		h.awake = h.now + d
		for _, k := range h.keys { // timers stand still
			k.at += d
			k.wakened, k.slept = h.awake, k.slept+d
		}
		h.read, h.restart = h.read+d, h.restart+d
		h.story("%v: asleep for %v", h.now, d)
	}
	if h.now >= h.restart && h.now >= h.awake {
		h.restart = h.now + about(r, 80*time.Hour)
		kept := r.IntN(3) > 0
		if r.IntN(4) == 0 {
			kept = false
			h.sum.reboots++
			h.booted = h.now
			h.wrongClock()
		} else {
			h.sum.restarts++
		}
		if !kept {
			h.sum.lost++
		}
		h.story("%v: restart, state kept %v, clock off by %v", h.now, kept, h.off)
		h.begin(kept)
	}
	if h.now >= h.read && h.now >= h.awake {
		h.read = h.now + about(r, 30*time.Minute)
		h.ask(h.keys[r.IntN(len(h.keys))])
	}
}

// ask is a reader, which kicks a role that has nothing to give.
func (h *simHost) ask(k *simKey) {
	if now := h.clock(k.up); !now.Live(&k.Credential) {
		k.Ask()
		k.wakeAt(h.now)
	}
}

func (k *simKey) wakeAt(at time.Duration) {
	if !k.calling {
		k.at = min(k.at, at)
	}
}

// turn lets the goroutine of a role run until it sleeps.
func (h *simHost) turn(k *simKey) error {
	if k.calling {
		if err := h.finish(k); err != nil {
			return err
		}
		if k.calling {
			return nil
		}
	}
	now := h.clock(k.up)
	h.sum.looks++
	if err := h.check(k, now); err != nil {
		return err
	}
	parent := rotation.NoParent
	if p := k.parent; p != nil {
		if parent = rotation.ParentDead; h.clock(p.up).Live(&p.Credential) {
			parent = rotation.ParentLive
		}
	}
	retry := k.Failures > 0
	wait := k.Next(now, h.rules, k.up.budget, parent)
	if wait > 0 {
		k.at = h.now + min(wait, rotation.Nap)
		// On most hosts, the naps in which nothing can happen are one.
		if idle := min(h.step, h.sleep, h.restart) - h.now; h.seed%8 != 0 && k.Failures == 0 && k.Credential.Complete() {
			if naps := (min(wait, idle) - 1) / rotation.Nap; naps > 1 {
				k.at = h.now + naps*rotation.Nap
			}
		}
		return nil
	}
	if retry && !k.orphan && parent != rotation.ParentDead && (k.Class == rotation.Transient || k.Class == rotation.Throttled) {
		if err := h.pay(k, now); err != nil {
			return err
		}
	}
	h.attempt(k)
	return h.err
}

// attempt begins a call, or waits for the parent's first.
func (h *simHost) attempt(k *simKey) {
	k.calling, k.awaiting, k.began, k.beganBoot = true, false, h.now, h.now-h.booted
	if p := k.parent; p != nil && !h.clock(p.up).Live(&p.Credential) {
		h.ask(p)
		k.comes, k.at = orphaned, h.now
		if p.Failures == 0 {
			k.awaiting, k.at = true, h.now+timeLimit
		}
		return
	}
	h.count(k)
	h.call(k)
}

func (h *simHost) call(k *simKey) {
	h.sum.calls++
	took := 50*time.Millisecond + time.Duration(h.r.Float64()*float64(2*time.Second))
	k.comes, k.waits = answered, 0
	w := k.up.weather
	switch {
	case w.share > 0 && h.r.Float64() < w.share:
		k.comes, k.waits = w.kind, w.retryAfter
	case k.own.share > 0:
		k.comes = k.own.kind
	}
	if h.off.Abs() > tlsPatience {
		k.comes = untrusted
	}
	took += w.slow
	if k.comes == down {
		took = time.Duration(h.r.Float64() * float64(timeLimit))
	}
	k.at, k.awaiting = h.now+min(took, timeLimit), false
}

// told is the story of the calls, where somebody listens.
func (h *simHost) told(k *simKey, format string, args ...any) {
	if *simSeed != 0 {
		h.story("%v, begun %v: "+format, append([]any{h.now, k.began}, args...)...)
	}
}

// finish brings an attempt to its end.
func (h *simHost) finish(k *simKey) error {
	p := k.parent
	if k.awaiting && h.clock(p.up).Live(&p.Credential) {
		k.began, k.beganBoot = h.now, h.now-h.booted
		h.count(k)
		h.call(k)
		return nil
	}
	if k.comes != down && k.comes != untrusted && k.comes != orphaned {
		k.up.skew = -h.off // every answer has a date
		if k.up.skew.Abs() < 2*time.Second {
			k.up.skew = 0
		}
	}
	now := h.clock(k.up)
	err := failures[k.comes]
	var c credential.Credential
	switch k.comes {
	case throttled:
		if k.waits > 0 {
			err = &source.Error{Op: "call", Status: 429, RetryAfter: k.waits}
		}
	case orphaned:
		if err = failures[down]; p.Failures > 0 && p.Class == rotation.Slow {
			err = failures[refused]
		}
	case answered, bad:
		asked := k.life
		if asked == 0 {
			if asked = rotation.Lengths(false)[k.Length]; asked > k.longest {
				return h.shorten(k)
			}
		}
		c, err = k.Accept(h.answer(k, asked, now), now, k.beganBoot)
	}
	h.sum.outcomes[k.comes]++
	h.told(k, "role %d: %v", k.name, k.comes)
	k.calling = false
	was := k.Credential
	k.orphan = k.comes == orphaned
	var wake bool
	if err == nil {
		if err := h.succeeded(k, c, now); err != nil {
			return err
		}
		wake = k.Success(c, now, k.up.budget, h.r.Float64())
	} else {
		wake = k.Failure(err, now, k.up.budget, h.r.Float64(), k.orphan)
		if k.Credential != was {
			return fmt.Errorf("a failure replaced a credential")
		}
		h.failed(k)
	}
	for _, other := range h.keys {
		if wake && other.up == k.up {
			other.wakeAt(h.now)
		}
	}
	for _, child := range h.keys {
		switch {
		case child.parent != k:
		case child.awaiting:
			child.at = h.now
		case child.orphan:
			child.wakeAt(h.now)
		}
	}
	return nil
}

// shorten is the upstream's no to a session that is too long.
func (h *simHost) shorten(k *simKey) error {
	h.sum.refused++
	k.refusedLengths++
	if k.refusedLengths > 4 {
		return fmt.Errorf("%d sessions that were too long were asked for", k.refusedLengths)
	}
	if !k.Shorten(failures[mistaken], 5) {
		return fmt.Errorf("the shorter session was not asked for")
	}
	h.call(k)
	return nil
}
