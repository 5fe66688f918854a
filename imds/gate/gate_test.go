package gate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/rotation/credential"
)

const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

var (
	roles = []gate.Role{
		{ID: "app", Name: "app-role", ARN: "arn:aws:iam::111122223333:role/app-role"},
		{ID: "second", Name: "second-role", ARN: "arn:aws:iam::111122223333:role/path/second-role"},
		{ID: "twin", Name: "app-role", ARN: "arn:aws:iam::444455556666:role/app-role"},
		{ID: "minio", Name: "minio"},
		{ID: "other", Name: "other-role", ARN: "arn:aws:iam::111122223333:role/other-role"},
	}
	app    = caller.Caller{Listener: "host", UID: caller.NewID(1000), User: "app", Groups: []string{"app"}, Cgroup: 42, Inode: 7}
	issued = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// credentialOf is one that says whose it is.
func credentialOf(role string) credential.Credential {
	return credential.Credential{AccessKeyID: "key of " + role, SecretKey: credential.NewSecret(secret), Token: credential.NewSecret("token of " + role),
		RoleARN: role, RequestID: "request of " + role, Issued: issued, Expires: issued.Add(time.Hour)}
}

// parts are what a gate stands between. They do as they are told, and note
// all that the gate does, in order.
type parts struct {
	verdict                    gate.Verdict
	noKey, noCredential, noLog error

	did    []string
	events []gate.Event
}

func (p *parts) Credential(_ context.Context, k credential.Key) (credential.Credential, error) {
	for _, r := range roles {
		if k == credential.NewKey(r.ID) {
			p.did = append(p.did, "credential of "+r.ID)
			return credentialOf(r.ID), p.noCredential // a careless one: the gate must not pass both on
		}
	}
	p.did = append(p.did, "credential of a strange key")
	return credentialOf("nobody"), p.noCredential
}

func (p *parts) gate() *gate.Gate {
	return gate.New(gate.Options{
		Policy: func(who caller.Caller) gate.Verdict {
			p.did = append(p.did, "policy for "+who.String())
			return p.verdict
		},
		Roles: roles,
		Keys: func(role string, who caller.Caller) (credential.Key, error) {
			p.did = append(p.did, "key of "+role+" for "+who.String())
			return credential.NewKey(role), p.noKey
		},
		Credentials: p,
		Record: func(e gate.Event) error {
			p.did = append(p.did, "record")
			p.events = append(p.events, e)
			return p.noLog
		},
	})
}

func may(ids ...string) gate.Verdict {
	return gate.Verdict{Rule: "rule 1", Roles: ids, Rehearsed: []string{"try", "try again"}}
}

func TestOwnRole(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		may  []string
		want string // id
	}{
		{"the only one", []string{"app"}, "app"},
		{"the first one", []string{"second", "app", "minio"}, "second"},
		{"one without an ARN", []string{"minio"}, "minio"},
		{"the one of two with one name", []string{"twin", "app"}, "twin"},
	} {
		p := parts{verdict: may(c.may...)}
		got, ok := p.gate().Own("imds", app)
		if want := roles[slices.IndexFunc(roles, func(r gate.Role) bool { return r.ID == c.want })]; got != want || !ok {
			t.Errorf("%s: got %+v, %v, want %+v", c.name, got, ok, want)
		}
		if want := []string{"policy for uid 1000 (app) on host"}; !slices.Equal(p.did, want) {
			t.Errorf("%s: the gate did %q, want %q", c.name, p.did, want)
		}
	}
}

func TestNoRoleIsRecorded(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]gate.Verdict{
		"no rule":              {},
		"rehearsals alone":     {Rehearsed: []string{"try"}},
		"a rule without roles": {Rule: "nobody"},
	} {
		for _, noLog := range []error{nil, errors.New("the disk is full")} {
			p := parts{verdict: verdict, noLog: noLog}
			if got, ok := p.gate().Own("ecs", app); got != (gate.Role{}) || ok {
				t.Errorf("%s: got %+v, %v, want none", name, got, ok)
			}
			want := []gate.Event{{Endpoint: "ecs", Caller: app, Verdict: verdict, Err: gate.ErrDenied}}
			if !reflect.DeepEqual(p.events, want) {
				t.Errorf("%s: recorded %+v, want %+v", name, p.events, want)
			}
		}
	}
}

