package cognito_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/rotation/assertion"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/source/cognito"
	"github.com/hostrole/hostrole/rotation/source/sourcetest"
	"github.com/hostrole/hostrole/rotation/sts"
	"github.com/hostrole/hostrole/rotation/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const role = "arn:aws:iam::111122223333:role/app"

func boot() time.Duration { return time.Hour }

// Making keys takes long, so all tests share those of Cognito and of the
// identity provider.
var (
	minting  = sync.OnceValue(func() *devsts.Issuer { return devsts.NewIssuer(issuerURL, now) })
	provided = sync.OnceValue(func() *devsts.Issuer { return devsts.NewIssuer("https://"+provider, now) })
)

// A world is a pool, the STS behind its basic flow, and an identity provider
// whose token is in a file.
type world struct {
	*pool
	sts    *devsts.Server
	idp    *devsts.Issuer
	path   string // of the token
	url    string // of the STS
	warned []error
	source *cognito.Source
}

func newWorld(t *testing.T) *world {
	w := &world{pool: &pool{issuer: minting()}, idp: provided(), path: filepath.Join(t.TempDir(), "token")}
	w.sts = devsts.New(devsts.Options{Account: account, Region: "eu-central-1", Now: now,
		Roles:     []devsts.Role{{ARN: role, OIDC: []devsts.OIDCTrust{{Issuer: issuerURL, Subject: "eu-central-1:*"}}}},
		Providers: []devsts.Provider{{Issuer: issuerURL, Audiences: []string{poolID}, Keys: w.issuer.Keys}}})
	srv := httptest.NewServer(w.sts)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	w.source = w.again(t, w.start(t))
	return w
}

// again is what the next start of the daemon makes of the configuration.
func (w *world) again(t *testing.T, endpoint string) *cognito.Source {
	w.put(t, w.idp.Mint(map[string]any{"sub": "host-7", "aud": "client"}))
	return &cognito.Source{
		HTTP:     upstream.New(upstream.Options{Timeout: 5 * time.Second, Transient: cognito.Transient}),
		Endpoint: endpoint, PoolID: poolID, AccountID: account, Provider: provider, Token: assertion.File{Path: w.path}, Now: now, Boot: boot,
		Warn: func(err error) { w.warned = append(w.warned, err) },
	}
}

// put makes a token the one of the provider, and writes it for the source.
func (w *world) put(t *testing.T, token string) {
	t.Helper()
	w.token = token
	if err := os.WriteFile(w.path, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
}

// basic turns to the basic flow.
func (w *world) basic() {
	w.source.Session = sts.Session{RoleARN: role, Name: "host-7", Duration: time.Hour}
	w.source.STS = sts.New(sts.Options{Region: "eu-central-1", Endpoint: w.url, Now: now, Boot: boot,
		HTTP: upstream.New(upstream.Options{Timeout: 5 * time.Second, Transient: sts.Transient})})
}

// guest drops the login.
func (w *world) guest() { w.source.Provider, w.source.Token = "", nil }

func TestContractOfTheEnhancedFlow(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject{New: func(t *testing.T, b sourcetest.Behaviour) (source.Source, []string) {
		w := newWorld(t)
		w.behaviour = b
		return w.source, []string{canary, w.token}
	}})
}

func TestContractOfTheBasicFlow(t *testing.T) {
	faults := map[sourcetest.Behaviour]string{
		sourcetest.Refuses: "access-denied", sourcetest.Garbage: "html", sourcetest.Blank: "empty-session-token",
		sourcetest.Expired: "expired-already", sourcetest.Silent: "slow", sourcetest.Huge: "huge", sourcetest.Down: "down",
	}
	sourcetest.Run(t, sourcetest.Subject{New: func(t *testing.T, b sourcetest.Behaviour) (source.Source, []string) {
		w := newWorld(t)
		w.basic()
		if name := faults[b]; name != "" {
			w.sts.Break(devsts.Named(name))
		}
		return w.source, []string{canary, w.token}
	}})
}

