package rotation

import (
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
)

const (
	// nap is the longest sleep. Go's timers stand still while the machine is
	// suspended and know nothing of a clock that steps: after each nap both
	// clocks are looked at again.
	nap = 30 * time.Second

	// stepped is how far the wall clock may move against the boot clock
	// between two looks before the measured skew is not believed any more.
	stepped = time.Minute

	// A failure is followed by a wait that doubles from firstWait up to
	// slowest: an upstream that is back is noticed within a minute, and a sick
	// one gets at most about a call a minute from each key. Once less than
	// lowLife remains, or nothing, the longest wait is hurried. A throttled key
	// waits twice as long. A definite no begins at refusedWait, up to patient,
	// or to slowest while little remains.
	firstWait   = time.Second
	refusedWait = 15 * time.Second
	slowest     = time.Minute
	patient     = 5 * time.Minute
	hurried     = 15 * time.Second
	lowLife     = 30 * time.Minute

	// quickRefetches is how often an assertion that was not accepted is
	// fetched again at once.
	quickRefetches = 2

	// patientUrgent is the longest that an upstream's Retry-After is obeyed
	// while little remains, or nothing; patient is it otherwise.
	patientUrgent = 30 * time.Second

	// shortest is AWS's shortest session. What lives less is a test's, and has
	// no fleet that must be spread.
	shortest = 15 * time.Minute
)

// RenewAt picks the age at which to replace c: half of its life, or after if
// that is sooner, less a spread of at most a tenth; and before less is left of
// it than the clients' own windows, where its life allows that. draw, in [0,1),
// is taken once per credential: again at each look, it would pull every host of
// a fleet to the early edge. A credential that never expires is replaced at
// after.
func RenewAt(c credential.Credential, after time.Duration, draw float64) time.Duration {
	age := after
	if !c.Expires.IsZero() {
		life := c.Expires.Sub(c.Issued)
		age = min(life/2, after)
		if most := life - window(life); most >= life/5 {
			age = min(age, most)
		}
	}
	return age - time.Duration(draw*float64(age)/10)
}

// window is the end of a life in which clients begin to ask again on their own:
// botocore in the last 15 minutes and up to 10 more, newer SDKs in the last
// hour of a life of 90 minutes or more.
func window(life time.Duration) time.Duration {
	if life < 90*time.Minute {
		return 25 * time.Minute
	}
	return 65 * time.Minute
}

// lastMoments is the end of a life in which a credential is not given out any
// more: 5 s, or a tenth of a life of seconds.
func lastMoments(c credential.Credential) time.Duration {
	return min(5*time.Second, c.Expires.Sub(c.Issued)/10)
}

// Lengths are the sessions to ask for, longest first, when the longest is
// wanted that a role allows. A session that is signed by another session is
// given an hour at most.
func Lengths(chained bool) []time.Duration {
	if chained {
		return []time.Duration{time.Hour}
	}
	return []time.Duration{12 * time.Hour, 6 * time.Hour, 4 * time.Hour, 2 * time.Hour, time.Hour}
}
