// Package roles turns the sources and roles of a config into the jobs that keep
// them fresh.
//
// # Why not
//
// Not in the sources themselves: a source knows an upstream and no file format.
// Not in package agent: what a source of each kind is built from is long, and
// nothing else of the agent looks at it.
package roles

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/assertion/samlp"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/source/alternatives"
	"github.com/hostrole/hostrole/rotation/source/assumerole"
	"github.com/hostrole/hostrole/rotation/sts"
)

// noARN is the role of a server that has no roles: MinIO reads none, and the
// protocol and the SDK require one.
const noARN = "arn:aws:iam::000000000000:role/"

// Options are what the roles of a config are built with. All but the last two
// are required.
type Options struct {
	Config *config.Config
	Env    Environment
	Host   facts.Host
	Log    *slog.Logger
	Now    func() time.Time
	Boot   func() time.Duration
	// Live finds the credential of a role that another one is assumed from.
	Live func(context.Context, credential.Key) (credential.Credential, error)

	// Own and OwnToken keep a source of kind instance from asking this daemon:
	// whether it listens at an address, or is redirected to from there, and
	// whether it has made a session token. nil knows of nothing.
	Own      func(netip.AddrPort) bool
	OwnToken func(token string) bool
}

// A Role is one role of the config and the job that keeps it fresh.
type Role struct {
	ID   string // table name
	Name string // on the wire
	ARN  string // "" where the upstream fixes the role
	Job  rotation.Job
	// Facts are those of a caller, by the names of caller.Caller.Fact, that the
	// sessions of the role are named after; none where it has one for all. With
	// them, Job is for a caller who is made up, its key stands for the sessions
	// of all callers, and For has the job of one.
	Facts []string

	identity string          // all that distinguishes its sessions from others
	upstream config.Upstream // STS, for what is assumed from it
	session  sts.Session     // without what is about the caller
	builder  *builder
}

type builder struct {
	Options
	clients   map[reach]*server // one for each upstream: it keeps the skew
	fallbacks map[[2]*server]*sts.Fallback
	endings   map[string]func(time.Time) // by table: who is told when its certificate ends
	providers map[string]*samlp.IdentityProvider
	built     map[string]*Role
	faults    config.Faults

	mu    sync.Mutex // held while a job is made after Build
	again bool       // Build has ended: what is to be said of a file was said
}

// Build returns the roles by table name. Its error is [config.Faults], about
// files that could not be read: everything else, the config has checked.
func Build(o Options) (map[string]*Role, error) {
	b := &builder{Options: o, clients: map[reach]*server{}, fallbacks: map[[2]*server]*sts.Fallback{}, endings: map[string]func(time.Time){}, providers: map[string]*samlp.IdentityProvider{}, built: map[string]*Role{}}
	for _, name := range slices.Sorted(maps.Keys(b.Config.Roles)) {
		b.role(name)
	}
	if len(b.faults) > 0 {
		return nil, b.faults
	}
	b.again = true
	return b.built, nil
}

// A way is how a role is come by from one of its alternatives.
type way struct {
	source   source.Source
	timeout  time.Duration        // of one attempt
	skew     func() time.Duration // nil where nobody's clock is known
	calls    string               // name of the upstream whose retries are counted; "" for none
	needs    credential.Key       // zero for a source
	identity []string             // all that distinguishes what the way begins with
	upstream config.Upstream      // STS
}

// role builds a role after those that it is assumed from; the config has no
// cycles.
func (b *builder) role(name string) *Role {
	if r := b.built[name]; r != nil {
		return r
	}
	cfg := b.Config.Roles[name]
	r := &Role{ID: name, Name: cmp.Or(cfg.ARN[strings.LastIndexByte(cfg.ARN, '/')+1:], name), ARN: cfg.ARN,
		Facts: cfg.Facts(), session: b.session(name, cfg), builder: b}
	b.built[name] = r
	r.Job, r.identity, r.upstream = b.made(name, b.filled(r.session, name, nil))
	if len(r.Facts) > 0 {
		all := r.Job.Key
		r.Job, _, _ = b.made(name, b.filled(r.session, name, sample))
		r.Job.Key = all
	}
	return r
}

// made is the job of one session of a role, all that distinguishes it from
// others, and the STS for what is assumed from it.
func (b *builder) made(name string, s sts.Session) (rotation.Job, string, config.Upstream) {
	cfg := b.Config.Roles[name]
	identity := []string{s.RoleARN, s.Name, s.Duration.String(), s.ExternalID, s.SourceIdentity, s.Policy}
	identity = append(identity, list(s.PolicyARNs), list(s.Tags), list(s.TransitiveTags))

	var ways []way
	for _, from := range cfg.From.Each() {
		w := b.way(name, cfg, from, s)
		u := w.upstream
		identity = append(identity, list(append(w.identity, u.Region, u.Endpoint, u.CAFile, u.Proxy)))
		ways = append(ways, w)
	}
	job := b.job(cfg.From.Each(), ways)
	if cfg.Duration == config.Max {
		job.Longest = b.longest(name, cfg, s, ways[0].needs != credential.Key{})
	}
	all := list(identity)
	job.Name, job.Key = name, credential.NewKey(all)
	return job, all, ways[0].upstream
}

