// Command vault is HashiCorp's Vault in memory, with the engine and the auth
// methods that hostrole is tested with: AWS, AppRole, Kubernetes, JWT. It is
// unsealed, its root token is the first argument, and it serves plain HTTP at
// the address that is the second one, until it is killed.
//
// Vault's own main has every database, cloud and HSM in it: it takes ten times
// as long to build. What answers here is Vault's core, its HTTP handler and
// its plugins, as released.
//
// # Why not
//
// Not OpenBao: no release of it is to be had as a module. Not a double: what
// Vault answers is the question.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	jwt "github.com/hashicorp/vault-plugin-auth-jwt"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/aws"
	"github.com/hashicorp/vault/helper/namespace"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// plugins are what this Vault has, by kind and name.
type plugins map[consts.PluginType]map[string]logical.Factory

var known = plugins{
	consts.PluginTypeSecrets: {"aws": aws.Factory, "kv": vault.PassthroughBackendFactory},
	consts.PluginTypeCredential: {
		"approle": approle.Factory, "kubernetes": kubernetes.Factory, "jwt": jwt.Factory,
	},
}

func (p plugins) Contains(name string, kind consts.PluginType) bool { return p[kind][name] != nil }

func (p plugins) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	f := p[kind][name]
	return func() (any, error) { return f, nil }, f != nil
}

func (p plugins) Keys(kind consts.PluginType) []string {
	return slices.Sorted(maps.Keys(p[kind]))
}

func (p plugins) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, p.Contains(name, kind)
}

func (plugins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "vault TOKEN ADDRESS")
		os.Exit(2)
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(token, address string) error {
	log := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.Info})
	storage, err := inmem.NewInmem(nil, log)
	if err != nil {
		return fmt.Errorf("making its storage: %w", err)
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		Logger:             log,
		DisableMlock:       true,
		LogicalBackends:    known[consts.PluginTypeSecrets],
		CredentialBackends: known[consts.PluginTypeCredential],
		BuiltinRegistry:    known,
	})
	if err != nil {
		return fmt.Errorf("making its core: %w", err)
	}
	ctx := namespace.RootContext(context.Background())
	made, err := core.Initialize(ctx, &vault.InitParams{
		BarrierConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1},
	})
	if err != nil {
		return fmt.Errorf("initializing it: %w", err)
	}
	if open, err := core.Unseal(made.SecretShares[0]); err != nil || !open {
		return errors.Join(errors.New("it stays sealed"), err)
	}
	_, err = core.HandleRequest(ctx, &logical.Request{
		ID: "root", Operation: logical.UpdateOperation, ClientToken: made.RootToken, Path: "auth/token/create",
		Data: map[string]any{"id": token, "policies": []string{"root"}, "no_parent": true, "no_default_policy": true},
	})
	if err != nil {
		return fmt.Errorf("making its root token: %w", err)
	}
	server := http.Server{
		Addr:              address,
		ReadHeaderTimeout: 10 * time.Second,
		Handler:           vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}}),
	}
	return server.ListenAndServe()
}
