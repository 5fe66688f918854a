//go:build linux

package upstreams_test

import (
	"crypto/sha1" // the thumbprint of IAM is one
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/hostrole/hostrole/agent/devsts"
)

const (
	versityIAM = "127.0.0.1:7078" // IAM and STS
	versityS3  = "127.0.0.1:7077"
	issuerHost = "oidc.example.com"
	issuerAddr = "203.0.113.10" // versitygw asks no issuer at a private address
)

// public makes this namespace believe that oidc.example.com is on the Internet,
// until the test ends.
func public(t testing.TB) {
	t.Helper()
	ip(t, "addr", "add", issuerAddr+"/32", "dev", "lo")
	t.Cleanup(func() { ip(t, "addr", "del", issuerAddr+"/32", "dev", "lo") })
	// The tests have a mount namespace of their own.
	hosts := write(t, "hosts", "127.0.0.1 localhost\n"+issuerAddr+" "+issuerHost+"\n")
	if err := syscall.Mount(hosts, "/etc/hosts", "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount("/etc/hosts", syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// startIssuer serves an OpenID issuer with a certificate until the test ends.
func startIssuer(t testing.TB, cert *pair) *devsts.Issuer {
	t.Helper()
	issuer := devsts.NewIssuer("https://"+issuerHost, time.Now)
	l, err := tls.Listen("tcp", net.JoinHostPort(issuerAddr, "443"), &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.cert.Raw}, PrivateKey: cert.key}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: issuer, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return issuer
}

// trusted has versitygw trust the subject of an issuer, whose certificate is
// cert, as a role that may use the bucket. It returns the role's ARN.
func trusted(t testing.TB, cert *pair, subject string) string {
	t.Helper()
	sum := sha1.Sum(cert.cert.Raw)
	provider := iam(t, "CreateOpenIDConnectProvider", map[string]string{
		"Url": "https://" + issuerHost, "ClientIDList.member.1": "sts.amazonaws.com", "ThumbprintList.member.1": hex.EncodeToString(sum[:]),
	})
	role := iam(t, "CreateRole", map[string]string{"RoleName": "app", "MaxSessionDuration": "3600", "AssumeRolePolicyDocument": fmt.Sprintf(`{
		"Version": "2012-10-17",
		"Statement": [{
			"Effect": "Allow",
			"Principal": {"Federated": %q},
			"Action": "sts:AssumeRoleWithWebIdentity",
			"Condition": {"StringEquals": {%q: %q, %q: "sts.amazonaws.com"}}
		}]
	}`, provider, issuerHost+":sub", subject, issuerHost+":aud")})
	iam(t, "PutRolePolicy", map[string]string{"RoleName": "app", "PolicyName": "s3",
		"PolicyDocument": `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": ["arn:aws:s3:::upstreams", "arn:aws:s3:::upstreams/*"]}]}`})
	if status := s3(t, http.MethodPut, "http://"+versityS3+"/"+bucket); status != http.StatusOK {
		t.Fatalf("making the bucket: status %d", status)
	}
	return role
}

// startVersity runs versitygw's two services until the test ends: IAM with
// STS, and S3.
func startVersity(t testing.TB, ca *pair) {
	t.Helper()
	binary := cached(t, "versitygw-"+pinned(t, "setup.sh", `^versitygw=`))
	inner := issue(t, nil, rsa2048(t), "inner")
	server, client := issue(t, inner, rsa2048(t), "iam", "127.0.0.1"), issue(t, inner, rsa2048(t), "gateway")
	dir := put(t, map[string]string{
		"roots.pem": ca.certPEM(), "inner.pem": inner.certPEM(), "server.pem": server.certPEM(), "server.key": keyPEM(t, server.key),
		"client.pem": client.certPEM(), "client.key": keyPEM(t, client.key),
	})
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"iam", "s3"} {
		if err := os.Mkdir(file(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name, address string, args ...string) {
		cmd := exec.Command(binary, append([]string{"--health", "/healthz", "-p", address, "-a", exampleKey, "-s", exampleSecret}, args...)...)
		cmd.Env = bare(t, "SSL_CERT_FILE="+file("roots.pem"), "GODEBUG=netdns=go")
		p := start(t, name, cmd)
		p.await(t, "is ready", 30*time.Second, func() bool { return answers(t, "http://"+address+"/healthz") })
	}
	run("versitygw iam", versityIAM, "iam", "--dir", file("iam"), "--private-ports", "127.0.0.1:7079",
		"--private-cert", file("server.pem"), "--private-cert-key", file("server.key"), "--private-client-ca", file("inner.pem"))
	run("versitygw s3", versityS3, "--iam-standalone-endpoint", "127.0.0.1:7079", "--iam-standalone-client-cert", file("client.pem"),
		"--iam-standalone-client-cert-key", file("client.key"), "--iam-standalone-server-ca", file("inner.pem"), "posix", file("s3"))
}

// iam makes one call of IAM's, signed with the root keys, and returns what the
// first ARN of the answer is.
func iam(t testing.TB, action string, params map[string]string) string {
	t.Helper()
	form := url.Values{"Action": {action}, "Version": {"2010-05-08"}}
	for k, v := range params {
		form.Set(k, v)
	}
	body := form.Encode()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+versityIAM+"/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	sum := sha256.Sum256([]byte(body))
	keys := aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}
	if err := v4.NewSigner().SignHTTP(t.Context(), keys, req, hex.EncodeToString(sum[:]), "iam", "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v\n%s", action, resp.Status, err, answer)
	}
	return regexp.MustCompile(`arn:aws:[^<\s]+`).FindString(string(answer))
}

