package roles

import (
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/command"
	"github.com/hostrole/hostrole/rotation/source/cognito"
	"github.com/hostrole/hostrole/rotation/source/instance"
	"github.com/hostrole/hostrole/rotation/source/process"
	"github.com/hostrole/hostrole/rotation/source/rolesanywhere"
	"github.com/hostrole/hostrole/rotation/source/saml"
	"github.com/hostrole/hostrole/rotation/source/static"
	"github.com/hostrole/hostrole/rotation/source/vault"
	"github.com/hostrole/hostrole/rotation/source/webidentity"
	"github.com/hostrole/hostrole/rotation/sts"
)

// commandTimeout is the default limit of a program, as the SDKs have it.
const commandTimeout = time.Minute

func (b *builder) command(argv []string, limit *config.Duration) command.Command {
	c := command.Command{Argv: argv, Env: command.Environ(b.Env), Timeout: commandTimeout}
	if limit != nil {
		c.Timeout = time.Duration(*limit)
	}
	return c
}

// fromSource builds a role that is directly from a source. up is how STS is
// reached for it.
func (b *builder) fromSource(role, name string, cfg config.Role, s sts.Session, up config.Upstream) way {
	src, at := b.Config.Sources[name], "source."+name
	switch src.Kind {
	case "static":
		base := static.Source{AccessKeyID: b.Env.text(*src.AccessKeyID), SecretKey: b.Env.follow(*src.SecretAccessKey), SessionToken: b.Env.optional(src.SessionToken), Now: b.Now, Boot: b.Boot}
		return b.assumed(role, base, s, up)
	case "process":
		base := process.Source{Command: b.command(src.Command, src.Timeout), Now: b.Now, Boot: b.Boot}
		return b.own(role, way{source: base, timeout: base.Command.Timeout}, cfg, s, up)
	case "instance":
		return b.own(role, b.instance(at, src), cfg, s, up)
	case "web-identity":
		client, calls := b.sts(role, up)
		token, patience := b.shown(at, src)
		s.ProviderID = src.ProviderID
		return way{source: webidentity.Source{Token: token, STS: client, Session: s, Now: b.Now}, timeout: patience + client.Timeout(), skew: client.Skew, calls: calls}
	case "saml":
		client, calls := b.sts(role, up)
		response, patience := b.response(name, src.Assertion)
		now := func() time.Time { return b.Now().Add(client.Skew()) }
		return way{source: saml.Source{Response: response, Provider: src.ProviderARN, STS: client, Session: s, Now: now}, timeout: 2 * (patience + client.Timeout()), skew: client.Skew, calls: calls}
	case "roles-anywhere":
		return b.rolesAnywhere(at, src, s)
	case "vault":
		return b.vault(at, src, cfg, s)
	case "cognito":
		return b.cognito(role, name, src, cfg, s, up)
	}
	panic("roles: no source of kind " + src.Kind) // the config refuses it, and a test builds every kind
}

// own is a role from a source that has credentials of its own: they are the
// role's, or the role is assumed with them.
func (b *builder) own(role string, base way, cfg config.Role, s sts.Session, up config.Upstream) way {
	if cfg.ARN == "" {
		return base
	}
	w := b.assumed(role, base.source, s, up)
	w.timeout += base.timeout
	return w
}

func (b *builder) instance(at string, src config.Source) way {
	server := src.Endpoint + src.URI // of which the config lets one stand
	h := b.client(at, reach{kind: "instance", server: server})
	loop := instance.Loop{Own: b.Own, OwnToken: b.OwnToken}
	if src.URI != "" {
		c := instance.Container{HTTP: h.Client, URI: src.URI, Loop: loop, Now: b.Now, Boot: b.Boot}
		if src.Authorization != nil {
			c.Authorization = b.Env.followed(*src.Authorization, shared)
		}
		return way{source: c, timeout: b.timeout(), skew: h.Skew, calls: h.name}
	}
	m := instance.Metadata{HTTP: h.Client, Endpoint: src.Endpoint, Role: src.Role, Loop: loop, Now: b.Now, Boot: b.Boot}
	return way{source: m, timeout: 3 * b.timeout(), skew: h.Skew, calls: h.name}
}

// certificateEnds is when an operator wants to hear of a certificate.
const certificateEnds = 14 * 24 * time.Hour

