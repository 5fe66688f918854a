// Package cgroup says in which systemd unit and in which container a caller
// runs, by the cgroup that the kernel named.
//
// # Why not
//
// Not /proc/PID/cgroup: a pid is found by a racy scan, and a process may have
// moved since it made its socket. Not open_by_handle_at, which finds a cgroup
// at once: it needs CAP_DAC_READ_SEARCH, which opens every file of the host.
// Not a watch on the tree: inotify tells nothing of most of it. Not a runtime's
// API: it is asked about an id that the kernel's word has given, or about
// nothing. Not the innermost unit: whoever owns a cgroup may name what is below
// as he likes. Not the version 1 hierarchies: the kernel speaks of version 2
// only, where on such hosts everybody is in the root.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hostrole/hostrole/imds/caller"
)

// Why nothing is said of a caller's unit and container. Each of them leaves
// the caller unknown: without these facts he could fall through to a rule that
// is not meant for him.
var (
	// ErrUnavailable matches a host without a tree of cgroup v2.
	ErrUnavailable = errors.New("units and containers cannot be told here")
	// ErrUnsaid matches a caller of whose cgroup the kernel says nothing.
	ErrUnsaid = errors.New("the kernel does not say which cgroup the caller is of; it does since Linux 5.8")
	// ErrGone matches a cgroup that is not in the tree any more, or in none
	// that this process sees.
	ErrGone = errors.New("the caller's cgroup is not there")
)

const (
	// pace is how long, in durations of the walk before it, no walk begins.
	pace = 4
	// restAtLeast and restAtMost are the limits of that time.
	restAtLeast, restAtMost = 10 * time.Millisecond, 200 * time.Millisecond
)

// Options of an Enricher.
type Options struct {
	Root string               // where the cgroup v2 tree is; default /sys/fs/cgroup
	Boot func() time.Duration // time since boot; required
}

// An Enricher adds Unit, Slice, Container and Runtime to callers whose Cgroup
// is known. It may be used concurrently.
type Enricher struct {
	root  string
	boot  func() time.Duration
	known atomic.Pointer[map[uint64]place]

	turn  chan struct{} // full while somebody walks, or waits for his turn to
	begun atomic.Uint64 // walks
	whole uint64        // the last walk that came to its end; in turn
	rest  time.Duration // before which no walk begins, since boot; in turn
}

// A place is a cgroup in the tree.
type place struct {
	path string // of the directory, with the root
	facts
}

type facts = Facts

// New returns an Enricher. It looks at nothing before it is asked.
func New(o Options) *Enricher {
	if o.Root == "" {
		o.Root = "/sys/fs/cgroup"
	}
	return &Enricher{root: filepath.Clean(o.Root), boot: o.Boot, turn: make(chan struct{}, 1)}
}

// Available returns an error that matches ErrUnavailable, and says what to do,
// on hosts where rules on units and containers could match nobody, or not
// those that they mean: those with cgroup v1, or with both.
func (e *Enricher) Available() error {
	if err := isTree(e.root); err != nil {
		return fmt.Errorf("%w: %s: %w; boot with cgroup v2 alone (systemd.unified_cgroup_hierarchy=1), and leave out rules on units and containers until then", ErrUnavailable, e.root, err)
	}
	return nil
}

// Partial reports whether the tree is only a part of the host's, as in a
// container with a cgroup namespace of its own. Callers from outside of it are
// unknown to Enrich.
func (e *Enricher) Partial() bool {
	id, err := idOf(e.root)
	return err == nil && id != 1
}

// Enrich adds the facts of the cgroup who.Cgroup. What it has not met yet
// takes one look at the whole tree, which all share who wait for it.
func (e *Enricher) Enrich(ctx context.Context, _ caller.Conn, who *caller.Caller) error {
	if _, known := who.UID.Get(); !known {
		return nil
	}
	f, err := e.find(ctx, who.Cgroup)
	if err != nil {
		return fmt.Errorf("looking for the unit of uid %v: %w", who.UID, err)
	}
	who.Unit, who.Slice, who.Container, who.Runtime = f.Unit, f.Slice, f.Container, f.Runtime
	return nil
}

func (e *Enricher) find(ctx context.Context, id uint64) (Facts, error) {
	if id == 0 {
		return Facts{}, ErrUnsaid
	}
	if p, is := e.lookup(id); is {
		return p.check(id)
	}
	if err := e.refresh(ctx); err != nil {
		return Facts{}, err
	}
	if p, is := e.lookup(id); is {
		return p.check(id)
	}
	return Facts{}, fmt.Errorf("%w: none has the id %d", ErrGone, id)
}

// Alive reports whether a cgroup that a caller was of is there still.
func (e *Enricher) Alive(id uint64) bool {
	p, is := e.lookup(id)
	if !is {
		return false
	}
	_, err := p.check(id)
	return err == nil
}

// ID returns the id of the cgroup at a path from the root of the tree. Its
// error matches ErrGone.
func (e *Enricher) ID(path string) (uint64, error) {
	id, err := idOf(filepath.Join(e.root, path))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrGone, err)
	}
	return id, nil
}

func (e *Enricher) lookup(id uint64) (p place, is bool) {
	if known := e.known.Load(); known != nil {
		p, is = (*known)[id]
	}
	return p, is
}

// check returns the facts of p, if it is still there. Ids are not used again,
// and directories are not renamed: another id means that this one has gone.
func (p place) check(id uint64) (Facts, error) {
	switch got, err := idOf(p.path); {
	case err != nil:
		return Facts{}, fmt.Errorf("%w: %w", ErrGone, err)
	case got != id:
		return Facts{}, fmt.Errorf("%w: %s is another one now", ErrGone, p.path)
	}
	return p.facts, nil
}

// refresh returns when a walk has come to its end that began after the call.
// Whoever has ids that are in no tree at his disposal gets no more of this
// machine for it than one part in five of a processor.
func (e *Enricher) refresh(ctx context.Context) error {
	asked := e.begun.Load()
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-e.turn }()
	if e.whole > asked {
		return nil // by somebody who waited as well
	}
	if pause := e.rest - e.boot(); pause > 0 {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	number, start := e.begun.Add(1), e.boot()
	found, err := walk(e.root)
	end := e.boot()
	e.rest = end + min(max(pace*(end-start), restAtLeast), restAtMost)
	if err != nil {
		return fmt.Errorf("walking the tree of cgroups: %w", err)
	}
	e.known.Store(&found)
	e.whole = number
	return nil
}
