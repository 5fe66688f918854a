package setup_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
)

const (
	account  = "111122223333"
	roleARN  = "arn:aws:iam::" + account + ":role/app"
	issuer   = "https://idp.example.com"
	entity   = "https://saml.example.com"
	provider = "arn:aws:iam::" + account + ":saml-provider/Corp"
	user     = "arn:aws:iam::" + account + ":user/host"
)

// upstream is an STS that trusts an access key, a token and a SAML response,
// and the files with the last two.
func upstream(t *testing.T) (url, token, response string) {
	t.Helper()
	oidc, saml := devsts.NewIssuer(issuer, time.Now), devsts.NewSAMLIssuer(entity, time.Now)
	srv := devsts.New(devsts.Options{
		Account: account, Region: "eu-central-1", Now: time.Now,
		Users:     []devsts.User{{ARN: user, AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: secret}},
		Providers: []devsts.Provider{{Issuer: issuer, Audiences: []string{"sts.amazonaws.com"}, Keys: oidc.Keys}},
		SAML:      []devsts.SAMLProvider{{ARN: provider, Issuer: entity, Certificates: saml.Certificates}},
		Roles: []devsts.Role{{ARN: roleARN, Principals: []string{user}, OIDC: []devsts.OIDCTrust{{Issuer: issuer, Subject: "*"}},
			SAML: []devsts.SAMLTrust{{Provider: provider, Subject: "*"}}}},
	})
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	dir := t.TempDir()
	token, response = filepath.Join(dir, "token"), filepath.Join(dir, "response")
	now := time.Now()
	for path, text := range map[string]string{
		token:    oidc.Mint(map[string]any{"sub": "host-7", "aud": "sts.amazonaws.com", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}),
		response: saml.Mint(devsts.SAMLClaims{Subject: "host-7", Attributes: map[string][]string{"Role": {roleARN + "," + provider}}}),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return web.URL, token, response
}

// What is written works: the upstream gives the role by it.
func TestItWorks(t *testing.T) {
	url, token, response := upstream(t)
	helper := filepath.Join(t.TempDir(), "helper")
	text := fmt.Sprintf("#!/bin/sh\necho '{\"Version\":1,\"AccessKeyId\":\"ASIAIOSFODNN7EXAMPLE\",\"SecretAccessKey\":\"%s\",\"SessionToken\":\"t\",\"Expiration\":\"%s\"}'\n", secret, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	if err := os.WriteFile(helper, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, one := range map[string]struct {
		args  []string
		stdin string
	}{
		"a token":                       {args: []string{"--source", "web-identity", "--token", "file:" + token, "--role", roleARN}},
		"a program that prints a token": {args: []string{"--source", "web-identity", "--token", "command:/bin/cat " + token, "--role", roleARN}},
		"a SAML response":               {args: []string{"--source", "saml", "--token", "file:" + response, "--role", roleARN}},
		"keys of a file":                {args: []string{"--source", "static", "--access-key-id", "AKIAIOSFODNN7EXAMPLE", "--secret", "file:" + keyFile, "--role", roleARN}},
		"keys from the standard input":  {args: []string{"--source", "static", "--access-key-id", "AKIAIOSFODNN7EXAMPLE", "--secret", "-", "--role", roleARN}, stdin: secret},
		"a credential_process program":  {args: []string{"--source", "process", "--command", helper, "--role", "app"}},
	} {
		for _, service := range []bool{false, true} {
			path := filepath.Join(t.TempDir(), "hostrole.toml")
			all := slices.Concat(one.args, []string{"--config", path, "--units", t.TempDir(), "--region", "eu-central-1", "--endpoint", url, "--allow", "any"})
			if service { // which gets its secrets from systemd
				all = append(all, "--service-config", path)
			}
			out, err := run(t, one.stdin, all...)
			if err != nil || !strings.Contains(out, "app, from source.host: good: ") {
				t.Errorf("%s, service %v: %v\n%s", name, service, err, out)
			}
		}
	}
}

// An upstream that refuses is told of, the configuration stays, and the service
// is not started.
func TestItDoesNotWork(t *testing.T) {
	url, _, _ := upstream(t)
	began := filepath.Join(t.TempDir(), "began")
	systemctl(t, "echo >"+began)
	path := filepath.Join(t.TempDir(), "hostrole.toml")
	out, err := run(t, strings.Repeat("notTheKey/", 4), "--config", path, "--service-config", path, "--units", t.TempDir(), "--region", "eu-central-1", "--endpoint", url,
		"--source", "static", "--access-key-id", "AKIAIOSFODNN7EXAMPLE", "--secret", "-", "--role", roleARN, "--allow", "any", "--enable")
	if err == nil || !strings.Contains(out, "SignatureDoesNotMatch") || !strings.Contains(out, "hostrole check --live --config "+path) {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(began); err == nil {
		t.Error("the service was started")
	}
}

// systemctl puts a program of that name before all others.
func systemctl(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}
