package sts_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/sts"
	"github.com/hostrole/hostrole/rotation/upstream"
)

func TestSAML(t *testing.T) {
	const entity, corp = "https://idp.example.com/saml", "arn:aws:iam::" + account + ":saml-provider/Corp"
	idp := devsts.NewSAMLIssuer(entity, now)
	server := devsts.New(devsts.Options{Account: account, Region: "eu-central-1", Now: now,
		Roles: []devsts.Role{{ARN: hub, SAML: []devsts.SAMLTrust{{Provider: corp, Subject: "host-*"}}, MaxSession: 12 * time.Hour}},
		SAML:  []devsts.SAMLProvider{{ARN: corp, Issuer: entity, Certificates: idp.Certificates}}})
	srv := httptest.NewServer(server)
	t.Cleanup(srv.Close)
	client := sts.New(sts.Options{Region: "eu-central-1", Endpoint: srv.URL, Now: now, Boot: func() time.Duration { return time.Hour },
		HTTP: upstream.New(upstream.Options{Timeout: 20 * time.Second, Transient: sts.Transient})})
	s := sts.Session{RoleARN: hub, Name: "not sent", Duration: 2 * time.Hour, ExternalID: "not sent", SourceIdentity: "not sent", Tags: []sts.Tag{{Key: "not", Value: "sent"}},
		Policy: `{"Version":"2012-10-17","Statement":[]}`, PolicyARNs: []string{"arn:aws:iam::" + account + ":policy/p"}}
	mint := func(subject string) credential.Secret {
		return credential.NewSecret(idp.Mint(devsts.SAMLClaims{Subject: subject, Attributes: map[string][]string{"Role": {hub + "," + corp}}}))
	}
	c, err := client.AssumeRoleWithSAML(t.Context(), mint("host-7"), corp, s)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := server.Verify(c.AccessKeyID, c.SecretKey.Reveal(), c.Token.Reveal()); err != nil || got.Name != "host-7" || c.RoleARN != hub || c.AccountID != account {
		t.Errorf("%+v %+v %v", c, got, err)
	}
	if life := c.Expires.Sub(c.Issued); (life - 2*time.Hour).Abs() > 5*time.Second {
		t.Errorf("lives %v", life)
	}
	if p := server.Calls()[0].Params; p["Policy"] != s.Policy || p["PolicyArns.member.1.arn"] != s.PolicyARNs[0] || len(p) != 8 {
		t.Errorf("sent %v", p)
	}
	response := mint("stranger")
	_, err = client.AssumeRoleWithSAML(t.Context(), response, corp, s)
	var e *source.Error
	if !errors.Is(err, source.ErrAccessDenied) || !errors.As(err, &e) || e.RequestID == "" || !strings.HasPrefix(err.Error(), "AssumeRoleWithSAML "+hub+": ") || strings.Contains(err.Error(), response.Reveal()) {
		t.Errorf("got %v", err)
	}
	server.Break(devsts.Named("no-credentials"))
	if c, err = client.AssumeRoleWithSAML(t.Context(), mint("host-7"), corp, s); err == nil || c.Complete() {
		t.Errorf("an answer without credentials: %v", err)
	}
	server.Heal()
	server.Break(devsts.Named("wrong-role"))
	if c, err = client.AssumeRoleWithSAML(t.Context(), mint("host-7"), corp, s); err == nil || c.Complete() {
		t.Errorf("an answer for another role: %v", err)
	}
}