// A server that reads trust policies grants by subject and audience, says whom
// a session belongs to, and refuses with AWS's own codes.
func TestVersity(t *testing.T) {
	needs(t)
	public(t)
	ca := issue(t, nil, rsa2048(t), "authority")
	cert := issue(t, ca, rsa2048(t), issuerHost, issuerHost)
	issuer := startIssuer(t, cert)
	startVersity(t, ca)
	role := trusted(t, cert, "host-7")

	mint := func(change map[string]any) string {
		claims := map[string]any{"aud": "sts.amazonaws.com", "sub": "host-7"}
		for k, v := range change {
			claims[k] = v
		}
		return issuer.Mint(claims)
	}
	token := write(t, "token", mint(nil))
	d := startHostrole(t, "http://"+versityIAM, []string{"app", "long"}, fmt.Sprintf(`
[source.corp]
kind = "web-identity"
assertion = { file = %q }
[role.app]
arn = %q
from = "source.corp"
session_name = "web"
[role.long]
arn = %q
from = "source.corp"
duration = "2h"
`, token, role, strings.Replace(role, "role/app", "role/long", 1)))
	d.works(t, "app", "http://"+versityS3, bucket)
	if got := d.whoami(t, "app", "http://"+versityIAM); !strings.HasSuffix(got, ":assumed-role/app/web") {
		t.Errorf("versitygw takes the CLI for %q, want the session web of the role app", got)
	}
	d.renews(t, "app")
	d.works(t, "app", "http://"+versityS3, bucket)

	d.refuses(t, "long", "AssumeRoleWithWebIdentity")
	for _, c := range []struct {
		change map[string]any
		words  []string
	}{
		{map[string]any{"sub": "host-8"}, []string{"InvalidIdentityToken", "host-8", "check the audience and the issuer"}},
		{map[string]any{"aud": "somebody-else"}, []string{"AssumeRoleWithWebIdentity", "somebody-else"}},
		{map[string]any{"iat": time.Now().Add(-2 * time.Hour).Unix(), "exp": time.Now().Add(-time.Hour).Unix()}, []string{"expired"}},
	} {
		replace(t, token, mint(c.change))
		d.keeps(t, "app", c.words...)
	}
}
