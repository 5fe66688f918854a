// Package runtime says what a container that the kernel has named is called:
// its name, image, labels and pod, by the word of the runtime that made it.
//
// # Why not
//
// Not the runtime's word on who calls: it is asked about the id that the kernel
// has given, and believed only about that one. Not a list of its containers by
// address: the next one gets the address of the last. Not a client library of
// Docker's, Podman's or the CRI's: two GETs of documents with six fields would
// bring hundreds of packages, among them gRPC, into a process that holds keys.
// Not containerd's own socket: it speaks gRPC only, and where it matters the
// kubelet has a list in JSON. Not the kubelet's port without TLS: any user may
// listen there while the kubelet is away. Not a rootless engine's socket: what
// it says is the word of its user. Not a stream of events: a stream that stalls
// looks like one in which nothing happens.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/hostrole/hostrole/imds/caller"
)

// Why a container has no names. Their texts are stable.
var (
	// ErrUnavailable matches a runtime that gave no answer in time.
	ErrUnavailable = errors.New("the container runtime did not answer")
	// ErrUnknown matches a runtime that does not know the container.
	ErrUnknown = errors.New("the container runtime does not know the container")
	// ErrRefused matches an answer that is not believed: about another
	// container, too long, no answer of this kind, or from a process that is
	// neither root's nor of our own user.
	ErrRefused = errors.New("the container runtime's answer does not count")
)

const (
	// patience is how long a request whose rule needs a name waits at most:
	// SDKs give it half a second in all.
	patience = 300 * time.Millisecond
	// endurance is how long a question may take. Podman's service starts when
	// it is asked; the caller's next request, a moment later, waits for the
	// same answer.
	endurance = 2 * time.Second
	// fresh is how long an answer is not asked for again: Docker's containers
	// can be renamed, and the labels of a pod change.
	fresh = 10 * time.Second
	// again is fresh for containers that the runtime does not know: the
	// kubelet lists those that have just begun a moment later.
	again = time.Second
	// restAtLeast and restAtMost are how long a runtime that failed is left
	// alone, twice as long each time.
	restAtLeast, restAtMost = time.Second, 30 * time.Second
	// slots is how many questions one runtime is asked at once.
	slots = 8
	// keptAtMost is how many containers are remembered.
	keptAtMost = 4096
)

// Options of an Enricher.
type Options struct {
	Docker  string  // socket of Docker's API; "" is not asked
	Podman  string  // socket of Podman's API for the whole system; "" is not asked
	Kubelet Kubelet // the zero Kubelet is not asked
	// Boot is the time since boot; required.
	Boot func() time.Duration
	// Alive reports whether a cgroup is there still; required. What is known of
	// a container is forgotten with its cgroup.
	Alive func(cgroup uint64) bool
	// Failed is told why a runtime could not be asked, each time that it is
	// left alone for it; nil for nobody.
	Failed func(runtime string, err error)
}

// An Enricher adds ContainerName, Image, ImageDigest, Labels, Namespace and
// ServiceAccount to callers whose Container the kernel has told and whose
// Runtime is asked. Without an answer they stay as they are: rules that need
// them match nobody. It may be used concurrently.
type Enricher struct {
	o        Options
	asked    map[string]*source // by Runtime
	patience time.Duration
	flight   singleflight.Group

	mu    sync.Mutex
	known map[uint64]entry // by cgroup
}

// An entry is what was last said of the container in a cgroup, which has one
// container all its life.
type entry struct {
	facts
	told bool          // false: the runtime does not know it
	at   time.Duration // since boot
}

// holds reports whether n is not asked for again yet.
func (n entry) holds(now time.Duration) bool {
	age := now - n.at
	return n.at > 0 && (n.told && age < fresh || age < again)
}

// facts are what a runtime says of one container.
type facts struct {
	name, image, digest       string
	labels                    map[string]string
	namespace, serviceAccount string
}

// A source is one runtime.
type source struct {
	name  string
	ask   func(ctx context.Context, id string) (facts, error)
	slots chan struct{}

	mu   sync.Mutex
	rest time.Duration // how long it is left alone after the next failure
	till time.Duration // until when it is left alone, since boot
}

