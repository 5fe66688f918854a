package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/facts"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/agent/session"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const text = `version = 1
[upstream]
region = "eu-central-1"
[source.keys]
kind = "static"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_access_key = { env = "SECRET" }
[role.app]
arn = "arn:aws:iam::111122223333:role/app"
from = "source.keys"
session_name = "{user}.{unit}"
[role.other]
arn = "arn:aws:iam::111122223333:role/app"
from = "source.keys"
session_name = "{user}"
[role.same]
arn = "arn:aws:iam::111122223333:role/app"
from = "source.keys"
session_name = "{unit}"
[[allow]]
any = true
session = "caller"
roles = ["app"]
`

func build(t *testing.T, text string) map[string]*roles.Role {
	t.Helper()
	c, err := config.Parse(filepath.Join(t.TempDir(), "hostrole.toml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	all, err := roles.Build(roles.Options{Config: c, Env: []string{"SECRET=x"}, Host: facts.Host{Hostname: "db-7"}, Log: slog.New(slog.DiscardHandler),
		Now: time.Now, Boot: func() time.Duration { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A bench is a real rotation whose upstream is a counter.
type bench struct {
	*rotation.Manager
	*session.Sessions
	roles map[string]*roles.Role
	store *store.Store
	boot  func() time.Duration

	mu    sync.Mutex
	calls map[credential.Key]int
	now   int // under way
	peak  int
}

// Add is of session.Rotation.
func (b *bench) Add(j rotation.Job) {
	j.Upstream, j.Source = "", source.Func(func(ctx context.Context) (credential.Credential, error) {
		b.mu.Lock()
		b.calls[j.Key]++
		b.now++
		b.peak = max(b.peak, b.now)
		b.mu.Unlock()
		defer func() {
			b.mu.Lock()
			b.now--
			b.mu.Unlock()
		}()
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return credential.Credential{}, ctx.Err()
		}
		return keys(j.Key, b.boot()), nil
	})
	b.Manager.Add(j)
}

func keys(k credential.Key, received time.Duration) credential.Credential {
	return credential.Credential{AccessKeyID: "ASIA" + k.String(), SecretKey: credential.NewSecret("s"), Token: credential.NewSecret("t"),
		Issued: time.Now().UTC(), Expires: time.Now().UTC().Add(time.Hour), Received: received}
}

// most is how many calls were under way at once.
func (b *bench) most() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.peak
}

func (b *bench) count() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.calls {
		n += c
	}
	return n
}

// start runs one within a bubble.
func start(t *testing.T, o session.Options, left map[credential.Key]credential.Credential) *bench {
	t.Helper()
	from := time.Now()
	b := &bench{store: &store.Store{}, calls: map[credential.Key]int{}, roles: build(t, text), boot: func() time.Duration { return time.Since(from) + time.Minute }}
	b.Manager = rotation.New(b.store, rotation.Options{RefreshAfter: time.Hour, Parallel: 4, Now: time.Now, Boot: b.boot, Draw: func() float64 { return 0 }}, nil)
	o.Rotation, o.Store, o.Log, o.Now, o.Boot = b, b.store, slog.New(slog.DiscardHandler), time.Now, b.boot
	b.Sessions = session.New(o, left)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { b.Manager.Run(ctx) })
	all.Go(func() { _ = b.Sessions.Run(ctx) })
	t.Cleanup(func() { cancel(); all.Wait() })
	return b
}

func who(user, unit string) caller.Caller {
	return caller.Caller{UID: caller.NewID(1000), User: user, Unit: unit}
}

func never() bool { return false }

// key asks for a session and for its credential, with the patience of a request.
func (b *bench) key(t *testing.T, role string, c caller.Caller) credential.Key {
	t.Helper()
	k, err := b.Sessions.Key(b.roles[role], c, never)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, err := b.Manager.Credential(ctx, k); err != nil {
		t.Fatalf("%s of %v: %v", role, c, err)
	}
	return k
}

func TestOneSessionForEachCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, session.Options{}, nil)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { b.key(t, "app", who("app", "a.service")) })
		}
		all.Wait()
		if n := b.count(); n != 1 {
			t.Errorf("%d calls for a hundred requests of one caller", n)
		}
		a := b.key(t, "app", who("app", "a.service"))
		elsewhere := who("app", "a.service")
		elsewhere.UID, elsewhere.Container, elsewhere.Listener = caller.NewID(7), "ab", "docker"
		if b.key(t, "app", elsewhere) != a {
			t.Error("callers who differ in what the session is not named after have two")
		}
		for _, c := range []caller.Caller{who("app", "b.service"), who("root", "a.service"), who("app.a", "service.service")} {
			if b.key(t, "app", c) == a {
				t.Errorf("%v has the session of another", c)
			}
		}
		// These two read alike: "app.a.b.service".
		if b.key(t, "app", who("app", "a.b.service")) == b.key(t, "app", who("app.a", "b.service")) {
			t.Error("two callers whose names run together have one session")
		}
		if b.Sessions.Name(a) != "app.a.service" || b.Sessions.Name(credential.NewKey("no")) != "" {
			t.Errorf("it is named %q", b.Sessions.Name(a))
		}
		for _, c := range []caller.Caller{who("app", ""), who("", "a.service"), {User: "app", Unit: "a.service"}, {}} {
			if k, err := b.Sessions.Key(b.roles["app"], c, never); err == nil {
				t.Errorf("%v has the session %v", c, k)
			}
		}
	})
}

// A flood of callers takes nothing from those who were there, and reaches the
// upstream no more than a few at a time.
func TestAFloodTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, session.Options{}, nil)
		first := b.key(t, "app", who("app", "a.service"))
		was := b.Manager.Entry(first).Credential
		full := 0
		for i := range 10 * session.Most {
			_, err := b.Sessions.Key(b.roles["app"], who("app", fmt.Sprintf("flood-%d.service", i)), never)
			if errors.Is(err, session.ErrFull) {
				full++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if full != 9*session.Most+1 {
			t.Errorf("%d of %d callers found no place", full, 10*session.Most)
		}
		if b.key(t, "app", who("app", "a.service")) != first || b.Manager.Entry(first).Credential != was {
			t.Error("who was there before has another session")
		}
		role := b.roles["app"].Job // as one with one session for all
		role.Key = credential.NewKey("role")
		b.Add(role)
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		if _, err := b.Manager.Credential(ctx, role.Key); err != nil {
			t.Errorf("a role waits for the flood: %v", err)
		}
		if n := b.most(); n > 3 { // with the role's own
			t.Errorf("%d of 4 calls at once", n)
		}
		time.Sleep(time.Minute)
		if n := b.count(); n != session.Most+1 || b.most() > 3 {
			t.Errorf("%d calls, %d at once", n, b.most())
		}
		if n := len(b.Sessions.Of(b.roles["app"].Job.Key)); n != session.Most {
			t.Errorf("there are %d", n)
		}
	})
}

func TestWhatNobodyAsksForIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := runtime.NumGoroutine()
		b := start(t, session.Options{Most: 2}, nil)
		synctest.Wait()
		running := runtime.NumGoroutine() - before
		kept, gone := who("app", "kept.service"), who("app", "gone.service")
		k, g := b.key(t, "app", kept), b.key(t, "app", gone)
		for range 6 { // an hour, and what it takes until somebody looks
			time.Sleep(session.Idle/6 + 10*time.Second)
			if b.key(t, "app", kept) != k {
				t.Fatal("a session that is used was given up")
			}
		}
		synctest.Wait()
		if b.Manager.Entry(g) != nil || len(b.Sessions.Of(b.roles["app"].Job.Key)) != 1 || b.store.Slot(g).Load().Credential.Complete() {
			t.Error("a session that nobody asks for is there after an hour")
		}
		if n := runtime.NumGoroutine() - before - running; n > 1 { // others of the process may have ended
			t.Errorf("%d goroutines for one session", n)
		}
		calls := b.calls[g]
		b.key(t, "app", who("app", "new.service")) // there is a place again
		if b.key(t, "app", kept); b.calls[g] != calls {
			t.Error("it was renewed afterwards")
		}
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := map[credential.Key]credential.Credential{credential.NewKey("x"): keys(credential.NewKey("x"), 0)}
		b := start(t, session.Options{}, left)
		one, two := b.key(t, "app", who("a", "a.service")), b.key(t, "app", who("b", "b.service"))
		alone := b.key(t, "other", who("a", "a.service"))
		got := b.Sessions.Stop(b.roles["app"].Job.Key)
		if len(got) != 2 || !slices.Contains(got, one) || !slices.Contains(got, two) {
			t.Errorf("stopped %v", got)
		}
		if b.Manager.Entry(one) != nil || b.Manager.Entry(two) != nil || b.Manager.Entry(alone) == nil {
			t.Error("the wrong sessions were stopped")
		}
		if len(b.Sessions.Left()) != 0 {
			t.Error("what may be of that role is handed over")
		}
		if _, err := b.Sessions.Key(b.roles["app"], who("a", "a.service"), func() bool { return true }); !errors.Is(err, session.ErrStopped) {
			t.Errorf("a role that is not served: %v", err)
		}
	})
}

