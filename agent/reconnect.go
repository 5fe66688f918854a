package agent

import (
	"context"
	"errors"
	"time"

	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/rotation/source"
)

// resolver is where the host's resolvers are named: with another content, an
// upstream whose name could not be found may be found.
const resolver = "/etc/resolv.conf"

// reconnects has the roles with nothing to serve ask again as soon as the
// network has changed: a host that boots without one does not wait for the end
// of a pause that grew meanwhile.
func (a *Agent) reconnects(ctx context.Context) error {
	var spent tries
	err := facts.Changes(ctx, facts.All, 200*time.Millisecond, func() {
		if spent.may(Boot()) {
			a.again(ctx)
		}
	})
	if err != nil {
		a.log.Debug("a change of the network is not noticed", logError, err.Error())
	}
	<-ctx.Done()
	return nil
}

// tries limits what changes of the network cause: on a host of many containers
// there is one with each of them. They are the boot times of the newest.
type tries [5]time.Duration

// may reports whether one more is allowed now: so many in a minute.
func (t *tries) may(now time.Duration) bool {
	if t[0] != 0 && now-t[0] < time.Minute {
		return false
	}
	copy(t[:], t[1:])
	t[len(t)-1] = now
	return true
}

// again has those roles ask now that have nothing to serve because nobody
// answered. It waits for no answer.
func (a *Agent) again(ctx context.Context) {
	g := a.atWork()
	for _, j := range g.jobs() {
		e := a.manager.Entry(j.Key)
		if e == nil || e.Err == nil || errors.Is(e.Err, source.ErrRefused) || e.Credential.Live(Now(), Boot()) {
			continue
		}
		asked, cancel := context.WithTimeout(ctx, prod)
		_ = a.manager.Renew(asked, j.Key)
		cancel()
	}
}