// A caller for whom a rule decides, and who has not what the session is named
// after, is denied as any other, and the record says why.
func TestAMissingFactIsDenied(t *testing.T) {
	t.Parallel()
	p := parts{verdict: gate.Verdict{Rule: "rule 1", Missing: "unit"}}
	g := p.gate()
	if r, ok := g.Own("imds", app); ok || g.HasRole(app) {
		t.Errorf("the caller has the role %v", r)
	}
	if c, err := g.Credential(t.Context(), "imds", app, "app-role"); !errors.Is(err, gate.ErrDenied) || c.Complete() {
		t.Errorf("got %v, %v", c.ID(), err)
	}
	if len(p.events) != 2 {
		t.Fatalf("%d records", len(p.events))
	}
	for _, e := range p.events {
		if !errors.Is(e.Err, gate.ErrDenied) || !strings.Contains(e.Err.Error(), "the caller's unit, which is not known") {
			t.Errorf("recorded %v", e.Err)
		}
	}
}

func TestHasRole(t *testing.T) {
	t.Parallel()
	for want, verdict := range map[bool]gate.Verdict{true: may("app", "second"), false: {Rule: "nobody", Rehearsed: []string{"try"}}} {
		p := parts{verdict: verdict}
		if got := p.gate().HasRole(app); got != want || len(p.events) != 0 {
			t.Errorf("%+v: HasRole = %v with %d records, want %v without", verdict, got, len(p.events), want)
		}
	}
}

// What is asked for by name, and what becomes of it: one record each.
func TestCredential(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		may   []string
		asked string
		want  string // id; "" is denied
	}{
		{"the caller's own", []string{"app", "second"}, "app-role", "app"},
		{"another that he may have", []string{"app", "second", "minio"}, "second-role", "second"},
		{"the last that he may have", []string{"app", "second", "minio"}, "minio", "minio"},
		{"the first of two with one name", []string{"twin", "app"}, "app-role", "twin"},
		{"of two with one name, the one that he may have", []string{"second", "twin"}, "app-role", "twin"},
		{"one that he may not have", []string{"app", "second"}, "other-role", ""},
		{"one that is not there", []string{"app", "second"}, "nobody", ""},
		{"one that is not there, without a role", nil, "nobody", ""},
		{"one that is there, without a role", nil, "app-role", ""},
		{"another case", []string{"app"}, "App-Role", ""},
		{"the beginning of a name", []string{"app"}, "app-rol", ""},
		{"more than a name", []string{"app"}, "app-role/x", ""},
		{"a line end behind a name", []string{"app"}, "app-role\n", ""},
		{"an id", []string{"app"}, "app", ""},
		{"an ARN", []string{"app"}, "arn:aws:iam::111122223333:role/app-role", ""},
		{"no name", []string{"app"}, "", ""},
	} {
		p := parts{verdict: may(c.may...)}
		got, err := p.gate().Credential(t.Context(), "imds", app, c.asked)
		event := gate.Event{Endpoint: "imds", Caller: app, Verdict: p.verdict, Role: c.asked, Err: gate.ErrDenied}
		did := []string{"policy for uid 1000 (app) on host", "record"}
		if c.want != "" {
			event.Err, event.Key, event.Credential, event.RequestID = nil, credential.NewKey(c.want), credentialOf(c.want).ID(), "request of "+c.want
			did = []string{did[0], "key of " + c.want + " for uid 1000 (app) on host", "credential of " + c.want, "record"}
		}
		switch {
		case c.want == "" && (err != gate.ErrDenied || got != credential.Credential{}): //nolint:errorlint // itself: nothing may be added to it
			t.Errorf("%s: got a credential of %q and %v, want %v alone", c.name, got.RoleARN, err, gate.ErrDenied)
		case c.want != "" && (err != nil || got.RoleARN != c.want || got.AccessKeyID != "key of "+c.want):
			t.Errorf("%s: got a credential of %q and %v, want that of %q", c.name, got.RoleARN, err, c.want)
		}
		if !reflect.DeepEqual(p.events, []gate.Event{event}) {
			t.Errorf("%s: recorded %+v, want one %+v", c.name, p.events, event)
		}
		if !slices.Equal(p.did, did) {
			t.Errorf("%s: the gate did %q, want %q", c.name, p.did, did)
		}
	}
}

