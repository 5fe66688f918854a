package webidentity_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/source/sourcetest"
	"github.com/hostrole/hostrole/rotation/source/webidentity"
	"github.com/hostrole/hostrole/rotation/sts"
	"github.com/hostrole/hostrole/rotation/upstream"
)

const (
	issuer = "https://issuer.example.com"
	role   = "arn:aws:iam::111122223333:role/app"
)

func now() time.Time { return time.Now().Round(0).UTC() }

var faults = map[sourcetest.Behaviour]string{
	sourcetest.Refuses: "access-denied", sourcetest.Garbage: "truncated-xml", sourcetest.Blank: "empty-session-token",
	sourcetest.Expired: "expired-already", sourcetest.Silent: "slow", sourcetest.Huge: "huge", sourcetest.Down: "down",
}

// A world is an STS, an issuer that it trusts, and a token file.
type world struct {
	sts    *devsts.Server
	issuer *devsts.Issuer
	path   string
	source webidentity.Source
}

func newWorld(t *testing.T) *world {
	w := &world{issuer: devsts.NewIssuer(issuer, now), path: filepath.Join(t.TempDir(), "token")}
	w.sts = devsts.New(devsts.Options{Account: "111122223333", Region: "eu-central-1", Now: now,
		Roles:     []devsts.Role{{ARN: role, OIDC: []devsts.OIDCTrust{{Issuer: issuer, Subject: "host-*"}}}},
		Providers: []devsts.Provider{{Issuer: issuer, Audiences: []string{"sts.amazonaws.com"}, Keys: w.issuer.Keys}}})
	srv := httptest.NewServer(w.sts)
	t.Cleanup(srv.Close)
	w.source = webidentity.Source{
		Token: assertion.File{Path: w.path}, Now: now,
		STS: sts.New(sts.Options{Region: "eu-central-1", Endpoint: srv.URL, Now: now, Boot: func() time.Duration { return time.Hour },
			HTTP: upstream.New(upstream.Options{Timeout: 5 * time.Second, Transient: sts.Transient})}),
		Session: sts.Session{RoleARN: role, Name: "host", Duration: time.Hour},
	}
	return w
}

func (w *world) put(t *testing.T, claims map[string]any) string {
	t.Helper()
	token := w.issuer.Mint(claims)
	if err := os.WriteFile(w.path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return token
}

func good() map[string]any { return map[string]any{"sub": "host-7", "aud": "sts.amazonaws.com"} }

func TestContract(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject{New: func(t *testing.T, b sourcetest.Behaviour) (source.Source, []string) {
		w := newWorld(t)
		token := w.put(t, good())
		if name := faults[b]; name != "" {
			w.sts.Break(devsts.Named(name))
		}
		return w.source, []string{token}
	}})
}

// Each use shows what is in the file by then: the old token has died.
func TestTheFileIsReadAgain(t *testing.T) {
	w := newWorld(t)
	w.put(t, map[string]any{"sub": "host-7", "aud": "sts.amazonaws.com", "exp": now().Add(-time.Minute).Unix()})
	_, err := w.source.Fetch(t.Context())
	if err == nil || !strings.Contains(err.Error(), "ExpiredTokenException") || !strings.Contains(err.Error(), `subject "host-7"`) || !strings.Contains(err.Error(), "expired 1m") {
		t.Fatalf("got %v", err)
	}
	w.put(t, good())
	if _, err := w.source.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
	if p := w.sts.Calls()[1].Principal; !strings.Contains(p, "host-7") {
		t.Errorf("STS saw %q", p)
	}
}
