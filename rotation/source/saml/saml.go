// Package saml is the source that shows an identity provider's SAML response
// and is given a session of a role.
//
// # Why not
//
// Not a verdict on times, audience or recipient before AWS gives its own: our
// clock may be the wrong one, AWS's name differs by partition, and only an
// answer of AWS shows by how much a clock is off. What looks wrong is told
// beside AWS's refusal. What is sure without AWS, such as a role that the
// response does not offer, is refused here, in words that say what to do. Not
// a response that is kept: STS takes it for five minutes, so that each renewal
// needs a new one.
package saml

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hostrole/hostrole/rotation/assertion/samlp"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/sts"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// Source exchanges a SAML response for a session.
type Source struct {
	Response samlp.Responder
	Provider string // ARN of the SAML provider; "" is the one that the response pairs with the role
	STS      *sts.Client
	Session  sts.Session      // name, tags and source identity are the response's
	Now      func() time.Time // by STS's clock, as far as it is known
}

var _ source.Source = Source{}

// Fetch obtains a response and shows it. When STS finds it too old, a newer
// one, if there is one, is shown once more.
func (s Source) Fetch(ctx context.Context) (credential.Credential, error) {
	r, err := s.get(ctx)
	if err != nil {
		return credential.Credential{}, err
	}
	c, err := s.show(ctx, r)
	var e *source.Error
	if !errors.As(err, &e) || e.Code != "ExpiredTokenException" {
		return c, err
	}
	next, again := s.get(ctx)
	switch {
	case again != nil:
		return credential.Credential{}, again
	case next.Same(r):
		return credential.Credential{}, err
	}
	return s.show(ctx, next)
}

func (s Source) op() string { return "AssumeRoleWithSAML " + s.Session.RoleARN }

func (s Source) get(ctx context.Context) (samlp.Response, error) {
	r, err := s.Response.Get(ctx)
	if errors.Is(err, samlp.ErrRefused) {
		err = &source.Error{Op: s.op(), Err: err, Kind: source.ErrRefused}
	}
	return r, err
}

// show makes one call.
func (s Source) show(ctx context.Context, r samlp.Response) (credential.Credential, error) {
	claims, err := r.Claims()
	if err != nil {
		return credential.Credential{}, &source.Error{Op: s.op(), Err: fmt.Errorf("the SAML response is of no use: %w", err)}
	}
	provider, err := s.provider(claims)
	if err != nil {
		return credential.Credential{}, err
	}
	c, err := s.STS.AssumeRoleWithSAML(ctx, r.Text, provider, s.Session)
	var e *source.Error
	if errors.As(err, &e) && e.Kind != nil {
		told := *e
		told.Hint = joined(e.Hint, describe(claims, s.Now()))
		return credential.Credential{}, &told
	}
	return c, err
}

// provider picks the provider for the role, and refuses what AWS would refuse
// for sure.
func (s Source) provider(c samlp.Claims) (string, error) {
	no := &source.Error{Op: s.op(), Kind: source.ErrRefused}
	if !c.OK() {
		no.Message = "the identity provider did not issue an assertion: " + upstream.Clean(strings.TrimSpace(c.Status+" "+c.Message))
		if c.Fault {
			no.Kind = nil
		}
		return "", no
	}
	if c.Encrypted {
		if s.Provider == "" {
			no.Message, no.Hint = "the assertion is encrypted, so its roles cannot be read", "set provider_arn"
			return "", no
		}
		return s.Provider, nil
	}
	var others []string
	for _, r := range c.Roles {
		if r.ARN == s.Session.RoleARN && (s.Provider == "" || s.Provider == r.Provider) {
			return r.Provider, nil
		}
		others = append(others, r.ARN+" by "+r.Provider)
	}
	no.Message = "the response does not offer this role"
	if s.Provider != "" {
		no.Message += " by " + s.Provider
	}
	if len(others) == 0 {
		no.Hint = "have the identity provider send the attribute https://aws.amazon.com/SAML/Attributes/Role with values of ROLE-ARN,PROVIDER-ARN"
	} else {
		slices.Sort(others)
		no.Hint = "it offers " + upstream.Clean(strings.Join(others, ", "))
	}
	return "", no
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}
