//go:build linux

package upstreams_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/agent/devsts"
)

const corp = "arn:aws:iam::" + account + ":saml-provider/Corp"

// claims are those of idp/main.go.
type claims struct {
	Audience, Recipient, Subject string
	Roles                        []string
	Age                          int
}

// A real identity provider signs, and our STS judges as AWS's does. What is
// wrong with an assertion is said before STS is asked, where it can be seen.
func TestSAML(t *testing.T) {
	needs(t)
	dir := t.TempDir()
	good := claims{
		Audience: "urn:amazon:webservices", Recipient: "https://signin.aws.amazon.com/saml",
		Subject: "host-7", Roles: []string{roleARN("app") + "," + corp, roleARN("file") + "," + corp},
	}
	assert := func(change func(*claims)) {
		t.Helper()
		c := good
		change(&c)
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(dir, "claims.json"), string(text))
	}
	same := func(*claims) {}
	assert(same)
	response := func() string {
		t.Helper()
		out, err := exec.Command(os.Getenv(idpEnv), dir).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	secondOpinion(t, dir, response())

	text, err := os.ReadFile(filepath.Join(dir, "idp.crt"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := startSTS(t, devsts.Options{
		Roles: []devsts.Role{
			{ARN: roleARN("app"), SAML: []devsts.SAMLTrust{{Provider: corp, Subject: "host-*"}}},
			{ARN: roleARN("file"), SAML: []devsts.SAMLTrust{{Provider: corp, Subject: "host-*"}}},
		},
		SAML: []devsts.SAMLProvider{{ARN: corp, Issuer: "https://idp.example.com/saml", Certificates: func() []*x509.Certificate { return []*x509.Certificate{cert} }}},
	})
	file := filepath.Join(dir, "response")
	replace(t, file, response())
	d := startHostrole(t, endpoint, []string{"app", "file"}, `
[source.command]
kind = "saml"
assertion = { command = ["`+os.Getenv(idpEnv)+`", "`+dir+`"] }
[source.file]
kind = "saml"
assertion = { file = "`+file+`" }
[role.app]
arn = "`+roleARN("app")+`"
from = "source.command"
[role.file]
arn = "`+roleARN("file")+`"
from = "source.file"
`)
	const want = "arn:aws:sts::" + account + ":assumed-role/app/host-7"
	if got := d.whoami(t, "app", endpoint); got != want {
		t.Errorf("the STS takes the CLI for %q, want %q", got, want)
	}
	d.serves(t, "file")
	d.works(t, "app", "", "")
	d.renews(t, "app")

	for _, c := range []struct {
		change func(*claims)
		words  []string
	}{
		{func(c *claims) { c.Audience = "urn:somebody:else" }, []string{"audience", "urn:somebody:else", "urn:amazon:webservices"}},
		{func(c *claims) { c.Age = 360 }, []string{"Token must be redeemed within 5 minutes", "issued 6m0s ago"}},
		{func(c *claims) { c.Roles = []string{roleARN("other") + "," + corp} }, []string{roleARN("app"), roleARN("other")}},
		{func(c *claims) { c.Subject = "guest-7" }, []string{"AccessDenied", "AssumeRoleWithSAML"}}, // by the trust policy
	} {
		assert(c.change)
		d.keeps(t, "app", c.words...)
	}
	// Another key signs: nobody but STS can tell.
	assert(same)
	for _, name := range []string{"idp.key", "idp.crt"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	d.keeps(t, "app", "AssumeRoleWithSAML", "signature invalid")
}

// secondOpinion has xmlsec1, which shares no code with the provider or with
// us, check both signatures of a response, and refuse one that was changed.
func secondOpinion(t *testing.T, dir, response string) {
	t.Helper()
	xml, err := base64.StdEncoding.DecodeString(response)
	if err != nil {
		t.Fatal(err)
	}
	for element, namespace := range map[string]string{"Response": "protocol", "Assertion": "assertion"} {
		verify := func(text string) ([]byte, error) {
			file := write(t, "response.xml", text)
			return exec.Command(tool(t, "xmlsec1"), "--verify", "--enabled-key-data", "raw-x509-cert,x509",
				"--pubkey-cert-pem", filepath.Join(dir, "idp.crt"), "--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:"+namespace+":"+element,
				"--node-xpath", "//*[local-name()='"+element+"']/*[local-name()='Signature']", file).CombinedOutput()
		}
		if out, err := verify(string(xml)); err != nil {
			t.Errorf("the %s is not signed well: %v\n%s", element, err, out)
		}
		if out, err := verify(strings.Replace(string(xml), ">host-7<", ">host-8<", 1)); err == nil {
			t.Errorf("the %s was changed and is verified all the same\n%s", element, out)
		}
	}
}
