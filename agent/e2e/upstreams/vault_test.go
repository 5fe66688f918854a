//go:build linux

package upstreams_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
)

const (
	vaultAddr = "127.0.0.1:18200"
	vaultRoot = "root-of-the-test"
)

// vault makes one call with the root token and returns the answer.
func vault(t testing.TB, method, path string, what any) map[string]any {
	t.Helper()
	body, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+vaultAddr+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", vaultRoot)
	resp, err := (&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s, %v\n%s", method, path, resp.Status, err, text)
	}
	var answer struct{ Data, Auth map[string]any }
	_ = json.Unmarshal(text, &answer) // many answers have no body
	for k, v := range answer.Auth {
		if answer.Data == nil {
			answer.Data = map[string]any{}
		}
		answer.Data[k] = v
	}
	return answer.Data
}

// startVault runs Vault until the test ends. Its AWS engine asks our STS for
// sessions of the role "app", which a token of the policy "hostrole" may have.
func startVault(t testing.TB, sts string) {
	t.Helper()
	version := pinned(t, "vault/go.mod", `^\s*github.com/hashicorp/vault `)
	cmd := exec.Command(cached(t, "vault-"+version), vaultRoot, vaultAddr)
	cmd.Env = bare(t)
	start(t, "Vault", cmd).listens(t, vaultAddr, 60*time.Second)
	vault(t, "POST", "sys/mounts/aws", map[string]any{"type": "aws"})
	vault(t, "POST", "aws/config/root", map[string]any{
		"access_key": exampleKey, "secret_key": exampleSecret, "region": "us-east-1", "iam_endpoint": sts, "sts_endpoint": sts, "sts_region": "us-east-1",
	})
	for _, role := range []string{"app", "untrusted"} {
		vault(t, "POST", "aws/roles/"+role, map[string]any{"credential_type": "assumed_role", "role_arns": []string{roleARN(role)}})
	}
	vault(t, "POST", "sys/policies/acl/hostrole", map[string]any{
		"policy": `path "aws/sts/app" { capabilities = ["read", "update"] } path "aws/sts/untrusted" { capabilities = ["read", "update"] }`,
	})
}

