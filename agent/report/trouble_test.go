package report_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/report"
)

// What lasts is told until it ends; what happened is told for an hour.
func TestTroubles(t *testing.T) {
	var all report.Troubles
	all.Set("config", "two faults", now)
	all.Set("config", "one fault", now.Add(time.Minute))
	for i := range 3 {
		all.Note("requests", "host 401", "no token", now.Add(time.Duration(i)*time.Minute))
	}
	all.Note("requests", "host 403", "a proxy", now)
	got := all.List(now.Add(30 * time.Minute))
	if len(got) != 3 || got[0].Text != "one fault" || got[1].Text != "no token" || got[1].Count != 3 || got[2].Count != 1 {
		t.Errorf("it tells %+v", got)
	}
	all.Clear("config")
	if got := all.List(now.Add(61 * time.Minute)); len(got) != 1 || got[0].Text != "no token" {
		t.Errorf("an hour later it tells %+v", got)
	}
	all.Note("requests", "host 401", "no token", now.Add(3*time.Hour))
	if got := all.List(now.Add(3 * time.Hour)); len(got) != 1 || got[0].Count != 1 {
		t.Errorf("what was long ago counts: %+v", got)
	}
	for i := range 1000 {
		all.Note("requests", fmt.Sprint(i), "no token", now.Add(3*time.Hour))
	}
	if got := all.List(now.Add(3 * time.Hour)); len(got) > 64 {
		t.Errorf("it tells %d", len(got))
	}
}
