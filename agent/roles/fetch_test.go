package roles_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/rotation/credential"
)

const (
	issuerURL = "https://issuer.example.com"
	idp       = "https://idp.example.com/saml"
	role      = "arn:aws:iam::111122223333:role/app"
	user      = "arn:aws:iam::111122223333:user/host"
	corp      = "arn:aws:iam::111122223333:saml-provider/Corp"
)

// Making keys is slow.
var (
	issuer     = sync.OnceValue(func() *devsts.Issuer { return devsts.NewIssuer(issuerURL, now) })
	samlIssuer = sync.OnceValue(func() *devsts.SAMLIssuer { return devsts.NewSAMLIssuer(idp, now) })
)

func mint() string {
	return issuer().Mint(map[string]any{"sub": "host-7", "aud": "sts.amazonaws.com"})
}

// startSTS returns the URL of an STS that trusts our issuers and our user.
func startSTS(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(devsts.New(devsts.Options{Account: "111122223333", Region: "eu-central-1", Now: now,
		Users: []devsts.User{{ARN: user, AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: secret}},
		Roles: []devsts.Role{{ARN: role, Principals: []string{user},
			OIDC: []devsts.OIDCTrust{{Issuer: issuerURL, Subject: "*"}},
			SAML: []devsts.SAMLTrust{{Provider: corp, Subject: "*"}}}},
		Providers: []devsts.Provider{{Issuer: issuerURL, Audiences: []string{"sts.amazonaws.com"}, Keys: issuer().Keys}},
		SAML:      []devsts.SAMLProvider{{ARN: corp, Issuer: idp, Certificates: samlIssuer().Certificates}},
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// start returns the URL of a server.
func start(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// startTLS is start with TLS, and the file of its authority.
func startTLS(t *testing.T, cfg *tls.Config, h http.HandlerFunc) (url, caFile string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = cfg
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL, write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
}

func answer(w http.ResponseWriter, status int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(doc)
}

// given checks what a role's job fetches, within its own limit.
func given(t *testing.T, o roles.Options, name string) (credential.Credential, error) {
	t.Helper()
	all, err := roles.Build(o)
	if err != nil {
		t.Fatalf("faults:\n%v", err)
	}
	c, err := all[name].Job.Source.Fetch(t.Context())
	if err == nil && (credential.Check(c) != nil || c.Received != time.Hour) {
		t.Errorf("%v: received %v: %v", c.ID(), c.Received, credential.Check(c))
	}
	return c, err
}

// file is a config with one role from source.corp.
func file(source string) string {
	return header + source + "\n[role.app]\nfrom = 'source.corp'\n"
}

func TestWebIdentityByEachAssertion(t *testing.T) {
	asked := func(t *testing.T, r *http.Request, want map[string]string) bool {
		ok := r.ParseForm() == nil
		for k, v := range want {
			ok = ok && r.PostForm.Get(k) == v
		}
		if !ok {
			t.Errorf("was asked for %v, not %v", r.PostForm, want)
		}
		return ok
	}
	token := write(t, "token", mint())
	for name, say := range map[string]func(t *testing.T) string{
		"file":    func(*testing.T) string { return "file = '" + token + "'" },
		"command": func(*testing.T) string { return "command = ['/bin/cat', '" + token + "']" },
		"oidc": func(t *testing.T) string {
			url := start(t, func(w http.ResponseWriter, r *http.Request) {
				id, password, _ := r.BasicAuth()
				if id != "host" || password != "secret" || !asked(t, r, map[string]string{"grant_type": "client_credentials", "audience": "aws", "scope": "a b", "resource": "r"}) {
					t.Errorf("the client is %q", id)
				}
				answer(w, 200, map[string]any{"access_token": "opaque", "id_token": mint(), "token_type": "Bearer"})
			})
			return "oidc = { token_url = '" + url + "', client_id = 'host', client_secret = { file = '" + write(t, "secret", "secret") +
				"' }, audience = 'aws', scope = ['a', 'b'], parameters = { resource = 'r' }, token = 'id_token' }"
		},
		"oidc with a certificate": func(t *testing.T) string {
			certificate, key := keyPair(t, now().Add(time.Hour))
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM([]byte(certificate))
			url, ca := startTLS(t, &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}, func(w http.ResponseWriter, r *http.Request) {
				if !asked(t, r, map[string]string{"client_id": "host"}) || r.TLS.PeerCertificates[0].Subject.CommonName != "host-7" {
					t.Error("the connection is somebody else's")
				}
				answer(w, 200, map[string]any{"access_token": mint(), "token_type": "Bearer"})
			})
			return "oidc = { token_url = '" + url + "', client_id = 'host', auth = 'tls_client_auth', certificate = '" + write(t, "crt", certificate) +
				"', private_key = { file = '" + write(t, "key", key) + "' }, ca_file = '" + ca + "' }"
		},
		"oidc, an exchange": func(t *testing.T) string {
			url := start(t, func(w http.ResponseWriter, r *http.Request) {
				asked(t, r, map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": readFile(t, token), "requested_token_type": "urn:r"})
				answer(w, 200, map[string]any{"access_token": mint(), "token_type": "N_A", "issued_token_type": "urn:r"})
			})
			return "oidc = { token_url = '" + url + "', auth = 'none', subject = { file = '" + token + "' }, requested_token_type = 'urn:r' }"
		},
		"kubernetes": func(t *testing.T) string {
			url, ca := startTLS(t, nil, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/v1/namespaces/infra/serviceaccounts/host/token" || r.Header.Get("Authorization") != "Bearer "+readFile(t, token) {
					t.Errorf("was asked for %s", r.URL)
				}
				answer(w, 201, map[string]any{"kind": "TokenRequest", "status": map[string]any{"token": mint()}})
			})
			return "kubernetes = { server = '" + url + "', ca_file = '" + ca + "', token_file = '" + token + "', account = 'infra/host' }"
		},
		"google, by key": func(t *testing.T) string {
			url, ca := startTLS(t, nil, func(w http.ResponseWriter, r *http.Request) {
				asked(t, r, map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"})
				answer(w, 200, map[string]any{"id_token": mint()})
			})
			key, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "host@project.iam.gserviceaccount.com", "private_key": rsaKey(t), "token_uri": url})
			if err != nil {
				t.Fatal(err)
			}
			return "google = { audience = 'sts.amazonaws.com', key = { file = '" + write(t, "key.json", string(key)) + "' }, ca_file = '" + ca + "' }"
		},
		"google, by a pool": func(t *testing.T) string {
			url := start(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/sts" {
					asked(t, r, map[string]string{"audience": "//iam.googleapis.com/projects/1", "subject_token": readFile(t, token)})
					answer(w, 200, map[string]any{"access_token": "federated", "token_type": "Bearer", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})
					return
				}
				if !strings.Contains(r.URL.Path, "/serviceAccounts/host@project:generateIdToken") || r.Header.Get("Authorization") != "Bearer federated" {
					t.Errorf("was asked for %s", r.URL)
				}
				answer(w, 200, map[string]any{"token": mint()})
			})
			return "google = { audience = 'sts.amazonaws.com', provider = '//iam.googleapis.com/projects/1', account = 'host@project', subject = { file = '" + token +
				"' }, sts_endpoint = '" + url + "/sts', iam_endpoint = '" + url + "' }"
		},
		"spiffe": func(t *testing.T) string { return "spiffe = { socket = 'unix://" + workloadAPI(t) + "' }" },
	} {
		t.Run(name, func(t *testing.T) {
			c := parse(t, file("[source.corp]\nkind = 'web-identity'\nendpoint = '"+startSTS(t)+"'\nassertion = { "+say(t)+" }")+"arn = '"+role+"'\n")
			if got, err := given(t, options(c), "app"); err != nil || got.RoleARN != role {
				t.Errorf("got the role %s: %v", got.RoleARN, err)
			}
		})
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// workloadAPI is a SPIFFE Workload API that gives our token, by the path of its
// socket.
func workloadAPI(t *testing.T) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "spiffe") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "api.sock")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	field := func(n byte, text string) string {
		return string(binary.AppendUvarint([]byte{n<<3 | 2}, uint64(len(text)))) + text
	}
	body := field(1, field(1, "spiffe://example.org/host")+field(2, mint()))
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = io.WriteString(w, "\x00"+string(binary.BigEndian.AppendUint32(nil, uint32(len(body))))+body)
		w.Header().Set("Grpc-Status", "0")
	}))
	_ = srv.Listener.Close()
	srv.Listener, srv.Config.Protocols = l, new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	return socket
}

