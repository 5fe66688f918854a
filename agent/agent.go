// Package agent builds the parts from a config and runs them; it is the only
// package that knows both.
//
// # Why not
//
// Not a registry that parts put themselves into: what exists is what the
// builder names, and a reader finds it there. Not a global logger, clock or
// metric: two agents run in one process in the tests, and must not meet.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/estate"
	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/agent/ingress"
	"github.com/hostrole/hostrole/agent/meter"
	"github.com/hostrole/hostrole/agent/pulse"
	"github.com/hostrole/hostrole/agent/report"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/agent/session"
	"github.com/hostrole/hostrole/agent/watch"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller/cgroup"
	"github.com/hostrole/hostrole/imds/caller/host"
	"github.com/hostrole/hostrole/imds/caller/netns"
	"github.com/hostrole/hostrole/imds/document"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/store"
	"github.com/hostrole/hostrole/systemd"
)

// Options are what an Agent takes from its process.
type Options struct {
	Log     *slog.Logger // required
	Environ []string     // os.Environ() of the process; references of the config are followed in it
	// Version and Revision of the program, for its metrics; "" is unknown.
	Version, Revision string
	// TrustUserNamespace lets the agent run in a user namespace of its own,
	// where only the uids that are mapped can be told apart.
	TrustUserNamespace bool
	Ready              func()               // called once all listeners serve; nil for nobody
	Renewed            func(rotation.Event) // called after each attempt; nil for nobody
	// Load reads the configuration again, each time that Reload says so.
	Load   func() (*config.Config, error)
	Reload <-chan os.Signal // nil: never
	// Files are those that Load would read now. With it, and Load, a change of
	// one is a reload as well.
	Files func() []string
}

// An Agent is a daemon that has been built and not yet run.
type Agent struct {
	o         Options
	log       *slog.Logger
	host      facts.Host
	network   facts.Network
	units     *cgroup.Enricher
	site      *document.Key // signs the identity document; nil without one
	manager   *rotation.Manager
	sessions  *session.Sessions // of single callers
	estate    *estate.Estate
	fresh     chan struct{} // holds one word that a credential was renewed
	tokenKey  []byte
	pulses    pulse.Set                 // of the sockets that are served
	berths    map[string]*ingress.Berth // by the names of what are tasks for other sockets
	started   time.Time
	recording *recorder
	meter     *meter.Meter
	recent    report.Recent // decisions, for status
	history   report.History
	troubles  report.Troubles

	watcher *watch.Watcher // of the files; nil for nobody

	reloading sync.Mutex // held while a configuration is read and put to work

	mu      sync.Mutex // held while a configuration is put to work
	current *generation
	asking  atomic.Pointer[generation] // whose rules say which callers' containers need names
	newest  *config.Config             // that Load returned, at work or not; nil before the first
	servers map[string]*imds.Server    // by the names of the listeners that serve
}

// New builds the parts of cfg. It listens on nothing, starts nothing, and leaves
// the host as it is, but for the site key, which it makes when the state
// directory has none; it does read the files that cfg names. Its error is a
// [config.Faults] where the operator can mend it.
func New(cfg *config.Config, o Options) (*Agent, error) {
	a := &Agent{o: o, log: o.Log, host: facts.Read(), fresh: make(chan struct{}, 1), started: Now(), servers: map[string]*imds.Server{},
		berths: map[string]*ingress.Berth{}}
	a.estate = estate.Inherit(a.keeping(cfg))
	a.tokenKey = a.estate.TokenKey()
	a.meter = meter.New(meter.Options{Log: o.Log, Version: o.Version, Revision: o.Revision, Config: cfg, Now: Now,
		AtWork: func() *config.Config { return a.atWork().cfg }, Roles: a.rolesNow})
	a.o.Load = a.meter.Load(o.Load)
	a.recording = newRecorder(o.Log, Now, a.meter)
	a.recording.troubles = &a.troubles
	a.units = cgroup.New(cgroup.Options{Boot: Boot})
	var err error
	if a.site, err = a.siteKey(cfg); err != nil {
		return nil, err
	}
	g, err := a.build(cfg)
	if err != nil {
		return nil, err
	}
	a.current = g
	a.asking.Store(g)
	a.watcher = a.follow()
	outcomes := &store.Store{}
	left := a.estate.Restore(outcomes, g.jobs())
	a.manager = rotation.New(outcomes, rotation.Options{
		RefreshAfter: time.Duration(cfg.Rotation.RefreshAfter),
		Splay:        time.Duration(cfg.Rotation.Splay),
		Parallel:     cfg.Rotation.Parallel,
		Now:          Now, Boot: Boot, Host: a.host.MachineID,
		Observe: a.renewed,
	}, g.jobs())
	a.sessions = session.New(session.Options{Rotation: a.manager, Store: outcomes, Log: o.Log, Now: Now, Boot: Boot}, left)
	return a, nil
}

