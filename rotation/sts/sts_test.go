package sts_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/sts"
	"github.com/hostrole/hostrole/rotation/upstream"
)

const (
	account = "111122223333"
	user    = "arn:aws:iam::" + account + ":user/host"
	hub     = "arn:aws:iam::" + account + ":role/path/hub"
	app     = "arn:aws:iam::444455556666:role/app"
	secret  = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

func now() time.Time { return time.Now().Round(0).UTC() }

// A bench is a client and the STS that it talks to.
type bench struct {
	sts    *devsts.Server
	client *sts.Client
	http   *upstream.Client
	issuer *devsts.Issuer
	base   credential.Credential
}

func newBench(t *testing.T, timeout time.Duration) *bench {
	t.Helper()
	b := &bench{issuer: devsts.NewIssuer("https://issuer.example.com", now)}
	b.sts = devsts.New(devsts.Options{Account: account, Region: "eu-central-1", Now: now,
		Users: []devsts.User{{ARN: user, AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: secret}},
		Roles: []devsts.Role{
			{ARN: hub, Principals: []string{user}, ExternalID: "ext", TagSession: true, SetSourceIdentity: true, MaxSession: 12 * time.Hour,
				OIDC: []devsts.OIDCTrust{{Issuer: "https://issuer.example.com", Audiences: []string{"sts.amazonaws.com"}, Subject: "host-*"}}},
			{ARN: app, Principals: []string{hub}, TagSession: true, SetSourceIdentity: true},
		},
		Providers: []devsts.Provider{{Issuer: "https://issuer.example.com", Audiences: []string{"sts.amazonaws.com"}, Keys: b.issuer.Keys}},
	})
	srv := httptest.NewServer(b.sts)
	t.Cleanup(srv.Close)
	b.http = upstream.New(upstream.Options{Timeout: timeout, Transient: sts.Transient})
	b.client = sts.New(sts.Options{Region: "eu-central-1", Endpoint: srv.URL, HTTP: b.http, Now: now, Boot: func() time.Duration { return time.Hour }})
	b.base = credential.Credential{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretKey: credential.NewSecret(secret)}
	return b
}

func hubSession() sts.Session {
	return sts.Session{RoleARN: hub, Name: "host-7", Duration: 6 * time.Hour, ExternalID: "ext", SourceIdentity: "host-7",
		Policy: `{"Version":"2012-10-17","Statement":[]}`, PolicyARNs: []string{"arn:aws:iam::" + account + ":policy/p"},
		Tags: []sts.Tag{{Key: "Site", Value: "fra"}, {Key: "Host", Value: "h7"}}, TransitiveTags: []string{"Site"}}
}

func TestChainCarriesEveryParameter(t *testing.T) {
	b := newBench(t, 20*time.Second)
	c, err := b.client.AssumeRole(t.Context(), b.base, hubSession())
	if err != nil {
		t.Fatal(err)
	}
	if left := c.Expires.Sub(c.Issued); left < 6*time.Hour-2*time.Second || left > 6*time.Hour+2*time.Second {
		t.Errorf("lives %v, want 6h", left)
	}
	if c.AccountID != account || c.RoleARN != hub || c.RequestID == "" || c.Received != time.Hour {
		t.Errorf("got %+v", c)
	}
	call := b.sts.Calls()[0]
	for param, want := range map[string]string{
		"RoleArn": hub, "RoleSessionName": "host-7", "DurationSeconds": "21600", "ExternalId": "ext", "SourceIdentity": "host-7",
		"Policy": `{"Version":"2012-10-17","Statement":[]}`, "PolicyArns.member.1.arn": "arn:aws:iam::" + account + ":policy/p",
		"Tags.member.1.Key": "Site", "Tags.member.1.Value": "fra", "Tags.member.2.Key": "Host", "TransitiveTagKeys.member.1": "Site",
	} {
		if got := call.Params[param]; got != want {
			t.Errorf("%s = %q, want %q", param, got, want)
		}
	}
	second, err := b.client.AssumeRole(t.Context(), c, sts.Session{RoleARN: app, Name: "host-7", Duration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.sts.Verify(second.AccessKeyID, second.SecretKey.Reveal(), second.Token.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if s.Tags["Site"] != "fra" || s.Tags["Host"] != "" || s.SourceIdentity != "host-7" || second.AccountID != "444455556666" {
		t.Errorf("the chained session is %+v of account %s", s, second.AccountID)
	}
}

// An operator who has mended a secret is believed at once.
func TestAnotherSecretForTheSameKeySignsAtOnce(t *testing.T) {
	b := newBench(t, 5*time.Second)
	wrong := b.base
	wrong.SecretKey = credential.NewSecret("je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY")
	if _, err := b.client.AssumeRole(t.Context(), wrong, hubSession()); err == nil || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
		t.Fatalf("with the wrong secret: %v", err)
	}
	if _, err := b.client.AssumeRole(t.Context(), b.base, hubSession()); err != nil {
		t.Errorf("with the right one: %v", err)
	}
}

func TestWebIdentity(t *testing.T) {
	b := newBench(t, 20*time.Second)
	token := credential.NewSecret(b.issuer.Mint(map[string]any{"sub": "host-7", "aud": "sts.amazonaws.com"}))
	s := sts.Session{RoleARN: hub, Name: "host-7", Duration: time.Hour}
	c, err := b.client.AssumeRoleWithWebIdentity(t.Context(), token, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.sts.Verify(c.AccessKeyID, c.SecretKey.Reveal(), c.Token.Reveal()); err != nil {
		t.Error(err)
	}
	for name, claims := range map[string]map[string]any{
		"expired":        {"sub": "host-7", "aud": "sts.amazonaws.com", "exp": now().Add(-time.Hour).Unix()},
		"wrong audience": {"sub": "host-7", "aud": "other"},
		"wrong subject":  {"sub": "stranger", "aud": "sts.amazonaws.com"},
	} {
		bad := credential.NewSecret(b.issuer.Mint(claims))
		_, err := b.client.AssumeRoleWithWebIdentity(t.Context(), bad, s)
		var e *source.Error
		if !errors.Is(err, source.ErrRefused) || !errors.As(err, &e) || e.Code == "" || e.RequestID == "" || e.Hint == "" {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), bad.Reveal()) {
			t.Errorf("%s: the error shows the token", name)
		}
	}
}

// Each way to fail gets the verdict that it deserves: worth a retry, a
// definite no, or bad data that is not believed.
func TestEveryFault(t *testing.T) {
	slow := []string{"slow", "endless"} // they end with our own time limit
	for _, f := range devsts.AllFaults() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			timeout := 12 * time.Second
			if slices.Contains(slow, f.Name) {
				timeout = 700 * time.Millisecond
			}
			b := newBench(t, timeout)
			f.Delay = min(f.Delay, 2*time.Second)
			b.sts.Break(f)
			began := time.Now()
			c, err := b.client.AssumeRole(t.Context(), b.base, hubSession())
			if took := time.Since(began); took > timeout+2*time.Second {
				t.Errorf("took %v with a limit of %v", took, timeout)
			}
			if err == nil {
				// What is left of a spoilt answer must be whole and true.
				if _, verr := b.sts.Verify(c.AccessKeyID, c.SecretKey.Reveal(), c.Token.Reveal()); verr != nil {
					t.Errorf("a credential that does not hold: %v", verr)
				}
				if f.Kind == devsts.Refusal {
					t.Error("a refusal was taken for a success")
				}
				return
			}
			if c.Complete() {
				t.Error("a credential came with the error")
			}
			if f.Kind == devsts.Usable {
				t.Errorf("a usable answer was refused: %v", err)
			}
			refused := errors.Is(err, source.ErrRefused)
			if f.Kind == devsts.Refusal && !refused && f.Code != "ExpiredToken" || f.Kind == devsts.Transient && refused {
				t.Errorf("ErrRefused = %v for a fault that is %v: %v", refused, f.Kind, err)
			}
			if f.Code == "AccessDenied" && !errors.Is(err, source.ErrAccessDenied) {
				t.Errorf("not ErrAccessDenied: %v", err)
			}
			var e *source.Error
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			if f.Code != "" && f.Status >= 400 && !strings.HasPrefix(f.Name, "clock") && (e.Code != f.Code || e.Status != f.Status || e.RequestID == "") {
				t.Errorf("code %q, status %d, request %q; want %q, %d: %v", e.Code, e.Status, e.RequestID, f.Code, f.Status, err)
			}
			if strings.Contains(err.Error(), secret) || len(err.Error()) > 700 {
				t.Errorf("the error is not fit for a log: %v", err)
			}
			if n, most := b.sts.CallCount(""), 3; n > most {
				t.Errorf("%d requests for one call, want at most %d", n, most)
			}
			b.sts.Heal()
			if !slices.Contains(slow, f.Name) {
				if _, err := b.client.AssumeRole(t.Context(), b.base, hubSession()); err != nil {
					t.Errorf("not well after the fault: %v", err)
				}
			}
		})
	}
}

