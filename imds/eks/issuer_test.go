package eks_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hostrole/hostrole/imds/eks"
	"github.com/hostrole/hostrole/imds/imdstest"
)

const issuer = imdstest.PodIssuer

var (
	keyring   = imdstest.PodKeys
	published = imdstest.PublishedKeys
	set       = imdstest.SetClaim
	account   = imdstest.SetAccount
	sign      = imdstest.SignClaims
	forge     = imdstest.ForgeToken
	specimens = sync.OnceValue(func() map[string]string { return imdstest.PodTokens(started) })
)

// said are the claims of a token at the time that the host started.
func said(change func(c map[string]any)) map[string]any { return imdstest.PodClaims(started, change) }

func newVerifier(keys func(context.Context) (jose.JSONWebKeySet, error), now func() time.Time) *eks.Verifier {
	if keys == nil {
		keys = func(context.Context) (jose.JSONWebKeySet, error) {
			return published("short", "es256", "es384", "es512", "rsa"), nil
		}
	}
	return eks.NewVerifier(eks.VerifierOptions{Issuer: issuer, Keys: keys, Now: now})
}

func TestSpecimensDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for name, token := range specimens() {
		if other := seen[token]; other != "" {
			t.Errorf("%s and %s are the same token", name, other)
		}
		seen[token] = name
	}
}
