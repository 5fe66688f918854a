//go:build linux

package installed_test

import (
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
)

const (
	account = "111122223333" // AWS's documented example
	roleARN = "arn:aws:iam::" + account + ":role/app"
	region  = "eu-west-1"
	idp     = "https://idp.example.com"
)

// An upstream is a strict STS at one address, which can be away.
type upstream struct {
	*devsts.Server
	issuer  *devsts.Issuer
	address string

	mu     sync.Mutex
	server *http.Server // guarded by mu; nil while it is away
}

// newUpstream is one that is away.
func newUpstream(t *testing.T, address string) *upstream {
	t.Helper()
	u := &upstream{issuer: devsts.NewIssuer(idp, time.Now), address: address}
	u.Server = devsts.New(devsts.Options{
		Account: account, Region: region, Now: time.Now,
		Providers: []devsts.Provider{{Issuer: idp, Audiences: []string{"sts.amazonaws.com"}, Keys: u.issuer.Keys}},
		Roles:     []devsts.Role{{ARN: roleARN, OIDC: []devsts.OIDCTrust{{Issuer: idp, Subject: "host-7"}}}},
	})
	t.Cleanup(func() { u.leave() })
	return u
}

// token is this host's, for a day.
func (u *upstream) token() string {
	return u.issuer.Mint(map[string]any{"sub": "host-7", "aud": "sts.amazonaws.com", "exp": time.Now().Add(24 * time.Hour).Unix()})
}

// appear makes it answer at its address, with certificate or, if that is nil,
// without TLS.
func (u *upstream) appear(t *testing.T, certificate *tls.Certificate) {
	t.Helper()
	u.leave()
	l, err := net.Listen("tcp", u.address)
	if err != nil {
		t.Fatal(err)
	}
	if certificate != nil {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12})
	}
	s := &http.Server{Handler: u.Server, ReadHeaderTimeout: 10 * time.Second}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.server = s
	go func() { _ = s.Serve(l) }()
}

// leave refuses all connections from now on.
func (u *upstream) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.server != nil {
		_ = u.server.Close()
	}
	u.server = nil
}

// exampleCertificate is one of example.com, and the authority to check it with.
func exampleCertificate() (certificate tls.Certificate, authority string) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return s.TLS.Certificates[0], string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}
