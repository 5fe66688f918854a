package roles_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/source"
)

// Whoever is asked on the way to a credential may ask to be left alone, and the
// schedule hears of it.
func TestARetryAfterReachesTheSchedule(t *testing.T) {
	busy := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "77")
		w.WriteHeader(http.StatusNotImplemented) // which is not tried again at once
		_, _ = io.WriteString(w, `{"error":"server_error","message":"busy","__type":"Busy","errors":["busy"]}`)
	}
	url := start(t, busy)
	tlsURL, ca := startTLS(t, nil, busy)
	token, password := write(t, "token", mint()), write(t, "password", "pass word")
	certificate, key := keyPair(t, now().Add(30*24*time.Hour))
	googleKey, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "host@project.iam.gserviceaccount.com", "private_key": rsaKey(t), "token_uri": tlsURL})
	if err != nil {
		t.Fatal(err)
	}
	authorization := write(t, "authorization", "the-token")
	if err := os.Chmod(authorization, 0o600); err != nil {
		t.Fatal(err)
	}
	web := func(assertion string) string {
		return "kind = 'web-identity'\nendpoint = '" + startSTS(t) + "'\nassertion = { " + assertion + " }"
	}
	federated := "arn = '" + role + "'\n"
	for name, c := range map[string]struct{ source, role string }{
		"STS, signed":    {"kind = 'static'\naccess_key_id = 'AKIAIOSFODNN7EXAMPLE'\nsecret_access_key = { env = 'SECRET' }\nendpoint = '" + url + "'", federated},
		"STS, a token":   {"kind = 'web-identity'\nendpoint = '" + url + "'\nassertion = { file = '" + token + "' }", federated},
		"OIDC":           {web("oidc = { token_url = '" + url + "', client_id = 'host', client_secret = { file = '" + password + "' } }"), federated},
		"OIDC, exchange": {web("oidc = { token_url = '" + url + "', auth = 'none', subject = { file = '" + token + "' } }"), federated},
		"Kubernetes":     {web("kubernetes = { server = '" + tlsURL + "', ca_file = '" + ca + "', token_file = '" + token + "', account = 'infra/host' }"), federated},
		"Google, a key":  {web("google = { audience = 'sts.amazonaws.com', key = { file = '" + write(t, "key.json", string(googleKey)) + "' }, ca_file = '" + ca + "' }"), federated},
		"Google, a pool": {web("google = { audience = 'sts.amazonaws.com', provider = '//iam.googleapis.com/projects/1', account = 'host@project', subject = { file = '" + token + "' }, sts_endpoint = '" + url + "/sts', iam_endpoint = '" + url + "' }"), federated},
		"ECP":            {"kind = 'saml'\nendpoint = '" + startSTS(t) + "'\nassertion = { ecp = { url = '" + url + "', username = 'host', password = { file = '" + password + "' } } }", federated},
		"ADFS":           {"kind = 'saml'\nendpoint = '" + startSTS(t) + "'\nassertion = { adfs = { url = '" + url + "', username = 'host', password = { file = '" + password + "' } } }", federated},
		"Roles Anywhere": {"kind = 'roles-anywhere'\ncertificate = '" + write(t, "crt", certificate) + "'\nkey = { file = '" + write(t, "key", key) + "' }\n" +
			"trust_anchor_arn = 'arn:aws:rolesanywhere:eu-west-1:111122223333:trust-anchor/a'\nprofile_arn = 'arn:aws:rolesanywhere:eu-west-1:111122223333:profile/p'\nendpoint = '" + url + "'", federated},
		"Vault, the engine": {"kind = 'vault'\naddress = '" + url + "'\nrole = 'deploy'\ntoken = { file = '" + write(t, "sink", "hvs.sink") + "' }", ""},
		"Vault, the login":  {"kind = 'vault'\naddress = '" + url + "'\nrole = 'deploy'\napprole = { role_id = { file = '" + password + "' } }", ""},
		"Cognito":           {"kind = 'cognito'\nidentity_pool_id = 'eu-central-1:b97abbc1'\nendpoint = '" + url + "'", ""},
		"instance, EC2":     {"kind = 'instance'\nendpoint = '" + url + "'", ""},
		"instance, ECS":     {"kind = 'instance'\nuri = '" + url + "/v1/credentials'\nauthorization = { file = '" + authorization + "' }", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := given(t, options(parse(t, file("[source.corp]\n"+c.source)+c.role)), "app")
			if got := source.RetryAfter(err); err == nil || got != 77*time.Second {
				t.Errorf("is to be left alone for %v, want 77s: %v", got, err)
			}
		})
	}
}
