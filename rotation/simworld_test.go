package rotation_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

// An outcome is how an upstream meets an attempt.
type outcome int

const (
	answered  outcome = iota
	down              // no answer at all
	sick              // an answer of 500
	throttled         // with or without a Retry-After
	refused           // AccessDenied
	mistaken          // ValidationError
	unproven          // InvalidIdentityToken
	bad               // an answer that is of no use
	untrusted         // this host's clock is so wrong that TLS fails
	orphaned          // the parent has no credential
	outcomes
)

func (o outcome) String() string {
	return [...]string{"answered", "down", "500", "throttled", "AccessDenied", "ValidationError", "InvalidIdentityToken", "bad answer", "TLS", "no parent"}[o]
}

var failures = func() (all [outcomes]error) {
	for o, e := range map[outcome]*source.Error{
		sick:      {Op: "call", Code: "InternalFailure", Status: 500},
		throttled: {Op: "call", Code: "Throttling", Status: 400},
		refused:   {Op: "call", Code: "AccessDenied", Status: 403, Kind: source.ErrAccessDenied},
		mistaken:  {Op: "call", Code: "ValidationError", Status: 400, Kind: source.ErrRefused},
		unproven:  {Op: "call", Code: "InvalidIdentityToken", Status: 400, Kind: source.ErrRefused},
	} {
		all[o] = e
	}
	all[down], all[untrusted] = errors.New("no answer"), errors.New("certificate is not yet valid")
	return all
}()

// A spell is a stretch of weather: how attempts fare until it ends.
type spell struct {
	until time.Duration
	kind  outcome
	// share of the attempts that fare like that: the others are answered
	share      float64
	slow       time.Duration // how much longer an answer takes
	stale      bool          // the same credential is given again
	short      bool          // a shorter session than asked for
	retryAfter time.Duration
}

// fair is when every attempt is answered, fresh and in time.
func (s spell) fair() bool { return s.share == 0 && s.slow == 0 && !s.stale && !s.short }

// total is when none is.
func (s spell) total() bool { return s.share == 1 && s.kind != answered }

// about draws a length with that mean, most of them shorter and a few much
// longer.
func about(r *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(r.ExpFloat64()*float64(mean)) + time.Millisecond
}

// bad weather lasts from seconds to most of a day.
func badLength(r *rand.Rand) time.Duration {
	switch n := r.IntN(100); {
	case n < 50:
		return about(r, 2*time.Minute)
	case n < 75:
		return about(r, 40*time.Minute)
	case n < 92:
		return time.Hour + time.Duration(r.Float64()*float64(5*time.Hour))
	}
	return 5*time.Hour + time.Duration(r.Float64()*float64(9*time.Hour))
}

// next draws the weather of an upstream after s.
func (s spell) next(r *rand.Rand) spell {
	if !s.fair() {
		return spell{until: s.until + about(r, 8*time.Hour)}
	}
	n := spell{until: s.until + badLength(r), share: 1}
	switch r.IntN(10) {
	case 0, 1, 2:
		n.kind = down
	case 3, 4:
		n.kind = sick
	case 5:
		n.kind = throttled
		if r.IntN(2) == 0 {
			n.retryAfter = time.Duration(r.IntN(3600)) * time.Second
		}
	case 6:
		n.kind = bad
	case 7: // a brownout
		n.kind, n.share, n.slow = []outcome{down, sick, throttled}[r.IntN(3)], r.Float64(), time.Duration(r.Float64()*float64(15*time.Second))
	case 8:
		n.share, n.slow = 0, 5*time.Second+time.Duration(r.Float64()*float64(13*time.Second))
	case 9:
		n.share, n.stale, n.short = 0, r.IntN(2) == 0, r.IntN(2) == 0
		n.slow = time.Millisecond // no fair weather
	}
	return n
}

// nextOwn draws the weather of one role after s: what its account says of it.
func (s spell) nextOwn(r *rand.Rand) spell {
	if !s.fair() {
		return spell{until: s.until + about(r, 40*time.Hour)}
	}
	return spell{until: s.until + badLength(r)/2, share: 1, kind: []outcome{refused, mistaken, unproven, sick}[r.IntN(4)]}
}

// answer makes what an upstream gives, good or bad.
func (h *simHost) answer(k *simKey, life time.Duration, now rotation.Clock) credential.Credential {
	w := k.up.weather
	if w.stale && k.Credential.Complete() && k.trueLeft(h.now) > 0 && now.Skew == -h.off {
		c := k.Credential // the issue is what the answer's date says
		c.Issued, c.Received = epoch.Add(h.now).Truncate(time.Second), now.Boot
		return c
	}
	if w.short {
		life = max(life/3, 10*time.Minute)
	}
	h.gen++
	issued := epoch.Add(h.now).Truncate(time.Second)
	c := credential.Credential{AccessKeyID: fmt.Sprint("ASIA", h.gen), SecretKey: theSecret, Token: theSecret,
		Issued: issued, Expires: issued.Add(life), Received: now.Boot}
	if k.comes != bad {
		return c
	}
	c.RoleARN = "bad"
	switch h.r.IntN(5) {
	case 0:
		c.AccessKeyID = ""
	case 1:
		c.SecretKey = credential.Secret{}
	case 2:
		c.Expires = issued.Add(-time.Minute)
	case 3:
		c.Token = credential.NewSecret("a\nb")
	case 4:
		c.Issued, c.Expires = issued.Add(-2*time.Hour), issued.Add(-time.Hour)
	}
	return c
}