func TestTheEnhancedFlow(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		arn    string
	}{
		"with a login":               {func(*world) {}, ""},
		"with a role of our choice":  {func(w *world) { w.source.Session.RoleARN = custom }, custom},
		"as a guest":                 {func(w *world) { w.guest() }, ""},
		"without the pool's account": {func(w *world) { w.source.AccountID, w.source.Session.RoleARN = "", custom }, custom},
		"with nobody to warn":        {func(w *world) { w.guest(); w.source.Warn = nil; w.source.StateFile = "/proc/none/x" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.change(w)
			got, err := w.source.Fetch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if life := got.Expires.Sub(got.Issued); (life-time.Hour).Abs() > 5*time.Second || got.Expires.Nanosecond() != 0 {
				t.Errorf("lives %v, until %v", life, got.Expires)
			}
			if got.RoleARN != c.arn || got.AccountID != account || got.RequestID != "request-2" || got.Received != time.Hour {
				t.Errorf("got %+v", got)
			}
			if d := cmp.Diff([]string{"GetId", "GetCredentialsForIdentity"}, w.calls); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTheBasicFlow(t *testing.T) {
	for name, change := range map[string]func(*world){"with a login": func(*world) {}, "as a guest": func(w *world) { w.guest() }} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.basic()
			change(w)
			got, err := w.source.Fetch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.RoleARN != role || got.AccountID != account {
				t.Errorf("got %+v", got)
			}
			if d := cmp.Diff([]string{"GetId", "GetOpenIdToken"}, w.calls); d != "" {
				t.Error(d)
			}
			if p := w.sts.Calls()[0].Principal; !strings.Contains(p, "eu-central-1:") {
				t.Errorf("STS saw %q", p)
			}
		})
	}
}

// A guest is known by its id alone, so the id is kept: in memory, and in a
// file over a restart.
func TestAGuestStaysTheSame(t *testing.T) {
	w := newWorld(t)
	w.guest()
	w.source.StateFile = filepath.Join(t.TempDir(), "identity")
	for range 2 {
		if _, err := w.source.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	st, err := os.Stat(w.source.StateFile)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, mode %v", err, st.Mode())
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(w.source.StateFile), ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	next := w.again(t, w.source.Endpoint)
	next.StateFile, next.Provider, next.Token = w.source.StateFile, "", nil
	if _, err := next.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.made != 1 || len(w.warned) != 0 {
		t.Errorf("%d identities were made; warnings: %v", w.made, w.warned)
	}

	other := w.again(t, w.source.Endpoint) // the same file for somebody with a login
	other.StateFile = w.source.StateFile
	w.calls = nil
	if _, err := other.Fetch(t.Context()); err != nil || w.made != 2 {
		t.Errorf("%v; %d identities were made", err, w.made)
	}
	if d := cmp.Diff([]string{"GetId", "GetCredentialsForIdentity"}, w.calls); d != "" {
		t.Error(d)
	}
}

// What the pool has deleted, or made one with another, is not insisted on.
func TestAnIdentityThatIsNoMore(t *testing.T) {
	for name, guest := range map[string]bool{"a guest": true, "a login": false} {
		for _, basic := range []bool{false, true} {
			w := newWorld(t)
			if basic {
				w.basic()
			}
			if guest {
				w.guest()
			}
			if _, err := w.source.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			clear(w.identities)
			if _, err := w.source.Fetch(t.Context()); err != nil || len(w.calls) != 5 {
				t.Errorf("%s: %v after %v", name, err, w.calls)
			}
			w.merge = "eu-central-1:merged"
			for range 2 {
				if _, err := w.source.Fetch(t.Context()); err != nil {
					t.Fatal(err)
				}
				for id := range w.identities {
					if id != "eu-central-1:merged" {
						delete(w.identities, id)
					}
				}
			}
			if len(w.calls) != 7 {
				t.Errorf("%s: the merged identity was not remembered: %v", name, w.calls)
			}
		}
	}
}

// A token that has ended is no reason to forget who we are, nor to ask for
// long.
func TestATokenThatHasEnded(t *testing.T) {
	w := newWorld(t)
	if _, err := w.source.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := w.token
	w.token = "another"
	_, err := w.source.Fetch(t.Context())
	if !errors.Is(err, source.ErrAccessDenied) || strings.Contains(err.Error(), old) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"GetCredentialsForIdentity of " + poolID + ": NotAuthorizedException: Invalid login token. Token expired: [secret]", `subject "host-7"`, "(request request-3)"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell %q", err, want)
		}
	}
	if d := cmp.Diff([]string{"GetId", "GetCredentialsForIdentity", "GetCredentialsForIdentity", "GetId"}, w.calls); d != "" {
		t.Error(d)
	}
	w.put(t, w.idp.Mint(map[string]any{"sub": "host-7"}))
	if _, err := w.source.Fetch(t.Context()); err != nil || w.made != 1 || len(w.calls) != 5 {
		t.Errorf("%v; %d identities, %v", err, w.made, w.calls)
	}

	// The pool says that we are who we thought: the refusal was meant.
	w.calls = nil
	w.instead = map[string]http.HandlerFunc{"GetCredentialsForIdentity": func(rw http.ResponseWriter, _ *http.Request) { refuse(rw, "NotAuthorizedException", "") }}
	if _, err := w.source.Fetch(t.Context()); !errors.Is(err, source.ErrAccessDenied) {
		t.Errorf("got %v", err)
	}
	if d := cmp.Diff([]string{"GetCredentialsForIdentity", "GetId"}, w.calls); d != "" {
		t.Error(d)
	}
}

