package vault_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/source/sourcetest"
	"github.com/hostrole/hostrole/rotation/source/vault"
	"github.com/hostrole/hostrole/rotation/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	app   = "arn:aws:iam::111122223333:role/path/app"
	other = "arn:aws:iam::111122223333:role/other"
)

var jwt = strings.Join([]string{part(`{"alg":"RS256"}`), part(`{"sub":"host-7"}`), part("signature")}, ".")

func part(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func value(text string) func() (credential.Secret, error) {
	return func() (credential.Secret, error) { return credential.NewSecret(text), nil }
}

func gone() (credential.Secret, error) { return credential.Secret{}, errors.New("no such file") }

// newWorld is a server, and a source that logs in to it as an AppRole.
func newWorld(t *testing.T) (*server, vault.Source) {
	s := &server{namespace: "team/", roles: map[string]role{
		"app":  {kind: "assumed_role", arns: []string{app}},
		"many": {kind: "assumed_role", arns: []string{app, other}},
		"user": {kind: "iam_user"},
	}}
	return s, vault.Source{
		HTTP:    upstream.New(upstream.Options{Timeout: 5 * time.Second, Transient: vault.Transient}),
		Address: s.start(t) + "/", Namespace: "team/", Mount: "/team/aws/", Role: "app", Path: "creds", Now: now, Boot: func() time.Duration { return time.Hour },
		Auth: vault.AppRole{Mount: "approle", RoleID: value("role-id"), SecretID: value("secret-id-of-host-7")},
	}
}

func TestContract(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject{New: func(t *testing.T, b sourcetest.Behaviour) (source.Source, []string) {
		w, s := newWorld(t)
		w.behaviour = b
		return s, []string{canary, "secret-id-of-host-7"}
	}})
}

func jwtFile(t *testing.T, text string) assertion.Getter {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return assertion.File{Path: path}
}

