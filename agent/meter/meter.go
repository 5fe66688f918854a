// Package meter turns the events of the daemon's parts into counts, and tells the
// metrics at each scrape how the daemon fares.
//
// # Why not
//
// Not in the parts: none of them knows that it is counted. Not in the metrics:
// they know names and numbers, and no event of a part. Not a label for a
// caller, a session or a name that somebody asked for: their number has no end.
package meter

import (
	"context"
	"errors"
	"log/slog"

	"net"
	"net/netip"

	"sync"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/hostaddr"
	"github.com/hostrole/hostrole/agent/metrics"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/rotation"
)

// Options are required, all of them, but for Version and Revision.
type Options struct {
	Log               *slog.Logger
	Version, Revision string                // of the program, "" is unknown
	Config            *config.Config        // that is put to work first
	AtWork            func() *config.Config // the one that requests are answered by
	Roles             func() []admin.Role   // how they fare
	Now               func() time.Time      // wall clock
}

// A Meter counts for one daemon. It may be used concurrently.
type Meter struct {
	o       Options
	metrics *metrics.Metrics

	mu     sync.Mutex
	claims []*hostaddr.Claim // guarded by mu
	read   *config.Config    // guarded by mu: the newest; nil when it could not be read
	readAt time.Time         // guarded by mu: when it was
	since  time.Time         // guarded by mu: when that was read which was last seen at work

	servers map[string]*imds.Server // guarded by mu: by listener
}

// New returns a Meter for the listeners of a configuration.
func New(o Options) *Meter {
	m := &Meter{o: o, read: o.Config, readAt: o.Now(), since: o.Now()}
	mo := metrics.Options{
		Log: o.Log, Version: o.Version, Revision: o.Revision,
		Roles: m.roles, Config: m.config, Missing: m.missing, Connections: m.connections,
	}
	for _, l := range o.Config.Listeners {
		mo.Listeners = append(mo.Listeners, metrics.Listener{Name: l.Name, Endpoint: l.Kind})
	}
	m.metrics = metrics.New(mo)
	return m
}

// Metrics are what is counted into.
func (m *Meter) Metrics() *metrics.Metrics { return m.metrics }

// Open opens an address that metrics are served on, and returns what serves
// until its context ends; nil where they are not served. Like the operator's
// socket, it is nothing that workloads need.
func (m *Meter) Open(ctx context.Context, at string) (serve func(context.Context) error, closeSocket func()) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
	if err != nil {
		m.o.Log.Error("metrics are not served; everything else is", "error", err.Error(), "hint", "see [admin] metrics in the configuration")
		return nil, func() {}
	}
	if a, err := netip.ParseAddrPort(l.Addr().String()); err == nil && !a.Addr().IsLoopback() {
		m.o.Log.Warn("metrics are shown to all who can reach their address: they have the names of roles, and no secret", "address", at)
	}
	serve = func(ctx context.Context) error {
		if err := m.metrics.Serve(ctx, l); err != nil {
			m.o.Log.Error("metrics are not served any more; everything else is", "error", err.Error())
		}
		<-ctx.Done()
		return nil
	}
	return serve, func() { _ = l.Close() }
}

// Watch has the addresses of claims counted from now on.
func (m *Meter) Watch(claims []*hostaddr.Claim) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims = claims
}

// Serving has the connections of a listener's server counted from now on.
func (m *Meter) Serving(listener string, s *imds.Server) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.servers == nil {
		m.servers = map[string]*imds.Server{}
	}
	m.servers[listener] = s
}

func (m *Meter) connections(listener string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.servers[listener]; s != nil {
		return s.Connections()
	}
	return 0
}

func (m *Meter) missing() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.claims {
		n += len(c.Lost())
	}
	return n
}

func (m *Meter) roles() (all []metrics.Role) {
	for _, said := range m.o.Roles() {
		one := metrics.Role{
			Name: said.Name, Live: said.State.Served(), Revoked: said.State == admin.Revoked, Failures: said.Failures,
			Endless: said.Credential != "" && said.Expires == nil,
		}
		if said.Callers != nil {
			one.Callers, one.Sessions = true, said.Callers.Sessions
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

// Load is a function that reads the configuration, and is watched.
func (m *Meter) Load(load func() (*config.Config, error)) func() (*config.Config, error) {
	if load == nil {
		return nil
	}
	return func() (*config.Config, error) {
		m.config() // remembers since when that is at work which is
		cfg, err := load()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.read, m.readAt = cfg, m.o.Now() // nil with an error: that is not at work
		return cfg, err
	}
}

// config compares what was read last with what is at work: a configuration is
// put to work whole, or not at all.
func (m *Meter) config() metrics.Config {
	cfg := m.o.AtWork()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.read == cfg {
		m.since = m.readAt
	}
	return metrics.Config{AtWork: m.read == cfg, Since: m.since}
}

// Attempted counts an attempt to renew a credential.
func (m *Meter) Attempted(e rotation.Event) {
	m.metrics.Renewal(e.Name, e.Class.String(), e.Took)
	if p := new(rotation.PanicError); errors.As(e.Err, &p) {
		m.metrics.Panic(metrics.InRenewal)
	}
}

// Decided counts a decision; unrecorded is why its credential was kept back.
func (m *Meter) Decided(e gate.Event, unrecorded error) {
	how := metrics.NotReady
	switch {
	case e.Err == nil && unrecorded == nil:
		how = metrics.Granted
	case errors.Is(e.Err, gate.ErrDenied):
		how = metrics.Denied
	case errors.Is(e.Err, gate.ErrRefused):
		how = metrics.Refused
	}
	m.metrics.Decision(e.Endpoint, how, Denial(e))
}

// Denial is why a decision was a denial, if it was one.
func Denial(e gate.Event) string {
	switch {
	case errors.Is(e.Err, gate.ErrRejected):
		return metrics.Rejected
	case len(e.Verdict.Roles) > 0:
		return metrics.OtherRole
	case e.Verdict.Missing != "":
		return metrics.MissingFact
	case e.Caller.Known():
		return metrics.NoRule
	}
	return metrics.UnknownCaller
}

// Exchange counts a request and its answer.
func (m *Meter) Exchange(e imds.Exchange) {
	if e.Panic != nil {
		m.metrics.Panic(metrics.InRequest)
	}
	if e.Status != 0 { // a client that hung up has had no answer
		m.metrics.Request(e.Listener, e.Status, e.Took, e.Unknown == nil)
	}
}

// Address counts what befell an address.
func (m *Meter) Address(e hostaddr.Event) {
	word := map[hostaddr.Kind]string{
		hostaddr.PutBack: metrics.PutBack, hostaddr.Lost: metrics.Lost, hostaddr.Restored: metrics.Restored,
		hostaddr.Rival: metrics.Rival, hostaddr.Exposed: metrics.Exposed, hostaddr.Deaf: metrics.Deaf,
	}[e.Kind]
	m.metrics.Address(word, e.Count)
}

// Identifier counts connections: each is asked about once, when it begins.
func (m *Meter) Identifier(who imds.Identifier) imds.Identifier { return counted{who, m.metrics} }

type counted struct {
	imds.Identifier
	to *metrics.Metrics
}

// Identify is of imds.Identifier.
func (c counted) Identify(ctx context.Context, listener string, conn caller.Conn) (caller.Caller, error) {
	c.to.Connection(listener)
	return c.Identifier.Identify(ctx, listener, conn)
}

// Conduct is c with its requests counted while they are worked on.
func (m *Meter) Conduct(listener string, c imds.Conduct) imds.Conduct {
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
