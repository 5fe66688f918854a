package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/agent/hostaddr"
	"github.com/hostrole/hostrole/agent/ingress"
	"github.com/hostrole/hostrole/agent/pulse"
	"github.com/hostrole/hostrole/agent/redirect"
	"github.com/hostrole/hostrole/imds"
)

// berthsOf are where a listener is served whose devices may come and go: one for
// each of its addresses.
func (a *Agent) berthsOf(l config.Listener, srv *imds.Server) (all []*ingress.Berth) {
	for _, at := range l.Address {
		b := &ingress.Berth{
			Name: l.Name, Ingress: bindFor(l),
			Open: func(ctx context.Context, device string) (net.Listener, error) {
				opened, err := a.estate.Listen(ctx, socketFor(l, at), device)
				if err != nil {
					return nil, a.taken(ctx, l, socketFor(l, at), err)
				}
				if l.Redirect {
					opened = redirect.Behind(opened)
				}
				return opened, nil
			},
			Serve: func(ctx context.Context, socket net.Listener) error {
				p := pulse.New(socket, Boot)
				a.pulses.Add(p)
				defer a.pulses.Remove(p)
				return srv.Serve(ctx, p)
			},
			Forget: func(device string) { a.estate.Forget(socketFor(l, at), device) },
		}
		for _, other := range a.current.cfg.Listeners {
			if other.Name == l.Name {
				break
			}
			for _, theirs := range other.Address {
				if socketFor(other, theirs) == socketFor(l, at) {
					b.Before = append(b.Before, bindFor(other))
				}
			}
		}
		a.berths[socketTask(l.Name, at)] = b
		all = append(all, b)
	}
	return all
}

// moor opens the sockets on the devices that there are. A listener that has
// devices, and could be served on none of its addresses, is an error.
func (a *Agent) moor(ctx context.Context, follower *ingress.Follower, berths []*ingress.Berth) error {
	lost, err := follower.Open(ctx)
	if err != nil {
		return err
	}
	failed := map[string][]error{}
	of := map[string]int{}
	for _, b := range berths {
		of[b.Name]++
		if err := lost[b]; err != nil {
			failed[b.Name] = append(failed[b.Name], err)
		}
	}
	var all []error
	for name, errs := range failed {
		if len(errs) == of[name] {
			all = append(all, fmt.Errorf("listener %q: %w", name, errors.Join(errs...)))
		}
	}
	return errors.Join(all...)
}

// devices puts a word into news each time that links have changed.
func (a *Agent) devices(ctx context.Context, news chan<- struct{}) error {
	// Who waits for a network waits for a caller's first request as well.
	err := facts.Changes(ctx, facts.Links, 20*time.Millisecond, func() {
		select {
		case news <- struct{}{}:
		default: // one waits there
		}
	})
	if err != nil {
		a.log.Warn("devices that come and go are noticed late", logError, err.Error())
	}
	<-ctx.Done()
	return nil
}

// homeOf is the link on which the callers of l on this host arrive, if it is
// not lo: the kernel takes the link that has the address for where they come
// from.
func homeOf(l config.Listener) string {
	if l.ManageAddress != nil && !*l.ManageAddress || l.Link == "lo" || l.Link == "" || deviceFor(l) != "lo" {
		return ""
	}
	return l.Link
}

// provide sees to it that there are the links that have addresses, to which
// sockets will be bound.
func (a *Agent) provide() (undo func() error, err error) {
	var all []func() error
	undo = func() (err error) {
		for _, one := range all {
			err = errors.Join(err, one())
		}
		return err
	}
	homes := map[string]bool{}
	for _, l := range a.current.cfg.Listeners {
		if home := homeOf(l); home != "" && !homes[home] {
			one, err := hostaddr.Provide(home)
			if err != nil {
				return undo, errors.Join(err, undo())
			}
			all = append(all, one)
			homes[home] = true
		}
	}
	return undo, nil
}
