package eks

import (
	"context"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	keysLife = time.Minute // until the issuer may have taken a key back
	keysRest = time.Second // between two questions for a key that is not there
)

// A keySet is what came of asking for keys. It never changes.
type keySet struct {
	keys  []jose.JSONWebKey // the last that were had
	asked time.Time         // when the question began, whatever came of it
	err   error             // of the last time that keys were asked for
}

// older reports whether s is older than d. A clock that was set back makes it
// so as well. No set at all is older than anything.
func (s *keySet) older(d time.Duration, now time.Time) bool {
	return s == nil || now.Sub(s.asked) >= d || now.Before(s.asked)
}

// check returns what a key of s has signed. named reports whether s has a key
// for it at all.
func (s *keySet) check(signed *jose.JSONWebSignature) (payload []byte, named bool) {
	for i := range s.keys {
		k := &s.keys[i]
		if !fits(k, signed.Signatures[0].Protected) {
			continue
		}
		named = true
		if said, err := signed.Verify(k.Key); err == nil {
			return said, true
		}
	}
	return nil, named
}

// payload is what signed says, when one of the issuer's keys has signed it.
func (v *Verifier) payload(ctx context.Context, signed *jose.JSONWebSignature) ([]byte, error) {
	set := v.known.Load()
	if set.older(keysLife, v.o.Now()) {
		set = v.ask(ctx, set)
	}
	payload, named := set.check(signed)
	if !named && set.older(keysRest, v.o.Now()) {
		set = v.ask(ctx, set)
		payload, named = set.check(signed)
	}
	switch {
	case payload != nil:
		return payload, nil
	case named:
		return nil, untrusted("its signature is not the issuer's")
	case set.err != nil:
		return nil, fmt.Errorf("%w: %w", ErrKeys, set.err)
	}
	return nil, untrusted("the issuer has no such key")
}

// ask asks for newer keys than those of old, unless somebody has just done so.
// Where there are none to be had, the old ones stay: an issuer that is away
// has taken none back.
func (v *Verifier) ask(ctx context.Context, old *keySet) *keySet {
	fresh := &keySet{asked: v.o.Now()}
	if old != nil {
		fresh.keys = old.keys
	}
	select {
	case v.asking <- struct{}{}:
		defer func() { <-v.asking }()
	case <-ctx.Done():
		fresh.err = fmt.Errorf("another request still waits for them: %w", ctx.Err())
		return fresh
	}
	if now := v.known.Load(); now != old {
		return now
	}
	got, err := v.o.Keys(ctx)
	if fresh.err = err; err == nil {
		fresh.keys = got.Keys
	}
	v.known.Store(fresh)
	return fresh
}
