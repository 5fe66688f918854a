package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/go-jose/go-jose/v4"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/ec2"
	"github.com/hostrole/hostrole/imds/ecs"
	"github.com/hostrole/hostrole/imds/eks"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/imds/token"
	"github.com/hostrole/hostrole/rotation/credential"
)

// serverNames are what each protocol's service calls itself.
var serverNames = map[string]string{"imds": ec2.Server, "ecs": ecs.Server, "eks": eks.Server}

// server builds what answers on one listener.
func (a *Agent) server(l config.Listener, who imds.Identifier) *imds.Server {
	c := a.current.conduct[l.Name]
	return imds.New(imds.Options{
		Name: l.Name, Server: serverNames[l.Kind], Handler: c.Handler, Guard: c.Guard, HopLimit: c.HopLimit,
		Identifier: who, Now: Now, Observe: a.recording.exchange,
	})
}

// conduct is what a listener does with requests by one configuration.
func (a *Agent) conduct(g *generation, l config.Listener) (imds.Conduct, error) {
	var addrs []netip.AddrPort
	var hosts []netip.Addr
	for _, at := range l.Address {
		addrs, hosts = append(addrs, at.AddrPort), append(hosts, at.Addr())
	}
	c := imds.Conduct{HopLimit: l.HopLimit, Guard: imds.NewGuard(addrs, l.StrictHeaders == nil || *l.StrictHeaders)}
	switch l.Kind {
	case "ecs":
		var auth credential.Secret
		if l.Authorization != nil {
			var err error
			if auth, err = roles.Environment(a.o.Environ).Secret(*l.Authorization); err != nil {
				return c, config.Faults{g.cfg.Fault(at(g.cfg, l)+".authorization", err.Error(), "")}
			}
		}
		h, err := ecs.New(ecs.Options{Gate: g.gate, Authorization: auth, Rejected: a.rejected(g, "ecs"), Now: Now})
		if err != nil {
			return c, config.Faults{g.cfg.Fault(at(g.cfg, l)+".authorization", err.Error(), "")}
		}
		c.Handler = h
	case "eks":
		c.Guard = c.Guard.AnyHost() // AWS's agent has an answer of its own for a wrong one
		c.Handler = eks.New(eks.Options{
			Gate: g.gate, Addresses: hosts, Rejected: a.rejected(g, "eks"), Now: Now,
			Verifier: eks.NewVerifier(eks.VerifierOptions{Issuer: l.EKS.Issuer, Audience: l.EKS.Audience, Keys: a.issuerKeys(l), Now: Now}),
			Name:     func(who caller.Caller, p eks.Pod) caller.Caller { who.Pod = p.String(); return who },
		})
	default:
		c.Guard = c.Guard.EmptyChunks(ec2.TokenPath)
		tokens := map[string]ec2.Tokens{"required": ec2.Required, "credentials": ec2.Credentials, "optional": ec2.Optional}[l.Tokens]
		c.Handler = ec2.New(ec2.Options{
			Gate: g.gate, Sealer: token.New(a.tokenKey, l.Name, bootID(), Boot), Tokens: tokens,
			Tree: g.instance.Tree, Identity: g.instance.Identity, UserData: g.instance.UserData,
			AccountID: g.instance.AccountID, Started: a.started, Now: Now,
		})
	}
	return c, nil
}

// at is the key path of a listener.
func at(cfg *config.Config, l config.Listener) string {
	for i := range cfg.Listeners {
		if cfg.Listeners[i].Name == l.Name {
			return fmt.Sprintf("listener[%d]", i)
		}
	}
	return "listener"
}

// rejected records a request that showed the wrong token: it never reaches the
// gate.
func (a *Agent) rejected(g *generation, endpoint string) func(caller.Caller, error) {
	return func(who caller.Caller, err error) {
		_ = a.decided(g, gate.Event{Endpoint: endpoint, Caller: who, Err: fmt.Errorf("%w: %w: %w", gate.ErrDenied, gate.ErrRejected, err)})
	}
}

// keysLimit bounds a file of public keys.
const keysLimit = 1 << 20

// issuerKeys reads the keys of an issuer from their file, as it is now.
func (a *Agent) issuerKeys(l config.Listener) func(context.Context) (jose.JSONWebKeySet, error) {
	return func(context.Context) (keys jose.JSONWebKeySet, err error) {
		f, err := os.Open(l.EKS.JWKSFile)
		if err == nil {
			var text []byte
			text, err = io.ReadAll(io.LimitReader(f, keysLimit))
			if err = errors.Join(err, f.Close()); err == nil {
				err = json.Unmarshal(text, &keys)
			}
		}
		if err != nil && a.recording.changed("keys of "+l.Name, err.Error(), 0) {
			a.log.Error("the issuer's keys were not read: the last ones hold", logListener, l.Name, logError, err.Error())
		}
		return keys, err
	}
}

// issued reports whether a session token is one of this daemon's own: an
// upstream that shows it is this daemon.
func (a *Agent) issued(cfg *config.Config, text string) bool {
	for _, l := range cfg.Listeners {
		if _, err := token.New(a.tokenKey, l.Name, bootID(), Boot).Check(text); err == nil {
			return true
		}
	}
	return false
}
