package report_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/report"
)

// A failure opens an outage, further ones count, and a success ends it and
// replaces the credential.
func TestHistory(t *testing.T) {
	var h report.History
	h.Renewed("app", keys(time.Hour), now)
	h.Failed("app", "no route to host", now.Add(30*time.Minute))
	h.Failed("app", "connection refused", now.Add(31*time.Minute))
	h.Renewed("app", keys(0), now.Add(40*time.Minute))
	h.Failed("hub", "AccessDenied", now)
	all := h.List(now.Add(time.Hour))
	if len(all.Roles) != 2 || all.Roles[0].Role != "app" || all.Roles[1].Role != "hub" {
		t.Fatalf("the roles are %+v", all.Roles)
	}
	app := all.Roles[0]
	if len(app.Lives) != 2 || app.Lives[0].Replaced == nil || !app.Lives[0].Replaced.Equal(now.Add(40*time.Minute)) || !app.Lives[0].Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("the lives are %+v", app.Lives)
	}
	if app.Lives[1].Expires != nil || app.Lives[1].Replaced != nil {
		t.Errorf("the newest life, which has no end, is %+v", app.Lives[1])
	}
	if len(app.Outages) != 1 || app.Outages[0].Failures != 2 || app.Outages[0].Error != "connection refused" ||
		!app.Outages[0].From.Equal(now.Add(30*time.Minute)) || app.Outages[0].Until == nil || !app.Outages[0].Until.Equal(now.Add(40*time.Minute)) {
		t.Errorf("the outages are %+v", app.Outages)
	}
	if o := all.Roles[1].Outages; len(o) != 1 || o[0].Until != nil {
		t.Errorf("the outage that lasts is %+v", o)
	}
}

// What is remembered is bounded, whatever happens and however often; what had
// no news for longest goes first.
func TestHistoryIsBounded(t *testing.T) {
	var h report.History
	for i := range 400 {
		role := fmt.Sprintf("role-%03d", i)
		for j := range 100 {
			at := now.Add(time.Duration(i*100+j) * time.Minute)
			h.Failed(role, "down", at)
			h.Failed(role, "down", at)
			h.Renewed(role, keys(time.Hour), at)
			h.Decided([]string{"granted", "denied", "not ready", "refused"}[j%4], at)
		}
	}
	h.Renewed("role-144", keys(time.Hour), now) // the oldest that is still there becomes the newest
	h.Renewed("one more", keys(time.Hour), now)
	all := h.List(now)
	if len(all.Roles) != 256 || len(all.Tallies) != 288 {
		t.Errorf("%d roles and %d tallies are remembered", len(all.Roles), len(all.Tallies))
	}
	seen := map[string]bool{}
	for _, p := range all.Roles {
		seen[p.Role] = true
		if len(p.Lives) > 48 || len(p.Outages) > 24 {
			t.Errorf("%s has %d lives and %d outages", p.Role, len(p.Lives), len(p.Outages))
		}
	}
	if !seen["role-144"] || seen["role-145"] || !seen["one more"] {
		t.Error("another role was forgotten than the one without news for longest")
	}
	if five := all.Tallies[286]; five.Granted+five.Denied+five.Failed != 5 || five.Failed < 2 || five.Denied < 1 || five.From.Minute()%5 != 0 {
		t.Errorf("a tally of five minutes is %+v", five)
	}
}
