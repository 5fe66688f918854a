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
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/command"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/source/assumerole"
	"github.com/hostrole/hostrole/rotation/source/process"
	"github.com/hostrole/hostrole/rotation/source/static"
	"github.com/hostrole/hostrole/rotation/source/webidentity"
	"github.com/hostrole/hostrole/rotation/sts"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// noARN is the role of a server that has no roles: MinIO reads none, and the
// protocol and the SDK require one.
const noARN = "arn:aws:iam::000000000000:role/"

// Options are what the roles of a config are built with. All are required.
type Options struct {
	Config *config.Config
	Env    Environment
	Host   facts.Host
	Log    *slog.Logger
	Now    func() time.Time
	Boot   func() time.Duration
	// Live finds the credential of a role that another one is assumed from.
	Live func(context.Context, credential.Key) (credential.Credential, error)
}

// A Role is one role of the config and the job that keeps it fresh.
type Role struct {
	ID   string // table name
	Name string // on the wire
	ARN  string // "" where the upstream fixes the role
	Job  rotation.Job

	identity string           // all that distinguishes its sessions from others
	upstream upstreamSettings // that a child inherits
}

type builder struct {
	Options
	clients map[upstreamSettings]*stsClient // one for each upstream: it keeps the skew
	built   map[string]*Role
	faults  config.Faults
}

type upstreamSettings struct {
	region, endpoint, caFile, proxy string
	timeout                         time.Duration
}

type stsClient struct {
	sts  *sts.Client
	http *upstream.Client
}

// Build returns the roles by table name. Its error is [config.Faults], about
// files that could not be read: everything else, the config has checked.
func Build(o Options) (map[string]*Role, error) {
	b := &builder{Options: o, clients: map[upstreamSettings]*stsClient{}, built: map[string]*Role{}}
	for _, name := range slices.Sorted(maps.Keys(b.Config.Roles)) {
		b.role(name)
	}
	if len(b.faults) > 0 {
		return nil, b.faults
	}
	return b.built, nil
}

// role builds a role after the one that it is assumed from; the config has no
// cycles.
func (b *builder) role(name string) *Role {
	if r := b.built[name]; r != nil {
		return r
	}
	cfg := b.Config.Roles[name]
	r := &Role{ID: name, Name: cmp.Or(cfg.ARN[strings.LastIndexByte(cfg.ARN, '/')+1:], name), ARN: cfg.ARN}
	b.built[name] = r
	s := b.session(name, cfg)
	identity := []string{s.RoleARN, s.Name, s.Duration.String(), s.ExternalID, s.SourceIdentity, s.Policy}
	identity = append(identity, list(s.PolicyARNs), list(s.Tags), list(s.TransitiveTags))

	var base source.Source
	var own []string // what distinguishes the base
	switch from, ok := cfg.From.Role(); {
	case ok:
		parent := b.role(from)
		r.upstream = parent.upstream
		r.Job.Needs = parent.Job.Key
		base = source.Func(func(ctx context.Context) (credential.Credential, error) { return b.Live(ctx, parent.Job.Key) })
		own = []string{"role", parent.identity}
	default:
		from, _ := cfg.From.Source()
		src := b.Config.Sources[from]
		r.upstream = upstreamSettings{src.Region, src.Endpoint, src.CAFile, src.Proxy, time.Duration(b.Config.Upstream.Timeout)}
		base, own = b.source(from, src)
	}
	r.upstream.region = cmp.Or(cfg.Region, r.upstream.region)
	r.upstream.endpoint = cmp.Or(cfg.Endpoint, r.upstream.endpoint)
	r.Job.Name, r.Job.Timeout = name, r.upstream.timeout+b.patience(cfg)

	if _, passes := base.(process.Source); passes && cfg.ARN == "" {
		r.Job.Source = base
	} else {
		client := b.client(name, r.upstream)
		r.Job.Skew = client.http.Skew
		if web, ok := base.(webidentity.Source); ok {
			web.STS, web.Session, web.Now = client.sts, s, b.Now
			r.Job.Source = web
		} else {
			r.Job.Source = assumerole.Source{Base: base, STS: client.sts, Session: s}
		}
	}
	r.identity = list(append(append(own, identity...), r.upstream.region, r.upstream.endpoint, r.upstream.caFile, r.upstream.proxy))
	r.Job.Key = credential.NewKey(r.identity)
	return r
}

// list writes values so that no two lists read alike.
func list(v any) string { return fmt.Sprintf("%q", v) }

