// Package session keeps the sessions that belong to single callers: one for
// each way in which a role's templates read, made when it is first asked for,
// and given up when nobody asks any more.
//
// # Why not
//
// Not the eviction of a session for the next caller's: a flood of callers would
// take the credentials of those who work. Not a session for every container
// that there is: most ask for nothing. Not a call to the upstream in here: a key
// is added to the rotation, which has its own limits, and the request waits as
// it does for a role that has just come. Not a key in the configuration for the
// limits: nobody has needed another yet.
package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/store"
)

const (
	// Most is how many sessions one role has at a time. One more caller gets no
	// credential, and takes none from others.
	Most = 256
	// Idle is how long a session is kept that nobody asks for: the SDKs leave a
	// credential of an hour alone for less than that.
	Idle = time.Hour
	// lookEvery is how often it is looked for those that nobody asks for.
	lookEvery = time.Minute
)

var (
	// ErrFull matches the failure of a caller for whom there is no place.
	ErrFull = errors.New("the role has as many sessions as it can have")
	// ErrStopped matches the failure of a caller whose role is not to be served.
	ErrStopped = errors.New("the role is not served")
)

// Rotation is what keeps keys fresh. A rotation.Manager is one.
type Rotation interface {
	Add(rotation.Job)
	Retire(...credential.Key)
	Entry(credential.Key) *store.Entry
}

// Options of Sessions. All are required but the last two.
type Options struct {
	Rotation Rotation
	Store    *store.Store // of Rotation
	Log      *slog.Logger
	Now      func() time.Time     // wall clock
	Boot     func() time.Duration // time since boot, suspend included

	Most int           // default Most
	Idle time.Duration // default Idle
}

// place is where a session is found: all sessions of its role, and the facts of
// the caller that it is named after, in the order of caller.Facts.
type place struct {
	family credential.Key
	facts  [4]string
}

// A session is one that is kept.
type session struct {
	key   credential.Key
	role  string            // table name
	name  string            // that the upstream is told
	who   map[string]string // the facts of the caller that it was made for
	asked atomic.Int64      // boot time when it last was
}

// Sessions are those of all roles. They may be used concurrently.
type Sessions struct {
	o     Options
	begun time.Duration

	mu    sync.RWMutex
	all   map[place]*session
	names map[credential.Key]*session // guarded by mu: the same, by their keys
	// left are credentials of the process before, of callers who have not asked
	// this one yet; guarded by mu.
	left map[credential.Key]credential.Credential
}

// New returns Sessions. left are the credentials that the process before had
// for callers; they become theirs again when they ask.
func New(o Options, left map[credential.Key]credential.Credential) *Sessions {
	o.Most, o.Idle = cmp.Or(o.Most, Most), cmp.Or(o.Idle, Idle)
	return &Sessions{o: o, begun: o.Boot(), all: map[place]*session{}, names: map[credential.Key]*session{}, left: left}
}

// placeOf is where the session of a caller is found. ok tells that all facts
// are known that it is named after.
func placeOf(r *roles.Role, fact func(string) string) (p place, ok bool) {
	p, ok = place{family: r.Job.Key}, true
	for i, name := range caller.Facts() {
		if slices.Contains(r.Facts, name) {
			p.facts[i] = fact(name)
			ok = ok && p.facts[i] != ""
		}
	}
	return p, ok
}

