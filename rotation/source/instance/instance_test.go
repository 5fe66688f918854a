package instance_test

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/source/instance"
	"github.com/hostrole/hostrole/rotation/source/sourcetest"
	"github.com/hostrole/hostrole/rotation/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const list = "/latest/meta-data/iam/security-credentials/"

func boot() time.Duration { return time.Hour }

func client(limit time.Duration) *upstream.Client {
	return upstream.New(upstream.Options{Timeout: limit})
}

func value(text string) func() (credential.Secret, error) {
	return func() (credential.Secret, error) { return credential.NewSecret(text), nil }
}

func newMetadata(t *testing.T) (*service, instance.Metadata) {
	s := &service{role: "app", instead: map[string]http.HandlerFunc{}}
	return s, instance.Metadata{HTTP: client(5 * time.Second), Endpoint: s.start(t), Now: now, Boot: boot}
}

func newContainer(t *testing.T) (*service, instance.Container) {
	s := &service{instead: map[string]http.HandlerFunc{}}
	return s, instance.Container{HTTP: client(5 * time.Second), URI: s.start(t) + path, Authorization: value(secret), Now: now, Boot: boot}
}

func TestContractOfAMetadataService(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject{New: func(t *testing.T, b sourcetest.Behaviour) (source.Source, []string) {
		w, s := newMetadata(t)
		w.behaviour = b
		return s, []string{canary, token}
	}})
}

func TestContractOfAContainerEndpoint(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject{New: func(t *testing.T, b sourcetest.Behaviour) (source.Source, []string) {
		w, s := newContainer(t)
		w.behaviour = b
		return s, []string{canary, secret, path}
	}})
}

