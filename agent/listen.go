package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/hostaddr"
	"github.com/hostrole/hostrole/agent/ingress"
	"github.com/hostrole/hostrole/agent/pulse"
	"github.com/hostrole/hostrole/agent/redirect"
	"github.com/hostrole/hostrole/imds/caller/host"
	"github.com/hostrole/hostrole/imds/caller/netns"
)

// claim puts the addresses of the listeners on the host. One address is one
// claim's, however many listeners share it.
func (a *Agent) claim(ctx context.Context) (claims []*hostaddr.Claim, err error) {
	type place struct {
		link   string
		shadow bool
	}
	var places []place
	addrs := map[place][]netip.Addr{}
	for _, l := range a.current.cfg.Listeners {
		if l.ManageAddress != nil && !*l.ManageAddress {
			continue
		}
		at := place{l.Link, l.AllowShadow}
		for _, hp := range l.Address {
			if hp.Addr().IsLoopback() || slices.Contains(addrs[at], hp.Addr()) {
				continue
			}
			if len(addrs[at]) == 0 {
				places = append(places, at)
			}
			addrs[at] = append(addrs[at], hp.Addr())
		}
	}
	for _, at := range places {
		c, err := hostaddr.NewClaim(ctx, hostaddr.Options{Link: at.link, Addrs: addrs[at], AllowShadow: at.shadow, Observe: a.recording.address})
		if err != nil {
			return claims, err
		}
		claims = append(claims, c)
	}
	return claims, nil
}

// listen opens the sockets of all listeners; closeAll closes those that no
// server has taken over. A listener whose other address can be served goes on
// without the one that cannot.
func (a *Agent) listen(ctx context.Context, local *host.Enricher, behind *netns.Enricher) (tasks []task, closeAll func(), err error) {
	var open []net.Listener
	closeAll = func() {
		for _, l := range open {
			_ = l.Close()
		}
	}
	a.estate.KeepOnly(a.current.wants)
	var berths []*ingress.Berth
	for _, l := range a.current.cfg.Listeners {
		who, err := a.identifier(ctx, l, local, behind)
		if err != nil {
			return nil, closeAll, err
		}
		srv := a.server(l, who)
		a.servers[l.Name] = srv
		a.meter.Serving(l.Name, srv)
		if ingress.Comes(bindFor(l)) {
			berths = append(berths, a.berthsOf(l, srv)...)
			continue
		}
		var lost []error
		for _, at := range l.Address {
			opened, err := a.estate.Listen(ctx, socketFor(l, at), bindFor(l))
			if err != nil {
				lost = append(lost, fmt.Errorf("listener %q: %w", l.Name, a.taken(ctx, l, socketFor(l, at), err)))
				continue
			}
			if l.Redirect {
				opened = redirect.Behind(opened)
			}
			socket := pulse.New(opened, Boot)
			a.pulses.Add(socket)
			open = append(open, socket)
			tasks = append(tasks, task{fmt.Sprintf("listener %q on %v", l.Name, at), func(ctx context.Context) error { return srv.Serve(ctx, socket) }})
		}
		if len(lost) == len(l.Address) {
			return nil, closeAll, errors.Join(lost...)
		}
		for _, err := range lost {
			a.log.Error("an address is not served; the others are", logError, err.Error())
		}
	}
	if len(berths) == 0 {
		return tasks, closeAll, nil
	}
	follower := ingress.NewFollower(a.log, berths)
	closeSockets := closeAll
	closeAll = func() { follower.Close(); closeSockets() }
	if err := a.moor(ctx, follower, berths); err != nil {
		return nil, closeAll, err
	}
	news := make(chan struct{}, 1)
	return append(tasks,
		task{"listeners behind devices", func(ctx context.Context) error { return follower.Run(ctx, news) }},
		task{"news of devices", func(ctx context.Context) error { return a.devices(ctx, news) }}), closeAll, nil
}

// bindFor is the device that the sockets of l are bound to; "" for none.
func bindFor(l config.Listener) string {
	if home := homeOf(l); home != "" {
		return home
	}
	return deviceFor(l)
}

// deviceFor is the device on which the callers of l arrive; "" for any.
func deviceFor(l config.Listener) string {
	if l.Ingress == nil {
		return ""
	}
	return *l.Ingress
}

// socketFor is where the socket of an address listens.
func socketFor(l config.Listener, at config.HostPort) netip.AddrPort {
	if l.Redirect {
		return netip.AddrPortFrom(at.Addr(), redirect.Port)
	}
	return at.AddrPort
}

// wants reports whether a listener has this address and device.
func (g *generation) wants(at netip.AddrPort, device string) bool {
	return slices.ContainsFunc(g.cfg.Listeners, func(l config.Listener) bool {
		return ingress.Names(bindFor(l), device) && slices.ContainsFunc(l.Address, func(hp config.HostPort) bool { return socketFor(l, hp) == at })
	})
}