// Every way to a token, on both paths; a token that we were given is given
// back, one that somebody else holds is not.
func TestEveryLogin(t *testing.T) {
	for name, c := range map[string]struct {
		auth  vault.Auth
		login string
	}{
		"a token that another program renews": {vault.Token(value(held)), ""},
		"AppRole":                             {vault.AppRole{Mount: "approle", RoleID: value("role-id"), SecretID: value("secret-id-of-host-7")}, "POST auth/approle/login"},
		"AppRole without a secret id":         {vault.AppRole{Mount: "approle-by-address", RoleID: value("role-id")}, "POST auth/approle-by-address/login"},
		"JWT":                                 {vault.JWT{Mount: "hosts/jwt/", Role: "host", Token: jwtFile(t, jwt)}, "POST auth/hosts/jwt/login"},
		"Kubernetes":                          {vault.JWT{Mount: "kubernetes", Role: "host", Token: jwtFile(t, jwt+"\n")}, "POST auth/kubernetes/login"},
	} {
		for path, method := range map[string]string{"creds": "GET", "sts": "POST"} {
			t.Run(name+" for "+path, func(t *testing.T) {
				w, s := newWorld(t)
				s.Auth, s.Path = c.auth, path
				got, err := s.Fetch(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if got.AccountID != "111122223333" || got.RoleARN != "" || !strings.HasPrefix(got.RequestID, "request-") || got.Received != time.Hour {
					t.Errorf("got %+v", got)
				}
				want := []string{c.login, method + " team/aws/" + path + "/app", "POST auth/token/revoke-self"}
				if c.login == "" {
					want = want[1:2]
				}
				if d := cmp.Diff(want, w.calls); d != "" {
					t.Error(d)
				}
				if !w.tokens[held] || len(w.tokens) != 1 {
					t.Errorf("tokens that live on: %v", w.tokens)
				}
			})
		}
	}
}

func TestParameters(t *testing.T) {
	for _, path := range []string{"creds", "sts"} {
		_, s := newWorld(t)
		s.Path, s.Role, s.RoleARN, s.SessionName, s.TTL = path, "many", other, "host-7", 15*time.Minute
		c, err := s.Fetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if life := c.Expires.Sub(c.Issued); (life-15*time.Minute).Abs() > 5*time.Second || c.RoleARN != other {
			t.Errorf("%s: lives %v, role %s", path, life, c.RoleARN)
		}
	}
}

// Before 1.16, and where no_lease is not set, the life is the lease's and the
// token goes by its old name.
func TestAnOldServer(t *testing.T) {
	w, s := newWorld(t)
	w.old = true
	c, err := s.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if life := c.Expires.Sub(c.Issued); (life-time.Hour).Abs() > 5*time.Second || c.Token.Reveal() != "session-"+canary {
		t.Errorf("lives %v", life)
	}
	if len(w.revoked) != 0 {
		t.Errorf("revoked %v", w.revoked)
	}
}

// The answer tells a life, not an end, and it counts from before the answer:
// what a slow network adds is no life of the credential.
func TestTheLifeBeginsBeforeTheAnswer(t *testing.T) {
	_, s := newWorld(t)
	at := now()
	steps := 0
	s.Now = func() time.Time { steps++; return at.Add(time.Duration(steps) * time.Minute) }
	c, err := s.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Expires.Sub(c.Issued); got >= time.Hour || got < 50*time.Minute {
		t.Errorf("a life of an hour that took minutes to arrive is %v", got)
	}
}

// Each attempt makes a user in IAM, which must not pile up.
func TestTheKeysOfAnIAMUser(t *testing.T) {
	for name, auth := range map[string]vault.Auth{"a token": vault.Token(value(held)), "a login": vault.AppRole{Mount: "approle", RoleID: value("role-id"), SecretID: value("secret-id-of-host-7")}} {
		w, s := newWorld(t)
		s.Role, s.Auth = "user", auth
		_, err := s.Fetch(t.Context())
		if !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "credential_type assumed_role") || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff([]string{"team/aws/creds/user/lease"}, w.revoked); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestRefusals(t *testing.T) {
	engine := "team/aws/creds/app"
	say := func(status int, texts ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fail(w, status, texts...) }
	}
	write := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/"+canary)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	for name, c := range map[string]struct {
		change func(*server, *vault.Source)
		kind   error
		want   string
	}{
		"a token that has ended":    {func(_ *server, s *vault.Source) { s.Auth = vault.Token(value("hvs.old")) }, source.ErrAccessDenied, "invalid token; check that the Vault token has not ended"},
		"a token with a line break": {func(_ *server, s *vault.Source) { s.Auth = vault.Token(value("hvs.a\nb")) }, nil, "characters that no token has"},
		"an empty token":            {func(_ *server, s *vault.Source) { s.Auth = vault.Token(value("")) }, nil, "token: it is empty"},
		"a token that is missing":   {func(_ *server, s *vault.Source) { s.Auth = vault.Token(gone) }, nil, "token: no such file"},
		"a role id that is missing": {func(_ *server, s *vault.Source) { s.Auth = vault.AppRole{Mount: "approle", RoleID: gone} }, nil, "role_id: no such file"},
		"a secret id that is missing": {func(_ *server, s *vault.Source) {
			s.Auth = vault.AppRole{Mount: "approle", RoleID: value("role-id"), SecretID: gone}
		}, nil, "secret_id: no such file"},
		"a wrong secret id": {func(_ *server, s *vault.Source) {
			s.Auth = vault.AppRole{Mount: "approle", RoleID: value("role-id"), SecretID: value(canary)}
		}, source.ErrRefused, "POST auth/approle/login: invalid role or secret ID; check the credentials of the login"},
		"a wrong Kubernetes role": {func(_ *server, s *vault.Source) {
			s.Auth = vault.JWT{Mount: "kubernetes", Role: "x", Token: jwtFile(t, jwt)}
		}, source.ErrAccessDenied, "check the role of the auth method"},
		"a login that repeats the token": {func(_ *server, s *vault.Source) {
			s.Auth = vault.JWT{Mount: "hosts/jwt", Role: "x", Token: jwtFile(t, jwt)}
		}, source.ErrRefused, "error validating token: [secret]"},
		"a mount that is not there": {func(_ *server, s *vault.Source) { s.Auth = vault.AppRole{Mount: "nowhere", RoleID: value("role-id")} }, source.ErrRefused, "no handler for route"},
		"a login without a token":   {func(w *server, _ *vault.Source) { w.instead["auth/approle/login"] = write(200, `{"auth":null}`) }, nil, "second factor"},
		"a login with half a token": {func(w *server, _ *vault.Source) {
			w.instead["auth/approle/login"] = write(200, `{"auth":{"client_token":"a\nb"}}`)
		}, nil, "no token"},
		"a wrong namespace":        {func(_ *server, s *vault.Source) { s.Namespace = "" }, source.ErrAccessDenied, "permission denied"},
		"a role with a slash":      {func(_ *server, s *vault.Source) { s.Role = "x/y" }, source.ErrRefused, "creds/x%2Fy: Role"},
		"a role that nobody made":  {func(_ *server, s *vault.Source) { s.Role = "none" }, source.ErrRefused, `Role "none" not found; check the Vault role`},
		"a role with several ARNs": {func(_ *server, s *vault.Source) { s.Role = "many" }, source.ErrRefused, "did not supply a role_arn"},
		"another engine":           {func(_ *server, s *vault.Source) { s.Mount = "kv" }, source.ErrRefused, "nothing answers on this path"},
		"a 404 without a word":     {func(w *server, _ *vault.Source) { w.instead[engine] = say(404) }, source.ErrRefused, "HTTP status 404; check the mount"},
		"AWS that is away": {func(w *server, _ *vault.Source) {
			w.instead[engine] = say(400, "Error assuming role: RequestError: send request failed")
		}, nil, "could not get an answer from AWS"},
		"a sealed server":             {func(w *server, _ *vault.Source) { w.instead[engine] = say(503, "Vault is sealed") }, nil, "Vault is sealed; Vault is sealed"},
		"a replica that is behind":    {func(w *server, _ *vault.Source) { w.instead[engine] = say(412, "required index state not present") }, nil, "required index state"},
		"a standby":                   {func(w *server, _ *vault.Source) { w.instead[engine] = write(307, "") }, nil, "HTTP status 307: a token is not carried on"},
		"a page of a guest network":   {func(w *server, _ *vault.Source) { w.instead[engine] = write(403, "<html>"+canary) }, nil, "HTTP status 403, and not in the form of Vault"},
		"JSON of somebody else":       {func(w *server, _ *vault.Source) { w.instead[engine] = write(403, `{"message":"x"}`) }, nil, "HTTP status 403, and not in the form of Vault"},
		"a page with a 200":           {func(w *server, _ *vault.Source) { w.instead[engine] = write(200, "<html>"+canary) }, nil, "not the JSON of Vault"},
		"an answer of another engine": {func(w *server, _ *vault.Source) { w.instead[engine] = write(200, `{"data":{"value":"`+canary+`"}}`) }, nil, "no access key id"},
		"no data":                     {func(w *server, _ *vault.Source) { w.instead[engine] = write(200, `null`) }, nil, "no credentials"},
		"nothing at all":              {func(w *server, _ *vault.Source) { w.instead[engine] = write(204, "") }, nil, "no credentials"},
		"no life":                     {func(w *server, _ *vault.Source) { w.instead[engine] = write(200, keys(`"session_token":"t"`)) }, nil, "a life of 0 seconds"},
		"a life in words": {func(w *server, _ *vault.Source) {
			w.instead[engine] = write(200, keys(`"session_token":"t","ttl":"1h"`))
		}, nil, "not the JSON of Vault"},
		"half a second": {func(w *server, _ *vault.Source) {
			w.instead[engine] = write(200, keys(`"session_token":"t","ttl":0.5`))
		}, nil, "a life of 0 seconds"},
		"a life of an age": {func(w *server, _ *vault.Source) {
			w.instead[engine] = write(200, keys(`"session_token":"t","ttl":9223372036854775807`))
		}, nil, "a life of 9223372036854775807 seconds"},
		"no session token and no lease": {func(w *server, _ *vault.Source) { w.instead[engine] = write(200, keys(`"ttl":3600`)) }, nil, "no session token"},
		"another role": {func(w *server, s *vault.Source) {
			s.RoleARN = app
			w.instead[engine] = write(200, keys(`"session_token":"t","ttl":3600,"arn":"arn:aws:sts::111122223333:assumed-role/apple/x"`))
		}, nil, "another role, arn:aws:sts::111122223333:assumed-role/apple/x"},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := newWorld(t)
			w.instead = map[string]http.HandlerFunc{}
			c.change(w, &s)
			got, err := s.Fetch(t.Context())
			if err == nil || got.Complete() || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), jwt) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if errors.Is(err, source.ErrRefused) != (c.kind != nil) || errors.Is(err, source.ErrAccessDenied) != (c.kind == source.ErrAccessDenied) { //nolint:errorlint // the row's own value
				t.Errorf("the kind of %v is wrong", err)
			}
		})
	}
}

