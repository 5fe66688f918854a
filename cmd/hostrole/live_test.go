package main_test

import (
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
)

// An account is an STS as strict as AWS's, and those who may go to it.
type account struct {
	sts    *devsts.Server
	url    string
	dir    string
	issuer *devsts.Issuer
	idp    *devsts.SAMLIssuer
}

const (
	accountRole = "arn:aws:iam::111122223333:role/"
	corpIdP     = "arn:aws:iam::111122223333:saml-provider/Corp"
	hostUser    = "arn:aws:iam::111122223333:user/host"
)

func newAccount(t *testing.T, skew time.Duration) *account {
	t.Helper()
	now := func() time.Time { return time.Now().Add(skew).Round(0).UTC() }
	a := &account{dir: t.TempDir(), issuer: devsts.NewIssuer("https://issuer.example.com", now), idp: devsts.NewSAMLIssuer("https://idp.example.com/saml", now)}
	web := []devsts.OIDCTrust{{Issuer: "https://issuer.example.com", Subject: "host-7"}}
	a.sts = devsts.New(devsts.Options{Account: "111122223333", Region: "eu-central-1", Now: now,
		Users: []devsts.User{{ARN: hostUser, AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}},
		Roles: []devsts.Role{
			{ARN: accountRole + "app", Principals: []string{hostUser}, OIDC: web, SAML: []devsts.SAMLTrust{{Provider: corpIdP, Subject: "host-7"}}},
			{ARN: accountRole + "guarded", Principals: []string{hostUser}, ExternalID: "door/7"},
			{ARN: accountRole + "other", Principals: []string{"arn:aws:iam::111122223333:user/other"}},
			{ARN: accountRole + "hub", Principals: []string{hostUser}, MaxSession: 2 * time.Hour},
		},
		Providers: []devsts.Provider{{Issuer: "https://issuer.example.com", Audiences: []string{"sts.amazonaws.com"}, Keys: a.issuer.Keys}},
		SAML:      []devsts.SAMLProvider{{ARN: corpIdP, Issuer: "https://idp.example.com/saml", Certificates: a.idp.Certificates}},
	})
	srv := httptest.NewServer(a.sts)
	t.Cleanup(srv.Close)
	a.url = srv.URL
	return a
}

// check writes a configuration, runs the command, and returns what it says of
// the role, and its exit status.
func (a *account) check(t *testing.T, source, role string) (said string, status int) {
	t.Helper()
	path := filepath.Join(a.dir, "hostrole.toml")
	text := "version = 1\n[upstream]\nregion = 'eu-central-1'\ntimeout = '5s'\n[admin]\nsocket = 'admin.sock'\n[source.corp]\n" + source + "\n[role.app]\nfrom = 'source.corp'\n" + role + "\n[[allow]]\nany = true\nroles = ['app']\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(binaries, "hostrole"), "check", "--live", "--config", path)
	cmd.Env = []string{"SECRET=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "app, from source.corp: ") {
			said = strings.TrimSpace(strings.TrimPrefix(line, "app, from source.corp: "))
		}
	}
	if said == "" {
		t.Fatalf("nothing is said of the role:\n%s", out)
	}
	return said, cmd.ProcessState.ExitCode()
}

func (a *account) file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (a *account) keys(endpoint string) string {
	return "kind = 'static'\naccess_key_id = 'AKIAIOSFODNN7EXAMPLE'\nsecret_access_key = { env = 'SECRET' }\nendpoint = '" + endpoint + "'"
}

func (a *account) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"sub": "host-7", "aud": "sts.amazonaws.com"}
	for k, v := range claims {
		all[k] = v
	}
	return "kind = 'web-identity'\nassertion = { file = '" + a.file(t, "token", a.issuer.Mint(all)) + "' }\nendpoint = '" + a.url + "'"
}

func (a *account) saml(t *testing.T, issued time.Time, audience string) string {
	t.Helper()
	response := a.idp.Mint(devsts.SAMLClaims{Subject: "host-7", Issued: issued, Audience: audience, Attributes: map[string][]string{"Role": {accountRole + "app," + corpIdP}}})
	return "kind = 'saml'\nassertion = { file = '" + a.file(t, "response", response) + "' }\nendpoint = '" + a.url + "'"
}