// Run claims the addresses, serves and renews until ctx ends; then it drains
// and takes the addresses off. When it returns, nothing of it is left.
func (a *Agent) Run(ctx context.Context) (err error) {
	roles.Environment(a.o.Environ).Forget()
	defer func() { err = errors.Join(err, a.network.Close()) }()
	identify, err := host.New(host.Options{TrustUserNamespace: a.o.TrustUserNamespace})
	if err != nil {
		return fmt.Errorf("asking the kernel who calls: %w", err)
	}
	defer func() { err = errors.Join(err, identify.Close()) }()
	if err := identify.Probe(ctx); err != nil {
		return fmt.Errorf("asking the kernel who calls: %w", err)
	}
	behind := netns.New(identify)
	defer func() { err = errors.Join(err, behind.Close()) }()

	if err := a.recording.open(a.current.cfg.Audit); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.recording.close()) }()

	defer a.estate.Close()
	a.leave()
	// Sockets first: a second daemon fails at the port and never touches the
	// addresses of the first. They come to life with their addresses.
	undo, err := a.provide()
	if err != nil {
		return err
	}
	tasks, closeAll, err := a.listen(ctx, identify, behind)
	defer closeAll()
	if err != nil {
		return errors.Join(err, undo())
	}
	redirects, err := a.redirect()
	defer func() {
		for _, r := range redirects {
			err = errors.Join(err, r.Release())
		}
	}()
	if err != nil {
		return errors.Join(err, undo())
	}
	claims, err := a.claim(ctx)
	// Addresses go last, after every listener is drained.
	defer func() {
		for _, c := range claims {
			err = errors.Join(err, a.release(c))
		}
	}()
	if err != nil {
		return errors.Join(err, undo())
	}
	a.meter.Watch(claims)
	measured, closeMetrics := a.measure(ctx)
	defer closeMetrics()
	operator, closeOperator := a.operate(ctx, claims, tasks)
	defer closeOperator()
	tasks = append(append(tasks, operator...), measured...)
	for _, c := range claims {
		tasks = append(tasks, task{"keeper of the addresses", c.Run})
	}
	for _, r := range redirects {
		tasks = append(tasks, task{"keeper of the redirect", r.Run})
	}
	tasks = append(tasks, task{"rotation", func(ctx context.Context) error { a.manager.Run(ctx); return nil }}, task{"sessions of callers", a.sessions.Run})
	if a.o.Reload != nil {
		tasks = append(tasks, task{"reload", a.reloads})
	}
	if a.watcher != nil {
		tasks = append(tasks, task{"watcher of the files", a.watcher.Run})
	}
	tasks = append(tasks, task{"news of the network", a.reconnects}, task{"handover", a.handsOver}, task{"watchdog", a.watch})
	tasks = append(tasks, task{"service manager", func(ctx context.Context) error { a.ready(); <-ctx.Done(); a.stopping(); return nil }})
	err = supervise(ctx, tasks...)
	a.leave()
	return err
}

func (a *Agent) ready() {
	a.warn(a.current.cfg)
	a.log.Info("serving", "roles", len(a.current.roles), "listeners", len(a.current.cfg.Listeners))
	a.tell(systemd.Ready(a.current.summary()))
	if a.o.Ready != nil {
		a.o.Ready()
	}
}

func (a *Agent) warn(cfg *config.Config) {
	for _, w := range cfg.Warnings {
		a.log.Warn(w.Problem, "at", w.Key, "hint", w.Hint)
	}
}

// tell logs that the service manager could not be told something.
func (a *Agent) tell(err error) {
	if err != nil {
		a.log.Warn("telling the service manager", logError, err)
	}
}

func (a *Agent) stopping() {
	_ = systemd.Stopping()
	a.log.Info("stopping: answering what is open")
}
