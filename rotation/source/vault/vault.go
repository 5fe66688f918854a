// Package vault is the source that reads credentials from the AWS secrets
// engine of HashiCorp Vault or OpenBao.
//
// # Why not
//
// Not the vault/api library: 17 modules for three HTTP calls, a retry layer of
// its own, and VAULT_ variables of the environment that would choose the
// server. Not a Vault token kept and renewed: one login an attempt is a call
// each half an hour, needs no second schedule, and leaves no token in memory.
// Not a renewed lease: STS credentials cannot be renewed, by Vault either. Not
// the engine's IAM users: their keys have no session token, which half of the
// clients require, and AWS knows them only seconds after Vault gave them out.
package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// Source reads credentials of one role of the engine. HTTP is made with
// [Transient].
type Source struct {
	HTTP      *upstream.Client
	Address   string // URL of the server, such as https://vault.example.com:8200
	Namespace string // of the login and of the engine; "" for none
	Auth      Auth
	Mount     string // of the engine, such as "aws"
	Role      string // of the engine, not of AWS

	// Path is "creds", read with GET, for which a policy must give "read", or
	// "sts", written with POST, for which it must give "update".
	Path string

	RoleARN     string        // which, where Role has several; "" for none
	SessionName string        // "" leaves it to Vault
	TTL         time.Duration // "ttl": Vault makes it shorter where Role allows less; 0 is the role's
	Now         func() time.Time
	Boot        func() time.Duration
}

var _ source.Source = Source{}

// Fetch logs in, reads one set of credentials, and gives the token of the
// login back. Errors of the server are of type [source.Error].
func (s Source) Fetch(ctx context.Context) (credential.Credential, error) {
	if err := ctx.Err(); err != nil {
		return credential.Credential{}, err
	}
	token, err := s.login(ctx)
	if err != nil {
		return credential.Credential{}, err
	}
	if _, held := s.Auth.(Token); !held {
		defer s.end(ctx, token, "auth/token/revoke-self", nil)
	}
	began := s.Now() // the life that the answer tells began later than this
	method, path, body := s.question()
	a, err := s.call(ctx, method, path, body, token)
	if err != nil {
		return credential.Credential{}, err
	}
	c, err := s.accept(a, began)
	if err == nil {
		return c, nil
	}
	e := &source.Error{Op: method + " " + path, RequestID: upstream.Clean(a.RequestID), Err: err,
		Hint: "the upstream is faulty; what it gave was not used"}
	if errors.Is(err, errUser) {
		// Every attempt makes a user in IAM: take this one back, and come
		// again as seldom as may be.
		s.end(ctx, token, "sys/leases/revoke", map[string]string{"lease_id": a.LeaseID})
		e.Kind, e.Hint = source.ErrRefused, "give the Vault role the credential_type assumed_role"
	}
	return credential.Credential{}, e
}

// question is the request for credentials.
func (s Source) question() (method, path string, body any) {
	path = strings.Trim(s.Mount, "/") + "/" + s.Path + "/" + url.PathEscape(s.Role)
	fields := map[string]string{}
	if s.RoleARN != "" {
		fields["role_arn"] = s.RoleARN
	}
	if s.SessionName != "" {
		fields["role_session_name"] = s.SessionName
	}
	if s.TTL > 0 {
		fields["ttl"] = fmt.Sprintf("%ds", s.TTL/time.Second)
	}
	if s.Path == "sts" {
		return http.MethodPost, path, fields
	}
	query := url.Values{}
	for k, v := range fields {
		query.Set(k, v)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return http.MethodGet, path, nil
}

// An answer is what of the API's envelope is of use here.
type answer struct {
	RequestID     string `json:"request_id"`
	LeaseID       string `json:"lease_id"`
	LeaseDuration int64  `json:"lease_duration"` // seconds
	Data          *struct {
		AccessKey     string      `json:"access_key"`
		SecretKey     string      `json:"secret_key"`
		SessionToken  string      `json:"session_token"`
		SecurityToken string      `json:"security_token"` // the same, before Vault 1.16 and in OpenBao
		ARN           string      `json:"arn"`
		TTL           json.Number `json:"ttl"` // seconds; without it LeaseDuration counts
	} `json:"data"`
	Auth *struct {
		ClientToken string `json:"client_token"`
	} `json:"auth"`
}

// errUser is an answer with the keys of an IAM user.
var errUser = errors.New("the answer has no session token: it is of an IAM user")

// accept checks an answer before anybody may use it.
func (s Source) accept(a answer, began time.Time) (credential.Credential, error) {
	d := a.Data
	if d == nil {
		return credential.Credential{}, errors.New("the answer has no credentials")
	}
	token := d.SessionToken
	if token == "" {
		token = d.SecurityToken
	}
	life := a.LeaseDuration
	if d.TTL != "" {
		life, _ = d.TTL.Int64() // what is no number is no life
	}
	skew := s.HTTP.Skew()
	c := credential.Credential{
		AccessKeyID: d.AccessKey, SecretKey: credential.NewSecret(d.SecretKey), Token: credential.NewSecret(token),
		RoleARN: s.RoleARN, AccountID: account(d.ARN), RequestID: upstream.Clean(a.RequestID),
		Issued: s.Now().Add(skew).UTC(), Expires: began.Add(skew + time.Duration(life)*time.Second).UTC(), Received: s.Boot(),
	}
	name := s.RoleARN[strings.LastIndexByte(s.RoleARN, '/')+1:]
	switch {
	case !c.Complete():
		return credential.Credential{}, credential.Check(c)
	case c.Token.Empty() && a.LeaseID != "":
		return credential.Credential{}, errUser
	case c.Token.Empty():
		return credential.Credential{}, errors.New("the answer has no session token")
	case life <= 0 || life > maxLife:
		return credential.Credential{}, fmt.Errorf("the answer tells a life of %d seconds", life)
	case s.RoleARN != "" && d.ARN != "" && (account(d.ARN) != account(s.RoleARN) || !strings.Contains(d.ARN, ":assumed-role/"+name+"/")):
		return credential.Credential{}, fmt.Errorf("the answer is for another role, %s", upstream.Clean(d.ARN))
	}
	return c, credential.Check(c)
}

// maxLife is ten years: more is no life but a mistake, and would overflow.
const maxLife = 10 * 365 * 24 * 60 * 60

func account(arn string) string {
	if p := strings.SplitN(arn, ":", 6); len(p) == 6 {
		return p[4]
	}
	return ""
}
