package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
	"github.com/hostrole/hostrole/imds/caller/netns"
	"github.com/hostrole/hostrole/imds/policy"
)

// identifier says who calls on a listener: by the sockets of this host, or, for
// a listener behind a bridge, by those in the namespaces behind it. Where the
// kernel tells units and containers, they are part of it: a rule by user must
// not take a container for its user.
func (a *Agent) identifier(ctx context.Context, l config.Listener, local *host.Enricher) (imds.Identifier, error) {
	chain := caller.Chain{local}
	if device := deviceFor(l); device != "" && device != "lo" {
		behind := netns.New(netns.Options{Host: local, Device: device})
		if err := behind.Probe(); err != nil {
			return nil, fmt.Errorf("listener %q: asking the kernel who calls from behind %s: %w", l.Name, device, err)
		}
		chain = caller.Chain{behind}
	}
	if a.unitsCount(a.current.cfg) {
		chain = append(chain, a.units)
	}
	return a.meter.identifier(chain), ctx.Err()
}

// unitsCount reports whether units and containers are told. In a cgroup
// namespace of one's own everybody outside would be unknown, so that there it
// takes a rule that asks about them.
func (a *Agent) unitsCount(cfg *config.Config) bool {
	return a.units.Available() == nil && (!a.units.Partial() || asksForUnits(cfg))
}

func asksForUnits(cfg *config.Config) bool {
	for _, r := range cfg.Allow {
		if len(r.Unit)+len(r.Container) > 0 {
			return true
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
			Any: r.Any, Roles: r.Roles, AuditOnly: r.AuditOnly}
		for _, s := range r.Source {
			rule.Sources = append(rule.Sources, s.Prefix)
		}
		for _, f := range []struct {
			key      string
			patterns []string
			to       *[]policy.Glob
		}{{"unit", r.Unit, &rule.Units}, {"container", r.Container, &rule.Containers}, {"pod", r.Pod, &rule.Pods}} {
			for j, text := range f.patterns {
				g, err := policy.NewGlob(text)
				if err != nil {
					faults = append(faults, cfg.Fault(fmt.Sprintf("allow[%d].%s[%d]", i, f.key, j), err.Error(), ""))
					continue
				}
				*f.to = append(*f.to, g)
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

// errRejected is the reason of a request that never came as far as a rule.
var errRejected = errors.New("the request did not show what this listener asks for")
