// Package static is the source that holds an IAM user's long-term keys.
//
// # Why not
//
// Not a credential to serve: keys without an end would outlive every rotation
// at their reader, so they only serve to assume a role. Not keys read once: a
// reference is followed at each use, and a changed file takes effect.
package static

import (
	"context"
	"fmt"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
)

// A Value is followed at each use.
type Value func() (credential.Secret, error)

// Source is an IAM user's keys.
type Source struct {
	AccessKeyID  Value
	SecretKey    Value
	SessionToken Value // nil for none
	Now          func() time.Time
	Boot         func() time.Duration
}

var _ source.Source = Source{}

// Fetch follows the references.
func (s Source) Fetch(ctx context.Context) (credential.Credential, error) {
	if err := ctx.Err(); err != nil {
		return credential.Credential{}, err
	}
	c := credential.Credential{Issued: s.Now(), Received: s.Boot()}
	id, err := s.AccessKeyID()
	if err != nil {
		return credential.Credential{}, fmt.Errorf("access_key_id: %w", err)
	}
	c.AccessKeyID = id.Reveal()
	if c.SecretKey, err = s.SecretKey(); err != nil {
		return credential.Credential{}, fmt.Errorf("secret_access_key: %w", err)
	}
	if s.SessionToken != nil {
		if c.Token, err = s.SessionToken(); err != nil {
			return credential.Credential{}, fmt.Errorf("session_token: %w", err)
		}
	}
	if err := credential.Check(c); err != nil {
		return credential.Credential{}, fmt.Errorf("static keys: %w", err)
	}
	return c, nil
}
