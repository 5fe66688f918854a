//go:build linux

package upstreams_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/go-jose/go-jose/v4"

	"github.com/hostrole/hostrole/agent/devsts"
)

const (
	poolID       = "us-east-1:11111111-2222-3333-4444-555555555555"
	poolIssuer   = "https://cognito-identity.amazonaws.com"
	loginIssuer  = "https://login.example.com"
	loginName    = "login.example.com"
	poolIdentity = "us-east-1:99999999-2222-3333-4444-555555555555"
)

// A pool is an identity pool as Cognito's API reference has it, of identities
// with a login. It checks the login's signature, and its sessions are of our
// STS.
type pool struct {
	t     testing.TB
	login *devsts.Issuer // whose tokens it takes
	own   *devsts.Issuer // of the tokens that the basic flow gives
	sts   *sts.Client

	mu  sync.Mutex
	ids int // guarded by mu: how often an identity was asked for
}

func (p *pool) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var in struct {
		IdentityPoolID, IdentityID string
		Logins                     map[string]string
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	action, named := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "AWSCognitoIdentityService.")
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	switch {
	case err != nil, !named, r.Method != http.MethodPost, r.Header.Get("Content-Type") != "application/x-amz-json-1.1", r.Header.Get("Authorization") != "":
		p.t.Errorf("no call of Cognito's: %s %v %s", r.Method, r.Header, body)
	case action == "GetId" && in.IdentityPoolID != poolID, action != "GetId" && in.IdentityID != poolIdentity:
		refuse(w, "ResourceNotFoundException", "IdentityPool '"+in.IdentityPoolID+"' not found.")
	case len(in.Logins) != 1 || !p.signed(in.Logins[loginName]):
		refuse(w, "NotAuthorizedException", "Invalid login token. Can't find issuer's key to verify the signature.")
	default:
		p.answer(w, r.Context(), action)
	}
}

// signed reports whether the login's provider has signed a token.
func (p *pool) signed(token string) bool {
	s, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		return false
	}
	_, err = s.Verify(p.login.Keys())
	return err == nil
}

func refuse(w http.ResponseWriter, code, message string) {
	w.Header().Set("X-Amzn-Errortype", code+":")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}

func (p *pool) answer(w http.ResponseWriter, ctx context.Context, action string) {
	out := map[string]any{"IdentityId": poolIdentity}
	switch action {
	case "GetId":
		p.mu.Lock()
		p.ids++
		p.mu.Unlock()
	case "GetOpenIdToken":
		out["Token"] = p.own.Mint(map[string]any{"sub": poolIdentity, "aud": poolID, "amr": []string{"authenticated", loginName}})
	case "GetCredentialsForIdentity":
		got, err := p.sts.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(roleARN("app")), RoleSessionName: aws.String("CognitoIdentityCredentials")})
		if err != nil {
			p.t.Error(err)
			return
		}
		c := got.Credentials
		out["Credentials"] = map[string]any{"AccessKeyId": *c.AccessKeyId, "SecretKey": *c.SecretAccessKey, "SessionToken": *c.SessionToken, "Expiration": float64(c.Expiration.Unix())}
	default:
		refuse(w, "UnknownOperationException", "")
		return
	}
	_ = json.NewEncoder(w).Encode(out)
}

// Both flows of Cognito, our double of it, end in sessions of the STS; the
// identity is the same one after a restart; a login by another hand is refused.
func TestCognito(t *testing.T) {
	needs(t)
	login, own := devsts.NewIssuer(loginIssuer, time.Now), devsts.NewIssuer(poolIssuer, time.Now)
	endpoint := startSTS(t, devsts.Options{
		Providers: []devsts.Provider{{Issuer: poolIssuer, Audiences: []string{poolID}, Keys: own.Keys}},
		Roles: []devsts.Role{{ARN: roleARN("app"), Principals: []string{user}},
			{ARN: roleARN("basic"), OIDC: []devsts.OIDCTrust{{Issuer: poolIssuer, Audiences: []string{poolID}, Subject: poolIdentity}}}},
	})
	p := &pool{t: t, login: login, own: own, sts: sts.New(sts.Options{Region: "us-east-1", BaseEndpoint: &endpoint,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}, nil
		})})}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	dir := put(t, map[string]string{"token": login.Mint(map[string]any{"sub": "host-7", "aud": "pool"})})
	token := filepath.Join(dir, "token")
	config := ""
	for role, flow := range map[string]string{"app": "enhanced", "basic": "basic"} {
		config += fmt.Sprintf(`
[source.%s]
kind = "cognito"
identity_pool_id = %q
provider = %q
assertion = { file = %q }
flow = %q
state_file = %q
endpoint = %q
[role.%s]
arn = %q
from = "source.%s"
`, flow, poolID, loginName, token, flow, filepath.Join(dir, flow), s.URL, role, roleARN(role), flow)
	}
	t.Run("first", func(t *testing.T) {
		d := startHostrole(t, endpoint, []string{"app", "basic"}, config)
		d.serves(t, "app")
		d.serves(t, "basic")
		if got, want := d.whoami(t, "app", endpoint), "arn:aws:sts::"+account+":assumed-role/app/CognitoIdentityCredentials"; got != want {
			t.Errorf("the STS takes the CLI for %q, want %q", got, want)
		}
		if got, want := d.whoami(t, "basic", endpoint), "arn:aws:sts::"+account+":assumed-role/basic/"; !strings.HasPrefix(got, want) {
			t.Errorf("the STS takes the CLI for %q, want %s…", got, want)
		}
		d.renews(t, "app")
		d.renews(t, "basic")
		replace(t, token, devsts.NewIssuer(loginIssuer, time.Now).Mint(map[string]any{"sub": "host-7", "aud": "pool"}))
		d.keeps(t, "app", "NotAuthorizedException", "check that the pool knows the provider")
		replace(t, token, login.Mint(map[string]any{"sub": "host-7", "aud": "pool"}))
		d.renews(t, "app")
	})
	asked := p.ids
	t.Run("after a restart", func(t *testing.T) {
		d := startHostrole(t, endpoint, []string{"app", "basic"}, config)
		d.serves(t, "app")
		d.serves(t, "basic")
	})
	if p.ids != asked || asked != 2 {
		t.Errorf("an identity was asked for %d times, and %d before the restart; want 2 of both", p.ids, asked)
	}
}