// Vault gives sessions to a token, an AppRole and a JSON web token; each login
// is refused once what it shows is no longer good.
func TestVault(t *testing.T) {
	heavy(t)
	needs(t)
	endpoint := startSTS(t, devsts.Options{Roles: []devsts.Role{
		{ARN: roleARN("app"), Principals: []string{user}}, {ARN: roleARN("untrusted"), Principals: []string{user + "-else"}},
	}})
	startVault(t, endpoint)
	made := vault(t, "POST", "auth/token/create", map[string]any{"policies": []string{"hostrole"}})
	vault(t, "POST", "sys/auth/approle", map[string]any{"type": "approle"})
	vault(t, "POST", "auth/approle/role/host", map[string]any{"token_policies": "hostrole", "token_ttl": "5m"})
	roleID := vault(t, "GET", "auth/approle/role/host/role-id", nil)
	secretID := vault(t, "POST", "auth/approle/role/host/secret-id", map[string]any{})
	issuer := devsts.NewIssuer("https://idp.example.com", time.Now)
	vault(t, "POST", "sys/auth/jwt", map[string]any{"type": "jwt"})
	vault(t, "POST", "auth/jwt/config", map[string]any{
		"bound_issuer": "https://idp.example.com", "jwt_validation_pubkeys": []string{publicPEM(t, issuer.Keys().Keys[0].Key)},
	})
	vault(t, "POST", "auth/jwt/role/host", map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault"}, "bound_subject": "host-7", "token_policies": "hostrole",
	})
	text := func(from map[string]any, key string) string {
		t.Helper()
		s, ok := from[key].(string)
		if !ok {
			t.Fatalf("Vault's answer has no %s", key)
		}
		return s
	}
	mint := func(audience string) string { return issuer.Mint(map[string]any{"aud": audience, "sub": "host-7"}) }
	dir := put(t, map[string]string{
		"token": text(made, "client_token"), "role-id": text(roleID, "role_id"), "secret-id": text(secretID, "secret_id"), "jwt": mint("vault"),
	})
	file := func(name string) string { return filepath.Join(dir, name) }
	var config strings.Builder
	roles := []string{"token", "approle", "jwt", "untrusted"}
	for name, login := range map[string]string{
		"token":     fmt.Sprintf("token = { file = %q }", file("token")),
		"approle":   fmt.Sprintf("approle = { role_id = { file = %q }, secret_id = { file = %q } }", file("role-id"), file("secret-id")),
		"jwt":       fmt.Sprintf("jwt = { role = 'host', assertion = { file = %q } }", file("jwt")),
		"untrusted": fmt.Sprintf("token = { file = %q }", file("token")),
	} {
		role := "app"
		if name == "untrusted" {
			role = name
		}
		fmt.Fprintf(&config, "[source.%[1]s]\nkind = 'vault'\naddress = 'http://%[2]s'\nrole = %[3]q\npath = 'sts'\n%[4]s\n[role.%[1]s]\nfrom = 'source.%[1]s'\n", name, vaultAddr, role, login)
	}
	d := startHostrole(t, "", roles, config.String())
	for _, role := range roles[:3] {
		if got := d.whoami(t, role, endpoint); !strings.HasPrefix(got, "arn:aws:sts::"+account+":assumed-role/app/") {
			t.Errorf("the STS takes the CLI for %q, want a session of the role app", got)
		}
		d.works(t, role, "", "")
		d.renews(t, role)
	}
	d.refuses(t, "untrusted", "check that the AWS role trusts Vault's own identity")
	vault(t, "POST", "auth/token/revoke", map[string]any{"token": text(made, "client_token")})
	d.keeps(t, "token", "permission denied", "check that the Vault token has not ended")
	replace(t, file("secret-id"), "11111111-2222-3333-4444-555555555555")
	d.keeps(t, "approle", "invalid role or secret ID", "check the credentials of the login")
	replace(t, file("jwt"), mint("somebody-else"))
	d.keeps(t, "jwt", "audience", "check the credentials of the login")
}

// A service account of a real cluster logs in to Vault, which asks the cluster
// whether its token is good.
func TestVaultAndKubernetes(t *testing.T) {
	heavy(t)
	needs(t)
	public(t)
	c := startCluster(t)
	endpoint := startSTS(t, devsts.Options{Roles: []devsts.Role{{ARN: roleARN("app"), Principals: []string{user}}}})
	startVault(t, endpoint)
	vault(t, "POST", "sys/auth/kubernetes", map[string]any{"type": "kubernetes"})
	vault(t, "POST", "auth/kubernetes/config", map[string]any{
		"kubernetes_host": clusterURL, "kubernetes_ca_cert": c.ca.certPEM(), "token_reviewer_jwt": c.token(t, "infra/hostrole", clusterURL),
	})
	vault(t, "POST", "auth/kubernetes/role/host", map[string]any{
		"bound_service_account_names": "api", "bound_service_account_namespaces": "shop", "audience": "vault", "token_policies": "hostrole",
	})
	token := write(t, "token", c.token(t, "shop/api", "vault"))
	d := startHostrole(t, "", []string{"app"}, fmt.Sprintf(`
[source.vault]
kind = "vault"
address = "http://%s"
role = "app"
path = "sts"
kubernetes = { role = "host", assertion = { file = %q } }
[role.app]
from = "source.vault"
`, vaultAddr, token))
	if got := d.whoami(t, "app", endpoint); !strings.HasPrefix(got, "arn:aws:sts::"+account+":assumed-role/app/") {
		t.Errorf("the STS takes the CLI for %q, want a session of the role app", got)
	}
	d.renews(t, "app")
	replace(t, token, c.token(t, "infra/stranger", "vault"))
	d.keeps(t, "app", "not authorized", "POST auth/kubernetes/login")
	replace(t, token, c.token(t, "shop/api", "somebody-else"))
	d.keeps(t, "app", "POST auth/kubernetes/login")
}