// New returns an Enricher. It asks nobody before it has to. Its error is about
// the options of the kubelet.
func New(o Options) (*Enricher, error) {
	e := &Enricher{o: o, asked: map[string]*source{}, patience: patience, known: map[uint64]entry{}}
	add := func(ask func(context.Context, string) (facts, error), name string, runtimes ...string) {
		s := &source{name: name, ask: ask, slots: make(chan struct{}, slots), rest: restAtLeast}
		for _, r := range runtimes {
			e.asked[r] = s
		}
	}
	if o.Docker != "" {
		add(engine{o.Docker}.ask, "docker", "docker")
	}
	if o.Podman != "" {
		add(engine{o.Podman}.ask, "podman", "podman")
	}
	if o.Kubelet != (Kubelet{}) {
		k, err := newKubelet(o.Kubelet, o.Boot)
		if err != nil {
			return nil, err
		}
		add(k.ask, "kubelet", "containerd", "cri-o", "kubernetes")
	}
	return e, nil
}

// Enrich asks the runtime that made the caller's container, or remembers what
// it said. It takes 300 ms at most, and never fails: names are extra.
func (e *Enricher) Enrich(ctx context.Context, _ caller.Conn, who *caller.Caller) error {
	// One that is inside of another is known to an engine in there.
	if who.Container == "" || strings.Contains(who.Container, "/") || who.Cgroup <= 1 {
		return nil
	}
	s := e.asked[who.Runtime]
	if s == nil {
		return nil
	}
	f := e.find(ctx, s, who.Cgroup, who.Container)
	who.ContainerName, who.Image, who.ImageDigest, who.Labels = f.name, f.image, f.digest, f.labels
	who.Namespace, who.ServiceAccount = f.namespace, f.serviceAccount
	return nil
}

// find returns what is known of the container in a cgroup.
func (e *Enricher) find(ctx context.Context, s *source, cgroup uint64, id string) facts {
	was, now := e.recall(cgroup), e.o.Boot()
	if was.holds(now) || s.rests(now) {
		return was.facts
	}
	// Who asks first may go away, and those who wait with him may not.
	answer := e.flight.DoChan(fmt.Sprint(cgroup), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endurance)
		defer cancel()
		if !e.recall(cgroup).holds(e.o.Boot()) { // else the one before has just ended
			e.look(ctx, s, cgroup, id)
		}
		return nil, nil
	})
	enough := time.NewTimer(e.patience)
	defer enough.Stop()
	select {
	case <-answer:
	case <-enough.C:
	case <-ctx.Done():
	}
	return e.recall(cgroup).facts
}

// look asks s and notes what it says. A runtime that fails takes nothing back
// of what it said before: the container is there still, by the kernel's word,
// and only the runtime could have made it another one's.
func (e *Enricher) look(ctx context.Context, s *source, cgroup uint64, id string) {
	f, err := s.askInTurn(ctx, id)
	switch {
	case err == nil:
		e.note(cgroup, entry{facts: f, told: true, at: e.o.Boot()})
		s.answered()
	case errors.Is(err, ErrUnknown):
		e.note(cgroup, entry{at: e.o.Boot()})
		s.answered()
	default:
		if s.failed(e.o.Boot()) && e.o.Failed != nil {
			e.o.Failed(s.name, fmt.Errorf("asking %s about container %.12s: %w", s.name, id, err))
		}
	}
}

func (e *Enricher) recall(cgroup uint64) entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.known[cgroup]
}

// note remembers an entry. What is new makes room: everything about cgroups
// that have gone goes.
func (e *Enricher) note(cgroup uint64, n entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, is := e.known[cgroup]; !is {
		for other := range e.known {
			if !e.o.Alive(other) || len(e.known) >= keptAtMost {
				delete(e.known, other)
			}
		}
	}
	e.known[cgroup] = n
}

// askInTurn is ask, of so many at once at most.
func (s *source) askInTurn(ctx context.Context, id string) (facts, error) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return facts{}, fmt.Errorf("%w: %d others wait for it: %w", ErrUnavailable, slots, ctx.Err())
	}
	defer func() { <-s.slots }()
	return s.ask(ctx, id)
}

// rests reports whether s is left alone for now.
func (s *source) rests(now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now < s.till
}

func (s *source) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest, s.till = restAtLeast, 0
}

// failed leaves s alone for a while, and reports whether it was not before.
func (s *source) failed(now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now < s.till {
		return false // others that had begun before
	}
	s.till = now + s.rest
	s.rest = min(2*s.rest, restAtMost)
	return true
}
