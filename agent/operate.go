package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/hostaddr"
	"github.com/hostrole/hostrole/agent/record"
	"github.com/hostrole/hostrole/agent/report"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/imds/policy"
	"github.com/hostrole/hostrole/imds/process"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

// An operator is what the operator's socket gives access to.
type operator struct {
	a      *Agent
	claims []*hostaddr.Claim
	served map[string]bool // names of the tasks of sockets that are served

}

// operate opens the operator's socket and returns the task that answers on it.
// Nothing that goes wrong with it ends the daemon, or keeps it from starting:
// the workloads of this host need no operator. So it runs for a user who may
// not make the socket where the configuration, or its default, has it.
func (a *Agent) operate(ctx context.Context, claims []*hostaddr.Claim, sockets []task) (tasks []task, closeSocket func()) {
	cfg := a.current.cfg.Admin
	if cfg.Socket == "" {
		return nil, func() {}
	}
	s, err := admin.Listen(ctx, cfg.Socket, cfg.Group)
	if err != nil {
		hint := "see [admin] in the configuration"
		if os.Geteuid() != 0 && cfg.Socket == admin.DefaultSocket {
			hint = "under systemd RuntimeDirectory=hostrole makes its folder; elsewhere set [admin] socket to a path that this user can write to"
		}
		a.log.Warn("hostrole status and the other commands will not reach this daemon", logError, err.Error(), "hint", hint)
		return nil, func() {}
	}
	if s.Warning != nil {
		a.log.Warn("the operator's socket", logError, s.Warning.Error())
	}
	op := &operator{a: a, claims: claims, served: map[string]bool{}}
	for _, t := range sockets {
		op.served[t.name] = true
	}
	srv := admin.New(admin.Options{
		Status: op.status, Await: op.await, History: func() admin.History { return a.history.List(Now()) }, Explain: op.explain, Refresh: op.refresh, Reload: op.reload, Revoke: op.revoke, Process: op.process,
		Metrics: a.meter.Metrics(), Group: cfg.Group, Log: a.log,
	})
	serve := func(ctx context.Context) error {
		if err := srv.Serve(ctx, s); err != nil {
			a.log.Error("the operator's socket has failed; everything else goes on", logError, err.Error())
		}
		<-ctx.Done()
		return nil
	}
	return []task{{"operator's socket", serve}}, func() {
		if err := s.Close(); err != nil {
			a.log.Warn("closing the operator's socket", logError, err.Error())
		}
	}
}

// decided records a decision, and keeps it for status.
func (a *Agent) decided(g *generation, e gate.Event) error {
	err := a.recording.decision(record.Of(e, g.rules, a.sessions.Name(e.Key), Now()), e)
	how := string(record.Verdict(errors.Join(e.Err, kept(err))))
	a.recent.Add(Now(), admin.Decision{Caller: report.Caller(e.Caller), Endpoint: e.Endpoint, Role: e.Role, Rule: e.Verdict.Rule, Verdict: how})
	a.history.Decided(how, Now())
	return err
}

// kept is the failure of a credential that was kept back because it could not
// be recorded.
func kept(err error) error {
	if err != nil {
		return gate.ErrNotReady
	}
	return nil
}

// now is the configuration that is at work.
func (op *operator) now() *generation { return op.a.atWork() }

func (op *operator) status() admin.Status {
	a, g := op.a, op.now()
	s := admin.Status{Version: 1, Program: a.o.Version, Time: Now(), Started: a.started, PID: os.Getpid(), Roles: []admin.Role{},
		Listeners: []admin.Endpoint{}, Addresses: []admin.Address{}, Decisions: a.recent.List(), Troubles: a.troubles.List(Now())}
	for _, name := range report.Order(g.roles) {
		s.Roles = append(s.Roles, op.role(g, g.roles[name]))
	}
	for _, l := range g.cfg.Listeners {
		for _, at := range l.Address {
			task := socketTask(l.Name, at)
			e := admin.Endpoint{Name: l.Name, Kind: l.Kind, Address: at.String(), Serving: op.served[task]}
			if b := a.berths[task]; b != nil {
				e.Devices, e.Error = b.Devices(), b.Failure()
				e.Serving = len(e.Devices) > 0
			}
			if l.Ingress != nil {
				e.Ingress = *l.Ingress
			}
			s.Listeners = append(s.Listeners, e)
			s.Addresses = op.address(s.Addresses, l, at)
		}
	}
	return s
}

