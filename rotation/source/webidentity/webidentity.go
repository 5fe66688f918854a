// Package webidentity is the source that shows an identity provider's token
// and is given a session of a role.
//
// # Why not
//
// Not the SDK's provider of the same name: it takes its file and role from the
// environment where the configuration names none.
package webidentity

import (
	"context"
	"errors"
	"time"

	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/sts"
)

// Source exchanges a token for a session.
type Source struct {
	Token   assertion.Getter
	STS     *sts.Client
	Session sts.Session
	Now     func() time.Time
}

var _ source.Source = Source{}

// Fetch obtains a token and shows it. A refusal tells whose token it was:
// a missing provider, a wrong audience and an old token all read alike
// without it.
func (s Source) Fetch(ctx context.Context) (credential.Credential, error) {
	token, err := s.Token.Get(ctx)
	if errors.Is(err, assertion.ErrRefused) {
		err = &source.Error{Op: "getting the token to show", Kind: source.ErrRefused, Err: err}
	}
	if err != nil {
		return credential.Credential{}, err
	}
	c, err := s.STS.AssumeRoleWithWebIdentity(ctx, token.Text, s.Session)
	var e *source.Error
	if errors.As(err, &e) && e.Kind != nil {
		who := *e
		who.Hint = joined(e.Hint, "shown was a "+token.Describe(s.Now()))
		return credential.Credential{}, &who
	}
	return c, err
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