func TestSAMLByEachAssertion(t *testing.T) {
	response := func() string {
		return samlIssuer().Mint(devsts.SAMLClaims{Attributes: map[string][]string{"Role": {role + "," + corp}}})
	}
	xml := func() string {
		doc, err := base64.StdEncoding.DecodeString(response())
		if err != nil {
			t.Error(err)
		}
		return string(doc)
	}
	login := func(t *testing.T, url string) string {
		return "url = '" + url + "', username = 'host', password = { file = '" + write(t, "password", "pass word") + "' }"
	}
	for name, say := range map[string]func(t *testing.T) string{
		"file":    func(t *testing.T) string { return "file = '" + write(t, "response", response()) + "'" },
		"command": func(t *testing.T) string { return "command = ['/bin/cat', '" + write(t, "response", xml()) + "']" },
		"ecp": func(t *testing.T) string {
			return "ecp = { " + login(t, start(t, func(w http.ResponseWriter, r *http.Request) {
				if name, password, _ := r.BasicAuth(); name != "host" || password != "pass word" {
					t.Errorf("logged in as %q", name)
				}
				_, _ = fmt.Fprintf(w, `<S:Envelope xmlns:S="http://schemas.xmlsoap.org/soap/envelope/"><S:Body>%s</S:Body></S:Envelope>`, xml())
			})) + " }"
		},
		"adfs": func(t *testing.T) string {
			return "adfs = { " + login(t, start(t, func(w http.ResponseWriter, r *http.Request) {
				if body, _ := io.ReadAll(r.Body); !strings.Contains(string(body), ">host<") || !strings.Contains(string(body), ">pass word<") {
					t.Error("logged in as somebody else")
				}
				doc := xml()
				doc = doc[strings.Index(doc, "<saml:Assertion"):strings.Index(doc, "</samlp:Response>")]
				_, _ = fmt.Fprintf(w, `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><t:RequestSecurityTokenResponseCollection xmlns:t="http://docs.oasis-open.org/ws-sx/ws-trust/200512">`+
					`<t:RequestSecurityTokenResponse><t:RequestedSecurityToken>%s</t:RequestedSecurityToken></t:RequestSecurityTokenResponse></t:RequestSecurityTokenResponseCollection></s:Body></s:Envelope>`, doc)
			})) + " }"
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := parse(t, file("[source.corp]\nkind = 'saml'\nendpoint = '"+startSTS(t)+"'\nassertion = { "+say(t)+" }")+"arn = '"+role+"'\n")
			if got, err := given(t, options(c), "app"); err != nil || got.RoleARN != role {
				t.Errorf("got the role %s: %v", got.RoleARN, err)
			}
		})
	}
}