// A stranger learns nothing from a denial: neither from its error nor from how
// long others take that are asked for it.
func TestDeniedIsAsUnknown(t *testing.T) {
	t.Parallel()
	for name, verdict := range map[string]gate.Verdict{"a caller with roles": may("app", "second"), "a caller without": {}} {
		var errs [2]error
		var did [2][]string
		for i, asked := range []string{"other-role", "nobody"} {
			p := parts{verdict: verdict}
			_, errs[i] = p.gate().Credential(t.Context(), "imds", app, asked)
			did[i] = p.did
		}
		if errs[0] != errs[1] || !slices.Equal(did[0], did[1]) { //nolint:errorlint // one and the same
			t.Errorf("%s: denied is %v, %q; unknown is %v, %q", name, errs[0], did[0], errs[1], did[1])
		}
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	detail := errors.New("the template of the session needs a user")
	for _, c := range []struct {
		name                string
		noKey, noCredential error
		is, isNot           []error
	}{
		{"no key", detail, nil, []error{gate.ErrNotReady, detail}, []error{gate.ErrRefused, gate.ErrDenied}},
		{"no key, because it is refused", fmt.Errorf("%w: %w", gate.ErrRefused, detail), nil, []error{gate.ErrRefused, detail}, []error{gate.ErrNotReady, gate.ErrUnauthorized, gate.ErrDenied}},
		{"refused", nil, fmt.Errorf("%w: %w", gate.ErrRefused, detail), []error{gate.ErrRefused, detail}, []error{gate.ErrUnauthorized, gate.ErrNotReady, gate.ErrDenied}},
		{"not authorized", nil, fmt.Errorf("%w: %w", gate.ErrUnauthorized, detail), []error{gate.ErrRefused, gate.ErrUnauthorized, detail}, []error{gate.ErrNotReady, gate.ErrDenied}},
		{"not ready", nil, fmt.Errorf("%w: %w", gate.ErrNotReady, detail), []error{gate.ErrNotReady, detail}, []error{gate.ErrRefused, gate.ErrDenied}},
	} {
		for _, noLog := range []error{nil, errors.New("the disk is full")} {
			p := parts{verdict: may("app"), noKey: c.noKey, noCredential: c.noCredential, noLog: noLog}
			got, err := p.gate().Credential(t.Context(), "imds", app, "app-role")
			if got != (credential.Credential{}) {
				t.Errorf("%s: got a credential of %q", c.name, got.RoleARN)
			}
			for _, e := range c.is {
				if !errors.Is(err, e) {
					t.Errorf("%s: %v does not match %q", c.name, err, e)
				}
			}
			for _, e := range append(c.isNot, noLog) {
				if errors.Is(err, e) && e != nil {
					t.Errorf("%s: %v matches %q", c.name, err, e)
				}
			}
			want := []gate.Event{{Endpoint: "imds", Caller: app, Verdict: p.verdict, Role: "app-role", Err: err}}
			if c.noKey == nil {
				want[0].Key = credential.NewKey("app")
			}
			if !reflect.DeepEqual(p.events, want) {
				t.Errorf("%s: recorded %+v, want %+v", c.name, p.events, want)
			}
			if asked := slices.Contains(p.did, "credential of app"); asked != (c.noKey == nil) {
				t.Errorf("%s: the gate did %q", c.name, p.did)
			}
		}
	}
}

func TestNoRecordNoCredential(t *testing.T) {
	t.Parallel()
	full := errors.New("the disk is full")
	p := parts{verdict: may("app"), noLog: full}
	got, err := p.gate().Credential(t.Context(), "imds", app, "app-role")
	if got != (credential.Credential{}) {
		t.Error("the credential left without a record")
	}
	if !errors.Is(err, gate.ErrNotReady) || !errors.Is(err, full) || errors.Is(err, gate.ErrDenied) || errors.Is(err, gate.ErrRefused) {
		t.Errorf("the error is %v, want one that matches %q and %q", err, gate.ErrNotReady, full)
	}
	if len(p.events) != 1 {
		t.Errorf("%d records were tried, want 1", len(p.events))
	}
	// A denial stays a denial: the workload must not see that the log is broken.
	if _, err := p.gate().Credential(t.Context(), "imds", app, "other-role"); err != gate.ErrDenied { //nolint:errorlint // itself
		t.Errorf("a denial that could not be recorded is %v, want %v", err, gate.ErrDenied)
	}
}

func TestErrorsThatMatch(t *testing.T) {
	t.Parallel()
	all := []error{gate.ErrDenied, gate.ErrRefused, gate.ErrUnauthorized, gate.ErrNotReady}
	for _, err := range all {
		for _, as := range all {
			if want := err == as || err == gate.ErrUnauthorized && as == gate.ErrRefused; errors.Is(err, as) != want { //nolint:errorlint // the sentinels themselves
				t.Errorf("%q matches %q: %v, want %v", err, as, !want, want)
			}
		}
	}
}

// A record goes to a log: it must not hold what it is about.
func TestNoSecretIsRecorded(t *testing.T) {
	t.Parallel()
	p := parts{verdict: may("app")}
	c, err := p.gate().Credential(t.Context(), "imds", app, "app-role")
	if err != nil || c.SecretKey.Reveal() != secret {
		t.Fatalf("got the secret %v and %v", c.SecretKey.Reveal() == secret, err)
	}
	var text strings.Builder
	for _, e := range p.events {
		fmt.Fprintf(&text, "%v\n%+v\n%#v\n%s\n", e, e, e, e)
		if err := json.NewEncoder(&text).Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(text.String(), c.ID()) || len(c.ID()) != 8 {
		t.Errorf("the records do not name the credential %q: %s", c.ID(), text.String())
	}
	for what, bad := range map[string]string{"the secret": secret, "the token": c.Token.Reveal(), "the access key id": c.AccessKeyID} {
		if strings.Contains(text.String(), bad) {
			t.Errorf("the records hold %s", what)
		}
	}
}

// A reader keeps the context that it was asked in.
type reader struct{ ctx context.Context }

func (r *reader) Credential(ctx context.Context, _ credential.Key) (credential.Credential, error) {
	r.ctx = ctx
	return credential.Credential{}, fmt.Errorf("%w: %w", gate.ErrNotReady, ctx.Err())
}

// The wait for a first credential is the caller's to end.
func TestContextReachesTheCredentials(t *testing.T) {
	t.Parallel()
	var r reader
	records := 0
	g := gate.New(gate.Options{
		Policy: func(caller.Caller) gate.Verdict { return may("app") }, Roles: roles, Credentials: &r,
		Keys:   func(string, caller.Caller) (credential.Key, error) { return credential.Key{}, nil },
		Record: func(gate.Event) error { records++; return nil },
	})
	gone := errors.New("the client is gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := g.Credential(ctx, "imds", app, "app-role"); !errors.Is(err, context.Canceled) || !errors.Is(context.Cause(r.ctx), gone) {
		t.Errorf("got %v, and the cause that arrived is %v", err, context.Cause(r.ctx))
	}
	if records != 1 {
		t.Errorf("%d records of a client that is gone, want 1", records)
	}
}

// byKey names each credential after its key.
type byKey struct{}

func (byKey) Credential(_ context.Context, k credential.Key) (credential.Credential, error) {
	return credential.Credential{AccessKeyID: k.String(), SecretKey: credential.NewSecret(secret), Issued: issued, Expires: issued.Add(time.Hour)}, nil
}

func TestManyCallersAtOnce(t *testing.T) {
	t.Parallel()
	const callers, times = 64, 100
	own := func(uid uint32) string { return fmt.Sprintf("role-%d", uid) }
	var all []gate.Role
	for uid := range uint32(callers) {
		all = append(all, gate.Role{ID: own(uid), Name: own(uid)})
	}
	var mu sync.Mutex
	granted, denied := map[string]int{}, map[string]int{}
	g := gate.New(gate.Options{
		Policy: func(who caller.Caller) gate.Verdict {
			uid, _ := who.UID.Get()
			return gate.Verdict{Rule: own(uid), Roles: []string{own(uid)}}
		},
		Roles: all, Credentials: byKey{},
		Keys: func(role string, _ caller.Caller) (credential.Key, error) { return credential.NewKey(role), nil },
		Record: func(e gate.Event) error {
			mu.Lock()
			defer mu.Unlock()
			uid, _ := e.Caller.UID.Get()
			switch {
			case e.Verdict.Rule != own(uid):
				t.Errorf("uid %d is recorded with the verdict about %s", uid, e.Verdict.Rule)
			case e.Err == nil && e.Role == own(uid):
				granted[e.Role]++
			case errors.Is(e.Err, gate.ErrDenied) && e.Role != own(uid):
				denied[own(uid)]++
			default:
				t.Errorf("uid %d is recorded with role %s and %v", uid, e.Role, e.Err)
			}
			return nil
		},
	})
	var done sync.WaitGroup
	for uid := range uint32(callers) {
		done.Go(func() {
			who := caller.Caller{UID: caller.NewID(uid)}
			want := credential.NewKey(own(uid)).String()
			for range times {
				if r, ok := g.Own("imds", who); !ok || r.ID != own(uid) || !g.HasRole(who) {
					t.Errorf("uid %d: its role is %+v, %v", uid, r, ok)
				}
				if c, err := g.Credential(t.Context(), "imds", who, own(uid)); err != nil || c.AccessKeyID != want {
					t.Errorf("uid %d: got %q and %v, want %q", uid, c.AccessKeyID, err, want)
				}
				if c, err := g.Credential(t.Context(), "imds", who, own((uid+1)%callers)); !errors.Is(err, gate.ErrDenied) || c.Complete() {
					t.Errorf("uid %d: got %q and %v of its neighbour", uid, c.AccessKeyID, err)
				}
			}
		})
	}
	done.Wait()
	for uid := range uint32(callers) {
		if granted[own(uid)] != times || denied[own(uid)] != times {
			t.Errorf("uid %d: %d grants and %d denials are recorded, want %d each", uid, granted[own(uid)], denied[own(uid)], times)
		}
	}
}
