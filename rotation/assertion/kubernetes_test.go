package assertion_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/rotation/assertion"
)

// An apiServer takes one call of TokenRequest and is strict about it.
type apiServer struct {
	*httptest.Server
	status int
	body   string // "" answers as Kubernetes does
	got    map[string]any
}

func newAPIServer(t *testing.T, own string) *apiServer {
	a := &apiServer{}
	a.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fail := func(code int, reason, message string) {
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
		}
		a.got = nil
		err := json.NewDecoder(r.Body).Decode(&a.got)
		switch {
		case a.status != 0:
			w.WriteHeader(a.status)
			_, _ = w.Write([]byte(a.body))
		case r.Header.Get("Authorization") != "Bearer "+own:
			fail(401, "Unauthorized", "Unauthorized")
		case r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || err != nil || a.got["kind"] != "TokenRequest":
			fail(400, "BadRequest", "the object provided is unrecognized")
		case r.URL.Path == "/api/v1/namespaces/apps/serviceaccounts/gone/token":
			fail(404, "NotFound", `serviceaccounts "gone" not found`)
		case r.URL.Path != "/api/v1/namespaces/apps/serviceaccounts/web.front/token":
			fail(403, "Forbidden", `serviceaccounts "x" is forbidden: `+own)
		default:
			w.WriteHeader(http.StatusCreated)
			a.got["metadata"] = map[string]any{"name": "web.front", "namespace": "apps"}
			a.got["status"] = map[string]any{"token": liveToken("system:serviceaccount:apps:web.front"), "expirationTimestamp": "2030-01-01T00:00:00Z"}
			_ = json.NewEncoder(w).Encode(a.got)
			delete(a.got, "metadata")
			delete(a.got, "status")
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func TestKubernetes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	own := liveToken("system:serviceaccount:apps:web.front")
	write(t, path, own+"\n")
	a := newAPIServer(t, own)
	k := assertion.Kubernetes{Server: a.URL + "/", Token: assertion.File{Path: path}, Audience: "sts.amazonaws.com", Life: time.Hour, HTTP: through(a.Server), Now: now}
	spec := map[string]any{"audiences": []any{"sts.amazonaws.com"}, "expirationSeconds": 3600.0}
	want := map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
	for _, account := range []string{"", "apps/web.front"} {
		k.Account = account
		if got, err := k.Get(t.Context()); err != nil || !strings.Contains(got.Describe(now()), `"system:serviceaccount:apps:web.front"`) {
			t.Fatalf("account %q: %v", account, err)
		}
		if d := cmp.Diff(want, a.got); d != "" {
			t.Error(d)
		}
	}
	k.Bound = assertion.Object{Kind: "Pod", Name: "front-7", UID: "1-2-3"}
	spec["boundObjectRef"] = map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "front-7", "uid": "1-2-3"}
	if _, err := k.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, a.got); d != "" {
		t.Error(d)
	}
	k.Bound.UID = ""
	delete(spec["boundObjectRef"].(map[string]any), "uid")
	if _, err := k.Get(t.Context()); err != nil || !cmp.Equal(want, a.got) {
		t.Error(err, a.got)
	}
}

func TestKubernetesSaysNo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	own := liveToken("system:serviceaccount:apps:web.front")
	a := newAPIServer(t, own)
	expired := fmt.Sprintf(`{"status":{"token":%q}}`, jwt(`{"iss":"https://i","exp":1}`))
	for name, c := range map[string]struct {
		own, account string
		status       int
		body         string
		refused      bool
		says         string
	}{
		"not allowed":         {own, "apps/other", 0, "", true, "Forbidden: serviceaccounts"},
		"no such account":     {own, "apps/gone", 0, "", true, `NotFound: serviceaccounts "gone" not found; create`},
		"another's token":     {liveToken("x"), "apps/web.front", 0, "", true, "Unauthorized; the API server"},
		"a proxy's page":      {own, "", 403, "<html>SECRET</html>", false, "HTTP status 403"},
		"down":                {own, "", 503, `{"kind":"Status","reason":"ServiceUnavailable"}`, false, "ServiceUnavailable"},
		"throttled":           {own, "", 429, `{"kind":"Status","reason":"TooManyRequests"}`, false, "TooManyRequests"},
		"no token":            {own, "", 201, `{"kind":"TokenRequest"}`, false, " a Kubernetes API server?"},
		"no JSON":             {own, "", 201, `SECRET`, false, "no TokenRequest"},
		"another status":      {own, "", 200, `{"status":{"token":"SECRET"}}`, false, "HTTP status 200"},
		"expired":             {own, "", 201, expired, false, "expired"},
		"no service account":  {liveToken("system:node:a"), "", 0, "", false, "say whose token"},
		"path in the account": {own, "../../apps", 0, "", false, "write namespace/name"},
		"query in the place":  {own, "a?b/apps", 0, "", false, "write namespace/name"},
		"query in the name":   {own, "apps/a?b", 0, "", false, "write namespace/name"},
		"path in the subject": {liveToken("system:serviceaccount:..:a/b"), "", 0, "", false, "write namespace/name"},
		"no token of our own": {"", "", 0, "", false, "the token to show to"},
	} {
		write(t, path, c.own)
		a.status, a.body = c.status, c.body
		a.got = map[string]any{}
		client := through(a.Server)
		k := assertion.Kubernetes{Server: a.URL, Account: c.account, Token: assertion.File{Path: path}, Audience: "sts.amazonaws.com", Life: time.Hour, HTTP: client, Now: now}
		_, err := k.Get(t.Context())
		if err == nil || errors.Is(err, assertion.ErrRefused) != c.refused || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "eyJ") {
			t.Errorf("%s: the error shows what it must not: %v", name, err)
		}
	}
}
