package agent

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
	"github.com/hostrole/hostrole/imds/caller/netns"
	"github.com/hostrole/hostrole/imds/caller/runtime"
	"github.com/hostrole/hostrole/imds/policy"
)

// identifier says who calls on a listener: by the sockets of this host, or, for
// a listener behind a bridge, by those in the namespaces behind it. Where the
// kernel tells units and containers, they are part of it: a rule by user must
// not take a container for its user.
func (a *Agent) identifier(ctx context.Context, l config.Listener, local *host.Enricher, behind *netns.Enricher) (imds.Identifier, error) {
	chain := caller.Chain{local}
	if device := deviceFor(l); device != "" && device != "lo" {
		if err := behind.Probe(); err != nil {
			return nil, fmt.Errorf("listener %q: asking the kernel who calls from behind %s: %w", l.Name, device, err)
		}
		chain = caller.Chain{behind}
	}
	if a.unitsCount(a.current.cfg) {
		chain = append(chain, a.units, naming{&a.asking})
	}
	return a.meter.Identifier(chain), ctx.Err()
}

// naming asks the runtime of a caller's container for its names where what the
// rules say hinges on them. The way to a grant is free of it for all others.
type naming struct{ by *atomic.Pointer[generation] }

// Enrich is of caller.Enricher.
func (n naming) Enrich(ctx context.Context, c caller.Conn, who *caller.Caller) error {
	g := n.by.Load()
	if g == nil || !g.memory.Hinges(*who) {
		return nil
	}
	return g.names.Enrich(ctx, c, who)
}

// namesOf makes what asks the container runtimes of a configuration.
func (a *Agent) namesOf(cfg *config.Config) (*runtime.Enricher, error) {
	r := cfg.Runtime
	names, err := runtime.New(runtime.Options{
		Docker: r.Docker, Podman: r.Podman,
		Kubelet: runtime.Kubelet{URL: r.Kubelet, CAFile: r.KubeletCAFile, TokenFile: r.KubeletTokenFile},
		Boot:    Boot, Alive: a.units.Alive,
		Failed: func(name string, err error) {
			a.log.Warn("names of containers are not told: rules that need them match nobody new", "runtime", name, logError, err.Error())
		},
	})
	if err != nil {
		return nil, config.Faults{cfg.Fault("runtime.kubelet", err.Error(), "write kubelet, kubelet_ca_file and kubelet_token_file, or none of them")}
	}
	return names, nil
}

// unitsCount reports whether units and containers are told. In a cgroup
// namespace of one's own everybody outside would be unknown, so that there it
// takes a rule that asks about them.
func (a *Agent) unitsCount(cfg *config.Config) bool {
	return a.units.Available() == nil && (!a.units.Partial() || asksForUnits(cfg))
}

func asksForUnits(cfg *config.Config) bool {
	for _, r := range cfg.Allow {
		if len(r.Unit)+len(r.Container)+len(r.Image)+len(r.Label) > 0 {
			return true
		}
		for _, name := range r.Roles {
			if facts := cfg.Roles[name].Facts(); slices.Contains(facts, "unit") || slices.Contains(facts, "container") {
				return true
			}
		}
	}
	return false
}

// rulesOf makes the policy of a configuration. A rule about units does not load
// where the kernel cannot tell them: it must not look as if it matched.
func (a *Agent) rulesOf(cfg *config.Config) (policy.Policy, error) {
	var p policy.Policy
	var faults config.Faults
	for i, r := range cfg.Allow {
		rule := policy.Rule{Name: r.Name, Listeners: r.Listener, UIDs: r.UID, Users: r.User, Groups: r.Group,
			Any: r.Any, Roles: r.Roles, AuditOnly: r.AuditOnly, Needs: map[string][]string{}}
		for _, name := range r.Roles {
			if facts := cfg.Roles[name].Facts(); len(facts) > 0 {
				rule.Needs[name] = facts
				if err := a.units.Available(); err != nil && (slices.Contains(facts, "unit") || slices.Contains(facts, "container")) {
					a.log.Warn("nobody will be given a role: its session is named after the caller's unit or container, which cannot be told here",
						logRole, name, logRule, r.Name, logError, err.Error())
				}
			}
		}
		for _, s := range r.Source {
			rule.Sources = append(rule.Sources, s.Prefix)
		}
		for _, f := range []struct {
			key      string
			patterns []string
			add      func(string) error
		}{
			{"unit", r.Unit, into(&rule.Units, policy.NewGlob)}, {"container", r.Container, into(&rule.Containers, policy.NewGlob)},
			{"image", r.Image, into(&rule.Images, policy.NewImage)}, {"label", r.Label, into(&rule.Labels, policy.NewLabel)},
			{"pod", r.Pod, into(&rule.Pods, policy.NewGlob)},
		} {
			for j, text := range f.patterns {
				if err := f.add(text); err != nil {
					faults = append(faults, cfg.Fault(fmt.Sprintf("allow[%d].%s[%d]", i, f.key, j), err.Error(), ""))
				}
			}
			if err := a.units.Available(); err != nil && len(f.patterns) > 0 && f.key != "pod" {
				faults = append(faults, cfg.Fault(fmt.Sprintf("allow[%d].%s", i, f.key), err.Error(), "write a rule by user or uid"))
			}
		}
		p = append(p, rule)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return p, nil
}

// into adds what is made of a text to a list.
func into[T any](list *[]T, of func(string) (T, error)) func(string) error {
	return func(text string) error {
		one, err := of(text)
		if err == nil {
			*list = append(*list, one)
		}
		return err
	}
}
