// Package store is the newest outcome of every role key, read without a lock.
//
// # Why not
//
// Not a mutex around a struct of fields: a reader between two writes would
// see the key of one credential with the secret of another. Not a cache with
// eviction: a credential leaves by its own expiry, never to make room.
package store

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
)

// An Entry is the newest outcome of one key: the last good credential, and
// beside it the failure that came after, if one did. It never changes; a new
// outcome is a new Entry.
type Entry struct {
	Credential credential.Credential // the last good one; zero while there never was one
	Err        error                 // why the newest attempt failed; nil when it did not
	Since      time.Time             // wall time of the first failure in a row; zero without one
	Failures   int                   // failures in a row
	Next       time.Time             // wall time of the next attempt, for people

	replaced chan struct{}
}

// Replaced is closed when a newer Entry has taken e's place.
func (e *Entry) Replaced() <-chan struct{} { return e.replaced }

// A Slot holds the Entry of one key. One goroutine writes it; any may read.
type Slot struct{ newest atomic.Pointer[Entry] }

// Load returns the newest Entry, never nil. It takes no lock.
func (s *Slot) Load() *Entry { return s.newest.Load() }

// Publish makes a credential the newest outcome and forgets the failures
// before it. Only the key's writer calls it.
func (s *Slot) Publish(c credential.Credential, next time.Time) {
	s.replace(&Entry{Credential: c, Next: next})
}

// PublishError sets a failure beside the last good credential, which stays.
// Only the key's writer calls it.
func (s *Slot) PublishError(err error, at, next time.Time) {
	was := s.Load()
	e := &Entry{Credential: was.Credential, Err: err, Since: was.Since, Failures: was.Failures + 1, Next: next}
	if was.Err == nil {
		e.Since = at
	}
	s.replace(e)
}

func (s *Slot) replace(e *Entry) {
	e.replaced = make(chan struct{})
	if was := s.newest.Swap(e); was != nil {
		close(was.replaced)
	}
}

// A Store finds the Slot of a key. The zero Store is empty and ready.
type Store struct{ slots sync.Map } // credential.Key to *Slot

// Slot returns the Slot of k and makes it if there is none.
func (s *Store) Slot(k credential.Key) *Slot {
	if v, ok := s.slots.Load(k); ok {
		return v.(*Slot)
	}
	fresh := &Slot{}
	fresh.replace(&Entry{})
	v, _ := s.slots.LoadOrStore(k, fresh)
	return v.(*Slot)
}

// Forget drops the Slot of k: a key that comes back begins without a
// credential.
func (s *Store) Forget(k credential.Key) { s.slots.Delete(k) }