// Two roles of one ARN whose templates read alike for a caller have a session
// together, and it lasts as long as one of them has it.
func TestASessionOfTwoRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, session.Options{}, nil)
		c := who("x.service", "x.service")
		k := b.key(t, "other", c)
		if b.key(t, "same", c) != k || b.count() != 1 {
			t.Fatal("they are two")
		}
		b.Sessions.Stop(b.roles["other"].Job.Key)
		if b.key(t, "same", c); b.count() != 1 || b.Sessions.Name(k) != "x.service" {
			t.Error("the other role has lost it")
		}
		b.Sessions.Stop(b.roles["same"].Job.Key)
		if b.Manager.Entry(k) != nil {
			t.Error("it is there after both")
		}
	})
}

// A reload loses no session of a role that stays, and makes those of one that
// has changed before it is at work.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, session.Options{}, nil)
		move := func(text string, during func()) (jobs int) {
			next := build(t, text)
			jobs = len(b.Sessions.Move(next))
			synctest.Wait()
			time.Sleep(time.Second)
			during()
			b.roles = next
			b.Sessions.Moved(next)
			return jobs
		}
		a, c := who("app", "a.service"), who("app", "b.service")
		was := b.key(t, "app", a)
		b.key(t, "app", c)
		b.key(t, "other", a)
		if n := move(text, func() {}); n != 0 || b.key(t, "app", a) != was || b.count() != 3 {
			t.Errorf("nothing changes: %d new sessions, %d calls", n, b.count())
		}
		changed := strings.Replace(text, "{user}.{unit}", "{unit}-{user}", 1)
		n := move(changed, func() {
			if b.key(t, "app", a) != was { // by the role as it was
				t.Error("the old session is gone before the reload is at work")
			}
		})
		if n != 2 || b.count() != 5 {
			t.Errorf("another template: %d new sessions, %d calls", n, b.count())
		}
		if k := b.key(t, "app", a); k == was || b.count() != 5 || b.Manager.Entry(was) != nil || b.Sessions.Name(k) != "a.service-app" {
			t.Errorf("afterwards it is %q, and there were %d calls", b.Sessions.Name(k), b.count())
		}
		// Of a user's session it is not known which unit it would be.
		if n := move(strings.Replace(changed, `"{user}"`, `"{user}.{container}"`, 1), func() {}); n != 0 || len(b.Sessions.Of(b.roles["other"].Job.Key)) != 0 {
			t.Errorf("one more fact: %d new sessions", n)
		}
		all := slices.Collect(maps.Keys(b.calls))
		move(strings.NewReplacer("[role.app]", "[role.new]", `roles = ["app"]`, `roles = ["new"]`).Replace(changed), func() {})
		move(strings.NewReplacer("{user}.{unit}", "xx", "{user}", "yy", "{unit}", "zz", "session = \"caller\"\n", "").Replace(text), func() {})
		for _, k := range all {
			if b.Manager.Entry(k) != nil {
				t.Errorf("%v is there after its role", k)
			}
		}
	})
}

// What the process before had is served without a call, and forgotten when
// nobody has asked for it.
func TestWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, err := build(t, text)["app"].For(map[string]string{"user": "app", "unit": "a.service"})
		if err != nil {
			t.Fatal(err)
		}
		stranger := credential.NewKey("stranger")
		b := start(t, session.Options{}, map[credential.Key]credential.Credential{first.Key: keys(first.Key, 0), stranger: keys(stranger, 0)})
		if k := b.key(t, "app", who("app", "a.service")); k != first.Key || b.count() != 0 {
			t.Errorf("%d calls for a credential that was left", b.count())
		}
		if left := b.Sessions.Left(); len(left) != 1 || left[stranger].AccessKeyID == "" {
			t.Errorf("left are %d", len(left))
		}
		time.Sleep(session.Idle + time.Minute)
		if n := len(b.Sessions.Left()); n != 0 {
			t.Errorf("%d are left after an hour", n)
		}
	})
}

func TestNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, session.Options{}, nil)
		one := b.key(t, "app", who("a", "a.service"))
		time.Sleep(time.Second)
		two := b.key(t, "app", who("b", "b.service"))
		time.Sleep(time.Second)
		b.key(t, "app", who("a", "a.service"))
		if got := b.Sessions.Newest(9); !slices.Equal(got, []credential.Key{one, two}) {
			t.Errorf("%v, want %v and %v", got, one, two)
		}
		if got := b.Sessions.Newest(1); !slices.Equal(got, []credential.Key{one}) {
			t.Errorf("%v, want %v", got, one)
		}
	})
}