// An identity that was kept from a login of another name is looked up again.
func TestAnIdentityOfSomebodyElse(t *testing.T) {
	w := newWorld(t)
	w.source.StateFile = filepath.Join(t.TempDir(), "identity")
	w.identities["eu-central-1:theirs"] = "somebody"
	text, _ := json.Marshal(map[string]string{"identity_pool_id": poolID, "provider": provider, "identity_id": "eu-central-1:theirs"})
	if err := os.WriteFile(w.source.StateFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.source.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"GetCredentialsForIdentity", "GetId", "GetCredentialsForIdentity"}, w.calls); d != "" {
		t.Error(d)
	}
}

// A state file that is of no use costs a warning, never a credential.
func TestAStateFileOfNoUse(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, path string)
		want    string
	}{
		"a folder that is missing": {func(t *testing.T, path string) { t.Helper(); _ = os.Remove(filepath.Dir(path)) }, "keeping the identity"},
		"a folder in its place":    {func(_ *testing.T, path string) { _ = os.Mkdir(path, 0o700) }, "reading the identity"},
		"nonsense":                 {func(_ *testing.T, path string) { _ = os.WriteFile(path, []byte("nonsense "+canary), 0o600) }, "holds no identity"},
		"half a file":              {func(_ *testing.T, path string) { _ = os.WriteFile(path, []byte(`{"identity_id":"`+canary), 0o600) }, "holds no identity"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.guest()
			w.source.StateFile = filepath.Join(t.TempDir(), "folder", "identity")
			if err := os.Mkdir(filepath.Dir(w.source.StateFile), 0o700); err != nil {
				t.Fatal(err)
			}
			c.prepare(t, w.source.StateFile)
			if _, err := w.source.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			if text := errors.Join(w.warned...); len(w.warned) == 0 || !strings.Contains(text.Error(), c.want) || strings.Contains(text.Error(), canary) {
				t.Errorf("warned %v, want %q", w.warned, c.want)
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(w.source.StateFile), ".*")); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	say := func(code string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { refuse(w, code, "in the service's words") }
	}
	write := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	keys := func(more string) string {
		return `{"Credentials":{"AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretKey":"` + canary + `","SessionToken":"t",` + more + `}}`
	}
	const id, get, open = "GetId", "GetCredentialsForIdentity", "GetOpenIdToken"
	for name, c := range map[string]struct {
		change func(*world)
		kind   error
		want   string
		calls  int
	}{
		"no guests":               {func(w *world) { w.guest(); w.noGuests = true }, source.ErrAccessDenied, "Unauthenticated access is not supported", 1},
		"an unknown provider":     {func(w *world) { w.source.Provider = "accounts.google.com" }, source.ErrAccessDenied, "check that the pool knows the provider", 1},
		"an unknown pool":         {func(w *world) { w.source.PoolID = "eu-central-1:x" }, source.ErrRefused, "GetId of eu-central-1:x: ResourceNotFoundException", 1},
		"another account's pool":  {func(w *world) { w.source.AccountID = "444455556666" }, source.ErrRefused, "InvalidParameterException", 1},
		"a role not of the pool":  {func(w *world) { w.source.Session.RoleARN = role }, source.ErrRefused, "customRoleArn", 2},
		"a pool without a role":   {func(w *world) { w.instead[get] = say("InvalidIdentityPoolConfigurationException") }, source.ErrRefused, "check the pool's roles", 2},
		"a conflict":              {func(w *world) { w.instead[get] = say("ResourceConflictException") }, source.ErrRefused, "ResourceConflictException: in the service's words", 2},
		"a code with a name":      {func(w *world) { w.instead[get] = say("com.amazonaws.cognito#NotAuthorizedException") }, source.ErrAccessDenied, "NotAuthorizedException", 2},
		"throttling":              {func(w *world) { w.instead[get] = say("TooManyRequestsException") }, nil, "TooManyRequestsException", 4},
		"a provider that is away": {func(w *world) { w.instead[id] = say("ExternalServiceException") }, nil, "ExternalServiceException", 3},
		"a 500":                   {func(w *world) { w.instead[id] = write(500, "") }, nil, "HTTP status 500, and not in the form of Cognito", 3},
		"a guest network":         {func(w *world) { w.instead[get] = write(403, "<html>"+canary) }, nil, "HTTP status 403, and not in the form", 2},
		"a redirect":              {func(w *world) { w.instead[id] = write(302, "") }, nil, "HTTP status 302", 1},
		"no identity":             {func(w *world) { w.instead[id] = write(200, `{}`) }, nil, "the answer has no identity", 1},
		"a strange identity":      {func(w *world) { w.instead[id] = write(200, `{"IdentityId":"x"}`) }, nil, "the answer has no identity", 1},
		"an identity in pieces":   {func(w *world) { w.instead[id] = write(200, `{"IdentityId":["`+canary+`"]}`) }, nil, "not the JSON of Cognito", 1},
		"no credentials":          {func(w *world) { w.instead[get] = write(200, `{"IdentityId":"x"}`) }, nil, "no session token", 2},
		"null":                    {func(w *world) { w.instead[get] = write(200, `null`) }, nil, "no session token", 2},
		"no expiration":           {func(w *world) { w.instead[get] = write(200, keys(`"x":1`)) }, nil, "no expiration", 2},
		"an expiration in words":  {func(w *world) { w.instead[get] = write(200, keys(`"Expiration":"2030-01-01T00:00:00Z"`)) }, nil, "not the JSON", 2},
		"an expiration too far":   {func(w *world) { w.instead[get] = write(200, keys(`"Expiration":1e300`)) }, nil, "no expiration", 2},
		"one in the past":         {func(w *world) { w.instead[get] = write(200, keys(`"Expiration":-1`)) }, nil, "no expiration", 2},
		"a token of no use":       {func(w *world) { w.basic(); w.instead[open] = write(200, `{"IdentityId":"x:y"}`) }, nil, "GetOpenIdToken of " + poolID + ": the answer has no token", 2},
		"a flow that is off":      {func(w *world) { w.basic(); w.instead[open] = say("InvalidParameterException") }, source.ErrRefused, "that the pool allows the flow", 2},
		"no token":                {func(w *world) { w.source.Token = assertion.File{Path: "/nonexistent/token"} }, nil, "reading the token", 0},
		"a pool without a region": {func(w *world) { w.source.Endpoint, w.source.PoolID = "", "11111111" }, nil, "has no region", 0},
		"a region that is a host": {func(w *world) { w.source.Endpoint, w.source.PoolID = "", "example.com/:1" }, nil, "has no region", 0},
		"an endpoint of no form":  {func(w *world) { w.source.Endpoint = "http://%zz" }, nil, "endpoint: ", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.source.HTTP = upstream.New(upstream.Options{Timeout: 20 * time.Second, Transient: cognito.Transient})
			w.instead = map[string]http.HandlerFunc{}
			c.change(w)
			got, err := w.source.Fetch(t.Context())
			if err == nil || got.Complete() || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), w.token) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if errors.Is(err, source.ErrRefused) != (c.kind != nil) || errors.Is(err, source.ErrAccessDenied) != (c.kind == source.ErrAccessDenied) { //nolint:errorlint // the row's own value
				t.Errorf("the kind of %v is wrong", err)
			}
			if len(w.calls) != c.calls {
				t.Errorf("calls %v, want %d", w.calls, c.calls)
			}
		})
	}
}

