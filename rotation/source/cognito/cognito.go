// Package cognito is the source that is given credentials by a Cognito
// identity pool, for an identity provider's token or for none.
//
// # Why not
//
// Not the SDK's service/cognitoidentity: 23 operations and their types for
// three unsigned calls. Not one flow: the enhanced one needs no role in the
// configuration and lasts an hour, always; the basic one asks STS for a role
// and lasts up to 12 hours, and a pool must allow it. Not a new identity each
// time: without a login it is all that tells this host from others, and a pool
// never forgets one.
package cognito

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/sts"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// Source is one identity of a pool. It must not be copied. HTTP is made with
// [Transient].
type Source struct {
	HTTP      *upstream.Client
	Endpoint  string // URL; "" is AWS's endpoint in the region of PoolID
	PoolID    string // REGION:UUID
	AccountID string // of the pool, 12 digits; "" where the pool does not ask for it

	// Provider is the pool's name of an identity provider, such as
	// "issuer.example.com" or the ARN of an OIDC or SAML provider, and Token
	// what that one says. Both are absent for an identity without a login.
	Provider string
	Token    assertion.Getter

	// Session says which role. In the enhanced flow only its RoleARN counts,
	// and "" leaves the choice to the pool; the session lasts an hour.
	Session sts.Session
	STS     *sts.Client // for the basic flow; nil for the enhanced one

	StateFile string      // keeps the identity's id over a restart, mode 0600; "" keeps it in memory alone
	Warn      func(error) // is told when StateFile is of no use, which fails no Fetch; nil for nobody
	Now       func() time.Time
	Boot      func() time.Duration

	mu sync.Mutex
	id string // guarded by mu; "" until it is known
}

var _ source.Source = (*Source)(nil)

// Fetch obtains a token, the identity where it is not known yet, and
// credentials. An identity that the pool no longer has is replaced within the
// same attempt. Errors of the services are of type [source.Error].
func (s *Source) Fetch(ctx context.Context) (credential.Credential, error) {
	if err := ctx.Err(); err != nil {
		return credential.Credential{}, err
	}
	var login assertion.Token
	if s.Token != nil {
		var err error
		if login, err = s.Token.Get(ctx); err != nil {
			return credential.Credential{}, err
		}
	}
	id, known := s.remembered()
	if !known {
		var err error
		if id, err = s.ask(ctx, login); err != nil {
			return credential.Credential{}, err
		}
	}
	c, err := s.exchange(ctx, id, login)
	if known && s.outlived(err) {
		// With a login the pool finds the identity by that, and says the same
		// again when the refusal was meant for the login.
		again, e := s.ask(ctx, login)
		if e == nil && again != id {
			c, err = s.exchange(ctx, again, login)
		}
	}
	return c, err
}

// outlived reports whether err may be about an identity that was remembered
// too long.
func (s *Source) outlived(err error) bool {
	var e *source.Error
	return errors.As(err, &e) && (e.Code == "ResourceNotFoundException" || s.Token != nil && e.Code == "NotAuthorizedException")
}

// ask obtains the identity and remembers it.
func (s *Source) ask(ctx context.Context, login assertion.Token) (string, error) {
	var out struct{ IdentityID string }
	_, err := s.call(ctx, "GetId", request{AccountID: s.AccountID, PoolID: s.PoolID}, login, &out)
	if err == nil && (!strings.Contains(out.IdentityID, ":") || len(out.IdentityID) > 55) {
		err = s.bad("GetId", errors.New("the answer has no identity"))
	}
	if err != nil {
		return "", err
	}
	s.remember(out.IdentityID)
	return out.IdentityID, nil
}

// exchange obtains credentials for an identity.
func (s *Source) exchange(ctx context.Context, id string, login assertion.Token) (credential.Credential, error) {
	if s.STS != nil {
		var out struct{ IdentityID, Token string }
		if _, err := s.call(ctx, "GetOpenIdToken", request{IdentityID: id}, login, &out); err != nil {
			return credential.Credential{}, err
		}
		if out.Token == "" {
			return credential.Credential{}, s.bad("GetOpenIdToken", errors.New("the answer has no token"))
		}
		s.merged(id, out.IdentityID)
		return s.STS.AssumeRoleWithWebIdentity(ctx, credential.NewSecret(out.Token), s.Session)
	}
	const op = "GetCredentialsForIdentity"
	var out credentials
	requestID, err := s.call(ctx, op, request{IdentityID: id, RoleARN: s.Session.RoleARN}, login, &out)
	if err != nil {
		return credential.Credential{}, err
	}
	c, err := out.credential()
	if err == nil {
		c.RoleARN, c.AccountID, c.RequestID = s.Session.RoleARN, s.AccountID, requestID
		if p := strings.SplitN(c.RoleARN, ":", 6); len(p) == 6 {
			c.AccountID = p[4]
		}
		c.Issued, c.Received = s.Now().Add(s.HTTP.Skew()).UTC(), s.Boot()
		err = credential.Check(c)
	}
	if err != nil {
		return credential.Credential{}, s.bad(op, err)
	}
	s.merged(id, out.IdentityID)
	return c, nil
}

// merged remembers the identity that an answer names, when the pool has made
// two of them one.
func (s *Source) merged(id, now string) {
	if now != "" && now != id {
		s.remember(now)
	}
}

// credentials is the answer of the enhanced flow. The secret's name and the
// form of the expiration are its own.
type credentials struct {
	IdentityID  string
	Credentials struct {
		AccessKeyID, SecretKey, SessionToken string
		Expiration                           float64 // seconds since 1970
	}
}

func (c credentials) credential() (credential.Credential, error) {
	got := c.Credentials
	switch {
	case got.SessionToken == "":
		return credential.Credential{}, errors.New("the answer has no session token")
	case got.Expiration <= 0 || got.Expiration > 1<<36: // until the year 4147
		return credential.Credential{}, errors.New("the answer has no expiration that is a time")
	}
	return credential.Credential{
		AccessKeyID: got.AccessKeyID,
		SecretKey:   credential.NewSecret(got.SecretKey),
		Token:       credential.NewSecret(got.SessionToken),
		Expires:     time.Unix(int64(math.Floor(got.Expiration)), 0).UTC(),
	}, nil
}

// parse reads an answer. Its error quotes nothing of it: the decoder's own
// would.
func parse(text []byte, to any) error {
	if json.Unmarshal(text, to) != nil {
		return errors.New("the answer is not the JSON of Cognito")
	}
	return nil
}

// endpoint is where the pool is.
func (s *Source) endpoint() (string, error) {
	if s.Endpoint != "" {
		return s.Endpoint, nil
	}
	region, _, ok := strings.Cut(s.PoolID, ":")
	if !ok || strings.ContainsFunc(region, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
		return "", fmt.Errorf("identity pool %q has no region: it reads eu-central-1:UUID", s.PoolID)
	}
	suffix := "amazonaws.com"
	switch {
	case strings.HasPrefix(region, "cn-"):
		suffix = "amazonaws.com.cn"
	case strings.HasPrefix(region, "eusc-"):
		suffix = "amazonaws.eu"
	}
	return "https://cognito-identity." + region + "." + suffix + "/", nil
}
