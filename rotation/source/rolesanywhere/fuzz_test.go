package rolesanywhere_test

import (
	"strings"
	"testing"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source/rolesanywhere"
)

func FuzzParse(f *testing.F) {
	f.Add(`{"credentialSet":[{"roleArn":"` + role + `","credentials":{"accessKeyId":"ASIAIOSFODNN7EXAMPLE","secretAccessKey":"` + canary + `","sessionToken":"t","expiration":"2030-01-01T00:00:00Z"}}]}`)
	f.Add(`{"credentialSet":[{}]}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := rolesanywhere.Parse([]byte(text), role)
		if err != nil && (c != credential.Credential{}) {
			t.Error("a credential came with the error")
		}
		if err == nil && (c.Token.Empty() || c.Expires.IsZero() || c.RoleARN != role) {
			t.Errorf("half a credential: %+v", c)
		}
	})
}

func FuzzParsePEM(f *testing.F) {
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	f.Add("-----BEGIN RSA PRIVATE KEY-----\nDEK-Info: x\n\nAAAA\n-----END RSA PRIVATE KEY-----\n")
	f.Add("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		if certs, err := rolesanywhere.ParseCertificates([]byte(text)); (err == nil) != (len(certs) > 0) {
			t.Errorf("%d certificates and %v", len(certs), err)
		}
		if key, err := rolesanywhere.ParseKey([]byte(text)); (err == nil) != (key != nil) {
			t.Errorf("%T and %v", key, err)
		}
	})
}

func FuzzParseSignature(f *testing.F) {
	f.Add("30450221")
	f.Add("MEUCIQ==\n")
	f.Add(" \n")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := rolesanywhere.ParseSignature(text)
		if err == nil && len(b) == 0 {
			t.Error("an empty signature")
		}
		if err != nil && len(text) > 40 && strings.Contains(err.Error(), text) {
			t.Error("the error quotes what was printed")
		}
	})
}
