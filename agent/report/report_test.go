package report_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/agent/report"
	"github.com/hostrole/hostrole/agent/roles"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/policy"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/store"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// outcome is what a manager knows of one key.
type outcome struct {
	entry *store.Entry
	left  time.Duration
}

func (o outcome) Entry(credential.Key) *store.Entry                        { return o.entry }
func (o outcome) Left(credential.Key, credential.Credential) time.Duration { return o.left }

func keys(life time.Duration) credential.Credential {
	c := credential.Credential{AccessKeyID: "ASIAIOSFODNN7EXAMPLE", SecretKey: credential.NewSecret("s"), Token: credential.NewSecret("t"), Issued: now}
	if life != 0 {
		c.Expires = now.Add(life)
	}
	return c
}

func TestRole(t *testing.T) {
	down, no := errors.New("no route to host"), fmt.Errorf("%w: AccessDenied", source.ErrAccessDenied)
	for name, c := range map[string]struct {
		entry   *store.Entry
		left    time.Duration
		revoked bool
		want    admin.State
	}{
		"no outcome yet":                 {entry: &store.Entry{}, want: admin.Starting},
		"a key that has just come":       {entry: nil, want: admin.Starting},
		"live":                           {entry: &store.Entry{Credential: keys(time.Hour)}, left: time.Minute, want: admin.Live},
		"live without an end":            {entry: &store.Entry{Credential: keys(0)}, want: admin.Live},
		"live, and the upstream is down": {entry: &store.Entry{Credential: keys(time.Hour), Err: down, Failures: 3}, left: time.Minute, want: admin.Failing},
		"live, and the upstream says no": {entry: &store.Entry{Credential: keys(time.Hour), Err: no, Failures: 1}, left: time.Minute, want: admin.Failing},
		"never live, and down":           {entry: &store.Entry{Err: down, Failures: 1}, want: admin.Down},
		"never live, and refused":        {entry: &store.Entry{Err: no, Failures: 1}, want: admin.Refused},
		"expired, and down":              {entry: &store.Entry{Credential: keys(time.Hour), Err: down, Failures: 9}, want: admin.Down},
		"expired in its sleep":           {entry: &store.Entry{Credential: keys(time.Hour)}, want: admin.Down},
		"revoked":                        {entry: nil, revoked: true, want: admin.Revoked},
	} {
		r := &roles.Role{ID: "app", Name: "App", Job: rotation.Job{Skew: func() time.Duration { return 3 * time.Second }}}
		got := report.Role(r, "source.keys", outcome{c.entry, c.left}, c.revoked, now)
		if got.State != c.want || got.Skew != 3 || got.Name != "app" || got.ServedAs != "App" {
			t.Errorf("%s: %+v, want that it is %s", name, got, c.want)
		}
		if c.left > 0 && (*got.Left != c.left.Seconds() || *got.Life != 3600) {
			t.Errorf("%s: %v of %v left", name, *got.Left, *got.Life)
		}
		if c.entry != nil && c.entry.Err != nil && (got.Error != c.entry.Err.Error() || got.Failures != c.entry.Failures) {
			t.Errorf("%s: %q after %d", name, got.Error, got.Failures)
		}
	}
}

func TestOrder(t *testing.T) {
	key := func(name string) credential.Key { return credential.NewKey(name) }
	all := map[string]*roles.Role{
		"a": {Job: rotation.Job{Key: key("a"), Needs: key("z")}},
		"b": {Job: rotation.Job{Key: key("b"), Needs: key("a")}},
		"c": {Job: rotation.Job{Key: key("c")}},
		"z": {Job: rotation.Job{Key: key("z")}},
	}
	if got := report.Order(all); !slices.Equal(got, []string{"c", "z", "a", "b"}) {
		t.Errorf("the order is %v", got)
	}
	all["z"].Job.Needs = key("b") // never so, and no reason to hang
	if got := report.Order(all); len(got) != 4 {
		t.Errorf("a cycle loses roles: %v", got)
	}
}

var rules = policy.Policy{
	{Name: "rehearsal", Users: []string{"app"}, Roles: []string{"new"}, AuditOnly: true},
	{Name: "database", Users: []string{"postgres"}, Groups: []string{"dba"}, Roles: []string{"db"}},
	{Name: "here", UIDs: []uint32{1000}, Listeners: []string{"host"}, Roles: []string{"app", "logs"}},
	{Name: "all", Any: true, Listeners: []string{"docker"}, Roles: []string{"box"}},
}

