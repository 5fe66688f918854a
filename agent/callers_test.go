package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
)

// perCaller makes the role of startHost one with a session for each caller.
func perCaller(text string) string {
	return strings.NewReplacer("[role.app]", `[role.app]
session_name = "{user}.{unit}"
source_identity = "{user}"
tags = { Unit = "{unit}", Host = "db-7" }`, `roles = ["app"]`, `roles = ["app"]
session = "caller"`).Replace(text)
}

// as asks for the credential of the role as another caller, who need not exist.
func (h *host) as(t *testing.T, who caller.Caller, path string) (status int, body string) {
	t.Helper()
	who.Listener, who.Remote = "host", netip.MustParseAddrPort("127.0.0.1:40001")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r := h.agent.Ask(ctx, "host", &imds.Request{Method: "GET", Path: "/latest/meta-data/iam/security-credentials/" + path, Caller: who})
	return r.Status, string(r.Body)
}

func service(user, unit string) caller.Caller {
	return caller.Caller{UID: caller.NewID(1000), User: user, Unit: unit}
}

// session is what STS says of the credential that a caller is given, waited for
// as a client does.
func (h *host) session(t *testing.T, who caller.Caller) devsts.Session {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		status, body := h.as(t, who, "app")
		var d struct{ AccessKeyId, SecretAccessKey, Token string }
		if status == 200 && json.Unmarshal([]byte(body), &d) == nil && d.AccessKeyId != "" {
			s, err := h.sts.Verify(d.AccessKeyId, d.SecretAccessKey, d.Token)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		if status != 503 || time.Now().After(end) {
			t.Fatalf("%v is answered %d %s", who, status, body)
		}
	}
}

// Each caller has a session that names it, the upstream knows it by that, and
// everything that an operator does is done to all of them.
func TestSessionsOfCallers(t *testing.T) {
	t.Parallel()
	h := startHost(t, time.Hour, devsts.Fault{}, "")
	h.until(t, live, 10*time.Second)
	h.change(t, perCaller)
	calls := func() int { return h.sts.CallCount(role) }
	before := calls()
	one, two := service("app", "app-1.service"), service("app", "app-2.service")
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { h.session(t, one) })
	}
	all.Wait()
	first, second := h.session(t, one), h.session(t, two)
	want := devsts.Session{Name: "app.app-1.service", SourceIdentity: "app"}
	if first.Name != want.Name || first.SourceIdentity != want.SourceIdentity || first.Tags["Unit"] != "app-1.service" || first.Tags["Host"] != "db-7" {
		t.Errorf("STS knows the first caller as %+v", first)
	}
	if second.Name != "app.app-2.service" || second.Tags["Unit"] != "app-2.service" {
		t.Errorf("STS knows the second caller as %+v", second)
	}
	if n := calls() - before; n != 2 {
		t.Errorf("%d calls for two callers", n)
	}

	// Who has not what the session is named after sees a host without a role.
	nobody := service("app", "")
	list, _ := h.as(t, nobody, "")
	if status, body := h.as(t, nobody, "app"); list != 404 || status != 404 {
		t.Errorf("a caller without a unit: %d, then %d %s", list, status, body)
	}
	if log := h.log.String(); !strings.Contains(log, "named after the caller's unit, which is not known") {
		t.Error("the log does not say why")
	}

	// The operator sees one role, and does to all sessions what is done to it.
	c := admin.NewClient(filepath.Join(h.dir, "admin.sock"))
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r := s.Roles[0]; r.State != admin.Live || r.Callers == nil || r.Callers.Sessions != 2 || r.Callers.Served != 2 || !slices.Equal(r.Callers.Facts, []string{"unit", "user"}) {
		t.Errorf("the status is %+v, %+v", r, r.Callers)
	}
	if e, err := c.Explain(t.Context(), 0, "/system.slice/app-1.service"); err != nil || len(e.Answers[0].Named) != 1 || e.Answers[0].Named[0].SessionName != "root.app-1.service" ||
		e.Answers[0].Named[0].SourceIdentity != "root" || e.Answers[0].Named[0].Tags["Unit"] != "app-1.service" {
		t.Errorf("the explanation is %+v, %v", e, err)
	}
	if n := len(h.agent.Live()); n != 2 {
		t.Errorf("%d credentials are left to the next process, want those of two callers", n)
	}
	if _, err := c.Refresh(t.Context(), "app"); err != nil || calls()-before != 4 {
		t.Errorf("a refresh makes %d calls, %v", calls()-before-2, err)
	}
	if _, err := c.Revoke(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	for _, who := range []caller.Caller{one, two, service("new", "new.service")} {
		if status, body := h.as(t, who, "app"); !strings.Contains(body, "UnauthorizedAccess") {
			t.Errorf("%v is answered %d %s after the role was revoked", who, status, body)
		}
	}
	if n := len(h.agent.Live()); n != 0 {
		t.Errorf("%d credentials are left to the next process, of a role that was revoked", n)
	}
	if calls()-before != 4 {
		t.Errorf("%d calls for a role that was revoked", calls()-before-4)
	}
	h.change(t, func(text string) string { return strings.Replace(text, `Host = "db-7"`, `Host = "db-8"`, 1) })
	if got := h.session(t, one); got.Tags["Host"] != "db-8" {
		t.Errorf("after a reload it is %+v", got)
	}

	// A reload that changes the session is not noticed by those who have one.
	before = calls()
	h.change(t, func(text string) string { return strings.Replace(text, `Host = "db-8"`, `Host = "db-9"`, 1) })
	if n := calls() - before; n != 1 {
		t.Errorf("%d calls during a reload with one session", n)
	}
	if status, body := h.as(t, one, "app"); status != 200 || !strings.Contains(body, "Success") || calls()-before != 1 {
		t.Errorf("at once after a reload: %d %s", status, body)
	}
	if n := len(h.agent.Live()); n != 1 {
		t.Errorf("%d credentials are kept for one session", n)
	}
	// One that does not, asks nobody.
	h.change(t, func(text string) string { return strings.Replace(text, "any = true", "any = true\nname = \"all\"", 1) })
	if h.session(t, one); calls()-before != 1 {
		t.Errorf("%d more calls for a session that stayed", calls()-before-1)
	}
}

// A flood of callers leaves those alone who were there, and other roles.
func TestAFloodOfCallers(t *testing.T) {
	t.Parallel()
	h := startHost(t, time.Hour, devsts.Fault{}, "")
	h.until(t, live, 10*time.Second)
	h.change(t, perCaller)
	was := h.session(t, service("app", "app.service"))
	var mu sync.Mutex
	got := map[int]int{}
	var all sync.WaitGroup
	for i := range 400 {
		all.Go(func() {
			status, _ := h.as(t, service("flood", fmt.Sprintf("flood-%d.service", i)), "app")
			mu.Lock()
			defer mu.Unlock()
			got[status]++
		})
	}
	all.Wait()
	if again := h.session(t, service("app", "app.service")); again.Name != was.Name || !again.Issued.Equal(was.Issued) {
		t.Errorf("it was %+v, and is %+v", was, again)
	}
	if n := h.sts.CallCount(role); n > 258 || got[503] < 400-255 || len(slices.Collect(maps.Keys(got))) > 2 {
		t.Errorf("%d calls upstream; answers by status: %v", n, got)
	}
	if !strings.Contains(h.log.String(), "as many sessions as it can have") {
		t.Error("the log does not say that there is no place")
	}
}