func keys(expires any) map[string]any {
	return map[string]any{"AccessKeyId": "ASIAIOSFODNN7EXAMPLE", "SecretAccessKey": secret, "SecretKey": secret, "SessionToken": "session", "Token": "session", "Expiration": expires}
}

func inAnHour() string { return now().Add(time.Hour).Format(time.RFC3339) }

func TestRolesAnywhere(t *testing.T) {
	certificate, key := keyPair(t, now().Add(30*24*time.Hour))
	url := start(t, func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ RoleARN, RoleSessionName string }
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.RoleARN != role || asked.RoleSessionName != "host-7" || !strings.Contains(r.Header.Get("Authorization"), "Credential=7/") ||
			!strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/") {
			t.Errorf("was asked for %v with %q: %v", asked, r.Header.Get("Authorization"), err)
		}
		answer(w, 201, map[string]any{"credentialSet": []any{map[string]any{"credentials": keys(inAnHour()), "roleArn": role}}})
	})
	c := parse(t, file(`[source.corp]
kind = 'roles-anywhere'
certificate = '`+write(t, "crt", certificate)+`'
key = { file = '`+write(t, "key", key)+`' }
trust_anchor_arn = 'arn:aws:rolesanywhere:eu-west-1:111122223333:trust-anchor/a'
profile_arn = 'arn:aws:rolesanywhere:eu-west-1:111122223333:profile/p'
accept_session_name = true
endpoint = '`+url+`'`)+"arn = '"+role+"'\n")
	if got, err := given(t, options(c), "app"); err != nil || got.RoleARN != role {
		t.Errorf("got the role %s: %v", got.RoleARN, err)
	}
}

