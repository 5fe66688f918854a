package eks_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/eks"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/imds/imdstest"
	"github.com/hostrole/hostrole/rotation/credential"
)

// The host of the scripts: what testdata/*.http expects is made of this.
var (
	issued  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	started = time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC)

	roles = []gate.Role{
		{ID: "app", Name: "app-role", ARN: "arn:aws:iam::111122223333:role/app-role"},
		{ID: "second", Name: "second-role", ARN: "arn:aws:iam::444455556666:role/path/second-role"},
		{ID: "minio", Name: "minio"},
	}

	listening = []netip.AddrPort{netip.MustParseAddrPort("169.254.170.23:80"), netip.MustParseAddrPort("[fd00:ec2::23]:80")}
)

// keyOf is one session a role.
func keyOf(role string, _ caller.Caller) (credential.Key, error) { return credential.NewKey(role), nil }

// example is AWS's own example of a credential, and whose it is.
func example(from time.Time, life time.Duration) credential.Credential {
	c := imdstest.Example(from, life)
	c.AccountID, c.RoleARN = "111122223333", "arn:aws:iam::111122223333:role/app-role"
	return c
}

// endless never expires, and says nothing of its account.
var endless = imdstest.Endless(issued)

var (
	newCredentials = imdstest.NewCredentials
	always         = imdstest.Always
	never          = imdstest.Never
)

// issuedFor puts the role and the account of key where an upstream names some.
func issuedFor(c credential.Credential, key credential.Key) credential.Credential {
	for _, r := range roles {
		if k, _ := keyOf(r.ID, caller.Caller{}); k != key || r.ARN == "" {
			continue
		}
		if c.RoleARN == roles[0].ARN {
			c.RoleARN = r.ARN
		}
		if c.AccountID == "111122223333" {
			c.AccountID = strings.Split(r.ARN, ":")[4]
		}
	}
	return c
}

// A setting is one state of the host.
type setting struct {
	roles       map[string][]string // by namespace and service account
	credentials *imdstest.Credentials
	keys        func(context.Context) (jose.JSONWebKeySet, error) // nil has those of the issuer
	now         func() time.Time                                  // nil is always started
	record      func(gate.Event) error
	rejected    func(caller.Caller, error)
}

func (s setting) handler() *eks.Handler {
	if s.credentials == nil {
		s.credentials = newCredentials(always(example(issued, 6*time.Hour)))
	}
	s.credentials.For = issuedFor
	if s.record == nil {
		s.record = func(gate.Event) error { return nil }
	}
	// A Caller has no place for a pod; here its group is one.
	name := func(who caller.Caller, pod eks.Pod) caller.Caller {
		who.Groups = []string{pod.String()}
		return who
	}
	policy := func(who caller.Caller) gate.Verdict {
		if len(who.Groups) != 1 {
			return gate.Verdict{}
		}
		return gate.Verdict{Rule: "test", Roles: s.roles[who.Groups[0]]}
	}
	o := eks.Options{
		Gate:     gate.New(gate.Options{Policy: policy, Roles: roles, Keys: keyOf, Credentials: s.credentials, Record: s.record}),
		Verifier: newVerifier(s.keys, s.clock()), Name: name, Rejected: s.rejected, Now: s.clock(),
	}
	for _, a := range listening {
		o.Addresses = append(o.Addresses, a.Addr())
	}
	return eks.New(o)
}

func (s setting) clock() func() time.Time {
	if s.now != nil {
		return s.now
	}
	return func() time.Time { return started }
}

