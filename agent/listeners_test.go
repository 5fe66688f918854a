package agent_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/hostrole/hostrole/agent/devsts"
)

// request sends one with a value of the Authorization header.
func request(t *testing.T, url, authorization string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// The container endpoints serve the same credential by the same rules.
func TestContainerListeners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"ecs-token": "a-token-of-this-host\n", "jwks.json": string(jwks)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const issuer = "https://kubernetes.default.svc.cluster.local"
	ecsAddr, eksAddr := free(t), free(t)
	h := startHost(t, time.Hour, devsts.Fault{}, fmt.Sprintf(`
[[allow]]
pod = ["shop/*"]
roles = ["app"]
[[listener]]
name = "ecs"
kind = "ecs"
address = [%q]
ingress = ""
manage_address = false
authorization = { file = %q }
[[listener]]
name = "eks"
kind = "eks"
address = [%q]
ingress = ""
manage_address = false
eks = { issuer = %q, jwks_file = %q }
`, ecsAddr, filepath.Join(dir, "ecs-token"), eksAddr, issuer, filepath.Join(dir, "jwks.json")))
	h.until(t, live, 10*time.Second)
	var imds, container struct{ AccessKeyID string }
	if _, body, err := h.get(t.Context(), "meta-data/iam/security-credentials/app"); err != nil || json.Unmarshal([]byte(body), &imds) != nil {
		t.Fatal(err, body)
	}

	for _, path := range []string{"/role/app", "/v2/credentials/app", "/v1/credentials?id=app"} {
		status, body := request(t, "http://"+ecsAddr+path, "a-token-of-this-host")
		if status != 200 || json.Unmarshal([]byte(body), &container) != nil || container.AccessKeyID != imds.AccessKeyID {
			t.Errorf("ecs %s: %d %s", path, status, body)
		}
	}
	if status, _ := request(t, "http://"+ecsAddr+"/role/app", ""); status != 401 {
		t.Errorf("ecs without its token: %d", status)
	}
	if status, _ := request(t, "http://"+ecsAddr+"/role/app", "another"); status != 403 {
		t.Errorf("ecs with another token: %d", status)
	}
	if !strings.Contains(h.log.String(), "did not show what this listener asks for") {
		t.Error("a request without the token leaves no record")
	}

	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": issuer, "aud": []string{"pods.eks.amazonaws.com"}, "sub": "system:serviceaccount:shop:api",
		"iat": time.Now().Unix(), "nbf": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{"namespace": "shop", "serviceaccount": map[string]any{"name": "api", "uid": "u1"}, "pod": map[string]any{"name": "api-0", "uid": "u2"}},
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	status, body := request(t, "http://"+eksAddr+"/v1/credentials", token)
	if status != 200 || json.Unmarshal([]byte(body), &container) != nil || container.AccessKeyID != imds.AccessKeyID {
		t.Errorf("eks: %d %s", status, body)
	}
	if status, body := request(t, "http://"+eksAddr+"/v1/credentials", token+"x"); status != 400 {
		t.Errorf("eks with an altered token: %d %s", status, body)
	}
}

// What the configuration announces is there after a reload, and gone after the
// next one.
func TestNotices(t *testing.T) {
	t.Parallel()
	h := startHost(t, time.Hour, devsts.Fault{}, "")
	const action = "meta-data/spot/instance-action"
	if status, _, err := h.get(t.Context(), action); err != nil || status != 404 {
		t.Fatalf("before: %d, %v", status, err)
	}
	h.reload(t, "[metadata]\nlifecycle_state = \"Terminated\"\n[metadata.spot]\naction = \"terminate\"\ntime = \"2026-01-02T03:04:05Z\"\n")
	for path, want := range map[string]string{
		action:                            `{"action": "terminate", "time": "2026-01-02T03:04:05Z"}`,
		"meta-data/spot/termination-time": "2026-01-02T03:04:05Z",
		"meta-data/autoscaling/target-lifecycle-state": "Terminated",
	} {
		if status, got, err := h.get(t.Context(), path); err != nil || status != 200 || got != want {
			t.Errorf("%s: %d %q, %v", path, status, got, err)
		}
	}
	h.reload(t, "")
	if status, _, err := h.get(t.Context(), action); err != nil || status != 404 {
		t.Errorf("after: %d, %v", status, err)
	}
}
