package assertion_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/credential"
)

const account = "host@project.iam.gserviceaccount.com"

func TestGoogleKey(t *testing.T) {
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	e := newTokenEndpoint(t)
	e.start()
	e.answer = func(_ *http.Request, f url.Values) (int, any) {
		if len(f) != 2 || f.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
			t.Errorf("form %v", f)
		}
		tok, err := josejwt.ParseSigned(f.Get("assertion"), []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			t.Fatal(err)
		}
		var c struct {
			josejwt.Claims
			Target string `json:"target_audience"`
			Scope  string
		}
		if err := tok.Claims(key.Public(), &c); err != nil {
			return 400, refusal("invalid_grant", "Invalid JWT Signature.")
		}
		err = c.ValidateWithLeeway(josejwt.Expected{Issuer: account, AnyAudience: josejwt.Audience{e.URL + "/token"}, Time: time.Now()}, 0)
		if err != nil || c.Target != "sts.amazonaws.com" || c.Scope != "" || tok.Headers[0].KeyID != "k1" || c.Expiry.Time().Sub(c.IssuedAt.Time()) > time.Hour {
			t.Errorf("%v, claims %+v", err, c)
		}
		return 200, map[string]any{"id_token": liveToken("1234")}
	}
	file := func(change func(map[string]string)) func() (credential.Secret, error) {
		doc := map[string]string{"type": "service_account", "client_email": account, "private_key_id": "k1", "private_key": pemKey(t, key), "token_uri": e.URL + "/token"}
		if change != nil {
			change(doc)
		}
		return value(string(must(json.Marshal(doc))))
	}
	g := assertion.GoogleKey{Key: file(nil), Audience: "sts.amazonaws.com", HTTP: through(e.Server), Now: now}
	for range 2 {
		if got, err := g.Get(t.Context()); err != nil || !strings.Contains(got.Describe(now()), `subject "1234"`) {
			t.Fatal(err)
		}
	}
	if n := e.calls.Load(); n != 2 {
		t.Errorf("%d calls for two tokens", n)
	}
	other := pemKey(t, must(rsa.GenerateKey(rand.Reader, 2048)))
	for name, c := range map[string]struct {
		key     func() (credential.Secret, error)
		refused bool
		says    string
	}{
		"deleted at Google": {file(func(m map[string]string) { m["private_key"] = other }), true, "invalid_grant: Invalid JWT Signature."},
		"a user's file":     {file(func(m map[string]string) { m["type"] = "authorized_user" }), false, "no service account key"},
		"without https":     {file(func(m map[string]string) { m["token_uri"] = "http://example.com/SECRET" }), false, "token_uri"},
		"without a key":     {file(func(m map[string]string) { m["private_key"] = "SECRET" }), false, "private_key"},
		"no JSON":           {value("SECRET"), false, "no service account key"},
		"no file":           {func() (credential.Secret, error) { return credential.Secret{}, errors.New("no such file") }, false, "no such file"},
	} {
		g.Key = c.key
		_, err := g.Get(t.Context())
		if err == nil || errors.Is(err, assertion.ErrRefused) != c.refused || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", name, err)
		}
	}
	g.Key = file(nil)
	ctx, cancel := context.WithCancel(t.Context())
	e.answer = func(r *http.Request, _ url.Values) (int, any) {
		cancel()
		<-r.Context().Done()
		return 500, ""
	}
	if _, err := g.Get(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for name, doc := range map[string]any{
		"no id token": bearer("SECRET"), "opaque": map[string]string{"id_token": "SECRET"}, "expired": map[string]string{"id_token": jwt(`{"iss":"https://i","exp":1}`)},
	} {
		e.answer = func(*http.Request, url.Values) (int, any) { return 200, doc }
		if _, err := g.Get(t.Context()); err == nil || errors.Is(err, assertion.ErrRefused) || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), e.URL) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGoogleImpersonation(t *testing.T) {
	const provider = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/corp"
	path := filepath.Join(t.TempDir(), "subject")
	write(t, path, liveToken("host"))
	e := newTokenEndpoint(t)
	e.start()
	e.answer = func(r *http.Request, f url.Values) (int, any) {
		want := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "audience": {provider},
			"scope": {"https://www.googleapis.com/auth/cloud-platform"}, "requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
			"subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"}, "subject_token": {liveToken("host")}}
		if d := cmp.Diff(want, f); d != "" || r.Header.Get("Authorization") != "" {
			t.Error(d)
		}
		return 200, map[string]any{"access_token": "ya29.FEDERATED", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer", "expires_in": 3599}
	}
	status, body := 200, fmt.Sprintf(`{"token":%q}`, liveToken("1234"))
	iam := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var doc map[string]any
		err := json.NewDecoder(r.Body).Decode(&doc)
		if r.Method != http.MethodPost || r.URL.Path != "/v1/projects/-/serviceAccounts/"+account+":generateIdToken" || err != nil ||
			r.Header.Get("Authorization") != "Bearer ya29.FEDERATED" || !cmp.Equal(doc, map[string]any{"audience": "sts.amazonaws.com"}) {
			t.Errorf("%s %s %v %v", r.Method, r.URL, r.Header, doc)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer iam.Close()
	g := assertion.GoogleImpersonation{Subject: assertion.File{Path: path}, Provider: provider, Account: account, Audience: "sts.amazonaws.com",
		STS: e.URL + "/token", IAM: iam.URL, HTTP: through(iam), Now: now} // both servers have httptest's one certificate
	if got, err := g.Get(t.Context()); err != nil || !strings.Contains(got.Describe(now()), `subject "1234"`) {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		status  int
		body    string
		refused bool
		says    string
	}{
		"not allowed":    {403, `{"error":{"code":403,"status":"PERMISSION_DENIED","message":"Permission denied for ya29.FEDERATED"}}`, true, "PERMISSION_DENIED: Permission denied for [secret]; give"},
		"a proxy's page": {403, `<html>SECRET</html>`, false, "HTTP status 403"},
		"down":           {503, `{"error":{"code":503,"status":"UNAVAILABLE","message":"later"}}`, false, "UNAVAILABLE: later"},
		"no token":       {200, `{}`, false, "no token"},
		"no JSON":        {200, `SECRET`, false, "no token"},
		"opaque":         {200, `{"token":"SECRET"}`, false, "no JSON web token"},
	} {
		status, body = c.status, c.body
		_, err := g.Get(t.Context())
		if err == nil || errors.Is(err, assertion.ErrRefused) != c.refused || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "FEDERATED") {
			t.Errorf("%s: %v", name, err)
		}
	}
	e.answer = func(*http.Request, url.Values) (int, any) { return 400, refusal("invalid_target", "no such provider") }
	if _, err := g.Get(t.Context()); !errors.Is(err, assertion.ErrRefused) || !strings.Contains(err.Error(), e.URL+"/token") {
		t.Errorf("Google's STS refuses: %v", err)
	}
	g.Subject = assertion.File{Path: path + ".gone"}
	if _, err := g.Get(t.Context()); err == nil {
		t.Error("without a subject")
	}
}