// socketTask is the name of the task that serves an address of a listener.
func socketTask(listener string, at config.HostPort) string {
	return fmt.Sprintf("listener %q on %v", listener, at)
}

// address adds the address of a listener, if the daemon keeps it on the host.
func (op *operator) address(list []admin.Address, l config.Listener, at config.HostPort) []admin.Address {
	one := admin.Address{Address: at.Addr().String(), Link: l.Link}
	if l.ManageAddress != nil && !*l.ManageAddress || at.Addr().IsLoopback() ||
		slices.ContainsFunc(list, func(was admin.Address) bool { return was.Address == one.Address }) {
		return list
	}
	for _, c := range op.claims {
		for _, lost := range c.Lost() {
			if strings.Contains(lost.Error(), one.Address) {
				one.Error = lost.Error()
			}
		}
	}
	return append(list, one)
}

func (op *operator) role(g *generation, r *roles.Role) admin.Role {
	said := op.a.reportOf(g, r)
	for _, name := range slices.Sorted(maps.Keys(g.roles)) {
		if name != r.ID && g.roles[name].Job.Key == r.Job.Key {
			said.Others = append(said.Others, name)
		}
	}
	return said
}

// named finds a role by its table, or by what it is served as.
func (g *generation) named(name string) (*roles.Role, error) {
	if r := g.roles[name]; r != nil {
		return r, nil
	}
	all := slices.Sorted(maps.Keys(g.roles))
	for _, id := range all {
		if g.roles[id].Name == name {
			return g.roles[id], nil
		}
	}
	return nil, admin.Fail(admin.ErrUnknown, "there is no role %q; there is %s", name, strings.Join(all, ", "))
}

func (op *operator) refresh(ctx context.Context, name string) (admin.Renewal, error) {
	g := op.now()
	r, err := g.named(name)
	if err != nil {
		return admin.Renewal{}, err
	}
	if g.isRevoked(r.Job.Key) {
		return admin.Renewal{}, admin.Fail(admin.ErrRefused, "an operator has revoked %s; `hostrole reload` serves it again", r.ID)
	}
	keys := []credential.Key{r.Job.Key}
	if len(r.Facts) > 0 {
		keys = op.a.sessions.Of(r.Job.Key)
	}
	switch err := op.a.manager.Renew(ctx, keys...); {
	case errors.Is(err, source.ErrRefused):
		return admin.Renewal{}, admin.Fail(admin.ErrRefused, "%v", err)
	case err != nil:
		return admin.Renewal{}, admin.Fail(admin.ErrNotReady, "%v", err)
	}
	return admin.Renewal{Role: op.role(g, r)}, nil
}

func (op *operator) reload(ctx context.Context) (admin.Reload, error) {
	a := op.a
	if a.o.Load == nil {
		return admin.Reload{}, errors.New("this daemon has no configuration to read again")
	}
	err := a.reload(ctx)
	did := admin.Reload{Summary: op.now().summary(), Faults: []admin.Fault{}}
	var faults config.Faults
	switch {
	case errors.As(err, &faults):
		for _, f := range faults {
			did.Faults = append(did.Faults, admin.Fault(f))
		}
		did.Summary, err = "the configuration was not reloaded: the old one serves", nil
	case err != nil:
		did.Summary, err = "the configuration was not reloaded", fmt.Errorf("the configuration was not reloaded, and the old one serves: %w", err)
	}
	return did, err
}

