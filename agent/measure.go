package agent

import (
	"context"
	"maps"
	"slices"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/agent/report"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/agent/session"
)

// measure returns the task that serves metrics on the address of the
// configuration, if it has one.
func (a *Agent) measure(ctx context.Context) (tasks []task, closeSocket func()) {
	at := a.current.cfg.Admin.Metrics
	if at == "" {
		return nil, func() {}
	}
	serve, closeSocket := a.meter.Open(ctx, at)
	if serve == nil {
		return nil, closeSocket
	}
	return []task{{"metrics", serve}}, closeSocket
}

// rolesNow says how all roles fare.
func (a *Agent) rolesNow() (all []admin.Role) {
	g := a.atWork()
	for _, name := range slices.Sorted(maps.Keys(g.roles)) {
		all = append(all, a.reportOf(g, g.roles[name]))
	}
	return all
}

// reportOf says how a role fares.
func (a *Agent) reportOf(g *generation, r *roles.Role) admin.Role {
	from := g.cfg.Roles[r.ID].From.String()
	if len(r.Facts) > 0 {
		return report.Callers(r, from, a.sessions.Of(r.Job.Key), session.Most, a.manager, g.isRevoked(r.Job.Key), Now())
	}
	return report.Role(r, from, a.manager, g.isRevoked(r.Job.Key), Now())
}
