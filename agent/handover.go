package agent

import (
	"context"
	"maps"
	"path/filepath"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/estate"
	"github.com/hostrole/hostrole/agent/hostaddr"
	"github.com/hostrole/hostrole/agent/roles"
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
	// callersMost is how many sessions of single callers are handed over. What is
	// handed over has a limit, and is nothing at all beyond that.
	callersMost = 512
	// addressesStay is how long the addresses outlive a process to which the
	// service manager can make a successor.
	addressesStay = 10 * time.Second
)

// keeping says where credentials and tokens outlast this process.
func (a *Agent) keeping(cfg *config.Config) estate.Options {
	o := estate.Options{Log: a.log, Now: Now, Boot: Boot, BootID: bootID(), RuntimeDir: filepath.Dir(cfg.Admin.Socket)}
	if r := cfg.Rotation.RebootFile; r != nil {
		o.Reboot = estate.Reboot{Path: r.File, Machine: a.host.MachineID,
			Secret: func() (credential.Secret, error) { return roles.Environment(a.o.Environ).Secret(*r.Key) }}
	}
	return o
}

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
	if err == nil {
		a.troubles.Clear("handover")
		return
	}
	a.troubles.Set("handover", "what is live cannot be kept for the next process, which will begin without it: "+err.Error(), Now())
	if a.recording.changed("handover", err.Error(), 0) {
		a.log.Warn("a restart will begin without credentials and tokens", logError, err.Error())
	}
}

// live are the credentials that are served by the configuration at work.
func (a *Agent) live() map[credential.Key]credential.Credential {
	a.mu.Lock()
	g := a.current
	a.mu.Unlock()
	live := a.sessions.Left()
	if live == nil {
		live = map[credential.Key]credential.Credential{}
	}
	maps.DeleteFunc(live, func(_ credential.Key, c credential.Credential) bool { return !c.Live(Now(), Boot()) })
	keys := a.sessions.Newest(max(0, callersMost-len(live)))
	for _, j := range g.jobs() {
		keys = append(keys, j.Key)
	}
	for _, k := range keys {
		if e := a.manager.Entry(k); e != nil && e.Credential.Live(Now(), Boot()) {
			live[k] = e.Credential
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

// watch feeds the watchdog for as long as every listener takes connections.
// Handlers that hang fill the listener's places, so that it does not. Nothing of
// it looks at an upstream.
func (a *Agent) watch(ctx context.Context) error {
	interval, err := systemd.Interval()
	if err != nil {
		a.tell(err)
	}
	systemd.Watch(ctx, interval, func(since time.Duration) bool { return a.pulses.Beating(Boot(), since) }, a.tell)
	return nil
}