func TestVaultByEachLogin(t *testing.T) {
	jwt := write(t, "token", mint())
	sink := write(t, "sink", "hvs.sink")
	if err := os.Chmod(sink, 0o640); err != nil { // as Vault Agent writes it
		t.Fatal(err)
	}
	open := write(t, "open", "hvs.open")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := given(t, options(parse(t, file("[source.corp]\nkind = 'vault'\naddress = 'https://vault.example.com'\nrole = 'deploy'\ntoken = { file = '"+open+"' }"))), "app"); err == nil || !strings.Contains(err.Error(), "chmod 640") {
		t.Errorf("a token that everyone can read: %v", err)
	}
	for name, c := range map[string]struct{ login, path, body string }{
		"token":      {"token = { file = '" + sink + "' }", "", ""},
		"approle":    {"approle = { role_id = { file = '" + write(t, "id", "the-id") + "' }, secret_id = { file = '" + write(t, "secret", "the-secret") + "' } }", "/v1/auth/approle/login", "the-secret"},
		"jwt":        {"jwt = { role = 'host', mount = 'oidc', assertion = { file = '" + jwt + "' } }", "/v1/auth/oidc/login", "host"},
		"kubernetes": {"kubernetes = { role = 'host', assertion = { file = '" + jwt + "' } }", "/v1/auth/kubernetes/login", "host"},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var calls []string
			url := start(t, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				calls = append(calls, r.URL.Path)
				mu.Unlock()
				body, _ := io.ReadAll(r.Body)
				switch {
				case r.URL.Path == c.path && strings.Contains(string(body), c.body):
					answer(w, 200, map[string]any{"auth": map[string]any{"client_token": "hvs.login"}})
				case r.URL.Path == "/v1/aws/creds/deploy" && r.URL.Query().Get("role_session_name") == "host-7" && r.URL.Query().Get("ttl") == "3600s":
					answer(w, 200, map[string]any{"request_id": "r", "lease_duration": 3600, "data": map[string]any{"access_key": "ASIAIOSFODNN7EXAMPLE", "secret_key": secret, "session_token": "session"}})
				default:
					w.WriteHeader(204)
				}
			})
			cfg := parse(t, file("[source.corp]\nkind = 'vault'\naddress = '"+url+"'\nrole = 'deploy'\n"+c.login))
			if _, err := given(t, options(cfg), "app"); err != nil {
				t.Errorf("%v, after %v", err, calls)
			}
		})
	}
}

func TestCognitoByEachFlow(t *testing.T) {
	state := t.TempDir()
	for name, c := range map[string]struct{ keys, arn string }{
		"enhanced, without a login": {"", ""},
		"enhanced, with a login":    {"provider = 'issuer.example.com'\nassertion = { file = '" + write(t, "token", mint()) + "' }\n", role},
		"basic":                     {"flow = 'basic'\n", role},
	} {
		t.Run(name, func(t *testing.T) {
			url := start(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				switch _, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); action {
				case "GetId":
					if strings.Contains(string(body), "issuer.example.com") != strings.Contains(c.keys, "provider") {
						t.Errorf("was asked %s", body)
					}
					answer(w, 200, map[string]any{"IdentityId": "eu-central-1:one"})
				case "GetOpenIdToken":
					answer(w, 200, map[string]any{"IdentityId": "eu-central-1:one", "Token": mint()})
				default:
					if strings.Contains(string(body), "CustomRoleArn") != (c.arn != "") {
						t.Errorf("was asked %s", body)
					}
					answer(w, 200, map[string]any{"IdentityId": "eu-central-1:one", "Credentials": keys(now().Add(time.Hour).Unix())})
				}
			})
			text := file("[source.corp]\nkind = 'cognito'\nidentity_pool_id = 'eu-central-1:b97abbc1'\nendpoint = '" + url + "'\n" + c.keys)
			if c.arn != "" {
				text += "arn = '" + c.arn + "'\n"
			}
			if name == "basic" {
				text += "endpoint = '" + startSTS(t) + "'\n"
			}
			o := options(parse(t, text))
			o.Env = append(o.Env, "STATE_DIRECTORY="+state+":/other")
			if got, err := given(t, o, "app"); err != nil || got.RoleARN != c.arn {
				t.Errorf("got the role %s: %v", got.RoleARN, err)
			}
		})
	}
	if kept := readFile(t, filepath.Join(state, "identity-corp.json")); !strings.Contains(kept, "eu-central-1:one") {
		t.Errorf("kept is %q", kept)
	}
}

