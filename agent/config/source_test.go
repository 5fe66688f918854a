package config_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/agent/config"
)

// What is said of STS in [upstream] is for STS; roots and proxy are for all
// but the next hop.
func TestWhatSourcesInherit(t *testing.T) {
	c := parse(t, `version = 1
[upstream]
region = 'eu-central-1'
endpoint = 'https://sts.example.com'
ca_file = '/ca.pem'
proxy = 'env'
timeout = '7s'
[source.corp]
kind = 'web-identity'
region = 'eu-west-1'
ca_file = '/corp.pem'
assertion = { oidc = { token_url = 'https://idp.example.com', auth = 'none', subject = { google = { audience = 'x', key = { env = 'KEY' } } } } }
[source.saml]
kind = 'saml'
assertion = { ecp = { url = 'https://idp.example.com', username = 'host', password = { env = 'PASSWORD' }, proxy = 'none' } }
[source.device]
kind = 'roles-anywhere'
certificate = '/crt'
key = { env = 'KEY' }
trust_anchor_arn = 'arn:aws:rolesanywhere:eu-north-1:111122223333:trust-anchor/a'
profile_arn = 'arn:aws:rolesanywhere:eu-north-1:111122223333:profile/p'
[source.vault]
kind = 'vault'
address = 'https://vault.example.com'
role = 'deploy'
kubernetes = { role = 'host', assertion = { kubernetes = { bound_to = { kind = 'Node', name = 'n' } } } }
ca_file = '/vault.pem'
proxy = 'none'
[source.pool]
kind = 'cognito'
identity_pool_id = 'eu-north-1:b97abbc1'
[source.ec2]
kind = 'instance'
endpoint = 'http://169.254.169.254'
[role.app]
arn = 'arn:aws:iam::111122223333:role/app'
from = ['source.device', 'source.corp', 'source.saml']
[role.vault]
from = ['source.vault', 'source.ec2', 'source.pool']
[[allow]]
any = true
roles = ['app', 'vault']
`)
	for name, want := range map[string][4]string{ // region, endpoint, ca_file, proxy
		"corp":   {"eu-west-1", "https://sts.example.com", "/corp.pem", "env"},
		"saml":   {"eu-central-1", "https://sts.example.com", "/ca.pem", "env"},
		"device": {"", "", "/ca.pem", "env"},
		"vault":  {"", "", "/vault.pem", "none"},
		"pool":   {"", "", "/ca.pem", "env"},
		"ec2":    {"", "http://169.254.169.254", "", ""},
	} {
		s := c.Sources[name]
		if diff := cmp.Diff(want, [4]string{s.Region, s.Endpoint, s.CAFile, s.Proxy}); diff != "" {
			t.Errorf("source.%s: -want +got:\n%s", name, diff)
		}
		sts := config.Upstream{Region: "eu-central-1", Endpoint: "https://sts.example.com", CAFile: "/ca.pem", Proxy: "env", Timeout: config.Duration(7 * time.Second)}
		if name == "corp" {
			sts.Region, sts.CAFile = "eu-west-1", "/corp.pem"
		}
		if diff := cmp.Diff(sts, c.STS(name)); diff != "" {
			t.Errorf("STS for the roles from source.%s: -want +got:\n%s", name, diff)
		}
	}
	oidc, ecp, cluster := c.Sources["corp"].Assertion.OIDC, c.Sources["saml"].Assertion.ECP, c.Sources["vault"].Kubernetes.Assertion.Kubernetes
	for what, diff := range map[string]string{
		"oidc":    cmp.Diff([2]string{"/ca.pem", "env"}, [2]string{oidc.CAFile, oidc.Proxy}),
		"google":  cmp.Diff([2]string{"/ca.pem", "env"}, [2]string{oidc.Subject.Google.CAFile, oidc.Subject.Google.Proxy}),
		"ecp":     cmp.Diff([2]string{"/ca.pem", "none"}, [2]string{ecp.CAFile, ecp.Proxy}),
		"cluster": cmp.Diff([2]string{"/var/run/secrets/kubernetes.io/serviceaccount/ca.crt", "none"}, [2]string{cluster.CAFile, cluster.Proxy}),
		"login":   cmp.Diff([2]string{"host", "kubernetes"}, [2]string{c.Sources["vault"].Kubernetes.Role, c.Sources["vault"].Kubernetes.Mount}),
	} {
		if diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	from := c.Roles["app"].From
	var each []string
	for _, f := range from.Each() {
		each = append(each, f.String())
	}
	if name, ok := from.Source(); name != "device" || !ok || from.String() != "source.device, source.corp, source.saml" || len(each) != 3 || each[2] != "source.saml" {
		t.Errorf("from is %v, its first %q, all %q", from, name, each)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", c.Warnings)
	}
}

// Where a name of the source has a region, STS may be asked there.
func TestRegionOfSTS(t *testing.T) {
	c := parse(t, `version = 1
[source.device]
kind = 'roles-anywhere'
certificate = '/crt'
key = { env = 'KEY' }
trust_anchor_arn = 'arn:aws:rolesanywhere:eu-north-1:111122223333:trust-anchor/a'
profile_arn = 'arn:aws:rolesanywhere:eu-north-1:111122223333:profile/p'
[source.pool]
kind = 'cognito'
identity_pool_id = 'eu-west-2:b97abbc1'
flow = 'basic'
[role.device]
arn = 'arn:aws:iam::111122223333:role/device'
from = 'source.device'
[role.app]
arn = 'arn:aws:iam::111122223333:role/app'
from = 'role.device'
[role.pool]
arn = 'arn:aws:iam::111122223333:role/pool'
from = 'source.pool'
duration = '12h'
[[allow]]
any = true
roles = ['app', 'pool']
`)
	if a, b := c.STS("device").Region, c.STS("pool").Region; a != "eu-north-1" || b != "eu-west-2" {
		t.Errorf("got %q and %q", a, b)
	}
}
