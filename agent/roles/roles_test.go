package roles_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source/cognito"
	"github.com/hostrole/hostrole/rotation/source/instance"
	"github.com/hostrole/hostrole/rotation/source/rolesanywhere"
	"github.com/hostrole/hostrole/rotation/source/vault"
	"github.com/hostrole/hostrole/rotation/source/webidentity"
)

func now() time.Time { return time.Now().Round(0).UTC() }

func options(c *config.Config) roles.Options {
	return roles.Options{
		Config: c, Env: []string{"SECRET=" + secret}, Host: facts.Host{Hostname: "host-7"}, Log: slog.New(slog.DiscardHandler),
		Now: now, Boot: func() time.Duration { return time.Hour },
		Live: func(context.Context, credential.Key) (credential.Credential, error) {
			return credential.Credential{}, fmt.Errorf("no role is live")
		},
	}
}

func build(t *testing.T, c *config.Config) map[string]*roles.Role {
	t.Helper()
	all, err := roles.Build(options(c))
	if err != nil {
		t.Fatalf("faults:\n%v", err)
	}
	return all
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse(filepath.Join(t.TempDir(), "hostrole.toml"), []byte(text))
	if err != nil {
		t.Fatalf("faults:\n%v", err)
	}
	return c
}

// write puts text into a file that only its owner may read.
func write(t *testing.T, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// keyPair makes a certificate and its key, in PEM.
func keyPair(t *testing.T, end time.Time) (certificate, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "host-7"}, NotBefore: now().Add(-time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// rsaKey makes one in PEM.
func rsaKey(t *testing.T) string {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// authority is a file with a certificate in it.
func authority(t *testing.T) (path string) {
	t.Helper()
	certificate, _ := keyPair(t, now().Add(time.Hour))
	return write(t, "ca.pem", certificate)
}

// What is built of each source of the packaged file, and how long an attempt
// may take: calls of 20s each, with the programs, sockets and goodbyes between
// them.
func TestEveryKind(t *testing.T) {
	path, text := everything(t)
	whole, err := config.Parse(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"corp":     "webidentity.Source of assertion.File, 20s",
		"command":  "webidentity.Source of assertion.Command, 1m20s",
		"oidc":     "webidentity.Source of assertion.OIDC, 40s",
		"signed":   "webidentity.Source of assertion.OIDC, 40s",
		"exchange": "webidentity.Source of assertion.OIDC, 40s",
		"cluster":  "webidentity.Source of assertion.Kubernetes, 40s",
		"google":   "webidentity.Source of assertion.GoogleKey, 40s",
		"pooled":   "webidentity.Source of assertion.GoogleImpersonation, 1m0s",
		"spiffe":   "webidentity.Source of assertion.SPIFFE, 40s",
		"saml":     "saml.Source, 2m40s",
		"ecp":      "saml.Source, 1m20s",
		"adfs":     "saml.Source, 1m20s",
		"device":   "rolesanywhere.Source, 40s",
		"tpm":      "rolesanywhere.Source, 2m40s",
		"pool":     "*cognito.Source, 1m20s",
		"vault":    "vault.Source of vault.Token, 44s",
		"approle":  "vault.Source of vault.AppRole, 44s",
		"pod":      "vault.Source of vault.JWT, 44s",
		"login":    "vault.Source of vault.JWT, 44s",
		"ec2":      "instance.Metadata, 1m0s",
		"task":     "instance.Container, 20s",
		"helper":   "process.Source, 1m0s",
		"keys":     "assumerole.Source, 20s",
	}
	for name := range whole.Sources {
		r := build(t, only(t, path, text, "from-"+name))["from-"+name]
		got := fmt.Sprintf("%T", r.Job.Source)
		switch s := r.Job.Source.(type) {
		case webidentity.Source:
			got += fmt.Sprintf(" of %T", s.Token)
		case vault.Source:
			got += fmt.Sprintf(" of %T", s.Auth)
		}
		if got += fmt.Sprintf(", %v", r.Job.Timeout); got != want[name] {
			t.Errorf("%s: got %s, want %s", name, got, want[name])
		}
		if r.Job.Skew == nil && name != "helper" {
			t.Errorf("%s: nobody's clock is looked at", name)
		}
		if (r.Job.Upstream == "") != (name == "helper") {
			t.Errorf("%s: the retries are counted for %q", name, r.Job.Upstream)
		}
		if r.Job.Needs != (credential.Key{}) || r.Job.Name != "from-"+name {
			t.Errorf("%s: needs %v, name %q", name, r.Job.Needs, r.Job.Name)
		}
	}
	if len(whole.Sources) != len(want) {
		t.Errorf("the packaged file has %d sources, and %d are expected", len(whole.Sources), len(want))
	}
}

const header = `version = 1
[upstream]
region = 'eu-central-1'
timeout = '5s'
[[allow]]
any = true
roles = ['app']
`

// What has the same name in the file goes to the field of that name.
func TestFields(t *testing.T) {
	c := parse(t, header+`
[source.device]
kind = 'roles-anywhere'
certificate = '/device.crt'
signer = ['/usr/bin/sign', 'x']
timeout = '7s'
chain = '/chain.crt'
trust_anchor_arn = 'arn:aws:rolesanywhere:eu-west-1:111122223333:trust-anchor/a'
profile_arn = 'arn:aws:rolesanywhere:eu-west-1:111122223333:profile/p'
accept_session_name = true
endpoint = 'https://ra.example.com'
[source.vault]
kind = 'vault'
address = 'https://vault.example.com'
namespace = 'team'
mount = 'aws2'
role = 'deploy'
path = 'sts'
jwt = { role = 'host', assertion = { kubernetes = { ca_file = '`+authority(t)+`', account = 'ns/name', audience = 'vault', life = '20m', bound_to = { kind = 'Node', name = 'n', uid = 'u' } } } }
[source.ec2]
kind = 'instance'
endpoint = 'http://169.254.169.254'
role = 'base'
[source.corp]
kind = 'web-identity'
[source.corp.assertion.oidc]
token_url = 'https://idp.example.com/token'
client_id = 'host'
auth = 'private_key_jwt'
private_key = { env = 'SECRET' }
key_id = '7'
algorithm = 'PS256'
certificate = '/crt'
assertion_audience = 'https://idp.example.com'
scope = ['a', 'b']
audience = 'aws'
parameters = { resource = 'r' }
token = 'id_token'
subject = { spiffe = { socket = 'unix:///run/api.sock', id = 'spiffe://example.org/host', timeout = '3s' } }
subject_token_type = 'urn:s'
requested_token_type = 'urn:r'
[source.pool]
kind = 'cognito'
identity_pool_id = 'eu-central-1:b97abbc1'
flow = 'basic'
account_id = '111122223333'
provider = 'idp.example.com'
assertion = { command = ['/usr/bin/fetch'] }
state_file = '/state'
[role.pool]
arn = 'arn:aws:iam::111122223333:role/pool'
from = 'source.pool'
duration = '2h'
[role.app]
arn = 'arn:aws:iam::111122223333:role/app'
from = 'source.device'
duration = '2h'
[role.vault]
from = 'source.vault'
[role.pinned]
arn = 'arn:aws:iam::111122223333:role/pinned'
from = 'source.vault'
[role.ec2]
from = 'source.ec2'
[role.corp]
arn = 'arn:aws:iam::111122223333:role/corp'
from = 'source.corp'
`)
	c.Sources["device"].Signer[0] = "/nothing" // is not run
	own := func(string) bool { return true }
	o := options(c)
	o.OwnToken, o.Env = own, append(o.Env, "STATE_DIRECTORY=/elsewhere")
	all, err := roles.Build(o)
	if err != nil {
		t.Fatal(err)
	}
	device := all["app"].Job.Source.(rolesanywhere.Source)
	if id := device.Identity; id.Certificate != "/device.crt" || id.Chain != "/chain.crt" || id.Key != nil || id.Signer.Argv[1] != "x" || id.Signer.Timeout != 7*time.Second ||
		device.SessionName != "host-7" || device.Duration != 2*time.Hour || device.Endpoint != "https://ra.example.com" || !strings.HasSuffix(device.TrustAnchorARN, "/a") ||
		!strings.HasSuffix(device.ProfileARN, "/p") || !strings.HasSuffix(device.RoleARN, "/app") {
		t.Errorf("roles anywhere: %+v", device)
	}
	v := all["vault"].Job.Source.(vault.Source)
	login := v.Auth.(vault.JWT)
	cluster := login.Token.(assertion.Kubernetes)
	if v.Address != "https://vault.example.com" || v.Namespace != "team" || v.Mount != "aws2" || v.Role != "deploy" || v.Path != "sts" || v.RoleARN != "" ||
		v.SessionName != "host-7" || v.TTL != time.Hour || login.Mount != "jwt" || login.Role != "host" {
		t.Errorf("vault: %+v", v)
	}
	if cluster.Account != "ns/name" || cluster.Audience != "vault" || cluster.Life != 20*time.Minute || cluster.Bound != (assertion.Object{Kind: "Node", Name: "n", UID: "u"}) ||
		cluster.Server != assertion.KubernetesServer || cluster.Token != (assertion.File{Path: assertion.KubernetesTokenFile}) {
		t.Errorf("kubernetes: %+v", cluster)
	}
	if pinned := all["pinned"].Job.Source.(vault.Source); !strings.HasSuffix(pinned.RoleARN, "/pinned") {
		t.Errorf("a vault role with an arn: %+v", pinned)
	}
	if ec2 := all["ec2"].Job.Source.(instance.Metadata); ec2.Endpoint != "http://169.254.169.254" || ec2.Role != "base" || ec2.Loop.OwnToken == nil || ec2.Loop.Own != nil {
		t.Errorf("instance: %+v", ec2)
	}
	oidc := all["corp"].Job.Source.(webidentity.Source).Token.(assertion.OIDC)
	if a := oidc.Auth; a.Method != "private_key_jwt" || a.Key == nil || a.Secret != nil || a.KeyID != "7" || a.Algorithm != "PS256" || a.Certificate != "/crt" || a.Audience != "https://idp.example.com" {
		t.Errorf("the client: %+v", a)
	}
	if oidc.TokenURL != "https://idp.example.com/token" || oidc.ClientID != "host" || fmt.Sprint(oidc.Scopes) != "[a b]" || oidc.Audience != "aws" ||
		oidc.Params["resource"] != "r" || !oidc.IDToken || oidc.SubjectType != "urn:s" || oidc.RequestedType != "urn:r" {
		t.Errorf("oidc: %+v", oidc)
	}
	if s := oidc.Subject.(assertion.SPIFFE); s.Socket != "/run/api.sock" || s.ID != "spiffe://example.org/host" || s.Audience != "sts.amazonaws.com" || s.Timeout != 3*time.Second {
		t.Errorf("spiffe: %+v", s)
	}
	pool := all["pool"].Job.Source.(*cognito.Source)
	if pool.PoolID != "eu-central-1:b97abbc1" || pool.AccountID != "111122223333" || pool.Provider != "idp.example.com" || pool.StateFile != "/state" || pool.STS == nil ||
		pool.Session.Name != "host-7" || pool.Session.Duration != 2*time.Hour || pool.Token.(assertion.Command).Command.Argv[0] != "/usr/bin/fetch" {
		t.Errorf("cognito: %s %s %s %s", pool.PoolID, pool.AccountID, pool.Provider, pool.StateFile)
	}
	for name, want := range map[string]time.Duration{"pool": 85 * time.Second, "app": 24 * time.Second, "vault": 19 * time.Second, "ec2": 15 * time.Second, "corp": 13 * time.Second} {
		if got := all[name].Job.Timeout; got != want {
			t.Errorf("%s: an attempt has %v, want %v", name, got, want)
		}
	}
}

// The defaults that the config writes are those that the packages have.
func TestDefaultsOfKubernetes(t *testing.T) {
	c := parse(t, header+"[source.corp]\nkind = 'web-identity'\nassertion = { kubernetes = {} }\n[role.app]\narn = 'arn:aws:iam::111122223333:role/app'\nfrom = 'source.corp'\n")
	if k := c.Sources["corp"].Assertion.Kubernetes; k.Server != assertion.KubernetesServer || k.CAFile != assertion.KubernetesCAFile || k.TokenFile != assertion.KubernetesTokenFile {
		t.Errorf("got %+v", k)
	}
}

// Files that are not there or hold something else are faults with a place.
func TestFaults(t *testing.T) {
	c := parse(t, header+`
[source.vault]
kind = 'vault'
address = 'https://vault.example.com'
role = 'deploy'
token = { env = 'SECRET' }
ca_file = '/nowhere/ca.pem'
[source.corp]
kind = 'web-identity'
assertion = { oidc = { token_url = 'https://idp.example.com', auth = 'none', ca_file = '`+write(t, "no.pem", "no PEM")+`' } }
[role.app]
from = 'source.vault'
[role.corp]
arn = 'arn:aws:iam::111122223333:role/corp'
from = 'source.corp'
`)
	_, err := roles.Build(options(c))
	if err == nil || !strings.Contains(err.Error(), ":9:9: source.vault: ca_file: open /nowhere/ca.pem") || !strings.Contains(err.Error(), "source.corp.assertion.oidc: ca_file: ") {
		t.Errorf("got %v", err)
	}
}

func TestACertificateThatEndsSoonIsTold(t *testing.T) {
	for name, left := range map[string]time.Duration{"soon": 13 * 24 * time.Hour, "later": 15 * 24 * time.Hour} {
		certificate, key := keyPair(t, now().Add(left))
		c := parse(t, header+`
[source.device]
kind = 'roles-anywhere'
certificate = '`+write(t, "crt", certificate)+`'
key = { file = '`+write(t, "key", key)+`' }
trust_anchor_arn = 'arn:aws:rolesanywhere:eu-west-1:111122223333:trust-anchor/a'
profile_arn = 'arn:aws:rolesanywhere:eu-west-1:111122223333:profile/p'
[role.app]
arn = 'arn:aws:iam::111122223333:role/app'
from = 'source.device'
`)
		var text strings.Builder
		o := options(c)
		o.Log = slog.New(slog.NewTextHandler(&text, nil))
		if _, err := roles.Build(o); err != nil {
			t.Fatal(err)
		}
		if told := strings.Contains(text.String(), "ends soon"); told != (name == "soon") {
			t.Errorf("%s: %q", name, text.String())
		}
	}
}

// A daemon that runs for months tells of it when the time has come, once a day.
func TestACertificateThatEndsSoonIsToldWhileTheDaemonRuns(t *testing.T) {
	certificate, key := keyPair(t, now().Add(20*24*time.Hour))
	url := start(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotImplemented) })
	c := parse(t, file(`[source.corp]
kind = 'roles-anywhere'
certificate = '`+write(t, "crt", certificate)+`'
key = { file = '`+write(t, "key", key)+`' }
trust_anchor_arn = 'arn:aws:rolesanywhere:eu-west-1:111122223333:trust-anchor/a'
profile_arn = 'arn:aws:rolesanywhere:eu-west-1:111122223333:profile/p'
endpoint = '`+url+`'`)+"arn = 'arn:aws:iam::111122223333:role/app'\n")
	var text strings.Builder
	var passed time.Duration
	o := options(c)
	o.Log = slog.New(slog.NewTextHandler(&text, nil))
	o.Now, o.Boot = func() time.Time { return now().Add(passed) }, func() time.Duration { return time.Hour + passed }
	all, err := roles.Build(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		day  float64
		told int
	}{{0, 0}, {5, 0}, {7, 1}, {7.5, 1}, {8.1, 2}, {8.2, 2}} {
		passed = time.Duration(c.day * float64(24*time.Hour))
		if _, err := all["app"].Job.Source.Fetch(t.Context()); err == nil {
			t.Fatal("a session was made")
		}
		if got := strings.Count(text.String(), "ends soon"); got != c.told {
			t.Errorf("by day %v it was told %d times, want %d", c.day, got, c.told)
		}
	}
}

// The longest session is found by asking: 12 hours first, and less when that
// is refused as invalid.
func TestLongestSession(t *testing.T) {
	const user, app = "arn:aws:iam::111122223333:user/host", "arn:aws:iam::111122223333:role/app"
	sts := devsts.New(devsts.Options{Account: "111122223333", Region: "eu-central-1", Now: now,
		Users: []devsts.User{{ARN: user, AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: secret}},
		Roles: []devsts.Role{{ARN: app, Principals: []string{user}, MaxSession: 4 * time.Hour}}})
	srv := httptest.NewServer(sts)
	defer srv.Close()
	cfg, err := config.Parse("hostrole.toml", []byte(`version = 1
[upstream]
region = "eu-central-1"
endpoint = "`+srv.URL+`"
[source.keys]
kind = "static"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_access_key = { env = "SECRET" }
[role.app]
arn = "`+app+`"
from = "source.keys"
duration = "max"
[[allow]]
any = true
roles = ["app"]
`))
	if err != nil {
		t.Fatal(err)
	}
	built, err := roles.Build(roles.Options{Config: cfg, Env: roles.Environment{"SECRET=" + secret}, Log: slog.New(slog.DiscardHandler), Now: now, Boot: func() time.Duration { return time.Hour }})
	if err != nil {
		t.Fatal(err)
	}
	job := built["app"].Job
	if job.Longest == nil {
		t.Fatal("nothing looks for the longest session")
	}
	for _, d := range []time.Duration{12 * time.Hour, 6 * time.Hour} {
		if _, err := job.Longest(d).Fetch(t.Context()); rotation.Classify(err) != rotation.Misconfigured {
			t.Errorf("%v: %v", d, err)
		}
	}
	c, err := job.Longest(4 * time.Hour).Fetch(t.Context())
	if err != nil || (c.Expires.Sub(c.Issued)-4*time.Hour).Abs() > 5*time.Second {
		t.Errorf("4h: %v, %v", c.Expires.Sub(c.Issued), err)
	}
}
