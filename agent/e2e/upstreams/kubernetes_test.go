//go:build linux

package upstreams_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
)

const clusterURL = "https://" + issuerHost // of the API server, and the issuer of its tokens

// A cluster is Kubernetes' API server with etcd behind it: what issues tokens
// of service accounts, and says of one whether it is good.
type cluster struct {
	ca, cert *pair
	http     *http.Client
}

// startCluster runs it until the test ends. It has the service accounts
// infra/hostrole, which may have tokens of itself made, and shop/api.
func startCluster(t testing.TB) *cluster {
	t.Helper()
	server := cached(t, "kube-apiserver-"+pinned(t, "setup.sh", `^kubernetes=`))
	ca := issue(t, nil, rsa2048(t), "authority")
	c := &cluster{ca: ca, cert: issue(t, ca, rsa2048(t), issuerHost, issuerHost, issuerAddr)}
	key := rsa2048(t)
	dir := put(t, map[string]string{
		"api.crt": c.cert.certPEM(), "api.key": keyPEM(t, c.cert.key), "sa.key": keyPEM(t, key), "sa.pub": publicPEM(t, key.Public()),
		"tokens.csv": "admintoken,admin,admin,system:masters\n",
	})
	file := func(name string) string { return filepath.Join(dir, name) }

	cmd := exec.Command(cached(t, "etcd"), "--data-dir", file("etcd"), "--listen-client-urls", "http://127.0.0.1:2379",
		"--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync")
	cmd.Env = bare(t)
	start(t, "etcd", cmd).listens(t, "127.0.0.1:2379", 30*time.Second)
	cmd = exec.Command(server, "--etcd-servers=http://127.0.0.1:2379",
		"--service-account-key-file="+file("sa.pub"), "--service-account-signing-key-file="+file("sa.key"),
		"--service-account-issuer="+clusterURL, "--service-account-jwks-uri="+clusterURL+"/openid/v1/jwks", "--api-audiences="+clusterURL,
		"--token-auth-file="+file("tokens.csv"), "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
		"--tls-cert-file="+file("api.crt"), "--tls-private-key-file="+file("api.key"), "--service-cluster-ip-range=10.0.0.0/24",
		"--bind-address="+issuerAddr, "--advertise-address="+issuerAddr, "--secure-port=443")
	cmd.Env = bare(t)
	p := start(t, "kube-apiserver", cmd)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	c.http = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	p.await(t, "is ready", 120*time.Second, func() bool {
		status, _ := c.ask(t, "/readyz", nil)
		return status == http.StatusOK
	})

	const rbac = "/apis/rbac.authorization.k8s.io/v1/"
	group := "rbac.authorization.k8s.io"
	object := func(name string, more map[string]any) map[string]any {
		all := map[string]any{"metadata": map[string]any{"name": name}}
		for k, v := range more {
			all[k] = v
		}
		return all
	}
	pod := func(account string) map[string]any {
		return map[string]any{"serviceAccountName": account, "containers": []any{map[string]any{"name": "main", "image": "none"}}}
	}
	account := []any{map[string]any{"kind": "ServiceAccount", "namespace": "infra", "name": "hostrole"}}
	for _, made := range []struct {
		path string
		what map[string]any
	}{
		{"/api/v1/namespaces", object("infra", nil)},
		{"/api/v1/namespaces", object("shop", nil)},
		{"/api/v1/namespaces/infra/serviceaccounts", object("hostrole", nil)},
		{"/api/v1/namespaces/infra/serviceaccounts", object("stranger", nil)},
		{"/api/v1/namespaces/shop/serviceaccounts", object("api", nil)},
		// Nothing runs them: their tokens are bound to them all the same.
		{"/api/v1/namespaces/shop/pods", object("pod", map[string]any{"spec": pod("api")})},
		{"/api/v1/namespaces/infra/pods", object("pod", map[string]any{"spec": pod("hostrole")})},
		{rbac + "namespaces/infra/roles", object("hostrole-token", map[string]any{"rules": []any{map[string]any{
			"apiGroups": []string{""}, "resources": []string{"serviceaccounts/token"}, "resourceNames": []string{"hostrole"}, "verbs": []string{"create"}}}})},
		{rbac + "namespaces/infra/rolebindings", object("hostrole-token", map[string]any{"subjects": account,
			"roleRef": map[string]any{"apiGroup": group, "kind": "Role", "name": "hostrole-token"}})},
		// Vault asks with it whether a token is good.
		{rbac + "clusterrolebindings", object("reviewer", map[string]any{"subjects": account,
			"roleRef": map[string]any{"apiGroup": group, "kind": "ClusterRole", "name": "system:auth-delegator"}})},
		// An STS reads the issuer's keys without a login.
		{rbac + "clusterrolebindings", object("discovery", map[string]any{
			"subjects": []any{map[string]any{"kind": "Group", "apiGroup": group, "name": "system:unauthenticated"}},
			"roleRef":  map[string]any{"apiGroup": group, "kind": "ClusterRole", "name": "system:service-account-issuer-discovery"}})},
	} {
		if status, text := c.ask(t, made.path, made.what); status != http.StatusCreated {
			t.Fatalf("making %s: status %d\n%s", made.path, status, text)
		}
	}
	return c
}