func TestInstance(t *testing.T) {
	token := write(t, "token", "the-token")
	if err := os.Chmod(token, 0o644); err != nil { // as Kubernetes writes it
		t.Fatal(err)
	}
	url := start(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			_, _ = io.WriteString(w, "session-token")
		case r.URL.Path == "/v1/credentials" && r.Header.Get("Authorization") == "the-token", strings.HasSuffix(r.URL.Path, "/security-credentials/base"):
			answer(w, 200, keys(inAnHour()))
		default:
			_, _ = io.WriteString(w, "base")
		}
	})
	for name, where := range map[string]string{
		"ec2":       "endpoint = '" + url + "'",
		"container": "uri = '" + url + "/v1/credentials'\nauthorization = { file = '" + token + "' }",
	} {
		t.Run(name, func(t *testing.T) {
			o := options(parse(t, file("[source.corp]\nkind = 'instance'\n"+where)))
			if _, err := given(t, o, "app"); err != nil {
				t.Error(err)
			}
			o.Own = func(netip.AddrPort) bool { return true }
			if _, err := given(t, o, "app"); err == nil || !strings.Contains(err.Error(), "leads back to this daemon") {
				t.Errorf("of our own address: %v", err)
			}
		})
	}
	if err := os.Chmod(token, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := given(t, options(parse(t, file("[source.corp]\nkind = 'instance'\nuri = '"+url+"/v1/credentials'\nauthorization = { file = '"+token+"' }"))), "app"); err == nil || !strings.Contains(err.Error(), "chmod 644") {
		t.Errorf("a token that everyone can write: %v", err)
	}
	o := options(parse(t, file("[source.corp]\nkind = 'instance'\nendpoint = '"+url+"'")))
	o.OwnToken = func(token string) bool { return token == "session-token" }
	if _, err := given(t, o, "app"); err == nil || !strings.Contains(err.Error(), "leads back to this daemon") {
		t.Errorf("of our own token: %v", err)
	}
}

func TestAlternatives(t *testing.T) {
	c := parse(t, header+`
[source.token]
kind = 'web-identity'
endpoint = '`+startSTS(t)+`'
assertion = { file = '/nowhere/token' }
[source.keys]
kind = 'static'
access_key_id = 'AKIAIOSFODNN7EXAMPLE'
secret_access_key = { env = 'SECRET' }
endpoint = '`+startSTS(t)+`'
[role.app]
arn = '`+role+`'
from = ['role.hub', 'source.token', 'source.keys']
[role.hub]
arn = 'arn:aws:iam::111122223333:role/hub'
from = 'source.token'
[role.child]
arn = 'arn:aws:iam::111122223333:role/child'
from = 'role.app'
`)
	var text strings.Builder
	o := options(c)
	o.Log = slog.New(slog.NewTextHandler(&text, nil))
	if got, err := given(t, o, "app"); err != nil || got.RoleARN != role {
		t.Errorf("got the role %s: %v", got.RoleARN, err)
	}
	for _, want := range []string{"source=role.hub", "source=source.token"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s is not in the log: %s", want, text.String())
		}
	}
	all := build(t, c)
	if j := all["app"].Job; j.Needs != (credential.Key{}) || j.Timeout != 15*time.Second || j.Skew() != 0 {
		t.Errorf("the job needs %v and has %v", j.Needs, j.Timeout)
	}
	if all["child"].Job.Needs != all["app"].Job.Key {
		t.Error("what is assumed from a role with alternatives needs something else")
	}
}
