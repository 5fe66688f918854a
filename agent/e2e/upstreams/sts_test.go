//go:build linux

package upstreams_test

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
)

const user = "arn:aws:iam::" + account + ":user/host"

// roleARN is the ARN of a role of the account.
func roleARN(name string) string { return "arn:aws:iam::" + account + ":role/" + name }

// startSTS serves our own strict STS, for what no other server here has: SAML,
// chains of roles, an answer to who somebody is.
func startSTS(t testing.TB, o devsts.Options) (endpoint string) {
	t.Helper()
	o.Account, o.Region, o.Now = account, "us-east-1", time.Now
	o.Users = []devsts.User{{ARN: user, AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: devsts.New(o), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return "http://" + l.Addr().String()
}