func TestTransientFaultsAreOutlivedInsideOneCall(t *testing.T) {
	for _, name := range []string{"throttling", "too-many-requests", "idp-communication-error", "down", "http-503-retry-after", "http-500"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 20*time.Second)
			f := devsts.Named(name)
			f.Calls = 1
			b.sts.Break(f)
			if _, err := b.client.AssumeRole(t.Context(), b.base, hubSession()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A host whose clock is 20 minutes off signs again with the time that the
// upstream shows, says so, and counts life by the upstream's clock.
func TestSkewedClockIsCorrectedAndReported(t *testing.T) {
	b := newBench(t, 20*time.Second)
	b.sts.Break(devsts.Named("clock-ahead"))
	c, err := b.client.AssumeRole(t.Context(), b.base, hubSession())
	if err != nil {
		t.Fatal(err)
	}
	if skew := b.http.Skew(); (skew - 20*time.Minute).Abs() > 5*time.Second {
		t.Errorf("skew = %v, want 20m", skew)
	}
	if life := c.Expires.Sub(c.Issued); (life - 6*time.Hour).Abs() > 5*time.Second {
		t.Errorf("life by the upstream's clock = %v, want 6h", life)
	}
	if n := b.sts.CallCount(""); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
}

func TestNobodyListens(t *testing.T) {
	h := upstream.New(upstream.Options{Timeout: 10 * time.Second, Transient: sts.Transient})
	c := sts.New(sts.Options{Region: "eu-central-1", Endpoint: "http://127.0.0.1:1", HTTP: h, Now: now, Boot: func() time.Duration { return 1 }})
	_, err := c.AssumeRole(t.Context(), credential.Credential{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretKey: credential.NewSecret(secret)}, hubSession())
	if err == nil || errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
	if len(err.Error()) > 200 {
		t.Errorf("too long for a person: %v", err)
	}
	t.Log(err)
}

// Ceph's gateway refuses in the form of S3.
func TestAnErrorInTheFormOfS3HasItsCode(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><RequestId>tx0001</RequestId><HostId>a</HostId></Error>`))
	}))
	defer srv.Close()
	h := upstream.New(upstream.Options{Timeout: 10 * time.Second, Transient: sts.Transient})
	c := sts.New(sts.Options{Region: "eu-central-1", Endpoint: srv.URL, HTTP: h, Now: now, Boot: func() time.Duration { return 1 }})
	_, err := c.AssumeRole(t.Context(), credential.Credential{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretKey: credential.NewSecret(secret)}, hubSession())
	var e *source.Error
	if !errors.Is(err, source.ErrAccessDenied) || !errors.As(err, &e) || e.Code != "AccessDenied" {
		t.Errorf("got %v", err)
	}
}
