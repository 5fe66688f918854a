package ingress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// A Berth is where one address of one listener is served: on each device that
// its ingress means, by a socket of its own.
type Berth struct {
	Name    string // for people
	Ingress string
	// Before are what has the address already: a device that they mean is
	// theirs.
	Before []string
	Open   func(ctx context.Context, device string) (net.Listener, error)
	// Serve serves a socket until ctx ends, and closes it.
	Serve func(ctx context.Context, socket net.Listener) error
	// Forget is told of a socket that is closed because its device has gone, or
	// because it has failed.
	Forget func(device string)

	mu      sync.Mutex
	sockets map[string]*socket // by the names of their devices
	failed  map[string]string  // why there is none
	over    int                // devices that are not served
	waits   bool               // there is none
}

// A socket is open on a device.
type socket struct {
	net.Listener
	index int
	end   func() // ends Serve; nil until it is served
}

// Devices are those on which the Berth has a socket now, sorted.
func (b *Berth) Devices() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.sockets))
}

// Failure is why a device is not served; "" when all are.
func (b *Berth) Failure() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(b.failed)) {
		return fmt.Sprintf("on %s: %s", name, b.failed[name])
	}
	return ""
}

// A Follower has sockets on the devices of its Berths, as they come and go.
type Follower struct {
	log    *slog.Logger
	berths []*Berth
	// Devices lists those of this host. Default: [Devices].
	Devices func() ([]Device, error)
}

// NewFollower returns one that has done nothing yet.
func NewFollower(log *slog.Logger, berths []*Berth) *Follower {
	for _, b := range berths {
		b.sockets, b.failed = map[string]*socket{}, map[string]string{}
	}
	return &Follower{log: log, berths: berths, Devices: Devices}
}

// Open opens sockets on the devices that are there, which Run will serve. For
// each Berth that has a device, and no socket on any, there is an error.
func (f *Follower) Open(ctx context.Context) (lost map[*Berth]error, err error) {
	all, err := f.Devices()
	if err != nil {
		return nil, err
	}
	lost = map[*Berth]error{}
	for _, b := range f.berths {
		if err := f.look(ctx, b, all); err != nil && len(b.Devices()) == 0 {
			lost[b] = err
		}
	}
	return lost, nil
}

// Close closes the sockets that Run does not serve.
func (f *Follower) Close() {
	for _, b := range f.berths {
		b.mu.Lock()
		for name, s := range b.sockets {
			if s.end == nil {
				_ = s.Close()
				delete(b.sockets, name)
			}
		}
		b.mu.Unlock()
	}
}

// everyLook is how often the devices are looked at without news.
const everyLook = 30 * time.Second

// Run serves until ctx ends and all is answered. It looks at the devices each
// time that there are news, and now and then in any case.
func (f *Follower) Run(ctx context.Context, news <-chan struct{}) error {
	every := time.NewTicker(everyLook)
	defer every.Stop()
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		for _, b := range f.berths {
			f.serve(ctx, b, &serving)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		case <-every.C:
		}
		all, err := f.Devices()
		if err != nil {
			f.log.Error("the devices of listeners cannot be looked at; those that there are serve on", "error", err.Error())
			continue
		}
		for _, b := range f.berths {
			_ = f.look(ctx, b, all) // logged
		}
	}
}

// look closes the sockets of b whose devices have gone, and opens those that are
// missing. What goes wrong is logged once.
func (f *Follower) look(ctx context.Context, b *Berth, all []Device) error {
	chosen, over := b.choose(all)
	if over != b.over && over > 0 {
		f.log.Error("a listener has more devices than it can serve: write a narrower ingress", "listener", b.Name, "ingress", b.Ingress, "devices", most, "left out", over)
	}
	b.over = over
	if waits := len(chosen) == 0; waits != b.waits {
		if b.waits = waits; waits {
			f.log.Warn("a listener waits for its device, and serves nobody until then", "listener", b.Name, "ingress", b.Ingress)
		}
	}
	b.mu.Lock()
	var gone []*socket
	for name, s := range b.sockets {
		if !slices.ContainsFunc(chosen, func(d Device) bool { return d.Name == name && d.Index == s.index }) {
			gone = append(gone, s)
			delete(b.sockets, name)
			f.log.Info("a device of a listener is gone", "listener", b.Name, "device", name)
			b.Forget(name)
		}
	}
	for name := range b.failed {
		if !slices.ContainsFunc(chosen, func(d Device) bool { return d.Name == name }) {
			delete(b.failed, name)
		}
	}
	b.mu.Unlock()
	for _, s := range gone {
		s.leave()
	}
	var failed []error
	for _, d := range chosen {
		if err := f.open(ctx, b, d); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// leave closes a socket. What it has accepted is answered.
func (s *socket) leave() {
	if s.end == nil {
		_ = s.Close()
		return
	}
	s.end()
}

// open opens a socket on d, unless there is one.
func (f *Follower) open(ctx context.Context, b *Berth, d Device) error {
	b.mu.Lock()
	s := b.sockets[d.Name]
	b.mu.Unlock()
	if s != nil {
		return nil
	}
	l, err := b.Open(ctx, d.Name)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		if b.failed[d.Name] != err.Error() {
			f.log.Error("a device of a listener is not served", "listener", b.Name, "device", d.Name, "error", err.Error())
			b.failed[d.Name] = err.Error()
		}
		return fmt.Errorf("on %s: %w", d.Name, err)
	}
	delete(b.failed, d.Name)
	b.sockets[d.Name] = &socket{Listener: l, index: d.Index}
	return nil
}

// serve serves the sockets of b that are not served.
func (f *Follower) serve(ctx context.Context, b *Berth, serving *sync.WaitGroup) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, s := range b.sockets {
		if s.end != nil {
			continue
		}
		here, end := context.WithCancel(ctx)
		s.end = end
		f.log.Info("a listener serves", "listener", b.Name, "device", name)
		serving.Go(func() {
			defer end()
			if err := b.Serve(here, s); err != nil && here.Err() == nil {
				f.log.Error("a listener has failed on one device, and is opened anew", "listener", b.Name, "device", name, "error", err.Error())
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.sockets[name] == s {
				delete(b.sockets, name)
				if ctx.Err() == nil {
					b.Forget(name)
				}
			}
		})
	}
}