// What an explanation says is what the policy decides, for every caller and
// listener.
func TestExplain(t *testing.T) {
	for _, who := range []caller.Caller{
		{UID: caller.NewID(1000), User: "app", Groups: []string{"app"}},
		{UID: caller.NewID(7), User: "postgres", Groups: []string{"dba", "postgres"}},
		{UID: caller.NewID(8), User: "postgres"},
		{UID: caller.NewID(0)},
		{},
	} {
		e := report.Explain(rules, who, []string{"host", "docker", admin.Listener})
		if len(e.Answers) != 3 {
			t.Fatalf("%d answers", len(e.Answers))
		}
		for _, a := range e.Answers {
			who.Listener = a.Listener
			d := rules.Decide(who)
			if a.Rule != d.Rule || !slices.Equal(a.Roles, d.Roles) || !slices.Equal(a.Rehearsed, d.Rehearsed) {
				t.Errorf("%v: %+v, and the policy decides %+v", who, a, d)
			}
			if d.Rule != "" && !strings.HasPrefix(a.Reason, d.Rule+" is the first rule that matches, by ") || a.Reason == "" {
				t.Errorf("%v: the reason is %q", who, a.Reason)
			}
		}
	}
	who := caller.Caller{UID: caller.NewID(1000), User: "app", Groups: []string{"app", "adm"}}
	e := report.Explain(rules, who, []string{"host", admin.Listener})
	if got, want := e.Answers[0].Reason, "here is the first rule that matches, by listener and uid"; got != want {
		t.Errorf("the reason is %q, want %q", got, want)
	}
	if got, want := e.Answers[0].Passed, []string{"rehearsal matches by user, and is audit-only", "database does not match: the caller's user is app, and its group is app, adm"}; !slices.Equal(got, want) {
		t.Errorf("passed %q, want %q", got, want)
	}
	if got := e.Answers[1]; len(got.Roles) != 0 || !strings.Contains(got.Passed[2], "listener is admin socket") || !strings.Contains(got.Reason, "none of the 4 rules") {
		t.Errorf("on the socket: %+v", got)
	}
}

func TestRecent(t *testing.T) {
	var r report.Recent
	one := func(uid uint32, verdict, role string) admin.Decision {
		return admin.Decision{Caller: admin.Caller{UID: &uid, Listener: "host"}, Verdict: verdict, Role: role}
	}
	r.Add(now, one(1, "granted", "app"))
	r.Add(now.Add(time.Second), one(2, "granted", "app"))
	for i := range 10_000 { // one caller with ten thousand names
		r.Add(now.Add(2*time.Second), one(3, "denied", fmt.Sprintf("%d-%s", i, strings.Repeat("x", 500))))
	}
	r.Add(now.Add(3*time.Second), one(1, "granted", "app"))
	all := r.List()
	if len(all) != 3 || *all[0].Caller.UID != 1 || all[0].Count != 2 || all[0].Time != now.Add(3*time.Second) {
		t.Errorf("kept %+v", all)
	}
	if all[1].Count != 10_000 || len(all[1].Role) > 64 || !strings.HasPrefix(all[1].Role, "9999-") {
		t.Errorf("the flood is kept as %+v", all[1])
	}
	for uid := range uint32(1000) {
		r.Add(now, one(uid, "granted", "app"))
	}
	if n := len(r.List()); n != 32 {
		t.Errorf("%d are kept", n)
	}
}

func TestUser(t *testing.T) {
	root, err := report.User(0)
	if uid, known := root.UID.Get(); err != nil || !known || uid != 0 || root.User != "root" || !slices.Contains(root.Groups, "root") {
		t.Errorf("root is %+v, %v", root, err)
	}
	// The kernel's words for "unknown" are nobody, whatever the user database
	// says of them.
	for _, uid := range []uint32{65534, 65535, 1<<32 - 1} {
		if who, err := report.User(uid); err != nil || who.Known() {
			t.Errorf("uid %d is %+v, %v", uid, who, err)
		}
	}
	text, err := os.ReadFile("/etc/passwd")
	if err != nil || strings.Contains(string(text), ":3999999999:") {
		t.Skipf("this host's user database is not like others: %v", err)
	}
	if who, err := report.User(3999999999); err != nil || !who.Known() || who.User != "" || who.Groups != nil {
		t.Errorf("a uid without an account is %+v, %v", who, err)
	}
}

