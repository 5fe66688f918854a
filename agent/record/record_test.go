package record_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hostrole/hostrole/agent/audit"
	"github.com/hostrole/hostrole/agent/record"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/imds/policy"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func label(t *testing.T, text string) policy.Label {
	t.Helper()
	l, err := policy.NewLabel(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// All that is known of a caller is on record, but for labels that no rule asks
// for; and a new fact is not forgotten.
func TestEveryFactIsOnRecord(t *testing.T) {
	t.Parallel()
	who := caller.Caller{
		Listener: "docker0", Remote: netip.MustParseAddrPort("172.17.0.2:40001"), UID: caller.NewID(0), User: "root", Groups: []string{"root"}, Cgroup: 4711, Inode: 815,
		Unit: "docker.service", Slice: "system.slice", Container: "4f2b", Runtime: "docker", ContainerName: "web", Image: "web:7", ImageDigest: "sha256:ab",
		Labels: map[string]string{"app": "web", "other": "x"}, Namespace: "shop", ServiceAccount: "api", Pod: "shop/api",
	}
	for i, v := 0, reflect.ValueOf(who); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("this test does not know %s", v.Type().Field(i).Name)
		}
	}
	rules := policy.Policy{
		{Name: "try", Labels: []policy.Label{label(t, "tier=web")}, Roles: []string{"next", "logs"}, AuditOnly: true},
		{Name: "web", Labels: []policy.Label{label(t, "app=*")}, Roles: []string{"web"}},
	}
	uid := uint32(0)
	want := audit.Record{
		Time: now, Verdict: audit.Granted, Endpoint: "imds", Listener: "docker0", Remote: "172.17.0.2:40001", UID: &uid, User: "root", Groups: []string{"root"},
		Cgroup: 4711, Inode: 815, Unit: "docker.service", Container: "4f2b", Runtime: "docker", ContainerName: "web", Image: "web:7", ImageDigest: "sha256:ab",
		Labels: map[string]string{"app": "web"}, Namespace: "shop", ServiceAccount: "api", Pod: "shop/api",
		Rule: "web", Rehearsed: []audit.Rehearsal{{Rule: "try", Roles: []string{"next", "logs"}}}, Role: "web", Session: "web.4f2b", Credential: "1a2b3c4d", RequestID: "r-1",
	}
	e := gate.Event{Endpoint: "imds", Caller: who, Verdict: gate.Verdict{Rule: "web", Roles: []string{"web"}, Rehearsed: []string{"try"}}, Role: "web", Credential: "1a2b3c4d", RequestID: "r-1"}
	if diff := cmp.Diff(want, record.Of(e, rules, "web.4f2b", now)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestVerdictsAndReasons(t *testing.T) {
	t.Parallel()
	known := caller.Caller{UID: caller.NewID(1)}
	for name, c := range map[string]struct {
		e       gate.Event
		verdict audit.Verdict
		reason  string
	}{
		"granted":         {gate.Event{Caller: known}, audit.Granted, ""},
		"no rule":         {gate.Event{Caller: known, Err: gate.ErrDenied}, audit.Denied, "no rule gives this caller a role"},
		"unknown":         {gate.Event{Err: gate.ErrDenied}, audit.Denied, "no rule gives this caller a role"},
		"another role":    {gate.Event{Caller: known, Verdict: gate.Verdict{Rule: "r"}, Err: gate.ErrDenied}, audit.Denied, gate.ErrDenied.Error()},
		"the wrong token": {gate.Event{Caller: known, Err: fmt.Errorf("%w: %w", gate.ErrDenied, gate.ErrRejected)}, audit.Denied, gate.ErrDenied.Error() + ": " + gate.ErrRejected.Error()},
		"refused":         {gate.Event{Caller: known, Err: fmt.Errorf("%w: no", gate.ErrUnauthorized)}, audit.Refused, gate.ErrUnauthorized.Error() + ": no"},
		"not ready":       {gate.Event{Caller: known, Err: gate.ErrNotReady}, audit.NotReady, gate.ErrNotReady.Error()},
		"something else":  {gate.Event{Caller: known, Err: errors.New("x")}, audit.NotReady, "x"},
	} {
		got := record.Of(c.e, nil, "", now)
		if got.Verdict != c.verdict || got.Reason != c.reason || got.Remote != "" || (got.UID == nil) != (c.e.Caller.UID == caller.ID{}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
