package rotation

import (
	"cmp"
	"context"
	"fmt"

	"github.com/hostrole/hostrole/rotation/credential"
)

// A wish is a person's word that a key should be renewed now. Its channel has
// room for the one answer.
type wish chan error

// Renew asks the sources of keys now, whatever the schedule and the wait after a
// failure say, and returns the first failure of the attempts that began after
// it was called. Wishes that meet share one attempt. It is for a person who has
// mended something: a failure counts as any other, and what follows it waits by
// the rules. The error is an attempt's, or ctx's, or matches [ErrNotReady] for a
// key that is not there.
func (m *Manager) Renew(ctx context.Context, keys ...credential.Key) error {
	var asked []wish
	for _, k := range keys {
		r := m.rotator(k)
		if r == nil {
			return fmt.Errorf("%w: no such key", ErrNotReady)
		}
		w := make(wish, 1)
		select {
		case r.wishes <- w: // between two attempts
		case <-ctx.Done():
			return fmt.Errorf("waiting for the attempt that is under way: %w", ctx.Err())
		}
		asked = append(asked, w)
	}
	var first error
	for _, w := range asked {
		select {
		case err := <-w:
			first = cmp.Or(first, err)
		case <-ctx.Done():
			return fmt.Errorf("waiting for the attempt: %w", ctx.Err())
		}
	}
	return first
}

// grant makes one attempt for all who wish it now. Only run calls it.
func (r *Rotator) grant(ctx context.Context, w wish) {
	all := []wish{w}
	for more := true; more; {
		select {
		case w := <-r.wishes:
			all = append(all, w)
		default:
			more = false
		}
	}
	r.attempt(ctx)
	err := r.slot.Load().Err
	if ctx.Err() != nil {
		err = ctx.Err() // nothing was published
	}
	for _, w := range all {
		w <- err
	}
}
