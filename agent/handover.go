package agent

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/hostrole/hostrole/agent/hostaddr"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/systemd"
)

const (
	// settleState is the least time between two states: what is renewed within it
	// goes into one.
	settleState = 100 * time.Millisecond
	// everyState is how often it is looked for what no renewal tells of: a role
	// that was revoked or taken out must not come back with a restart.
	everyState = 2 * time.Second
	// addressesStay is how long the addresses outlive a process to which the
	// service manager can make a successor.
	addressesStay = 10 * time.Second
)

// renewed hears of each attempt.
func (a *Agent) renewed(ev rotation.Event) {
	a.attempted(ev)
	if ev.Err == nil {
		select {
		case a.fresh <- struct{}{}:
		default:
		}
	}
}

// leave hands what is live now to the next process. A failure costs no
// request: it is logged when it begins.
func (a *Agent) leave() {
	err := a.estate.Write(a.live())
	if err != nil && a.recording.changed("handover", err.Error(), 0) {
		a.log.Warn("a restart will begin without credentials and tokens", logError, err.Error())
	}
}

// live are the credentials that are served by the configuration at work.
func (a *Agent) live() map[credential.Key]credential.Credential {
	a.mu.Lock()
	g := a.current
	a.mu.Unlock()
	live := map[credential.Key]credential.Credential{}
	for _, j := range g.jobs() {
		if e := a.manager.Entry(j.Key); e != nil && e.Credential.Live(Now(), Boot()) {
			live[j.Key] = e.Credential
		}
	}
	return live
}

// handsOver keeps the state at the service manager as new as the credentials.
func (a *Agent) handsOver(ctx context.Context) error {
	look := time.NewTicker(everyState)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		case <-a.fresh:
		}
		a.leave() // at once: a crash may be near
		settled := time.NewTimer(settleState)
		select {
		case <-settled.C:
		case <-ctx.Done(): // what is renewed until then, Run leaves
		}
		settled.Stop()
	}
}

// release takes the addresses of a claim off, at once, or where there may be a
// successor, a while later.
func (a *Agent) release(c *hostaddr.Claim) error {
	if systemd.Held() {
		return c.Leave(addressesStay)
	}
	return c.Release()
}

// A pulse is a listener that shows whether connections are taken from it.
type pulse struct {
	net.Listener
	away atomic.Int64 // boot time since when nobody waits for a connection; 0 while somebody does
}

func newPulse(l net.Listener) *pulse {
	p := &pulse{Listener: l}
	p.away.Store(int64(Boot()))
	return p
}

// Accept is that of the listener.
func (p *pulse) Accept() (net.Conn, error) {
	p.away.Store(0)
	c, err := p.Listener.Accept()
	p.away.Store(int64(Boot()))
	return c, err
}

// watch feeds the watchdog for as long as every listener takes connections.
// Handlers that hang fill the listener's places, so that it does not. Nothing of
// it looks at an upstream.
func (a *Agent) watch(ctx context.Context) error {
	interval, err := systemd.Interval()
	if err != nil {
		a.tell(err)
	}
	systemd.Watch(ctx, interval, func(since time.Duration) bool { return beating(a.pulses, Boot(), since) }, a.tell)
	return nil
}

// beating reports whether no listener has been left alone for longer than that.
func beating(pulses []*pulse, now, than time.Duration) bool {
	for _, p := range pulses {
		if away := p.away.Load(); away != 0 && now-time.Duration(away) > than {
			return false
		}
	}
	return true
}
