package gate_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/rotation/credential"
)

// A fixed credential is at hand at once.
type fixed credential.Credential

func (f *fixed) Credential(context.Context, credential.Key) (credential.Credential, error) {
	return credential.Credential(*f), nil
}

// bare is a gate that does nothing but its own work, with that many roles of
// the caller's, and the name of the last. The role "other" is not for him.
func bare(n int) (g *gate.Gate, last string) {
	all, ids := make([]gate.Role, n), make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("id-%d", i)
		all[i] = gate.Role{ID: ids[i], Name: fmt.Sprintf("role-%d", i)}
	}
	c := fixed(credentialOf("app"))
	k := credential.NewKey("app")
	verdict := gate.Verdict{Rule: "all", Roles: ids}
	return gate.New(gate.Options{
		Policy:      func(caller.Caller) gate.Verdict { return verdict },
		Roles:       append(all, gate.Role{ID: "other", Name: "other"}),
		Keys:        func(string, caller.Caller) (credential.Key, error) { return k, nil },
		Credentials: &c,
		Record:      func(gate.Event) error { return nil },
	}), all[n-1].Name
}

// The limits are what is allocated today: for a grant, the credential's ID for
// the record; for all else, nothing.
const grantAllocs = 2

func TestAllocations(t *testing.T) {
	ctx := t.Context()
	for _, n := range []int{1, 10, 1000} {
		g, last := bare(n)
		for what, c := range map[string]struct {
			limit float64
			do    func() bool
		}{
			"a grant":         {grantAllocs, func() bool { c, err := g.Credential(ctx, "imds", app, last); return err == nil && c.Complete() }},
			"a denied role":   {0, func() bool { _, err := g.Credential(ctx, "imds", app, "other"); return err != nil }},
			"an unknown role": {0, func() bool { _, err := g.Credential(ctx, "imds", app, "nobody"); return err != nil }},
			"the own role":    {0, func() bool { _, ok := g.Own("imds", app); return ok }},
			"any role":        {0, func() bool { return g.HasRole(app) }},
		} {
			done := true
			if got := testing.AllocsPerRun(100, func() { done = c.do() && done }); got > c.limit || !done {
				t.Errorf("%s with %d roles: %v allocations, the limit is %v; done: %v", what, n, got, c.limit, done)
			}
		}
	}
}

func BenchmarkGrant(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("roles=%d", n), func(b *testing.B) {
			g, last := bare(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Credential(b.Context(), "imds", app, last); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDenial(b *testing.B) {
	g, _ := bare(1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Credential(b.Context(), "imds", app, "nobody"); err == nil {
			b.Fatal("granted")
		}
	}
}