func reference(r *config.Ref) string {
	if r == nil {
		return ""
	}
	return list([]string{r.File, r.Env, r.Credential})
}

// source returns the source of that table, and what distinguishes it from the
// others. A web identity comes without its session.
func (b *builder) source(name string, cfg config.Source) (source.Source, []string) {
	at := "source." + name
	own := []string{at, cfg.Kind}
	switch cfg.Kind {
	case "static":
		s := static.Source{AccessKeyID: b.Env.text(*cfg.AccessKeyID), SecretKey: b.Env.follow(*cfg.SecretAccessKey), Now: b.Now, Boot: b.Boot}
		if cfg.SessionToken != nil {
			s.SessionToken = b.Env.follow(*cfg.SessionToken)
		}
		return s, append(own, cfg.AccessKeyID.Literal, reference(cfg.AccessKeyID.Ref), reference(cfg.SecretAccessKey), reference(cfg.SessionToken))
	case "process":
		return process.Source{Command: b.command(cfg.Command, cfg.Timeout), Now: b.Now, Boot: b.Boot}, append(own, list(cfg.Command))
	case "web-identity":
		if cfg.Assertion.File != "" {
			return webidentity.Source{Token: assertion.File{Path: cfg.Assertion.File}}, append(own, cfg.Assertion.File)
		}
		return webidentity.Source{Token: assertion.Command{Command: b.command(cfg.Assertion.Command, nil)}}, append(own, list(cfg.Assertion.Command))
	}
	panic("roles: no source of kind " + cfg.Kind) // the config refuses it, and a test builds every kind
}

// commandTimeout is the default limit of a program, as the SDKs have it.
const commandTimeout = time.Minute

func (b *builder) command(argv []string, limit *config.Duration) command.Command {
	c := command.Command{Argv: argv, Env: command.Environ(b.Env), Timeout: commandTimeout}
	if limit != nil {
		c.Timeout = time.Duration(*limit)
	}
	return c
}

// patience is what a role's source may take before its upstream is called.
func (b *builder) patience(r config.Role) time.Duration {
	name, ok := r.From.Source()
	if src := b.Config.Sources[name]; ok && (src.Kind == "process" || src.Assertion != nil && len(src.Assertion.Command) > 0) {
		if src.Timeout != nil {
			return time.Duration(*src.Timeout)
		}
		return commandTimeout
	}
	return 0
}

// session fills the templates of a role and reads its policy.
func (b *builder) session(name string, cfg config.Role) sts.Session {
	s := sts.Session{
		RoleARN:        cmp.Or(cfg.ARN, noARN+name),
		Name:           facts.SessionName(b.Host.Render(cfg.SessionName, name)),
		Duration:       time.Duration(cfg.Duration),
		ExternalID:     cfg.ExternalID,
		PolicyARNs:     cfg.PolicyARNs,
		TransitiveTags: cfg.TransitiveTags,
	}
	if cfg.SourceIdentity != "" {
		s.SourceIdentity = facts.SessionName(b.Host.Render(cfg.SourceIdentity, name))
	}
	for _, k := range slices.Sorted(maps.Keys(cfg.Tags)) {
		s.Tags = append(s.Tags, sts.Tag{Key: k, Value: b.Host.Render(cfg.Tags[k], name)})
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

// client returns the one client of an upstream.
func (b *builder) client(role string, s upstreamSettings) *stsClient {
	if c := b.clients[s]; c != nil {
		return c
	}
	o := upstream.Options{Timeout: s.timeout, Transient: sts.Transient, Logger: b.Log}
	if s.caFile != "" {
		pem, err := os.ReadFile(s.caFile)
		roots := x509.NewCertPool()
		switch {
		case err != nil:
			b.fault("role."+role, "ca_file: "+err.Error(), "name a PEM file with the upstream's certificate authority")
		case !roots.AppendCertsFromPEM(pem):
			b.fault("role."+role, "ca_file: "+s.caFile+" has no certificate", "name a PEM file with the upstream's certificate authority")
		}
		o.Roots = roots
	}
	switch s.proxy {
	case "", "none":
	case "env":
		o.Proxy = http.ProxyFromEnvironment
	default:
		if u, err := url.Parse(s.proxy); err == nil { // the config has parsed it
			o.Proxy = http.ProxyURL(u)
		}
	}
	h := upstream.New(o)
	c := &stsClient{http: h, sts: sts.New(sts.Options{Region: s.region, Endpoint: s.endpoint, HTTP: h, Now: b.Now, Boot: b.Boot})}
	b.clients[s] = c
	return c
}