// A role that has a session for each caller fares as the one that fares worst.
func TestCallers(t *testing.T) {
	t.Parallel()
	down, no := errors.New("no route to host"), fmt.Errorf("%w: AccessDenied", source.ErrAccessDenied)
	live := outcome{&store.Entry{Credential: keys(time.Hour)}, time.Minute}
	sooner := outcome{&store.Entry{Credential: keys(30 * time.Minute)}, time.Minute}
	failing := outcome{&store.Entry{Credential: keys(time.Hour), Err: down, Failures: 3}, time.Minute}
	dead := outcome{&store.Entry{Err: down, Failures: 9}, 0}
	refused := outcome{&store.Entry{Err: no, Failures: 1}, 0}
	fresh := outcome{&store.Entry{}, 0}
	r := &roles.Role{ID: "app", Name: "App", Facts: []string{"unit"}, Job: rotation.Job{Key: credential.NewKey("all")}}
	for name, c := range map[string]struct {
		sessions []outcome
		revoked  bool
		want     admin.State
		served   int
		failures int
	}{
		"nobody has asked":                   {want: admin.OnDemand},
		"an operator has revoked it":         {revoked: true, want: admin.Revoked},
		"all are live":                       {sessions: []outcome{live, sooner, live}, want: admin.Live, served: 3},
		"one has just come":                  {sessions: []outcome{live, fresh}, want: admin.Live, served: 1},
		"the only one has just come":         {sessions: []outcome{fresh}, want: admin.Starting},
		"one is not renewed":                 {sessions: []outcome{live, failing}, want: admin.Failing, served: 2, failures: 3},
		"one is not served, and others are":  {sessions: []outcome{live, dead, failing}, want: admin.Failing, served: 2, failures: 9},
		"none is served":                     {sessions: []outcome{dead, fresh}, want: admin.Down, failures: 9},
		"one is refused, and others are not": {sessions: []outcome{refused, live}, want: admin.Failing, served: 1, failures: 1},
		"all are refused":                    {sessions: []outcome{refused}, want: admin.Refused, failures: 1},
	} {
		of, list := outcomes{}, []credential.Key(nil)
		for i, o := range c.sessions {
			k := credential.NewKey(fmt.Sprint(i))
			of[k], list = o, append(list, k)
		}
		got := report.Callers(r, "role.hub", list, 256, of, c.revoked, now)
		if got.State != c.want || got.Callers == nil || got.Callers.Sessions != len(c.sessions) || got.Callers.Served != c.served || got.Callers.Most != 256 || got.Failures != c.failures ||
			got.Name != "app" || got.Session != r.Job.Key.String() || got.From != "role.hub" {
			t.Errorf("%s: %+v, %+v", name, got, got.Callers)
		}
		if name == "all are live" && (got.Expires == nil || !got.Expires.Equal(now.Add(30*time.Minute))) {
			t.Errorf("the one that ends first is not shown: %v", got.Expires)
		}
	}
}

// outcomes are those of many keys.
type outcomes map[credential.Key]outcome

func (o outcomes) Entry(k credential.Key) *store.Entry                          { return o[k].entry }
func (o outcomes) Left(k credential.Key, _ credential.Credential) time.Duration { return o[k].left }

// Who has not what the session is named after is told which fact that is, and
// what a rule needs for a session is no fact that it asks for.
func TestExplainMissing(t *testing.T) {
	t.Parallel()
	rules := policy.Policy{
		{Name: "web", Users: []string{"web"}, Roles: []string{"web"}},
		{Name: "app", Users: []string{"app"}, Roles: []string{"app"}, Needs: map[string][]string{"app": {"unit"}}},
		{Name: "all", Any: true, Roles: []string{"box"}},
	}
	who := caller.Caller{UID: caller.NewID(1000), User: "app"}
	got := report.Explain(rules, who, []string{"host"}).Answers[0]
	if got.Reason != "app decides, and gives nothing: the session is named after the caller's unit, which is not known" || got.Rule != "app" || len(got.Roles) != 0 {
		t.Errorf("%+v", got)
	}
	if len(got.Passed) != 1 {
		t.Errorf("passed are %q", got.Passed)
	}
	who.Unit = "app.service"
	if got := report.Explain(rules, who, []string{"host"}).Answers[0]; got.Reason != "app is the first rule that matches, by user" || !slices.Equal(got.Roles, []string{"app"}) {
		t.Errorf("%+v", got)
	}
}