// longest returns the source of each length of session. The config has one way
// for such a role.
func (b *builder) longest(name string, cfg config.Role, s sts.Session, chained bool) func(time.Duration) source.Source {
	all := map[time.Duration]source.Source{}
	for _, d := range rotation.Lengths(chained) {
		s.Duration = d
		all[d] = b.way(name, cfg, cfg.From.Each()[0], s).source
	}
	return func(d time.Duration) source.Source { return all[d] }
}

// job tries the ways in their order. What needs a credential is not held back
// where there is another way.
func (b *builder) job(from []config.From, ways []way) rotation.Job {
	if len(ways) == 1 {
		w := ways[0]
		return rotation.Job{Source: w.source, Timeout: w.timeout, Skew: w.skew, Needs: w.needs, Upstream: w.calls}
	}
	all := &alternatives.Source{Failed: func(name string, err error) {
		b.Log.Warn("a source failed, the next is tried", "source", name, "error", err.Error())
	}}
	job := rotation.Job{Source: all, Skew: func() time.Duration {
		if skew := ways[all.Last()].skew; skew != nil {
			return skew()
		}
		return 0
	}}
	for i, w := range ways {
		all.Alternatives = append(all.Alternatives, alternatives.Alternative{Name: from[i].String(), Source: w.source, Timeout: w.timeout})
		job.Timeout += w.timeout
	}
	return job
}

// way builds one alternative of a role.
func (b *builder) way(name string, cfg config.Role, from config.From, s sts.Session) way {
	above, isRole := from.Role()
	if !isRole {
		src, _ := from.Source()
		up := b.Config.STS(src)
		up = reached(cfg, up)
		w := b.fromSource(name, src, cfg, s, up)
		w.upstream, w.identity = up, append([]string{"source." + src}, parameters(stable(b.Config.Sources[src]))...)
		return w
	}
	parent := b.role(above)
	up := reached(cfg, parent.upstream)
	base := source.Func(func(ctx context.Context) (credential.Credential, error) { return b.Live(ctx, parent.Job.Key) })
	w := b.assumed(name, base, s, up)
	w.needs, w.upstream, w.identity = parent.Job.Key, up, []string{"role", parent.identity}
	return w
}

// assumed is a role that is assumed with what base gives.
func (b *builder) assumed(name string, base source.Source, s sts.Session, up config.Upstream) way {
	client, calls := b.sts(name, up)
	return way{source: assumerole.Source{Base: base, STS: client, Session: s}, skew: client.Skew, calls: calls, timeout: client.Timeout()}
}

// reached is how STS is reached for a role, where its source or the role above
// says up.
func reached(r config.Role, up config.Upstream) config.Upstream {
	up.Region, up.Endpoint = cmp.Or(r.Region, up.Region), cmp.Or(r.Endpoint, up.Endpoint)
	up.FallbackRegion, up.FallbackEndpoint = cmp.Or(r.FallbackRegion, up.FallbackRegion), cmp.Or(r.FallbackEndpoint, up.FallbackEndpoint)
	return up
}

// stable is a source without what leads to the same session: which of two
// servers answers changes nothing of it.
func stable(s config.Source) config.Source {
	s.FallbackRegion, s.FallbackEndpoint = "", ""
	return s
}

// list writes values so that no two lists read alike.
func list(v any) string { return fmt.Sprintf("%q", v) }

// session is what all sessions of a role share; it reads the policy.
func (b *builder) session(name string, cfg config.Role) sts.Session {
	s := sts.Session{
		RoleARN:        cmp.Or(cfg.ARN, noARN+name),
		Duration:       time.Duration(cfg.Duration),
		ExternalID:     cfg.ExternalID,
		PolicyARNs:     cfg.PolicyARNs,
		TransitiveTags: cfg.TransitiveTags,
	}
	if cfg.Policy != nil {
		at := "role." + name + ".policy.file"
		switch text, err := os.ReadFile(cfg.Policy.File); {
		case err != nil:
			b.fault(at, err.Error(), "put the session policy there, or take the key out")
		case !json.Valid(text):
			b.fault(at, cfg.Policy.File+" is no JSON", "a session policy is an IAM policy document")
		case len(text) > 2048:
			b.fault(at, fmt.Sprintf("%s has %d bytes; STS takes 2048", cfg.Policy.File, len(text)), "take white space out of it, or use policy_arns")
		default:
			s.Policy = string(text)
		}
	}
	return s
}

func (b *builder) fault(at, problem, hint string) {
	b.faults = append(b.faults, b.Config.Fault(at, problem, hint))
}
