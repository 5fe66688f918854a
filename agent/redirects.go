package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/occupant"
	"github.com/hostrole/hostrole/agent/redirect"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/systemd"
)

// redirect leads the callers of listeners that say so past whoever has port 80.
// An address that cannot be redirected is logged, as long as there is another.
func (a *Agent) redirect() (made []*redirect.Redirect, err error) {
	var order []netip.Addr
	devices := map[netip.Addr][]string{}
	for _, l := range a.current.cfg.Listeners {
		for _, at := range l.Address {
			if !l.Redirect {
				continue
			}
			if devices[at.Addr()] == nil {
				order = append(order, at.Addr())
			}
			devices[at.Addr()] = append(devices[at.Addr()], deviceFor(l))
		}
	}
	owners := map[string]syscall.Conn{}
	var lost []error
	for _, addr := range order {
		o := redirect.Options{Addr: addr, Devices: devices[addr], Observe: func(e redirect.Event) { a.log.Warn(e.String()) }}
		r, err := redirect.New(o)
		if errors.Is(err, redirect.ErrHeld) && a.estate.DropTables() {
			// The process before ended between its own table and that of the one
			// before it: both names are taken, by what nobody needs.
			a.tell(systemd.Settle())
			r, err = redirect.New(o)
		}
		if err != nil {
			lost = append(lost, err)
			continue
		}
		made = append(made, r)
		if r.Owned() {
			owners[r.Table()] = r
		}
	}
	a.estate.KeepTables(owners)
	if len(order) > 0 && len(made) == 0 {
		return nil, errors.Join(lost...)
	}
	for _, err := range lost {
		a.log.Error("an address is not served; the others are", logError, err.Error())
	}
	return made, nil
}

// taken adds to an error of listening who has the port, and what to do.
func (a *Agent) taken(ctx context.Context, l config.Listener, at netip.AddrPort, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	holders, why := occupant.Of(at)
	if why != nil {
		return fmt.Errorf("%w; who it is could not be found out: %w", err, why)
	}
	apart := at.Port() == redirect.From && !l.Redirect
	for _, h := range holders {
		who := caller.Caller{UID: caller.NewID(h.UID), Cgroup: h.Cgroup}
		_ = a.units.Enrich(ctx, caller.Conn{}, &who) // what cannot be told is not named
		where := ""
		if who.Unit != "" {
			where = " in " + who.Unit
		}
		err = fmt.Errorf("%w; it is %v%s", err, h, where)
		apart = apart && h.Program != "hostrole"
	}
	if apart {
		err = fmt.Errorf("%w; write redirect = true in this listener to be served beside it, or have it listen on addresses of its own", err)
	}
	return err
}