// keys is an answer with keys and what else is given.
func keys(more string) string {
	return `{"data":{"access_key":"ASIAIOSFODNN7EXAMPLE","secret_key":"` + canary + `",` + more + `}}`
}

// A replica that is behind is asked again at once, within the same attempt.
func TestAReplicaIsAskedAgain(t *testing.T) {
	w, s := newWorld(t)
	s.HTTP = upstream.New(upstream.Options{Timeout: 20 * time.Second, Transient: vault.Transient})
	n := 0
	w.instead = map[string]http.HandlerFunc{"team/aws/creds/app": func(rw http.ResponseWriter, _ *http.Request) {
		if n++; n == 1 {
			fail(rw, 412, "required index state not present")
			return
		}
		_, _ = io.WriteString(rw, keys(`"session_token":"t","ttl":3600`))
	}}
	if _, err := s.Fetch(t.Context()); err != nil || n != 2 {
		t.Errorf("%v after %d requests", err, n)
	}
}

// A server that does not take its token back holds nobody up for long.
func TestAGivenBackTokenIsNotWaitedFor(t *testing.T) {
	w, s := newWorld(t)
	w.instead = map[string]http.HandlerFunc{"auth/token/revoke-self": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
	began := time.Now()
	if _, err := s.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("took %v", d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began = time.Now()
	_, _ = s.Fetch(ctx)
	if d := time.Since(began); d > time.Second {
		t.Errorf("took %v after its context had ended", d)
	}
}
