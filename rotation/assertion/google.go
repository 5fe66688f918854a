package assertion

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// Google's public endpoints.
const (
	googleSTS   = "https://sts.googleapis.com/v1/token"
	googleIAM   = "https://iamcredentials.googleapis.com"
	googleScope = "https://www.googleapis.com/auth/cloud-platform"
)

// GoogleKey gets an id token of a Google service account with a key of the
// account. AWS trusts its issuer, accounts.google.com, without a provider in
// IAM. In a trust policy accounts.google.com:oaud is the Audience; :aud is the
// token's azp, which stands for the account.
type GoogleKey struct {
	Key      func() (credential.Secret, error) // the account's JSON key file, followed at each use
	Audience string

	HTTP Upstream
	Now  func() time.Time
}

// Get makes one call, of the endpoint that the key names. An error matches
// [ErrRefused] when Google said no.
func (g GoogleKey) Get(ctx context.Context) (Token, error) {
	secret, err := g.Key()
	if err != nil {
		return Token{}, fmt.Errorf("the Google key: %w", err)
	}
	var key struct {
		Type         string
		ClientEmail  string `json:"client_email"`
		PrivateKey   string `json:"private_key"`
		PrivateKeyID string `json:"private_key_id"`
		TokenURI     string `json:"token_uri"`
	}
	// The decoder's error may quote the input.
	if json.Unmarshal([]byte(secret.Reveal()), &key) != nil || key.Type != "service_account" || key.ClientEmail == "" {
		return Token{}, errors.New("the Google key is no service account key: create one of type JSON, and do not take another kind of credentials file")
	}
	if u, err := url.Parse(key.TokenURI); err != nil || u.Scheme != "https" {
		return Token{}, errors.New("the Google key has no token_uri with https")
	}
	if _, err := firstKey([]byte(key.PrivateKey)); err != nil {
		return Token{}, fmt.Errorf("the Google key: private_key: %w", err)
	}
	way := &way{ctx: ctx, http: g.HTTP}
	cfg := jwt.Config{
		Email: key.ClientEmail, PrivateKey: []byte(key.PrivateKey), PrivateKeyID: key.PrivateKeyID, TokenURL: key.TokenURI,
		PrivateClaims: map[string]any{"target_audience": g.Audience}, UseIDToken: true,
	}
	got, err := cfg.TokenSource(way.client()).Token()
	if err != nil {
		op := fmt.Sprintf("asking %s for an id token of %s", endpoint(key.TokenURI), upstream.Clean(key.ClientEmail))
		return Token{}, way.explain(op, err, credential.NewSecret(key.PrivateKey))
	}
	return fresh(got.AccessToken, "the answer of "+endpoint(key.TokenURI), g.Now().Add(g.HTTP.Skew()))
}

// GoogleImpersonation gets an id token of a Google service account without a
// key: Google's STS exchanges the Subject, and what it gives may act as the
// account.
type GoogleImpersonation struct {
	Subject     Getter
	SubjectType string // its URN; "" is that of a JSON web token
	Provider    string // //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER
	Account     string // NAME@PROJECT.iam.gserviceaccount.com
	Audience    string

	STS string // URL of the exchange; "" is Google's public one
	IAM string // URL of the service account credentials API, without a path; "" is Google's public one

	HTTP Upstream
	Now  func() time.Time
}

// Get makes two calls, after that of the Subject. An error matches
// [ErrRefused] when Google said no.
func (g GoogleImpersonation) Get(ctx context.Context) (Token, error) {
	q := query{http: g.HTTP, now: g.Now, Config: clientcredentials.Config{
		TokenURL: cmp.Or(g.STS, googleSTS), Scopes: []string{googleScope},
		EndpointParams: url.Values{"audience": {g.Provider}}, AuthStyle: oauth2.AuthStyleInParams,
	}}
	if err := q.exchange(ctx, g.Subject, g.SubjectType, typeAccessToken); err != nil {
		return Token{}, err
	}
	federated, err := q.ask(ctx)
	if err != nil {
		return Token{}, err
	}
	bearer := credential.NewSecret(federated.AccessToken)

	iam := cmp.Or(g.IAM, googleIAM)
	op := fmt.Sprintf("asking %s for an id token of %s", endpoint(iam), upstream.Clean(g.Account))
	status, header, body, err := post(ctx, g.HTTP, iam+"/v1/projects/-/serviceAccounts/"+url.PathEscape(g.Account)+":generateIdToken", bearer,
		map[string]string{"audience": g.Audience})
	if err != nil {
		return Token{}, fmt.Errorf("%s: %w", op, err)
	}
	var answer struct {
		Token string
		Error struct{ Status, Message string }
	}
	malformed := json.Unmarshal(body, &answer) != nil
	switch {
	case status != http.StatusOK:
		hint := ""
		if status == http.StatusForbidden {
			hint = "give the identity of the pool the role Workload Identity User on that account, which has iam.serviceAccounts.getOpenIdToken"
		}
		code := upstream.Clean(answer.Error.Status, bearer)
		return Token{}, upstream.After(header, said(op, status, code, upstream.Clean(answer.Error.Message, bearer), code != "" && definite(status), hint))
	case malformed || answer.Token == "":
		return Token{}, fmt.Errorf("%s: the answer has no token", op)
	}
	return fresh(answer.Token, "the answer of "+endpoint(iam), q.time())
}