// Key returns the key of the session of r that belongs to who, and has it kept
// fresh from now on. stopped reports whether r is not to be served. Its errors
// match ErrFull or ErrStopped, or tell which fact is not known.
func (s *Sessions) Key(r *roles.Role, who caller.Caller, stopped func() bool) (credential.Key, error) {
	at, ok := placeOf(r, who.Fact)
	if !ok { // the policy has looked at that before
		return credential.Key{}, fmt.Errorf("the session of role %s is named after facts of the caller that are not known", r.ID)
	}
	s.mu.RLock()
	one := s.all[at]
	if one != nil { // before the lock is gone, so that it is not idle
		one.asked.Store(int64(s.o.Boot()))
	}
	s.mu.RUnlock()
	if one != nil {
		return one.key, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if stopped() {
		return credential.Key{}, ErrStopped
	}
	facts := map[string]string{}
	for _, name := range caller.Facts() {
		facts[name] = who.Fact(name)
	}
	one, err := s.add(r, at, facts, s.o.Boot())
	if err != nil {
		return credential.Key{}, err
	}
	return one.key, nil
}

// add makes a session, unless it is there. The caller holds s.mu.
func (s *Sessions) add(r *roles.Role, at place, who map[string]string, asked time.Duration) (*session, error) {
	if one := s.all[at]; one != nil {
		return one, nil
	}
	if n := s.count(at.family); n >= s.o.Most {
		return nil, fmt.Errorf("%w: %d; one is given up when nobody has asked for it for %v", ErrFull, n, s.o.Idle)
	}
	job, err := r.For(who)
	if err != nil {
		return nil, err
	}
	one := &session{key: job.Key, role: r.ID, name: r.Render(who).SessionName, who: who}
	one.asked.Store(int64(asked))
	if c, is := s.left[job.Key]; is {
		delete(s.left, job.Key)
		if s.o.Rotation.Entry(job.Key) == nil && c.Live(s.o.Now(), s.o.Boot()) {
			s.o.Store.Slot(job.Key).Publish(c, s.o.Now())
		}
	}
	s.all[at], s.names[job.Key] = one, one
	s.o.Rotation.Add(job)
	return one, nil
}

// count is how many sessions a role has. The caller holds s.mu.
func (s *Sessions) count(family credential.Key) (n int) {
	for at := range s.all {
		if at.family == family {
			n++
		}
	}
	return n
}

// drop gives up the sessions for which it is told to. The caller holds s.mu.
func (s *Sessions) drop(which func(place, *session) bool) (keys []credential.Key) {
	for at, one := range s.all {
		if which(at, one) {
			keys = append(keys, one.key)
			delete(s.all, at)
			delete(s.names, one.key)
		}
	}
	gone := slices.Clone(keys)
	for _, one := range s.all { // two roles of one ARN may have a session together
		if slices.Contains(gone, one.key) {
			s.names[one.key] = one
			gone = slices.DeleteFunc(gone, func(k credential.Key) bool { return k == one.key })
		}
	}
	if len(gone) > 0 {
		s.o.Rotation.Retire(gone...)
	}
	return keys
}

// Stop gives up all sessions of a role, and returns their keys. Its key is that
// of the role's own job.
func (s *Sessions) Stop(role credential.Key) []credential.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = nil // of whom they are is not known
	return s.drop(func(at place, _ *session) bool { return at.family == role })
}

// Of returns the keys of the sessions of a role.
func (s *Sessions) Of(role credential.Key) (keys []credential.Key) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for at, one := range s.all {
		if at.family == role {
			keys = append(keys, one.key)
		}
	}
	return keys
}

// Name is what the upstream is told of the caller of a session; "" for a key
// that is no caller's.
func (s *Sessions) Name(k credential.Key) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if one := s.names[k]; one != nil {
		return one.name
	}
	return ""
}

// Newest returns the keys of up to that many sessions, those first that were
// asked for last.
func (s *Sessions) Newest(most int) (keys []credential.Key) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := slices.SortedFunc(maps.Values(s.all), func(a, b *session) int { return cmp.Compare(b.asked.Load(), a.asked.Load()) })
	for _, one := range all[:min(most, len(all))] {
		keys = append(keys, one.key)
	}
	return keys
}

// Left returns what the process before had for callers who have not asked yet.
func (s *Sessions) Left() map[credential.Key]credential.Credential {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.left)
}

// Move has the sessions go on by another configuration's roles: it makes those
// that these would have for the same callers, and returns their jobs. The ones
// before stay until Moved.
func (s *Sessions) Move(to map[string]*roles.Role) (jobs []rotation.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, one := range maps.Clone(s.all) {
		r := to[one.role]
		if r == nil || len(r.Facts) == 0 || !slices.Equal(known(at), r.Facts) {
			continue // of a session for several callers, no other fact is known
		}
		next, _ := placeOf(r, func(name string) string { return one.who[name] })
		job, err := r.For(one.who)
		if err == nil && next == at {
			s.o.Rotation.Add(job) // the same session, by the new sources
		} else if err == nil {
			_, err = s.add(r, next, one.who, time.Duration(one.asked.Load()))
			jobs = append(jobs, job)
		}
		if err != nil {
			s.o.Log.Warn("a caller's session begins anew with its next request", "role", one.role, "session", one.name, "error", err.Error())
		}
	}
	return jobs
}

// known are the facts that a session is named after, sorted as in roles.Role.
func known(at place) (names []string) {
	for i, name := range caller.Facts() {
		if at.facts[i] != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Moved gives up the sessions that no role of the configuration has.
func (s *Sessions) Moved(to map[string]*roles.Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(func(at place, _ *session) bool {
		for _, r := range to {
			if r.Job.Key == at.family {
				return false
			}
		}
		return true
	})
}

// Run gives up what nobody asks for, until ctx ends.
func (s *Sessions) Run(ctx context.Context) error {
	look := time.NewTicker(min(lookEvery, s.o.Idle))
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			s.retire()
		}
	}
}

func (s *Sessions) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Boot()
	if now-s.begun >= s.o.Idle {
		s.left = nil
	}
	gone := s.drop(func(_ place, one *session) bool { return now-time.Duration(one.asked.Load()) >= s.o.Idle })
	if len(gone) > 0 {
		s.o.Log.Debug("sessions of callers were given up: nobody has asked for them", "sessions", len(gone), "idle", s.o.Idle.String())
	}
}