func TestMetadata(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*service, *instance.Metadata)
		calls  []string
	}{
		"the role that is listed":          {func(*service, *instance.Metadata) {}, []string{"PUT /latest/api/token", "GET " + list, "GET " + list + "app"}},
		"the role that is named":           {func(w *service, s *instance.Metadata) { w.role, s.Role = "a+b=c,d.e@f_g-h", "a+b=c,d.e@f_g-h" }, []string{"PUT /latest/api/token", "GET " + list + "a+b=c,d.e@f_g-h"}},
		"a list of more than one line":     {func(w *service, _ *instance.Metadata) { w.instead[list] = write(200, "app\nother\n") }, []string{"PUT /latest/api/token", "GET " + list, "GET " + list + "app"}},
		"an endpoint that ends in a slash": {func(_ *service, s *instance.Metadata) { s.Endpoint += "/" }, []string{"PUT /latest/api/token", "GET " + list, "GET " + list + "app"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := newMetadata(t)
			c.change(w, &s)
			got, err := s.Fetch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if life := got.Expires.Sub(got.Issued); (life-6*time.Hour).Abs() > 5*time.Second || got.Received != time.Hour || got.Token.Reveal() != "session-"+canary {
				t.Errorf("lives %v: %+v", life, got)
			}
			if d := cmp.Diff(c.calls, w.calls); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff([]string{"60"}, w.ttls); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestContainer(t *testing.T) {
	w, s := newContainer(t)
	n := 0
	s.Authorization = func() (credential.Secret, error) { n++; return credential.NewSecret(secret), nil }
	for range 2 {
		got, err := s.Fetch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.RoleARN != "arn:aws:iam::111122223333:role/task" || got.AccountID != "111122223333" {
			t.Errorf("got %+v", got)
		}
	}
	if n != 2 || len(w.calls) != 2 {
		t.Errorf("the authorization was read %d times for %v", n, w.calls)
	}
	w.instead[path] = func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header["Authorization"]) != 0 {
			t.Error("a header was sent that nobody asked for")
		}
		_, _ = io.WriteString(w, `{"AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretAccessKey":"s","Token":"t","Expiration":"2090-01-01T00:00:00.5Z","AccountId":"444455556666"}`)
	}
	s.Authorization = nil
	if got, err := s.Fetch(t.Context()); err != nil || got.AccountID != "444455556666" {
		t.Errorf("%v: %+v", err, got)
	}
}

func write(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/latest/elsewhere/"+canary)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

// judge holds an error against a row.
func judge(t *testing.T, got credential.Credential, err, kind error, want string) {
	t.Helper()
	if err == nil || got.Complete() || !strings.Contains(err.Error(), want) {
		t.Fatalf("got %v, want %q", err, want)
	}
	for _, s := range []string{canary, token, secret, "secret-in-itself"} {
		if strings.Contains(err.Error(), s) {
			t.Errorf("%v tells %q", err, s)
		}
	}
	if errors.Is(err, source.ErrRefused) != (kind != nil) || errors.Is(err, source.ErrAccessDenied) != (kind == source.ErrAccessDenied) { //nolint:errorlint // the row's own value
		t.Errorf("the kind of %v is wrong", err)
	}
}

func TestRefusalsOfAMetadataService(t *testing.T) {
	const put, doc = "/latest/api/token", list + "app"
	keys := func(more string) string {
		return `{"Code":"Success","AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretAccessKey":"` + canary + `",` + more + `}`
	}
	for name, c := range map[string]struct {
		change func(*service, *instance.Metadata)
		kind   error
		want   string
	}{
		"a service that is off":       {func(w *service, _ *instance.Metadata) { w.instead[put] = write(403, "") }, source.ErrAccessDenied, "PUT /latest/api/token: HTTP status 403; the metadata service is turned off"},
		"no version 2":                {func(w *service, _ *instance.Metadata) { w.instead[put] = write(404, notFound) }, nil, "not that of a metadata service, version 2"},
		"another method":              {func(w *service, _ *instance.Metadata) { w.instead[put] = write(405, "") }, nil, "version 2"},
		"a redirect":                  {func(w *service, _ *instance.Metadata) { w.instead[put] = write(301, "") }, nil, "HTTP status 301"},
		"no token":                    {func(w *service, _ *instance.Metadata) { w.instead[put] = write(200, "") }, nil, "the answer has no token"},
		"a page for a token":          {func(w *service, _ *instance.Metadata) { w.instead[put] = write(200, "<html> "+canary) }, nil, "the answer has no token"},
		"a token that never ends":     {func(w *service, _ *instance.Metadata) { w.instead[put] = write(200, strings.Repeat("A", 2000)) }, nil, "the answer has no token"},
		"a token that does not hold":  {func(w *service, _ *instance.Metadata) { w.instead[put] = write(200, "other") }, nil, "HTTP status 401"},
		"an instance without a role":  {func(w *service, _ *instance.Metadata) { w.role = "" }, source.ErrRefused, "attach an instance profile"},
		"an empty list":               {func(w *service, _ *instance.Metadata) { w.instead[list] = write(200, "") }, nil, "does not begin with a name"},
		"a page for a list":           {func(w *service, _ *instance.Metadata) { w.instead[list] = write(200, notFound) }, nil, "does not begin with a name"},
		"a path for a role":           {func(w *service, _ *instance.Metadata) { w.instead[list] = write(200, "../../x") }, nil, "does not begin with a name"},
		"a role that is not there":    {func(_ *service, s *instance.Metadata) { s.Role = "other" }, source.ErrRefused, "or name its role"},
		"a role that cannot be":       {func(_ *service, s *instance.Metadata) { s.Role = "a/b" }, nil, "IAM allows no such name"},
		"a service that is not ready": {func(w *service, _ *instance.Metadata) { w.instead[doc] = write(503, "") }, nil, "GET " + doc + ": HTTP status 503"},
		"another failure document": {func(w *service, _ *instance.Metadata) {
			w.instead[doc] = write(200, `{"Code":"Failed","Message":"in its words"}`)
		}, source.ErrRefused, "Failed: in its words"},
		"a document without a token": {func(w *service, _ *instance.Metadata) {
			w.instead[doc] = write(200, keys(`"Expiration":"2090-01-01T00:00:00Z"`))
		}, nil, "no session token"},
		"one without an end": {func(w *service, _ *instance.Metadata) { w.instead[doc] = write(200, keys(`"Token":"t"`)) }, nil, "no expiration"},
		"one that ends in words": {func(w *service, _ *instance.Metadata) {
			w.instead[doc] = write(200, keys(`"Token":"t","Expiration":"`+canary+`"`))
		}, nil, "no expiration"},
		"a token of two lines": {func(w *service, _ *instance.Metadata) {
			w.instead[doc] = write(200, keys(`"Token":"t\nu","Expiration":"2090-01-01T00:00:00Z"`))
		}, nil, "characters in a key that no key has"},
		"null":                       {func(w *service, _ *instance.Metadata) { w.instead[doc] = write(200, `null`) }, nil, "no session token"},
		"a number for a key":         {func(w *service, _ *instance.Metadata) { w.instead[doc] = write(200, `{"Code":7}`) }, nil, "not the JSON of credentials"},
		"an endpoint that is no URL": {func(_ *service, s *instance.Metadata) { s.Endpoint = "169.254.169.254" }, nil, "no URL of a service"},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := newMetadata(t)
			c.change(w, &s)
			got, err := s.Fetch(t.Context())
			judge(t, got, err, c.kind, c.want)
			for _, call := range w.calls {
				if strings.Contains(call, "elsewhere") {
					t.Error("a redirect was followed")
				}
			}
		})
	}
}

func TestRefusalsOfAContainerEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*service, *instance.Container)
		kind   error
		want   string
	}{
		"an authorization that is wrong": {func(_ *service, s *instance.Container) { s.Authorization = value(canary) }, source.ErrRefused, "HTTP status 400; check the endpoint's path, and whether the authorization has ended"},
		"no authorization":               {func(_ *service, s *instance.Container) { s.Authorization = nil }, source.ErrRefused, "HTTP status 400"},
		"an authorization that is missing": {func(_ *service, s *instance.Container) {
			s.Authorization = func() (credential.Secret, error) { return credential.Secret{}, errors.New("no such file") }
		}, nil, "authorization: no such file"},
		"an empty one":       {func(_ *service, s *instance.Container) { s.Authorization = value("") }, nil, "authorization: it is empty"},
		"one of two lines":   {func(_ *service, s *instance.Container) { s.Authorization = value(secret + "\n" + canary) }, nil, "characters that no token has"},
		"a denial":           {func(w *service, _ *instance.Container) { w.instead[path] = write(403, "Access Denied. "+canary) }, source.ErrAccessDenied, "HTTP status 403; check the authorization"},
		"one without a form": {func(w *service, _ *instance.Container) { w.instead[path] = write(401, "") }, source.ErrAccessDenied, "HTTP status 401"},
		"words with the authorization": {func(w *service, _ *instance.Container) {
			w.instead[path] = write(400, `{"Code":"X","Message":"not `+secret+`"}`)
		}, source.ErrRefused, "X: not [secret]"},
		"not yet": {func(w *service, _ *instance.Container) {
			w.instead[path] = write(503, `{"code":"CredentialsUninitialized","message":"m","HTTPErrorCode":503}`)
		}, nil, "CredentialsUninitialized: m"},
		"too fast":   {func(w *service, _ *instance.Container) { w.instead[path] = write(429, "Too Many Requests") }, nil, "HTTP status 429"},
		"a redirect": {func(w *service, _ *instance.Container) { w.instead[path] = write(307, "") }, nil, "HTTP status 307"},
		"a page":     {func(w *service, _ *instance.Container) { w.instead[path] = write(200, "<html>"+canary) }, nil, "not the JSON of credentials"},
		"a file of keys without a token": {func(w *service, _ *instance.Container) {
			w.instead[path] = write(200, `{"AccessKeyId":"AKIA","SecretAccessKey":"`+canary+`","Expiration":"2090-01-01T00:00:00Z"}`)
		}, nil, "no session token"},
		"a name for plain HTTP": {func(_ *service, s *instance.Container) { s.URI = "http://credentials.example.com" + path }, nil, "plain HTTP needs an address, and credentials.example.com is a name"},
		"an URI that is none":   {func(_ *service, s *instance.Container) { s.URI = "http://127.0.0.1:1" + path + "%zz" }, nil, "no URL of a service"},
	} {
		t.Run(name, func(t *testing.T) {
			w, s := newContainer(t)
			c.change(w, &s)
			got, err := s.Fetch(t.Context())
			judge(t, got, err, c.kind, c.want)
		})
	}
}

