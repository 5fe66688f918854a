package ec2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/document"
	"github.com/hostrole/hostrole/imds/ec2"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/imds/imdstest"
	"github.com/hostrole/hostrole/imds/metadata"
	"github.com/hostrole/hostrole/imds/token"
	"github.com/hostrole/hostrole/rotation/credential"
)

// The host of the scripts: what testdata/*.http expects is made of this. A
// run against the real program needs a configuration that says the same.
var (
	issued   = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	started  = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	address  = "169.254.169.254:80"
	bootID   = "2f4b8f0e-0000-4000-8000-000000000000"
	tokenKey = bytes.Repeat([]byte{7}, token.KeySize)

	leaves = map[string]string{
		"ami-id":                      "ami-0123456789abcdef0",
		"hostname":                    "db-7.example.com",
		"instance-id":                 "i-0123456789abcdef0",
		"instance-type":               "m5.large",
		"placement/availability-zone": "eu-central-1a",
		"placement/region":            "eu-central-1",
		"ramdisk-id":                  "ari-0123",
		"services/domain":             "amazonaws.com",
		"services/partition":          "aws",
		"tags/instance/Name":          "db-7",
		"tags/instance/a+b=c,d@e":     "odd",
	}
	// network is what the interfaces add, at each look.
	network = map[string]string{
		"local-ipv4": "10.0.0.1",
		"mac":        "02:29:96:8f:6a:2d",
		"network/interfaces/macs/02:29:96:8f:6a:2d/device-number":          "0",
		"network/interfaces/macs/02:29:96:8f:6a:2d/local-ipv4s":            "10.0.0.1\n10.0.0.2",
		"network/interfaces/macs/02:29:96:8f:6a:2d/mac":                    "02:29:96:8f:6a:2d",
		"network/interfaces/macs/02:29:96:8f:6a:2d/subnet-ipv4-cidr-block": "10.0.0.0/24",
	}
	userData = []byte("#!/bin/sh\n\x00\xff is a byte\n")

	identity = document.Document{
		AccountID: "111122223333", Architecture: "x86_64", AvailabilityZone: "eu-central-1a", ImageID: "ami-0123456789abcdef0",
		InstanceID: "i-0123456789abcdef0", InstanceType: "m5.large", PendingTime: started, PrivateIP: "10.0.0.1", Region: "eu-central-1",
	}

	// signatures have the form of base64; package document makes real ones.
	signatures = document.Signed{Document: identity.Render(), Signature: "c2lnbmF0dXJl\nc2lnbmF0dXJl", PKCS7: "cGtjczc=\ncGtjczc=", RSA2048: "cnNhMjA0OA=="}

	roles = []gate.Role{
		{ID: "app", Name: "app-role", ARN: "arn:aws:iam::111122223333:role/app-role"},
		{ID: "second", Name: "second-role", ARN: "arn:aws:iam::444455556666:role/path/second-role"},
		{ID: "odd", Name: "a+b=c,d@e", ARN: "arn:aws-cn:iam::777788889999:role/a+b=c,d@e"},
		{ID: "minio", Name: "minio"},
		{ID: "other", Name: "other", ARN: "arn:aws:iam::111122223333:role/other"},
	}
)

// keyOf is one session a role.
func keyOf(role string, _ caller.Caller) (credential.Key, error) { return credential.NewKey(role), nil }

var (
	example        = imdstest.Example
	endless        = imdstest.Endless(issued)
	newCredentials = imdstest.NewCredentials
	always         = imdstest.Always
	never          = imdstest.Never
)

// expired has a credential, and does not give it away.
func expired() (credential.Credential, error) {
	c := example(started.Add(-7*time.Hour), 6*time.Hour)
	if !c.Live(started, 0) {
		return credential.Credential{}, gate.ErrNotReady
	}
	return c, nil
}

// A setting is one state of the host.
type setting struct {
	name        string // of the listener; "" is host
	tokens      ec2.Tokens
	lax         bool
	roles       []string // of the caller; nil is denied
	bare        bool     // no user data
	signed      bool     // a site key
	gzip        bool     // user data that is compressed
	credentials *imdstest.Credentials
	network     func() map[string]string // nil is always network
	now         func() time.Time         // nil is always started
	boot        func() time.Duration     // nil stands still
	key         []byte                   // of tokens; nil is tokenKey
	who         imds.Identifier          // nil is uid 1000
	record      func(gate.Event) error
	observe     func(imds.Exchange)
}

func (s setting) handler() *ec2.Handler {
	tree, err := metadata.New(leaves)
	if err != nil {
		panic(err)
	}
	if s.network == nil {
		s.network = func() map[string]string { return network }
	}
	if s.credentials == nil {
		s.credentials = newCredentials(always(example(issued, 6*time.Hour)))
	}
	if s.record == nil {
		s.record = func(gate.Event) error { return nil }
	}
	o := ec2.Options{
		Gate: gate.New(gate.Options{
			Policy: func(caller.Caller) gate.Verdict { return gate.Verdict{Rule: "test", Roles: s.roles} },
			Roles:  roles, Keys: keyOf, Credentials: s.credentials, Record: s.record,
		}),
		Sealer: s.sealer(), Tokens: s.tokens, Identity: document.Signed{Document: identity.Render()}, UserData: userData,
		Tree:      tree.With(s.network),
		AccountID: "111122223333", Started: started, Now: s.clock(),
	}
	if s.bare {
		o.UserData = nil
	}
	if s.gzip {
		o.UserData = []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	}
	if s.signed {
		o.Identity = signatures
	}
	return ec2.New(o)
}