// serve runs a server of s until the test ends.
func serve(t testing.TB, s setting) *imdstest.Listener {
	t.Helper()
	l := imdstest.NewListener(listening[0].String())
	server := imds.New(imds.Options{
		Name: "pods", Server: eks.Server, Handler: s.handler(), Now: s.clock(), Identifier: imdstest.Person{},
		Guard: imds.NewGuard(listening, true).AnyHost(),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return l
}

// Check reports what no answer here may be.
func (m *memory) Check(a imdstest.Answer, _ bool) error {
	if c, n := a.Lookup("Connection"); n != 1 || c != "close" {
		return errors.New("the answer does not close its connection")
	}
	if _, n := a.Lookup("Server"); n != 0 {
		return errors.New("the answer has a Server header; the agent's has none")
	}
	if has := strings.Contains(string(a.Body), "AccessKeyId"); has != (a.Status == 200) && len(a.Body) > 0 {
		return fmt.Errorf("row 109: the status is %d, and the body has a credential: %v", a.Status, has)
	}
	want := "text/plain; charset=utf-8"
	if a.Status == 200 {
		want = "application/json"
	}
	if kind, _ := a.Lookup("Content-Type"); kind != want && len(a.Body) > 0 {
		return fmt.Errorf("the body is %q, want %q", kind, want)
	}
	if nl := strings.HasSuffix(string(a.Body), "\n"); nl == (a.Status == 200) && len(a.Body) > 0 {
		return fmt.Errorf("the status is %d, and the body ends with a line feed: %v", a.Status, nl)
	}
	return nil
}

func client(l *imdstest.Listener) imdstest.Client {
	return imdstest.Client{Host: "169.254.170.23", Dial: func(ctx context.Context) (net.Conn, error) { return l.Dial(ctx) }}
}

// get shows a token, which must come to an answer.
func get(t testing.TB, c imdstest.Client, token string) imdstest.Answer {
	t.Helper()
	a, err := c.Do(t.Context(), "GET", "/v1/credentials", imdstest.Field{Name: "Authorization", Value: token})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func states() map[string]setting {
	app := map[string][]string{"shop/cart": {"app", "second"}, "shop/books": {"second"}, "shop/disk": {"minio"}}
	down := fmt.Errorf("%w: the upstream is down", gate.ErrNotReady)
	return map[string]setting{
		"app":     {roles: app},
		"denied":  {},
		"dead":    {roles: app, credentials: newCredentials(never(down))},
		"refused": {roles: app, credentials: newCredentials(never(fmt.Errorf("%w: AccessDenied: secret detail", gate.ErrUnauthorized)))},
		"failed":  {roles: app, credentials: newCredentials(never(fmt.Errorf("%w: ValidationError: secret detail", gate.ErrRefused)))},
		"forever": {roles: app, credentials: newCredentials(always(endless))},
		"nokeys": {roles: app, keys: func(context.Context) (jose.JSONWebKeySet, error) {
			return jose.JSONWebKeySet{}, errors.New("secret detail")
		}},
		"mute": {roles: app, record: func(gate.Event) error { return errors.New("the disk is full") }},
		"account": {roles: app, credentials: newCredentials(always(func() credential.Credential {
			c := example(issued, 6*time.Hour)
			c.AccountID = ""
			return c
		}()))},
	}
}

// A memory is a target of scripts: the host above, in memory, in every state
// that is asked for.
type memory struct {
	t       *testing.T
	servers map[string]*imdstest.Listener
}

func newMemory(t *testing.T) *memory {
	return &memory{t: t, servers: map[string]*imdstest.Listener{}}
}

func (m *memory) Dial(ctx context.Context, state string) (net.Conn, error) {
	if m.servers[state] == nil {
		s, ok := states()[state]
		if !ok {
			return nil, fmt.Errorf("there is no state %q", state)
		}
		m.servers[state] = serve(m.t, s)
	}
	return m.servers[state].Dial(ctx)
}

// Value has the token of that name; see specimens.
func (m *memory) Value(_ context.Context, _, name string) (string, error) {
	s, ok := specimens()[name]
	if !ok {
		return "", errors.New("no such value")
	}
	return s, nil
}

func load(t *testing.T) []imdstest.Case {
	t.Helper()
	cases, err := imdstest.Load("testdata/*.http")
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

func TestEveryRowHasACase(t *testing.T) {
	t.Parallel()
	var have []string
	for _, c := range load(t) {
		have = append(have, c.Row)
	}
	for _, row := range strings.Fields("102 103 104 105 106 107 109") {
		if !slices.Contains(have, row) {
			t.Errorf("no script has row %s", row)
		}
	}
}