// A daemon that asks itself would hold its own answer for the upstream's, and
// serve what it never had.
func TestTheDaemonDoesNotAskItself(t *testing.T) {
	own := func(endpoint string) func(netip.AddrPort) bool {
		u, err := url.Parse(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		listener := netip.MustParseAddrPort(u.Host)
		return func(a netip.AddrPort) bool { return a == listener }
	}
	w, m := newMetadata(t)
	m.Loop.Own = own(m.Endpoint)
	for _, endpoint := range []string{m.Endpoint, strings.Replace(m.Endpoint, "127.0.0.1", "localhost", 1), strings.Replace(m.Endpoint, "127.0.0.1", "[::ffff:127.0.0.1]", 1)} {
		m.Endpoint = endpoint
		if _, err := m.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "leads back to this daemon") || len(w.calls) != 0 {
			t.Errorf("%s: %v after %v", endpoint, err, w.calls)
		}
	}
	w, c := newContainer(t)
	c.Loop.Own = own(c.URI)
	if _, err := c.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "leads back to this daemon") || len(w.calls) != 0 {
		t.Errorf("%v after %v", err, w.calls)
	}

	// By a way that no address tells: the token that came is one of ours.
	w, m = newMetadata(t)
	m.Loop.OwnToken = func(text string) bool { return text == token }
	if _, err := m.Fetch(t.Context()); err == nil || errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "leads back to this daemon") || len(w.calls) != 1 {
		t.Errorf("%v after %v", err, w.calls)
	}
	m.Loop.OwnToken = func(string) bool { return false }
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestEndpoints(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://169.254.169.254":                "",
		"http://169.254.170.2/v2/credentials/x": "",
		"http://169.254.170.23/v1/credentials":  "",
		"http://[fd00:ec2::254]":                "",
		"http://[fd00:ec2::23]/v1/credentials":  "",
		"http://[fe80::1%25eth0]:80":            "",
		"http://127.8.9.10:51679/x":             "",
		"http://[::1]:8080":                     "",
		"http://localhost:1338":                 "",
		"https://imds.example.com":              "",
		"http://10.0.0.1":                       "cross a network in plain HTTP to 10.0.0.1",
		"http://0.0.0.0":                        "cross a network",
		"http://[::ffff:10.0.0.1]":              "to 10.0.0.1",
		"http://[fd00:ec3::254]":                "cross a network",
		"http://2852039166":                     "is a name",
		"http://metadata.google.internal":       "is a name",
		"http://127.0.0.1:70000":                "is no port",
		"ftp://127.0.0.1":                       `"ftp" is neither`,
		"http://user:hunter2@169.254.169.254":   "no URL of a service",
		"http://":                               "no URL of a service",
		"":                                      "no URL of a service",
		"::":                                    "no URL of a service",
	} {
		err := instance.Loop{}.Check(endpoint)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want %q", endpoint, err, want)
		}
	}
	// The port that a URL does not name is 80.
	seen := netip.AddrPort{}
	l := instance.Loop{Own: func(a netip.AddrPort) bool { seen = a; return true }}
	if err := l.Check("http://169.254.169.254/"); err == nil || seen != netip.MustParseAddrPort("169.254.169.254:80") {
		t.Errorf("%v, asked for %v", err, seen)
	}
}

func FuzzAccept(f *testing.F) {
	f.Add(`{"Code":"Success","AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretAccessKey":"s","Token":"t","Expiration":"2090-01-01T00:00:00Z"}`)
	f.Add(`{"RoleArn":"arn:aws:iam::111122223333:role/x\n","AccessKeyId":"A","SecretAccessKey":"s","Token":"t","Expiration":"2090-01-01T00:00:00+23:59"}`)
	f.Add(`{"Code":"AssumeRoleUnauthorizedAccess","Message":"m"}`)
	f.Fuzz(func(t *testing.T, text string) {
		issued := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		c, err := instance.Accept(text, issued)
		if err == nil && (credential.Check(c) != nil || c.Token.Empty() || c.Expires.Location() != time.UTC) {
			t.Errorf("half a credential: %+v", c)
		}
		if err != nil && (c != credential.Credential{} || len(text) > 450 && strings.Contains(err.Error(), text)) {
			t.Errorf("%v", err)
		}
	})
}

func FuzzFirst(f *testing.F) {
	f.Add("app")
	f.Add("app\r\nother")
	f.Add("../x")
	f.Fuzz(func(t *testing.T, text string) {
		if role, err := instance.First(text); err == nil && (role == "" || strings.ContainsAny(role, "/\r\n ?#%")) {
			t.Errorf("%q is no name of a role", role)
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add("http://169.254.169.254")
	f.Add("http://[::ffff:a9fe:a9fe]:80/x?y")
	f.Add("HTTP://localhost:0080")
	f.Fuzz(func(t *testing.T, endpoint string) {
		own := instance.Loop{Own: func(netip.AddrPort) bool { return true }}
		if err := own.Check(endpoint); err == nil {
			if u, e := url.Parse(endpoint); e != nil || u.Scheme != "https" {
				t.Errorf("%q would be asked in plain HTTP, and every address is ours", endpoint)
			}
		}
	})
}