// The endpoint follows the pool's region; nothing is sent there.
func TestEndpoints(t *testing.T) {
	for pool, want := range map[string]string{
		poolID: "cognito-identity.eu-central-1.amazonaws.com", "cn-north-1:x": "cognito-identity.cn-north-1.amazonaws.com.cn", "eusc-de-east-1:x": "cognito-identity.eusc-de-east-1.amazonaws.eu",
	} {
		w := newWorld(t)
		var host atomic.Pointer[string]
		w.source.HTTP = upstream.New(upstream.Options{Timeout: time.Second, Proxy: func(r *http.Request) (*url.URL, error) {
			host.Store(&r.URL.Host)
			return url.Parse("http://127.0.0.1:1")
		}})
		w.source.Endpoint, w.source.PoolID = "", pool
		if _, err := w.source.Fetch(t.Context()); err == nil {
			t.Error("no error")
		}
		if got := host.Load(); got == nil || *got != want {
			t.Errorf("%s: got %v, want %s", pool, got, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`{"IdentityId":"eu-central-1:x","Credentials":{"AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretKey":"s","SessionToken":"t","Expiration":1.480370001E9}}`)
	f.Add(`{"Credentials":{"SessionToken":"t","Expiration":1e308}}`)
	f.Add(`{"Credentials":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := cognito.Read([]byte(text))
		if err == nil && (c.Token.Empty() || c.Expires.Year() < 1970 || c.Expires.Year() > 4147) {
			t.Errorf("half a credential: %+v", c)
		}
		if err != nil && (c != credential.Credential{} || len(text) > 80 && strings.Contains(err.Error(), text)) {
			t.Errorf("%v", err)
		}
	})
}

func FuzzReadState(f *testing.F) {
	f.Add(`{"identity_pool_id":"eu-central-1:p","provider":"","identity_id":"eu-central-1:x"}`)
	f.Add(`{"identity_id":""}`)
	f.Add(``)
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := cognito.ReadState([]byte(text)); (err == nil) != strings.Contains(id, ":") {
			t.Errorf("%q and %v", id, err)
		}
	})
}