func (b *builder) rolesAnywhere(at string, src config.Source, s sts.Session) way {
	h := b.client(at, reach{kind: "roles-anywhere", server: src.TrustAnchorARN + " " + src.Endpoint, caFile: src.CAFile, proxy: src.Proxy, pins: strings.Join(src.Pins, " ")})
	ra := rolesanywhere.Source{
		Identity: rolesanywhere.Identity{Certificate: src.Certificate, Chain: src.Chain, Key: b.Env.optional(src.Key)},
		HTTP:     h.Client, Endpoint: src.Endpoint, TrustAnchorARN: src.TrustAnchorARN, ProfileARN: src.ProfileARN,
		RoleARN: s.RoleARN, Duration: s.Duration, Now: b.Now, Boot: b.Boot,
	}
	if src.AcceptSessionName {
		ra.SessionName = s.Name
	}
	timeout := b.timeout()
	if len(src.Signer) > 0 {
		signer := b.command(src.Signer, src.Timeout)
		ra.Identity.Signer = &signer
		timeout += signer.Timeout
	}
	ra.Ends = b.ends(at, src.Certificate)
	if end, err := ra.Identity.NotAfter(); !b.again && err == nil {
		ra.Ends(end)
	}
	return way{source: ra, timeout: 2 * timeout, skew: h.Skew, calls: h.name}
}

// ends returns what tells the operator, once a day, of a certificate that ends
// soon: one that is renewed by nobody ends long after the daemon has started.
func (b *builder) ends(at, path string) func(time.Time) {
	if f := b.endings[at]; f != nil {
		return f
	}
	var mu sync.Mutex
	var told time.Duration // boot time, guarded by mu; 0 for never
	f := func(end time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if end.Sub(b.Now()) >= certificateEnds || told > 0 && b.Boot()-told < 24*time.Hour {
			return
		}
		told = max(b.Boot(), 1)
		b.Log.Warn("a certificate ends soon: renew it, if nothing does so by itself", "at", at, "certificate", path, "ends", end)
	}
	b.endings[at] = f
	return f
}

// vaultEnds is for giving back a token and a lease.
const vaultEnds = 4 * time.Second

func (b *builder) vault(at string, src config.Source, cfg config.Role, s sts.Session) way {
	h := b.client(at, reach{kind: "vault", server: src.Address, caFile: src.CAFile, proxy: src.Proxy, pins: strings.Join(src.Pins, " ")})
	v := vault.Source{
		HTTP: h.Client, Address: src.Address, Namespace: src.Namespace, Mount: src.Mount, Role: src.Role, Path: src.Path,
		RoleARN: cfg.ARN, SessionName: s.Name, TTL: s.Duration, Now: b.Now, Boot: b.Boot,
	}
	var patience time.Duration
	login := func(at string, l *config.VaultLogin) vault.JWT {
		var token assertion.Getter
		token, patience = b.token(at+".assertion", l.Assertion)
		return vault.JWT{Mount: l.Mount, Role: l.Role, Token: token}
	}
	switch {
	case src.Token != nil:
		v.Auth = vault.Token(b.Env.followed(*src.Token, grouped))
	case src.AppRole != nil:
		v.Auth = vault.AppRole{Mount: src.AppRole.Mount, RoleID: b.Env.follow(*src.AppRole.RoleID), SecretID: b.Env.optional(src.AppRole.SecretID)}
	case src.Kubernetes != nil:
		v.Auth = login(at+".kubernetes", src.Kubernetes)
	default:
		v.Auth = login(at+".jwt", src.JWT)
	}
	return way{source: v, timeout: patience + 2*b.timeout() + vaultEnds, skew: h.Skew, calls: h.name}
}

func (b *builder) cognito(role, name string, src config.Source, cfg config.Role, s sts.Session, up config.Upstream) way {
	at := "source." + name
	h := b.client(at, reach{kind: "cognito", server: src.IdentityPoolID + " " + src.Endpoint, caFile: src.CAFile, proxy: src.Proxy, pins: strings.Join(src.Pins, " ")})
	c := &cognito.Source{
		HTTP: h.Client, Endpoint: src.Endpoint, PoolID: src.IdentityPoolID, AccountID: src.AccountID, Provider: src.Provider,
		Session: sts.Session{RoleARN: cfg.ARN}, StateFile: src.StateFile, Now: b.Now, Boot: b.Boot,
		Warn: func(err error) { b.Log.Warn("the identity of a pool", "at", at, "error", err.Error()) },
	}
	w := way{source: c, timeout: 4 * b.timeout(), skew: h.Skew, calls: h.name}
	if src.Assertion != nil {
		token, patience := b.shown(at, src)
		c.Token, w.timeout = token, w.timeout+patience
	} else if dir, ok := b.Env.get("STATE_DIRECTORY"); ok && c.StateFile == "" {
		dir, _, _ = strings.Cut(dir, ":") // a unit may have several
		c.StateFile = filepath.Join(dir, "identity-"+name+".json")
	}
	if src.Flow == "basic" {
		client, calls := b.sts(role, up)
		c.STS, c.Session = client, s
		w.timeout, w.skew, w.calls = w.timeout+client.Timeout(), client.Skew, calls
	}
	return w
}