func (s setting) clock() func() time.Time {
	if s.now != nil {
		return s.now
	}
	return func() time.Time { return started }
}

func (s setting) sealer() *token.Sealer {
	boot, key, name := s.boot, s.key, s.name
	if boot == nil {
		boot = func() time.Duration { return time.Hour }
	}
	if key == nil {
		key = tokenKey
	}
	if name == "" {
		name = "host"
	}
	return token.New(key, name, bootID, boot)
}

func (s setting) server() *imds.Server {
	if s.who == nil {
		s.who = imdstest.Person{UID: caller.NewID(1000), User: "app"}
	}
	return imds.New(imds.Options{
		Name: "host", Server: ec2.Server, Handler: s.handler(), Identifier: s.who, HopLimit: 1, Now: s.clock(), Observe: s.observe,
		Guard: imds.NewGuard([]netip.AddrPort{netip.MustParseAddrPort(address)}, !s.lax).EmptyChunks(ec2.TokenPath),
	})
}

// serve runs a server of s until the test ends.
func serve(t testing.TB, s setting) *imdstest.Listener {
	t.Helper()
	l := imdstest.NewListener(address)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := s.server().Serve(ctx, l); err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return l
}

func client(l *imdstest.Listener) imdstest.Client {
	return imdstest.Client{Dial: func(ctx context.Context) (net.Conn, error) { return l.Dial(ctx) }}
}

// states are those of section 8 of the protocol, and a few more.
func states() map[string]setting {
	app := []string{"app", "second", "odd", "minio"}
	down := fmt.Errorf("%w: the upstream is down", gate.ErrNotReady)
	return map[string]setting{
		"req":     {roles: app},
		"opt":     {roles: app, tokens: ec2.Optional},
		"creds":   {roles: app, tokens: ec2.Credentials},
		"lax":     {roles: app, tokens: ec2.Optional, lax: true},
		"bare":    {roles: app, tokens: ec2.Optional, bare: true},
		"signed":  {roles: app, tokens: ec2.Optional, signed: true},
		"gzip":    {roles: app, tokens: ec2.Optional, gzip: true},
		"norole":  {},
		"denied":  {},
		"stale":   {roles: app}, // to this package, a credential that lives is a credential
		"restart": {roles: app},
		"minio":   {roles: []string{"minio"}},
		"dead":    {roles: app, credentials: newCredentials(never(down))},
		"expired": {roles: app, credentials: newCredentials(expired)},
		"refused": {roles: app, credentials: newCredentials(never(fmt.Errorf("%w: AccessDenied: secret detail", gate.ErrUnauthorized)))},
		"failed":  {roles: app, credentials: newCredentials(never(fmt.Errorf("%w: ValidationError: secret detail", gate.ErrRefused)))},
		"forever": {roles: app, credentials: newCredentials(always(endless))},
	}
}

// A memory is a target of scripts: the host above, in memory, in every state
// that is asked for.
type memory struct {
	t       *testing.T
	servers map[string]*imdstest.Listener
}

func (m *memory) listener(state string) (*imdstest.Listener, error) {
	if l := m.servers[state]; l != nil {
		return l, nil
	}
	s, ok := states()[state]
	if !ok {
		return nil, fmt.Errorf("there is no state %q", state)
	}
	m.servers[state] = serve(m.t, s)
	return m.servers[state], nil
}

func (m *memory) Dial(ctx context.Context, state string) (net.Conn, error) {
	l, err := m.listener(state)
	if err != nil {
		return nil, err
	}
	return l.Dial(ctx)
}

func (m *memory) Value(ctx context.Context, state, name string) (string, error) {
	switch name {
	case "T":
		if state == "restart" { // issued by the process before
			return setting{}.sealer().Issue(time.Hour), nil
		}
	case "T.elsewhere":
		return setting{name: "docker"}.sealer().Issue(time.Hour), nil
	case "T.expired":
		return setting{boot: func() time.Duration { return time.Hour - 61*time.Second }}.sealer().Issue(time.Minute), nil
	case "T.neighbour":
		l := serve(m.t, setting{who: imdstest.Person{UID: caller.NewID(1001), User: "backup"}})
		return client(l).Token(ctx, 60)
	default:
		return "", errors.New("no such value")
	}
	l, err := m.listener(state)
	if err != nil {
		return "", err
	}
	return client(l).Token(ctx, 21600)
}

func load(t *testing.T) []imdstest.Case {
	t.Helper()
	cases, err := imdstest.Load("testdata/*.http")
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// elsewhere are the rows of 1 to 96 that no script has, and why.
var elsewhere = map[string]string{
	"26": "the state off is not built", "41": "the state off is not built",
	"27": "TestManyTokens", "28": "a packet capture; TestHopLimit of imds has the socket's side",
	"30": "TestTokenAges",
	"67": "TestCrawl", "82": "a property of rotation, tested there", "90b": "TestRecoveryDuringTheHold",
	"94": "TestManyReaders", "95": "TestRotation",
}

// lettered are the rows that decisions added.
const lettered = "14b 40b 40c 40d 40e 40f 74b 74c 84b 87b 88b 88c 90b 90c 90d 93b"

func TestEveryRowHasACase(t *testing.T) {
	t.Parallel()
	rows := strings.Fields(lettered)
	for n := 1; n <= 96; n++ {
		rows = append(rows, strconv.Itoa(n))
	}
	have := map[string]bool{}
	for _, c := range load(t) {
		have[c.Row] = true
	}
	for _, row := range rows {
		if have[row] == (elsewhere[row] != "") {
			t.Errorf("row %s: a script has it: %v, and elsewhere: %q", row, have[row], elsewhere[row])
		}
	}
}
