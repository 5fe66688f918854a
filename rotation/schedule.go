package rotation

import (
	"errors"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

const (
	// nap is the longest sleep. Go's timers stand still while the machine is
	// suspended and know nothing of a clock that steps: after each nap both
	// clocks are looked at again.
	nap = 30 * time.Second

	// A failure is followed by a wait that doubles from firstWait, or from
	// refusedWait where the upstream said a definite no, up to slowest: an
	// upstream that is back is noticed within a minute, and a sick one gets
	// at most about a call a minute from each key. Once less than lowLife
	// remains, or nothing, the longest wait is hurried.
	firstWait   = time.Second
	refusedWait = 15 * time.Second
	slowest     = time.Minute
	hurried     = 15 * time.Second
	lowLife     = 30 * time.Minute
)

// RenewAt picks the age at which to replace c: half of its life, or after if
// that is sooner, less a spread of at most a tenth. draw, in [0,1), is taken
// once per credential: again at each look, it would pull every host of a fleet
// to the early edge. A credential that never expires is replaced at after.
func RenewAt(c credential.Credential, after time.Duration, draw float64) time.Duration {
	age := after
	if !c.Expires.IsZero() {
		age = min(c.Expires.Sub(c.Issued)/2, after)
	}
	return age - time.Duration(draw*float64(age)/10)
}

// lastMoments is the end of a life in which a credential is not given out any
// more: 5 s, or a tenth of a life of seconds.
func lastMoments(c credential.Credential) time.Duration {
	return min(5*time.Second, c.Expires.Sub(c.Issued)/10)
}

// RetryAfter picks the wait after the given number of failures in a row, at
// least 1, the newest of which was err. left is what remains of the live
// credential, 0 without one. The wait is drawn from its upper half, so that
// hosts that failed together do not come back together.
func RetryAfter(err error, failures int, left time.Duration, draw float64) time.Duration {
	wait, most := firstWait, slowest
	if errors.Is(err, source.ErrRefused) {
		wait = refusedWait
	} else if left < lowLife {
		most = hurried
	}
	wait = min(wait<<min(failures-1, 10), most)
	return wait - time.Duration(draw*float64(wait)/2)
}
