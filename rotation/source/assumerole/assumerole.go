// Package assumerole is the source that exchanges a base credential for a
// session of a role, in the same account or across accounts.
//
// # Why not
//
// Not a source that keeps its base: a base is asked for at each attempt, so
// that a renewed or replaced one is used at once. Not a list of hops: each
// step of a chain is a role of its own with a schedule of its own.
package assumerole

import (
	"context"
	"fmt"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/sts"
)

// Source assumes a role.
type Source struct {
	Base    source.Source // signs the call
	STS     *sts.Client
	Session sts.Session
}

var _ source.Source = Source{}

// Fetch asks for the base and then for the session.
func (s Source) Fetch(ctx context.Context) (credential.Credential, error) {
	base, err := s.Base.Fetch(ctx)
	if err != nil {
		return credential.Credential{}, fmt.Errorf("base credential: %w", err)
	}
	return s.STS.AssumeRole(ctx, base, s.Session)
}
