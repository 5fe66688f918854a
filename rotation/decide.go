package rotation

import (
	"errors"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

// A Clock is one look at the time.
type Clock struct {
	Wall time.Time     // this host's wall clock
	Skew time.Duration // the issuer's clock minus Wall, as far as it is known
	Boot time.Duration // time since boot, suspend included
}

func (t Clock) issuer() time.Time { return t.Wall.Add(t.Skew) }

// Live reports whether c may be given out: both clocks call it live, and what
// is signed with it now will not arrive dead.
func (t Clock) Live(c *credential.Credential) bool {
	if c.Expires.IsZero() {
		return c.Complete()
	}
	return c.Complete() && c.Left(t.issuer(), t.Boot) > lastMoments(*c)
}

// left is the life that remains of c, 0 when it is not live.
func (t Clock) left(c *credential.Credential) time.Duration {
	switch {
	case !t.Live(c):
		return 0
	case c.Expires.IsZero():
		return patient + lowLife // no hurry
	}
	return c.Left(t.issuer(), t.Boot)
}

// Rules are what the schedules of all keys share.
type Rules struct {
	RefreshAfter time.Duration // see [RenewAt]
	Splay        time.Duration // spread of the first attempts
}

// A Parent is the state of the key whose credential signs the calls of another.
type Parent uint8

// The states of a parent.
const (
	NoParent   Parent = iota // the key is no child
	ParentDead               // it has no live credential
	ParentLive
)

// A State is all that the schedule knows of one key. Its methods decide and do
// nothing: they read no clock, draw nothing and start nothing.
type State struct {
	Credential credential.Credential // the last good one; zero while there never was one
	Class      Class                 // of the newest failure; Fine after a success
	Failures   int                   // in a row
	Length     int                   // index of the session to ask for, in [Lengths]

	refusals int           // failures in a row that were definite answers
	asked    time.Duration // for which the upstream wants to be left alone
	draw     float64       // of the current credential or failure
	begun    time.Duration // boot time of the start
	tried    time.Duration // boot time at the end of the newest attempt
	untried  bool          // no attempt has ended since the start
	early    bool          // the first credential of a key: its renewal is spread over all of the time
	orphaned bool          // the newest attempt failed for want of the parent's credential
	hasty    bool          // a reader waits for the first attempt: no splay
	jumped   bool          // the wall clock was stepped after the newest attempt
	ahead    time.Duration // of the credential's dates when it came, by the issuer's clock
	seen     Clock         // at the newest look
}

// Begin is the state of a key when its rotation starts: with what is left from
// before, or the zero Credential.
func Begin(c credential.Credential, now Clock, draw float64) State {
	return State{Credential: c, draw: draw, begun: now.Boot, tried: now.Boot - nap, untried: true, seen: now}
}

// Recall takes the length of the session that is left from before for the
// longest that the role allows, so that a restart asks for no other. Where there
// is none, and where it is none of lengths, it is found again.
func (s *State) Recall(lengths []time.Duration) {
	life := s.Credential.Expires.Sub(s.Credential.Issued)
	for i, l := range lengths {
		if (life - l).Abs() <= time.Minute { // dates have seconds, and an answer takes some
			s.Length = i
		}
	}
}

// Ask tells that a reader waits for a credential. It shortens the splay, never
// the wait after a failure: a crowd of clients must not become a crowd at the
// upstream.
func (s *State) Ask() { s.hasty = true }

// Next is the time until the next attempt by the clock that says sooner, or 0
// for an attempt that is to be made now and that b has been paid for. p is the
// key that signs the calls.
func (s *State) Next(now Clock, r Rules, b *Budget, p Parent) time.Duration {
	s.look(now)
	wait := s.due(now, r, p)
	if wait <= 0 && p != ParentDead { // who has no parent makes no call
		price, urgent := s.price(now)
		wait = b.take(s, now.Boot, price, urgent)
	}
	return max(wait, 0)
}

// look notices a wall clock that was stepped: the skew that was measured by it
// holds no longer, and only an answer of the upstream can tell the new one. A
// resume needs no notice, because each wait is counted by the boot clock.
func (s *State) look(now Clock) {
	wall := now.Wall.Round(0).Sub(s.seen.Wall.Round(0)) // by the wall, not by Go's own clock
	if (wall - (now.Boot - s.seen.Boot)).Abs() > stepped {
		s.jumped = true
	}
	s.seen = now
}

func (s *State) due(now Clock, r Rules, p Parent) time.Duration {
	c, splay := &s.Credential, s.begun+time.Duration(s.draw*float64(r.Splay))-now.Boot
	var wait time.Duration
	switch {
	case s.orphaned && p == ParentLive:
		return 0
	case s.Failures > 0:
		wait = s.tried + s.backoff(now.left(c)) - now.Boot
	case c.Complete():
		if wait = s.renewal(now, r); s.untried && c.Received < 0 {
			wait = 0 // it has come over a reboot, by the word of a wall clock that nobody has set yet
		}
		if s.untried && now.left(c) >= lowLife {
			wait = max(wait, splay) // a fleet that restarts with what it had
		}
	case s.hasty:
		return 0
	default:
		return splay
	}
	if s.jumped {
		wait = min(wait, s.tried+nap-now.Boot) // a clock that is stepped all the time makes no loop
	}
	return wait
}

func (s *State) renewal(now Clock, r Rules) time.Duration {
	c, spread := &s.Credential, 1.0
	if s.early {
		spread = 9 // times that of others: from a tenth of the age on
	}
	age := RenewAt(*c, r.RefreshAfter, spread*s.draw)
	// An issuer whose dates are behind its own clock would have every new
	// credential replaced at once: wall time counts from when it came, and
	// once a nap.
	byWall := max(c.Issued.Add(age+s.ahead).Sub(now.issuer()), s.tried+nap-now.Boot)
	return min(c.Received+age-now.Boot, byWall)
}

// backoff is the wait after the newest failure, from its end. It is drawn from
// its upper half, so that hosts that failed together do not come back together.
func (s *State) backoff(left time.Duration) time.Duration {
	wait, most, n, obey := firstWait, slowest, s.Failures, patient
	low := left < lowLife
	if low {
		most, obey = hurried, patientUrgent
	}
	switch {
	case s.Class == Throttled:
		wait, most = 2*wait, 2*most
	case s.Class == Refetch && s.refusals <= quickRefetches:
		n = s.refusals
	case s.Class >= Refetch && low:
		wait, most, n = refusedWait, slowest, s.refusals
	case s.Class >= Refetch:
		wait, most, n = refusedWait, patient, s.refusals
	}
	wait = min(wait<<min(n-1, 10), most)
	wait -= time.Duration(s.draw * float64(wait) / 2)
	if s.asked > 0 {
		asked := min(s.asked, obey)
		wait = max(wait, asked+time.Duration(s.draw*float64(asked)/4)) // not all at the same moment
	}
	return wait
}

// price is what an attempt takes from the upstream's budget: nothing unless it
// retries what an ailing upstream did not do. It is drawn around the mean: at
// a fixed price, hosts that an outage has gathered would stay together.
func (s *State) price(now Clock) (_ time.Duration, urgent bool) {
	if s.orphaned || s.Class != Transient && s.Class != Throttled {
		return 0, false
	}
	mean := price
	if urgent = now.left(&s.Credential) < lowLife; urgent {
		mean = priceUrgent
	}
	return mean/2 + time.Duration(s.draw*float64(mean)), urgent
}

// Accept is the last look at an answer before anybody may be given it. began
// is the boot time at which it was asked for: the issuer's word on its life is
// counted from there, so that a slow answer does not outlive its expiry.
func (s *State) Accept(c credential.Credential, now Clock, began time.Duration) (credential.Credential, error) {
	if err := credential.Check(c); err != nil {
		return c, err
	}
	c.Received = min(c.Received, began)
	switch {
	case !now.Live(&c):
		return c, errors.New("the answer has expired already")
	case !c.Expires.IsZero() && now.left(&c) < time.Minute && !c.Expires.After(s.Credential.Expires):
		return c, errors.New("the answer ends within a minute, and no later than what it would replace")
	}
	return c, nil
}

// Shorten reports whether err means that a shorter session, which the next
// attempt asks for at once, may be given. What is found is remembered.
func (s *State) Shorten(err error, lengths int) bool {
	if s.Length+1 >= lengths || Classify(err) != Misconfigured {
		return false
	}
	s.Length++
	return true
}

// Success makes c, which Accept has seen, the current credential. wake tells
// that the upstream's other keys may look again, because its budget was filled.
func (s *State) Success(c credential.Credential, now Clock, b *Budget, draw float64) (wake bool) {
	s.early = !s.Credential.Complete() && c.Expires.Sub(c.Issued) >= shortest
	s.Credential, s.Class, s.Failures, s.refusals, s.asked, s.orphaned = c, Fine, 0, 0, 0, false
	s.ahead = max(now.issuer().Sub(c.Issued), 0)
	s.ended(now, draw)
	return b.Answered(now.Boot)
}

// Failure counts a failed attempt. It never touches the credential. orphaned
// tells that no call was made, for want of the parent's credential. wake is
// that of Success: a definite no is an answer, too.
func (s *State) Failure(err error, now Clock, b *Budget, draw float64, orphaned bool) (wake bool) {
	s.Class, s.Failures, s.asked, s.orphaned = Classify(err), s.Failures+1, 0, orphaned
	var e *source.Error
	told := errors.As(err, &e) && !orphaned // by the upstream, and to us
	if !orphaned {
		s.asked = max(source.RetryAfter(err), 0) // of whoever was asked on the way, too
	}
	switch definite := s.Class >= Refetch; {
	case definite:
		s.refusals++
		wake = told && e.Status > 0 && b.Answered(now.Boot)
	case told && s.Class == Throttled:
		b.Throttle(now.Boot, s.asked)
	}
	s.ended(now, draw)
	return wake
}

func (s *State) ended(now Clock, draw float64) {
	s.tried, s.draw, s.untried, s.jumped, s.seen = now.Boot, draw, false, false, now
}
