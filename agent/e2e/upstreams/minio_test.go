//go:build linux

package upstreams_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	minioURL = "http://127.0.0.1:19000"
	oidcURL  = "http://127.0.0.1:18080"
	mutual   = "https://127.0.0.1:18443" // the same provider, which asks clients for a certificate
	bucket   = "upstreams"
)

// An oidc is a running OpenID provider: oidc/provider.mjs says what it has.
type oidc struct {
	ca, client *pair  // client is that of the connections of client "mutual"
	signed     string // PEM key of the client "signed"
}

// startOIDC runs the provider until the test ends.
func startOIDC(t testing.TB) *oidc {
	t.Helper()
	modules := cached(t, "oidc/node_modules")
	ca := issue(t, nil, ec(t), "authority")
	server := issue(t, ca, ec(t), "server", "127.0.0.1")
	key := ec(t)
	o := &oidc{ca: ca, client: issue(t, ca, ec(t), "host", "host.example.com"), signed: keyPEM(t, key)}
	dir := put(t, map[string]string{
		"client.pub": publicPEM(t, key.Public()), "ca.crt": ca.certPEM(),
		"server.crt": server.certPEM(), "server.key": keyPEM(t, server.key),
	})
	cmd := exec.Command(tool(t, "node"), "oidc/provider.mjs", modules, dir, oidcURL, "18080", "18443")
	cmd.Env = bare(t)
	p := start(t, "oidc-provider", cmd)
	p.listens(t, "127.0.0.1:18080", 60*time.Second)
	p.listens(t, "127.0.0.1:18443", 10*time.Second)
	return o
}

// token is one of the provider's client "basic", got as any program gets one.
func (o *oidc) token(t testing.TB) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, oidcURL+"/token", strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("basic", url.QueryEscape(exampleSecret))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("no token from the provider: %s, %v", resp.Status, err)
	}
	return answer.AccessToken
}

// startMinIO runs MinIO, which grants a token with the audience "byclaim" what
// its claim "policy" names, until the test ends.
func startMinIO(t testing.TB) {
	t.Helper()
	version := pinned(t, "../minio/go.mod", `^\s*(?:require )?github.com/minio/minio `)
	cmd := exec.Command(cached(t, "minio-"+version), "server", "--address", strings.TrimPrefix(minioURL, "http://"), t.TempDir())
	cmd.Env = bare(t, "MINIO_ROOT_USER="+exampleKey, "MINIO_ROOT_PASSWORD="+exampleSecret,
		"MINIO_UPDATE=off", "MINIO_BROWSER=off", "MINIO_CALLHOME_ENABLE=off",
		"MINIO_IDENTITY_OPENID_CONFIG_URL="+oidcURL+"/.well-known/openid-configuration",
		"MINIO_IDENTITY_OPENID_CLIENT_ID=byclaim", "MINIO_IDENTITY_OPENID_CLAIM_NAME=policy")
	p := start(t, "MinIO", cmd)
	p.await(t, "is ready", 60*time.Second, func() bool { return answers(t, minioURL+"/minio/health/ready") })
	p.await(t, "makes a bucket", 30*time.Second, func() bool {
		return s3(t, http.MethodPut, minioURL+"/"+bucket) == http.StatusOK
	})
}

// Each way of a client to a token of a real provider ends in S3. Then the
// provider no longer knows the client: the operator is told, and the
// credential stays.
func TestOIDCAndMinIO(t *testing.T) {
	needs(t)
	o := startOIDC(t)
	startMinIO(t)
	dir := put(t, map[string]string{
		"secret": exampleSecret, "signed.key": o.signed, "ca.crt": o.ca.certPEM(),
		"mutual.crt": o.client.certPEM(), "mutual.key": keyPEM(t, o.client.key), "token": o.token(t),
	})
	file := func(name string) string { return filepath.Join(dir, name) }
	const token = oidcURL + "/token"
	sources := []struct{ name, assertion string }{
		{"basic", fmt.Sprintf("oidc = { token_url = %q, client_id = 'basic', client_secret = { file = %q } }", token, file("secret"))},
		{"posted", fmt.Sprintf("oidc = { token_url = %q, client_id = 'posted', auth = 'client_secret_post', client_secret = { file = %q } }", token, file("secret"))},
		{"signed", fmt.Sprintf("oidc = { token_url = %q, client_id = 'signed', auth = 'private_key_jwt', private_key = { file = %q }, key_id = 'client' }", token, file("signed.key"))},
		{"mutual", fmt.Sprintf("oidc = { token_url = %q, client_id = 'mutual', auth = 'tls_client_auth', certificate = %q, private_key = { file = %q }, ca_file = %q }",
			mutual+"/token", file("mutual.crt"), file("mutual.key"), file("ca.crt"))},
		{"exchange", fmt.Sprintf("oidc = { token_url = %q, client_id = 'exchange', auth = 'none', subject = { file = %q } }", token, file("token"))},
		{"file", fmt.Sprintf("file = %q", file("token"))},
		{"command", fmt.Sprintf("command = ['/bin/cat', %q]", file("token"))},
		// The provider gives this client tokens for somebody else.
		{"elsewhere", fmt.Sprintf("oidc = { token_url = %q, client_id = 'elsewhere', client_secret = { file = %q } }", token, file("secret"))},
	}
	var config strings.Builder
	var roles []string
	for _, s := range sources {
		roles = append(roles, s.name)
		fmt.Fprintf(&config, "[source.%[1]s]\nkind = 'web-identity'\nassertion = { %[2]s }\n[role.%[1]s]\narn = 'arn:aws:iam::%[3]s:role/%[1]s'\nfrom = 'source.%[1]s'\nduration = '15m'\n",
			s.name, s.assertion, account)
	}
	d := startHostrole(t, minioURL, roles, config.String())

	for _, role := range roles[:len(roles)-1] {
		d.works(t, role, minioURL, bucket)
		d.renews(t, role)
	}
	d.works(t, "basic", minioURL, bucket) // with the new key

	d.refuses(t, "elsewhere", "AssumeRoleWithWebIdentity", "somebody-else")
	replace(t, file("secret"), "wrong")
	d.keeps(t, "basic", "the identity provider refused", "invalid_client", "check client_id")
	d.keeps(t, "posted", "the identity provider refused", "invalid_client")
	replace(t, file("signed.key"), keyPEM(t, ec(t)))
	d.keeps(t, "signed", "the identity provider refused", "invalid_client")
	stranger := issue(t, nil, ec(t), "stranger", "host.example.com")
	replace(t, file("mutual.key"), keyPEM(t, stranger.key))
	replace(t, file("mutual.crt"), stranger.certPEM())
	d.keeps(t, "mutual", "invalid_client")
	parts := strings.Split(o.token(t), ".")
	replace(t, file("token"), parts[0]+"."+parts[1]+"."+strings.Repeat("A", len(parts[2])))
	d.keeps(t, "exchange", "the identity provider refused", "invalid_grant")
	d.keeps(t, "file", "AssumeRoleWithWebIdentity")
	d.keeps(t, "command", "AssumeRoleWithWebIdentity")
	replace(t, file("secret"), exampleSecret)
	d.renews(t, "basic")
}
