package agent

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/hostaddr"
	"github.com/hostrole/hostrole/agent/metrics"
	"github.com/hostrole/hostrole/agent/report"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/rotation"
)

// A meter turns the events of an agent's parts into counts, and tells the
// metrics at each scrape how the agent fares.
type meter struct {
	a       *Agent
	metrics *metrics.Metrics

	mu     sync.Mutex
	claims []*hostaddr.Claim // guarded by mu
	read   *config.Config    // guarded by mu: the newest; nil when it could not be read
	readAt time.Time         // guarded by mu: when it was
	since  time.Time         // guarded by mu: when that was read which was last seen at work
}

func newMeter(a *Agent, cfg *config.Config) *meter {
	m := &meter{a: a, read: cfg, readAt: Now(), since: Now()}
	o := metrics.Options{
		Log: a.log, Version: a.o.Version, Revision: a.o.Revision,
		Roles: m.roles, Config: m.config, Missing: m.missing,
	}
	for _, l := range cfg.Listeners {
		o.Listeners = append(o.Listeners, metrics.Listener{Name: l.Name, Endpoint: l.Kind})
	}
	m.metrics = metrics.New(o)
	return m
}

// open returns the task that answers on the address of the configuration, if it
// has one. Like the operator's socket, it is nothing that workloads need.
func (m *meter) open(ctx context.Context) (tasks []task, closeSocket func()) {
	at := m.a.current.cfg.Admin.Metrics
	if at == "" {
		return nil, func() {}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
	if err != nil {
		m.a.log.Error("metrics are not served; everything else is", logError, err.Error(), "hint", "see [admin] metrics in the configuration")
		return nil, func() {}
	}
	if a, err := netip.ParseAddrPort(l.Addr().String()); err == nil && !a.Addr().IsLoopback() {
		m.a.log.Warn("metrics are shown to all who can reach their address: they have the names of roles, and no secret", "address", at)
	}
	serve := func(ctx context.Context) error {
		if err := m.metrics.Serve(ctx, l); err != nil {
			m.a.log.Error("metrics are not served any more; everything else is", logError, err.Error())
		}
		<-ctx.Done()
		return nil
	}
	return []task{{"metrics", serve}}, func() { _ = l.Close() }
}

// watch has the addresses of claims counted from now on.
func (m *meter) watch(claims []*hostaddr.Claim) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims = claims
}

func (m *meter) missing() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.claims {
		n += len(c.Lost())
	}
	return n
}

// atWork is what requests are answered by.
func (m *meter) atWork() *generation {
	m.a.mu.Lock()
	defer m.a.mu.Unlock()
	return m.a.current
}

func (m *meter) roles() (all []metrics.Role) {
	g, now := m.atWork(), Now()
	for _, name := range slices.Sorted(maps.Keys(g.roles)) {
		r := g.roles[name]
		said := report.Role(r, "", m.a.manager, g.isRevoked(r.Job.Key), now)
		one := metrics.Role{
			Name: name, Live: said.State.Served(), Revoked: said.State == admin.Revoked, Failures: said.Failures,
			Endless: said.Credential != "" && said.Expires == nil,
		}
		if said.Expires != nil {
			one.Expires = *said.Expires
		}
		if said.Left != nil {
			one.Headroom = inSeconds(*said.Left)
		}
		one.Skew = inSeconds(said.Skew)
		all = append(all, one)
	}
	return all
}

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// load is a function that reads the configuration, and is watched.
func (m *meter) load(load func() (*config.Config, error)) func() (*config.Config, error) {
	if load == nil {
		return nil
	}
	return func() (*config.Config, error) {
		m.config() // remembers since when that is at work which is
		cfg, err := load()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.read, m.readAt = cfg, Now() // nil with an error: that is not at work
		return cfg, err
	}
}

// config compares what was read last with what is at work: a configuration is
// put to work whole, or not at all.
func (m *meter) config() metrics.Config {
	cfg := m.atWork().cfg
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.read == cfg {
		m.since = m.readAt
	}
	return metrics.Config{AtWork: m.read == cfg, Since: m.since}
}

func (m *meter) attempted(e rotation.Event) {
	m.metrics.Renewal(e.Name, e.Class.String(), e.Took)
	if p := new(rotation.PanicError); errors.As(e.Err, &p) {
		m.metrics.Panic(metrics.InRenewal)
	}
}

// decided counts a decision; unrecorded is why its credential was kept back.
func (m *meter) decided(e gate.Event, unrecorded error) {
	how := metrics.NotReady
	switch {
	case e.Err == nil && unrecorded == nil:
		how = metrics.Granted
	case errors.Is(e.Err, gate.ErrDenied):
		how = metrics.Denied
	case errors.Is(e.Err, gate.ErrRefused):
		how = metrics.Refused
	}
	m.metrics.Decision(e.Endpoint, how, denial(e))
}

// denial is why a decision was a denial, if it was one.
func denial(e gate.Event) string {
	switch {
	case errors.Is(e.Err, errRejected):
		return metrics.Rejected
	case len(e.Verdict.Roles) > 0:
		return metrics.OtherRole
	case e.Caller.Known():
		return metrics.NoRule
	}
	return metrics.UnknownCaller
}

func (m *meter) exchange(e imds.Exchange) {
	if e.Panic != nil {
		m.metrics.Panic(metrics.InRequest)
	}
	if e.Status != 0 { // a client that hung up has had no answer
		m.metrics.Request(e.Listener, e.Status, e.Took, e.Unknown == nil)
	}
}

func (m *meter) address(e hostaddr.Event) {
	word := map[hostaddr.Kind]string{
		hostaddr.PutBack: metrics.PutBack, hostaddr.Lost: metrics.Lost, hostaddr.Restored: metrics.Restored,
		hostaddr.Rival: metrics.Rival, hostaddr.Exposed: metrics.Exposed, hostaddr.Deaf: metrics.Deaf,
	}[e.Kind]
	m.metrics.Address(word, e.Count)
}

// identifier counts connections: each is asked about once, when it begins.
func (m *meter) identifier(who imds.Identifier) imds.Identifier { return counted{who, m.metrics} }

type counted struct {
	imds.Identifier
	to *metrics.Metrics
}

// Identify is of imds.Identifier.
func (c counted) Identify(ctx context.Context, listener string, conn caller.Conn) (caller.Caller, error) {
	c.to.Connection(listener)
	return c.Identifier.Identify(ctx, listener, conn)
}

// conduct is c with its requests counted while they are worked on.
func (m *meter) conduct(listener string, c imds.Conduct) imds.Conduct {
	c.Handler = timed{c.Handler, m.metrics, listener}
	return c
}

type timed struct {
	imds.Handler
	to       *metrics.Metrics
	listener string
}

// Serve is of imds.Handler.
func (t timed) Serve(ctx context.Context, r *imds.Request) imds.Response {
	t.to.Begin(t.listener)
	defer t.to.End(t.listener)
	return t.Handler.Serve(ctx, r)
}
