package ecs_test

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

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/ecs"
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
		{ID: "odd", Name: "a+b=c,d@e", ARN: "arn:aws:iam::111122223333:role/a+b=c,d@e"},
		{ID: "minio", Name: "minio"},
		{ID: "other", Name: "other", ARN: "arn:aws:iam::111122223333:role/other"},
	}
)

const (
	agentAddress = "169.254.170.2:80"
	loopback     = "127.0.0.1:51679"
	fullURIToken = "Basic dGhlIGxpc3RlbmVyJ3M6dG9rZW4="
)

// keyOf is one session a role.
func keyOf(role string, _ caller.Caller) (credential.Key, error) { return credential.NewKey(role), nil }

// example is AWS's own example of a credential, and whose it is.
func example(from time.Time, life time.Duration) credential.Credential {
	c := imdstest.Example(from, life)
	c.AccountID, c.RoleARN = "111122223333", "arn:aws:iam::111122223333:role/app-role"
	return c
}

// endless never expires, and has no role that the upstream named.
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
	address     string   // "" is agentAddress
	token       string   // that requests must show; "" for none
	roles       []string // of the caller; nil is denied
	credentials *imdstest.Credentials
	now         func() time.Time // nil is always started
	record      func(gate.Event) error
	rejected    func(caller.Caller, error)
}

func (s setting) handler() *ecs.Handler {
	if s.credentials == nil {
		s.credentials = newCredentials(always(example(issued, 6*time.Hour)))
	}
	s.credentials.For = issuedFor
	if s.record == nil {
		s.record = func(gate.Event) error { return nil }
	}
	h, err := ecs.New(ecs.Options{
		Gate: gate.New(gate.Options{
			Policy: func(caller.Caller) gate.Verdict { return gate.Verdict{Rule: "test", Roles: s.roles} },
			Roles:  roles, Keys: keyOf, Credentials: s.credentials, Record: s.record,
		}),
		Authorization: credential.NewSecret(s.token), Rejected: s.rejected, Now: s.clock(),
	})
	if err != nil {
		panic(err)
	}
	return h
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
	if s.address == "" {
		s.address = agentAddress
	}
	l := imdstest.NewListener(s.address)
	server := imds.New(imds.Options{
		Name: "containers", Server: ecs.Server, Handler: s.handler(), Now: s.clock(),
		Identifier: imdstest.Person{UID: caller.NewID(1000), User: "app"},
		Guard:      imds.NewGuard([]netip.AddrPort{netip.MustParseAddrPort(s.address)}, true),
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
	if kind, _ := a.Lookup("Content-Type"); kind != "application/json" && len(a.Body) > 0 {
		return fmt.Errorf("the body is %q, want application/json and nothing after it", kind)
	}
	return nil
}

func client(l *imdstest.Listener) imdstest.Client {
	host := l.Addr().String()
	return imdstest.Client{Host: strings.TrimSuffix(host, ":80"), Dial: func(ctx context.Context) (net.Conn, error) { return l.Dial(ctx) }}
}

// get is a GET that must come to an answer.
func get(t testing.TB, c imdstest.Client, path string, header ...imdstest.Field) imdstest.Answer {
	t.Helper()
	a, err := c.Do(t.Context(), "GET", path, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func states() map[string]setting {
	app := []string{"app", "second", "odd", "minio"}
	down := fmt.Errorf("%w: the upstream is down", gate.ErrNotReady)
	return map[string]setting{
		"app":     {roles: app},
		"denied":  {},
		"own":     {roles: app, address: loopback, token: fullURIToken},
		"open":    {roles: app, address: loopback},
		"dead":    {roles: app, credentials: newCredentials(never(down))},
		"refused": {roles: app, credentials: newCredentials(never(fmt.Errorf("%w: AccessDenied: secret detail", gate.ErrUnauthorized)))},
		"failed":  {roles: app, credentials: newCredentials(never(fmt.Errorf("%w: ValidationError: secret detail", gate.ErrRefused)))},
		"forever": {roles: app, credentials: newCredentials(always(endless))},
		"mute":    {roles: app, record: func(gate.Event) error { return errors.New("the disk is full") }},
	}
}

// A memory is a target of scripts: the host above, in memory, in every state
// that is asked for.
type memory struct {
	t       *testing.T
	servers map[string]*imdstest.Listener
}

func newMemory(t *testing.T) *memory { return &memory{t: t, servers: map[string]*imdstest.Listener{}} }

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

// Value has A, which the listener asks for, and A with one bit changed.
func (m *memory) Value(_ context.Context, _, name string) (string, error) {
	switch name {
	case "A":
		return fullURIToken, nil
	case "A.changed":
		changed := []byte(fullURIToken)
		changed[len(changed)-1] ^= 1
		return string(changed), nil
	}
	return "", errors.New("no such value")
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
	for _, row := range strings.Fields("97 98 99 100 101 108 109") {
		if !slices.Contains(have, row) {
			t.Errorf("no script has row %s", row)
		}
	}
}
