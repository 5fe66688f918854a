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
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/agent/report"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
	"github.com/hostrole/hostrole/imds/document"
	"github.com/hostrole/hostrole/imds/token"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/store"
	"github.com/hostrole/hostrole/systemd"
)

// Options are what an Agent takes from its process.
type Options struct {
	Log     *slog.Logger // required
	Environ []string     // os.Environ() of the process; references of the config are followed in it
	// TrustUserNamespace lets the agent run in a user namespace of its own,
	// where only the uids that are mapped can be told apart.
	TrustUserNamespace bool
	Ready              func()               // called once all listeners serve; nil for nobody
	Renewed            func(rotation.Event) // called after each attempt; nil for nobody
	// Load reads the configuration again, each time that Reload says so.
	Load   func() (*config.Config, error)
	Reload <-chan os.Signal // nil: never
}

// An Agent is a daemon that has been built and not yet run.
type Agent struct {
	o         Options
	log       *slog.Logger
	host      facts.Host
	network   facts.Network
	site      *document.Key // signs the identity document; nil without one
	manager   *rotation.Manager
	tokenKey  []byte
	started   time.Time
	recording *recorder
	recent    report.Recent // decisions, for status

	mu      sync.Mutex // held while a configuration is put to work
	current *generation
	servers map[string]*imds.Server // by the names of the listeners that serve
}

// New builds the parts of cfg. It listens on nothing, starts nothing, and leaves
// the host as it is, but for the site key, which it makes when the state
// directory has none; it does read the files that cfg names. Its error is a
// [config.Faults] where the operator can mend it.
func New(cfg *config.Config, o Options) (*Agent, error) {
	a := &Agent{o: o, log: o.Log, host: facts.Read(), tokenKey: token.NewKey(), started: Now(), servers: map[string]*imds.Server{}}
	a.recording = newRecorder(o.Log, Now)
	a.site = a.siteKey(cfg)
	g, err := a.build(cfg)
	if err != nil {
		return nil, err
	}
	a.current = g
	a.manager = rotation.New(&store.Store{}, rotation.Options{
		RefreshAfter: time.Duration(cfg.Rotation.RefreshAfter),
		Splay:        time.Duration(cfg.Rotation.Splay),
		Parallel:     cfg.Rotation.Parallel,
		Now:          Now, Boot: Boot, Draw: rand.Float64,
		Observe: a.attempted,
	}, g.jobs())
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

	if err := a.recording.open(a.current.cfg.Audit); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.recording.close()) }()

	// Sockets first: a second daemon fails at the port and never touches the
	// addresses of the first. They come to life with their addresses.
	tasks, closeAll, err := a.listen(ctx, caller.Chain{identify})
	defer closeAll()
	if err != nil {
		return err
	}
	claims, err := a.claim(ctx)
	// Addresses go last, after every listener is drained.
	defer func() {
		for _, c := range claims {
			err = errors.Join(err, c.Release())
		}
	}()
	if err != nil {
		return err
	}
	operator, closeOperator := a.operate(ctx, claims, tasks)
	defer closeOperator()
	tasks = append(tasks, operator...)
	for _, c := range claims {
		tasks = append(tasks, task{"keeper of the addresses", c.Run})
	}
	tasks = append(tasks, task{"rotation", func(ctx context.Context) error { a.manager.Run(ctx); return nil }})
	if a.o.Reload != nil {
		tasks = append(tasks, task{"reload", a.reloads})
	}
	tasks = append(tasks, task{"service manager", func(ctx context.Context) error { a.ready(); <-ctx.Done(); a.stopping(); return nil }})
	return supervise(ctx, tasks...)
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
