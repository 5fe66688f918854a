package roles_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/agent/roles"
)

// An access token of an OAuth provider goes to STS with the provider's id, and
// to an identity pool as the login of that name.
func TestOAuthProviders(t *testing.T) {
	sts := devsts.New(devsts.Options{Account: "111122223333", Region: "eu-central-1", Now: now,
		OAuth: []devsts.OAuthProvider{{ID: "www.amazon.com", Introspect: func(token string) (devsts.AccessToken, bool) {
			return devsts.AccessToken{App: "amzn1.application", User: "amzn1.account.7", Expires: now().Add(time.Hour)}, token == "Atza|word"
		}}},
		Roles: []devsts.Role{{ARN: role, OAuth: []devsts.OAuthTrust{{Provider: "www.amazon.com", Apps: []string{"amzn1.application"}, User: "*"}}}}})
	srv := httptest.NewServer(sts)
	t.Cleanup(srv.Close)
	token := write(t, "token", "Atza|word\n")
	for name, assertion := range map[string]string{"file": "file = '" + token + "'", "command": "command = ['/bin/cat', '" + token + "']"} {
		c := parse(t, file("[source.corp]\nkind = 'web-identity'\nprovider_id = 'www.amazon.com'\nendpoint = '"+srv.URL+"'\nassertion = { "+assertion+" }")+"arn = '"+role+"'\n")
		if got, err := given(t, options(c), "app"); err != nil || got.RoleARN != role {
			t.Errorf("%s: got the role %s: %v", name, got.RoleARN, err)
		}
	}
	if calls := sts.Calls(); len(calls) != 2 || calls[0].Params["ProviderId"] != "www.amazon.com" || calls[0].Principal != "www.amazon.com amzn1.account.7" {
		t.Errorf("STS has seen %+v", calls)
	}
	pool := start(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"www.amazon.com":"Atza|word"`) {
			t.Errorf("the pool was asked %s", body)
		}
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "GetId") {
			answer(w, 200, map[string]any{"IdentityId": "eu-central-1:one"})
			return
		}
		answer(w, 200, map[string]any{"IdentityId": "eu-central-1:one", "Credentials": keys(now().Add(time.Hour).Unix())})
	})
	c := parse(t, file("[source.corp]\nkind = 'cognito'\nidentity_pool_id = 'eu-central-1:b97abbc1'\nprovider = 'www.amazon.com'\nendpoint = '"+pool+"'\nassertion = { file = '"+token+"' }"))
	if _, err := given(t, options(c), "app"); err != nil {
		t.Error(err)
	}
}

// Two roles of one STS share what is known of it: which of the two answers.
func TestTheFallbackIsShared(t *testing.T) {
	second := startSTS(t)
	var asked atomic.Int64
	first := start(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	c := parse(t, header+`
[source.corp]
kind = 'static'
access_key_id = 'AKIAIOSFODNN7EXAMPLE'
secret_access_key = { env = 'SECRET' }
endpoint = '`+first+`'
fallback_endpoint = '`+second+`'
[role.app]
arn = '`+role+`'
from = 'source.corp'
[role.other]
arn = '`+role+`'
from = 'source.corp'
session_name = 'other'
`)
	var text strings.Builder
	o := options(c)
	o.Log = slog.New(slog.NewTextHandler(&text, nil))
	all, err := roles.Build(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app", "other", "app"} {
		if got, err := all[name].Job.Source.Fetch(t.Context()); err != nil || "http://"+got.Endpoint != second {
			t.Errorf("%s: from %q: %v", name, got.Endpoint, err)
		}
	}
	if n := asked.Load(); n != 3 { // the tries of one call
		t.Errorf("the first was asked %d times", n)
	}
	if all["app"].Job.Timeout != 10*time.Second || all["app"].Job.Upstream != all["other"].Job.Upstream {
		t.Errorf("an attempt may take %v, and their budgets are %q and %q", all["app"].Job.Timeout, all["app"].Job.Upstream, all["other"].Job.Upstream)
	}
	if !strings.Contains(text.String(), "STS does not answer, its fallback does") || !strings.Contains(text.String(), "endpoint="+second) {
		t.Errorf("nobody is told: %s", text.String())
	}
}