// ask makes one call as the administrator: with what, if that is not nil.
func (c *cluster) ask(t testing.TB, path string, what any) (int, []byte) {
	t.Helper()
	method, body := http.MethodGet, []byte(nil)
	if what != nil {
		var err error
		if body, err = json.Marshal(what); err != nil {
			t.Fatal(err)
		}
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, clusterURL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer admintoken")
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	return resp.StatusCode, text
}

// token is one of a service account, for whom it names.
func (c *cluster) token(t testing.TB, account, audience string) string {
	t.Helper()
	return c.request(t, account, map[string]any{"audiences": []string{audience}, "expirationSeconds": 600})
}

// projected is one as the kubelet puts it into the account's pod.
func (c *cluster) projected(t testing.TB, account, audience string) string {
	t.Helper()
	return c.request(t, account, map[string]any{"audiences": []string{audience}, "expirationSeconds": 600,
		"boundObjectRef": map[string]any{"kind": "Pod", "apiVersion": "v1", "name": "pod"}})
}

func (c *cluster) request(t testing.TB, account string, spec map[string]any) string {
	t.Helper()
	namespace, name, _ := strings.Cut(account, "/")
	status, text := c.ask(t, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+name+"/token", map[string]any{"spec": spec})
	var made struct{ Status struct{ Token string } }
	if err := json.Unmarshal(text, &made); err != nil || status != http.StatusCreated {
		t.Fatalf("a token of %s: status %d, %v\n%s", account, status, err, text)
	}
	return made.Status.Token
}

// A cluster's own tokens, asked for by hostrole and as the kubelet projects
// them, are good at an STS that reads the cluster's keys; with its rights gone,
// hostrole is told so.
func TestKubernetes(t *testing.T) {
	heavy(t)
	needs(t)
	public(t)
	c := startCluster(t)
	startVersity(t, c.ca)
	role := trusted(t, c.cert, "system:serviceaccount:infra:hostrole")
	dir := put(t, map[string]string{
		"ca.crt": c.ca.certPEM(), "own": c.token(t, "infra/hostrole", clusterURL), "projected": c.projected(t, "infra/hostrole", "sts.amazonaws.com"),
	})
	file := func(name string) string { return filepath.Join(dir, name) }
	d := startHostrole(t, "http://"+versityIAM, []string{"asked"}, fmt.Sprintf(`
[source.asked]
kind = "web-identity"
assertion = { kubernetes = { server = %q, ca_file = %q, token_file = %q, account = "infra/hostrole", life = "10m" } }
[source.projected]
kind = "web-identity"
assertion = { file = %q }
[role.asked]
arn = %q
from = ["source.asked", "source.projected"]
`, clusterURL, file("ca.crt"), file("own"), file("projected"), role))
	d.works(t, "app", "http://"+versityS3, bucket)
	if got := d.whoami(t, "app", "http://"+versityIAM); !strings.Contains(got, ":assumed-role/app/") {
		t.Errorf("versitygw takes the CLI for %q, want a session of the role app", got)
	}
	d.renews(t, "asked")

	// Another account may not have tokens of this one made; then the projected
	// one is shown.
	replace(t, file("own"), c.token(t, "infra/stranger", clusterURL))
	d.renews(t, "asked")
	d.works(t, "app", "http://"+versityS3, bucket)
	replace(t, file("projected"), c.token(t, "infra/hostrole", "somebody-else"))
	d.keeps(t, "asked", "cannot create resource", "somebody-else")
	replace(t, file("projected"), c.token(t, "infra/stranger", "sts.amazonaws.com"))
	d.keeps(t, "asked", "system:serviceaccount:infra:stranger")
	replace(t, file("own"), c.token(t, "infra/hostrole", clusterURL))
	d.renews(t, "asked")
}

// The listener for pods takes the tokens of a real cluster, by the keys that
// its API server publishes, and no others.
func TestPodsOfACluster(t *testing.T) {
	heavy(t)
	needs(t)
	public(t)
	c := startCluster(t)
	status, keys := c.ask(t, "/openid/v1/jwks", nil)
	if status != http.StatusOK {
		t.Fatalf("the cluster's keys: status %d", status)
	}
	const pods = "127.0.0.1:31345"
	endpoint := startSTS(t, devsts.Options{Roles: []devsts.Role{
		{ARN: roleARN("app"), Principals: []string{user}}, {ARN: roleARN("other"), Principals: []string{user}},
	}})
	d := startHostrole(t, endpoint, []string{"app", "other"}, static(t, "app")+fmt.Sprintf(`
[role.other]
arn = %q
from = "source.keys"
[[listener]]
name = "pods"
kind = "eks"
address = [%q]
ingress = ""
manage_address = false
eks = { issuer = %q, jwks_file = %q }
[[allow]]
pod = ["shop/api"]
roles = ["app"]
[[allow]]
pod = ["infra/*"]
roles = ["other"]
`, roleARN("other"), pods, clusterURL, write(t, "jwks.json", string(keys))))
	d.serves(t, "other")
	d.serves(t, "app")
	ask := func(token string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Getenv(clientsEnv), "creds", "v2")
		cmd.Env = bare(t, "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://"+pods+"/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE="+write(t, "token", token))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	const audience = "pods.eks.amazonaws.com"
	for account, role := range map[string]string{"shop/api": "app", "infra/hostrole": "other"} {
		if out, err := ask(c.projected(t, account, audience)); err != nil || !strings.Contains(out, d.grant(t, role).AccessKeyID) {
			t.Errorf("a pod of %s does not have the key of %s: %v\n%s", account, role, err, out)
		}
	}
	for _, refused := range []struct{ token, why string }{
		{c.projected(t, "shop/api", "sts.amazonaws.com"), "it is not for the audience " + audience},
		{c.token(t, "shop/api", audience), "it is not bound to a pod"},
		{devsts.NewIssuer(clusterURL, time.Now).Mint(map[string]any{"aud": audience, "sub": "system:serviceaccount:shop:api"}), "the issuer has no such key"},
	} {
		if out, err := ask(refused.token); err == nil || !strings.Contains(out, refused.why) {
			t.Errorf("got %v, %s, want a refusal with %q", err, out, refused.why)
		}
	}
}