// revoke stops a role from being served, and forgets its credential: the next
// reload asks for a new session, which what kills the old ones does not touch.
func (op *operator) revoke(name string) (admin.Revocation, error) {
	a := op.a
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.current
	r, err := g.named(name)
	if err != nil {
		return admin.Revocation{}, err
	}
	g.revoked.Store(r.Job.Key, true)
	for _, k := range a.sessions.Stop(r.Job.Key) {
		g.revoked.Store(k, true)
	}
	a.manager.Update(g.jobs())
	// STS counts in whole seconds: a session of this one is to be hit as well.
	did := admin.Revocation{Roles: []string{}, ARN: r.ARN, Time: Now().Truncate(time.Second).Add(time.Second), Children: []string{}}
	if r.Job.Skew != nil {
		did.Time = did.Time.Add(r.Job.Skew().Truncate(time.Second))
	}
	for _, id := range slices.Sorted(maps.Keys(g.roles)) {
		switch other := g.roles[id]; r.Job.Key {
		case other.Job.Key:
			did.Roles = append(did.Roles, id)
		case other.Job.Needs:
			did.Children = append(did.Children, id)
		}
	}
	select {
	case a.fresh <- struct{}{}: // what the next process would serve must not have it either
	default:
	}
	a.log.Warn("an operator revoked a role: it is not served until the next reload or restart", logRole, name, "also", did.Roles)
	return did, nil
}

// hold is how long credential_process waits for a role that has no credential
// yet. Clients give it a minute.
const hold = 20 * time.Second

func (op *operator) process(ctx context.Context, p admin.Peer, role string) ([]byte, error) {
	g := op.now()
	who, err := report.Process(p.UID, p.Cgroup)
	if err != nil {
		return nil, err
	}
	op.name(ctx, g, p.Cgroup, &who)
	who.Listener = admin.Listener
	if asks := func(r policy.Rule) bool { return len(r.Units)+len(r.Containers)+len(r.Images)+len(r.Labels) > 0 }; p.Cgroup == "" && slices.ContainsFunc(g.rules, asks) {
		// As at the metadata address: without this fact a caller could fall
		// through to a rule that is not meant for it.
		who = caller.Caller{Listener: admin.Listener}
		op.a.log.Warn("credential_process is denied: rules ask for a unit or a container, and the kernel does not say which a peer is of; it does since Linux 6.5", "uid", p.UID)
	}
	onWire := func(r *roles.Role) bool { return r.Name == role }
	if r := g.roles[role]; r != nil && !slices.ContainsFunc(slices.Collect(maps.Values(g.roles)), onWire) {
		role = r.Name // the gate knows the wire's names; who is denied learns nothing of this
	}
	ctx, cancel := context.WithTimeout(ctx, hold)
	defer cancel()
	text, err := process.Document(ctx, g.gate, Now, who, role)
	which := "your own role"
	if role != "" {
		which = fmt.Sprintf("the role %.64q", role)
	}
	switch {
	case err == nil:
		return text, nil
	case errors.Is(err, gate.ErrDenied):
		return nil, admin.Fail(admin.ErrDenied, "no rule gives %s %s; `hostrole explain --uid %d` says why", report.Name(who), strings.Replace(which, "your own", "a", 1), p.UID)
	case errors.Is(err, gate.ErrRefused): // the upstream's words are not for every user
		return nil, admin.Fail(admin.ErrRefused, "the upstream refuses %s, or an operator has revoked it; `hostrole status` says more", which)
	}
	return nil, admin.Fail(admin.ErrNotReady, "%s has no live credential at the moment; `hostrole status` says why", which)
}

// name adds what its runtime says of the container in a cgroup.
func (op *operator) name(ctx context.Context, g *generation, cgroup string, who *caller.Caller) {
	id, err := op.a.units.ID(cgroup)
	if err != nil || cgroup == "" {
		return // without names, as at the metadata address
	}
	who.Cgroup = id
	_ = g.names.Enrich(ctx, caller.Conn{}, who) // never fails
}

func (op *operator) explain(uid uint32, cgroup string) (admin.Explanation, error) {
	who, err := report.Process(uid, cgroup)
	if err != nil {
		return admin.Explanation{}, err
	}
	g := op.now()
	op.name(context.Background(), g, cgroup, &who) // a moment at most
	var at []string
	for _, l := range g.cfg.Listeners {
		at = append(at, l.Name)
	}
	said := report.Explain(g.rules, who, append(at, admin.Listener))
	for i := range said.Answers {
		said.Answers[i].Named = report.Named(g.roles, said.Answers[i].Roles, who)
	}
	return said, nil
}