// changing is what differs from run to run.
var changing = regexp.MustCompile(`[0-9a-f]{8}, good for [^,;]+|after [0-9.]+m?s|127\.0\.0\.1:\d+|(\d+h)?(\d+m)?\d+(\.\d+)?s (ago|left|behind|ahead)`)

// check --live says in one sentence why a role is not given and what to do about
// it, and behind that, in brackets, the words of whoever refused.
func TestCheckLiveExplains(t *testing.T) {
	const role = "arn = '" + accountRole
	for name, c := range map[string]struct {
		do     func(t *testing.T, a *account) (source, role string)
		skew   time.Duration
		status int
		want   string // up to the bracket
	}{
		"good": {func(t *testing.T, a *account) (string, string) { return a.token(t, nil), role + "app'" }, 0, 0, "good: ID, good for LIFE"},
		"wrong external id": {func(_ *testing.T, a *account) (string, string) {
			return a.keys(a.url), role + "guarded'\nexternal_id = 'door/8'"
		}, 0, 1, "FAILED: the trust policy of arn:aws:iam::111122223333:role/guarded does not let arn:aws:iam::111122223333:user/host in with this external id: make external_id what sts:ExternalId is there, and see that the policy names that principal"},
		"missing external id": {func(_ *testing.T, a *account) (string, string) {
			return a.keys(a.url), role + "guarded'"
		}, 0, 1, "FAILED: the trust policy of arn:aws:iam::111122223333:role/guarded does not let arn:aws:iam::111122223333:user/host in: name that principal there and, if the policy asks for an external id, write it as external_id"},
		"missing trust": {func(_ *testing.T, a *account) (string, string) {
			return a.keys(a.url), role + "other'"
		}, 0, 1, "FAILED: the trust policy of arn:aws:iam::111122223333:role/other does not let arn:aws:iam::111122223333:user/host in: name that principal there and, if the policy asks for an external id, write it as external_id"},
		"missing trust, of a token": {func(t *testing.T, a *account) (string, string) {
			return a.token(t, map[string]any{"sub": "host-8"}), role + "app'"
		}, 0, 1, `FAILED: the trust policy of arn:aws:iam::111122223333:role/app does not let this token in: allow sts:AssumeRoleWithWebIdentity to its issuer there, with its audience and subject; it is a token of issuer "https://issuer.example.com" for subject "host-8", audience "sts.amazonaws.com", TIME left`},
		"wrong audience": {func(t *testing.T, a *account) (string, string) {
			return a.token(t, map[string]any{"aud": "vault"}), role + "app'"
		}, 0, 1, `FAILED: the token is for an audience that the account's OIDC provider does not list: add it to the client ids of the provider, or have the token made for one of them; it is a token of issuer "https://issuer.example.com" for subject "host-7", audience "vault", TIME left`},
		"expired assertion, a token": {func(t *testing.T, a *account) (string, string) {
			return a.token(t, map[string]any{"iat": time.Now().Add(-time.Hour).Unix(), "exp": time.Now().Add(-time.Minute).Unix()}), role + "app'"
		}, 0, 1, `FAILED: the token has expired: see to what renews it; it is a token of issuer "https://issuer.example.com" for subject "host-7", audience "sts.amazonaws.com", expired TIME ago`},
		"expired assertion, SAML": {func(t *testing.T, a *account) (string, string) {
			return a.saml(t, time.Now().Add(-10*time.Minute), ""), role + "app'"
		}, 0, 1, "FAILED: the SAML response is too old, for STS takes one for five minutes: have it fetched at each use, by a command or a login"},
		"wrong audience, SAML": {func(t *testing.T, a *account) (string, string) {
			return a.saml(t, time.Time{}, "urn:amazon:webservices:cn-north-1"), role + "app'"
		}, 0, 1, `FAILED: the SAML response is for another audience than AWS: make it urn:amazon:webservices, or that of the role's partition, at the identity provider and in audience; it is a response of issuer "https://idp.example.com/saml" for subject "host-7", issued TIME ago`},
		"skewed clock": {func(_ *testing.T, a *account) (string, string) { return a.keys(a.url), role + "app'" }, 20 * time.Minute, 0,
			"good: ID, good for LIFE, after TIME; this host's clock is TIME behind: set it right, such as with timedatectl set-ntp true"},
		"skewed clock, the other way": {func(_ *testing.T, a *account) (string, string) { return a.keys(a.url), role + "app'" }, -20 * time.Minute, 0,
			"good: ID, good for LIFE, after TIME; this host's clock is TIME ahead: set it right, such as with timedatectl set-ntp true"},
		"duration too long": {func(_ *testing.T, a *account) (string, string) {
			return a.keys(a.url), role + "hub'\nduration = '6h'"
		}, 0, 1, "FAILED: a session of 6h is longer than arn:aws:iam::111122223333:role/hub allows: write the duration that the role has as its maximum, raise that, or write duration = 'max'"},
		"the longest duration": {func(_ *testing.T, a *account) (string, string) {
			return a.keys(a.url), role + "hub'\nduration = 'max'"
		}, 0, 0, "good: ID, good for LIFE, after TIME"},
		"unknown host": {func(_ *testing.T, a *account) (string, string) {
			return a.keys("https://" + strings.Repeat("a", 64) + ".example.com"), role + "app'" // no DNS is asked for what is no name
		}, 0, 69, "FAILED: DNS knows no host " + strings.Repeat("a", 64) + ".example.com: check the region and the endpoint"},
		"untrusted certificate": {func(t *testing.T, a *account) (string, string) {
			return a.keys(secure(t, a, false)), role + "app'"
		}, 0, 69, "FAILED: the server's certificate is from an authority that this host does not trust: write the PEM file of that authority as ca_file"},
		"a certificate of another name": {func(t *testing.T, a *account) (string, string) {
			return a.keys(strings.Replace(secure(t, a, true), "127.0.0.1", "localhost", 1)) + "\nca_file = 'ca.pem'", role + "app'"
		}, 0, 69, "FAILED: the server's certificate is not for localhost: write the endpoint with a name that the certificate has"},
		"another key than is pinned": {func(t *testing.T, a *account) (string, string) {
			return a.keys(secure(t, a, true)) + "\nca_file = 'ca.pem'\npins = ['sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=']", role + "app'"
		}, 0, 69, "FAILED: the server's certificate has none of the keys in pins: add the new one, if the server was to have one"},
		"nobody there": {func(_ *testing.T, a *account) (string, string) { return a.keys("http://127.0.0.1:1"), role + "app'" }, 0, 69,
			"FAILED: nothing answers at ADDRESS: check the endpoint, the firewall and the proxy"},
		"wrong secret": {func(t *testing.T, a *account) (string, string) {
			return strings.Replace(a.keys(a.url), "{ env = 'SECRET' }", "{ file = '"+a.file(t, "secret", "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY")+"' }", 1), role + "app'"
		}, 0, 1, "FAILED: the secret access key is not the one of this access key id: write the pair that belongs together"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t, c.skew)
			source, role := c.do(t, a)
			said, status := a.check(t, source, role)
			sentence := changing.ReplaceAllStringFunc(said, func(s string) string {
				switch word := s[strings.LastIndexByte(s, ' ')+1:]; {
				case strings.HasPrefix(s, "127."):
					return "ADDRESS"
				case strings.Contains(s, "good for"):
					return "ID, good for LIFE"
				case strings.HasPrefix(s, "after"):
					return "after TIME"
				default:
					return "TIME " + word
				}
			})
			sentence, words, _ := strings.Cut(sentence, " (")
			if status != c.status || !strings.HasPrefix(sentence, c.want) {
				t.Errorf("status %d, want %d:\n got %s\nwant %s", status, c.status, sentence, c.want)
			}
			if status != 0 && (words == "" || strings.Contains(words, "check the role's trust policy")) {
				t.Errorf("who refused says %q", words)
			}
			if strings.Contains(said, "EXAMPLEKEY") {
				t.Error("a secret is shown")
			}
		})
	}
}

// secure serves the account by TLS. known writes the authority to ca.pem.
func secure(t *testing.T, a *account, known bool) (url string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(a.sts)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	if known {
		a.file(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	}
	return fmt.Sprint(srv.URL)
}
