package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/watch"
)

// follow makes the watcher of all files that the daemon reads, or nil when it
// does not know where its configuration comes from.
func (a *Agent) follow() *watch.Watcher {
	if a.o.Files == nil || a.o.Load == nil {
		return nil
	}
	return watch.New(watch.Options{Paths: a.files, Changed: a.changed, Log: a.log})
}

// files are those of the configuration, those that the one at work names, and
// those of the newest one, which may wait for a file that it names.
func (a *Agent) files() []string {
	all := append(a.o.Files(), resolver)
	for _, r := range a.readings() {
		all = append(all, r.Path)
	}
	return all
}

// learn is called before files are read, so that what is written to one
// meanwhile is a change.
func (a *Agent) learn() {
	if a.watcher != nil {
		a.watcher.Learn()
	}
}

func (a *Agent) readings() []config.Reading {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.current.cfg.Readings()
	if a.newest != nil && a.newest != a.current.cfg {
		all = append(all, a.newest.Readings()...)
	}
	return all
}

// changed does what files with other content ask for: a reload for those that
// make a configuration; for what a source shows upstream, which is read at each
// use anyway, an attempt now by those roles that wait after a failure, or whose
// certificate is another one.
func (a *Agent) changed(ctx context.Context, paths []string) {
	if slices.Contains(paths, resolver) {
		a.again(ctx)
		if paths = slices.DeleteFunc(paths, func(p string) bool { return p == resolver }); len(paths) == 0 {
			return
		}
	}
	a.log.Info("files changed", "files", strings.Join(paths, " "))
	readings := a.readings()
	sources := map[string]bool{}
	for _, r := range readings {
		if r.AtUse && slices.Contains(paths, r.Path) {
			sources[r.Source] = true
		}
	}
	built := func(path string) bool {
		at := func(r config.Reading) bool { return r.Path == path }
		return !slices.ContainsFunc(readings, at) || slices.ContainsFunc(readings, func(r config.Reading) bool { return at(r) && !r.AtUse })
	}
	if slices.ContainsFunc(paths, built) {
		_ = a.reload(ctx) // told already
	}
	if len(sources) > 0 {
		a.retry(ctx, sources)
	}
}

// retry has the roles that begin with one of the sources ask now, where there
// is something to gain by it. It does not wait for what comes of it.
func (a *Agent) retry(ctx context.Context, sources map[string]bool) {
	a.mu.Lock()
	g := a.current
	a.mu.Unlock()
	for name, role := range g.roles {
		if g.isRevoked(role.Job.Key) {
			continue
		}
		entry := a.manager.Entry(role.Job.Key)
		failing := entry == nil || entry.Err != nil || !entry.Credential.Live(Now(), Boot())
		for _, source := range g.cfg.Beginnings(name) {
			if sources[source] && (failing || g.cfg.Sources[source].Kind == "roles-anywhere") {
				asked, cancel := context.WithTimeout(ctx, prod)
				_ = a.manager.Renew(asked, role.Job.Key)
				cancel()
				break
			}
		}
	}
}

// prod is how long the wish for an attempt may take to be heard; a Rotator in
// the middle of one hears it after that.
const prod = 100 * time.Millisecond
