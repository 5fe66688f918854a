package metrics_test

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"pgregory.net/rapid"

	"github.com/hostrole/hostrole/agent/metrics"
)

func TestValues(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	d.set(func(d *daemon) {
		d.roles = []metrics.Role{
			{Name: "app", Live: true, Expires: now.Add(time.Hour), Headroom: 40 * time.Minute, Failures: 2, Skew: -1500 * time.Millisecond},
			{Name: "gone", Expires: now, Headroom: time.Minute},
			{Name: "fixed", Live: true, Endless: true},
			{Name: "new"},
			{Name: "taken", Revoked: true},
			{Name: "waiting", Live: true, Callers: true},
			{Name: "callers", Live: true, Callers: true, Sessions: 7, Expires: now.Add(time.Hour), Headroom: time.Minute},
		}
		d.config, d.missing = metrics.Config{Since: now}, 1
	})
	d.Connection("host")
	d.Connection("host")
	d.Begin("host")
	d.Begin("host")
	d.End("host")
	d.Request("host", 200, 3*time.Millisecond, true)
	d.Request("host", 401, 3*time.Millisecond, true)
	d.Request("tasks", 404, 20*time.Second, false)
	d.Request("tasks", 299, time.Millisecond, true)
	d.Decision("imds", metrics.Granted, metrics.NoRule)
	d.Decision("imds", metrics.Denied, metrics.NoRule)
	d.Decision("ecs", metrics.Denied, metrics.UnknownCaller)
	d.Decision("process", metrics.NotReady, "")
	d.Renewal("app", metrics.Fine, 30*time.Millisecond)
	d.Renewal("app", "throttled", 3*time.Second)
	d.Renewal("app", "throttled", 0)
	d.Unrecorded()
	d.Address(metrics.PutBack, 3)
	d.Address(metrics.Deaf, -1)
	d.Panic(metrics.InRenewal)
	for expr, want := range map[string]float64{
		`hostrole_role_live{role="app"}`:                                         1,
		`hostrole_role_live{role="gone"}`:                                        0,
		`hostrole_role_live{role="taken"}`:                                       0,
		`hostrole_role_revoked{role="taken"}`:                                    1,
		`hostrole_role_revoked{role="app"}`:                                      0,
		`hostrole_role_consecutive_failures{role="app"}`:                         2,
		`hostrole_credential_expiry_timestamp_seconds{role="app"}`:               1795698000.5,
		`hostrole_credential_expiry_timestamp_seconds{role="gone"}`:              1795694400.5,
		`hostrole_credential_expiry_timestamp_seconds{role="fixed"}`:             math.Inf(1),
		`hostrole_credential_expiry_timestamp_seconds{role="new"}`:               math.NaN(),
		`hostrole_outage_headroom_seconds{role="app"}`:                           2400,
		`hostrole_outage_headroom_seconds{role="gone"}`:                          0,
		`hostrole_outage_headroom_seconds{role="fixed"}`:                         math.Inf(1),
		`hostrole_outage_headroom_seconds{role="waiting"}`:                       math.NaN(),
		`hostrole_role_live{role="waiting"}`:                                     1,
		`hostrole_role_sessions{role="waiting"}`:                                 0,
		`hostrole_role_sessions{role="callers"}`:                                 7,
		`hostrole_outage_headroom_seconds{role="callers"}`:                       60,
		`count(hostrole_role_sessions)`:                                          2,
		`hostrole_clock_skew_seconds{role="app"}`:                                -1.5,
		`hostrole_renewals_total{role="app",result="success",class="fine"}`:      1,
		`hostrole_renewals_total{role="app",result="failure",class="throttled"}`: 2,
		`hostrole_renewals_total{role="new",result="success"}`:                   0,
		`hostrole_renewals_total{role="new",result="failure"}`:                   math.NaN(),
		`hostrole_renewal_duration_seconds_count{result="success"}`:              1,
		`hostrole_renewal_duration_seconds_sum{result="failure"}`:                3,
		`hostrole_renewal_duration_seconds_count{result="failure"}`:              1,
		`hostrole_requests_total{listener="host",endpoint="imds",code="200"}`:    1,
		`hostrole_requests_total{listener="host",endpoint="imds",code="503"}`:    0,
		`hostrole_requests_total{listener="tasks",endpoint="ecs",code="404"}`:    1,
		`hostrole_requests_total{listener="tasks",endpoint="ecs",code="other"}`:  1,
		`hostrole_request_duration_seconds_count{listener="host"}`:               2,
		`hostrole_request_duration_seconds_bucket{listener="host",le="0.005"}`:   2,
		`hostrole_requests_in_flight{listener="host"}`:                           1,
		`hostrole_connections_total{listener="host"}`:                            2,
		`hostrole_connections_open{listener="tasks"}`:                            5,
		`hostrole_token_failures_total{listener="host"}`:                         1,
		`hostrole_unidentified_callers_total{listener="tasks"}`:                  1,
		`hostrole_unidentified_callers_total{listener="host"}`:                   0,
		`hostrole_decisions_total{endpoint="imds",verdict="granted"}`:            1,
		`hostrole_decisions_total{endpoint="process",verdict="not_ready"}`:       1,
		`sum(hostrole_decisions_total)`:                                          4,
		`hostrole_denials_total{reason="no_rule"}`:                               1,
		`hostrole_denials_total{reason="unknown_caller"}`:                        1,
		`sum(hostrole_denials_total)`:                                            2,
		`hostrole_audit_failures_total`:                                          1,
		`hostrole_address_events_total{event="put_back"}`:                        3,
		`hostrole_address_events_total{event="deaf"}`:                            0,
		`hostrole_addresses_missing`:                                             1,
		`hostrole_config_last_reload_successful`:                                 0,
		`hostrole_config_last_reload_success_timestamp_seconds`:                  1795694400.5,
		`hostrole_panics_total{part="renewal"}`:                                  1,
		`hostrole_build_info{version="v1.2.3",revision="4de13c4"}`:               1,
		`count(go_goroutines)`:                                                   1,
		`count(process_start_time_seconds)`:                                      1,
	} {
		if got := value(t, d, expr); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("%s = %v, want %v", expr, got, want)
		}
	}
}

// A role that a reload has taken away is forgotten.
func TestRolesComeAndGo(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	d.Renewal("app", metrics.Fine, time.Second)
	d.Renewal("app", "refused", time.Second)
	if n := value(t, d, `sum(hostrole_renewals_total{role="app"})`); n != 2 {
		t.Errorf("%v renewals, want 2", n)
	}
	d.set(func(d *daemon) { d.roles = []metrics.Role{{Name: "other"}} })
	if all := text(t, d); strings.Contains(all, `role="app"`) {
		t.Errorf("the role is still shown:\n%s", all)
	}
	d.set(func(d *daemon) { d.roles = []metrics.Role{{Name: "app"}} })
	if n := value(t, d, `sum(hostrole_renewals_total{role="app"})`); n != 0 {
		t.Errorf("%v renewals of a role that has come back, want 0", n)
	}
}

// Whatever a caller of this package gets wrong, and whatever a client sends:
// the series are those of the configuration and of the code.
func TestNothingMakesASeries(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	var want []string
	for _, s := range scrape(t, d) {
		if strings.HasPrefix(s.labels[nameLabel], "hostrole_") {
			want = append(want, name(s))
		}
	}
	slices.Sort(want)
	// The bound: what is fixed, and so many for each listener and role.
	if fixed, each := len(want), 35; fixed > 100+2*each {
		t.Errorf("%d series of two listeners and one role", fixed)
	}
	rapid.Check(t, func(t *rapid.T) {
		canary := rapid.StringMatching(`canary[ -~]{0,20}`)
		d.Connection(canary.Draw(t, "listener"))
		d.Begin(canary.Draw(t, "listener"))
		d.End(canary.Draw(t, "listener"))
		d.Request(canary.Draw(t, "listener"), rapid.Int().Draw(t, "status"), time.Duration(rapid.Int64().Draw(t, "took")), false)
		d.Request("host", rapid.Int().Draw(t, "status"), time.Duration(rapid.Int64().Draw(t, "took")), false)
		d.Decision(canary.Draw(t, "endpoint"), canary.Draw(t, "verdict"), canary.Draw(t, "reason"))
		d.Decision("imds", metrics.Denied, canary.Draw(t, "reason"))
		d.Renewal(canary.Draw(t, "role"), canary.Draw(t, "class"), time.Second)
		d.Address(canary.Draw(t, "event"), rapid.Int().Draw(t, "n"))
		d.Panic(canary.Draw(t, "part"))
	})
	all := text(t, d)
	if strings.Contains(all, "canary") {
		t.Errorf("an argument is shown:\n%s", all)
	}
	var got []string
	for _, s := range scrape(t, d) {
		if strings.HasPrefix(s.labels[nameLabel], "hostrole_") {
			got = append(got, name(s))
		}
	}
	for _, expr := range []string{`hostrole_decisions_total{endpoint="other",verdict="other"}`, `hostrole_denials_total{reason="other"}`,
		`hostrole_address_events_total{event="other"}`, `hostrole_panics_total{part="other"}`, `hostrole_requests_total{listener="host",code="other"}`} {
		if !(value(t, d, expr) > 0) {
			t.Errorf("%s counted nothing", expr)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the series have changed from %d to %d", len(want), len(got))
	}
}

func TestConcurrently(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	const workers, rounds = 8, 200
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range rounds {
				d.Connection("host")
				d.Begin("host")
				d.Request("host", 200, time.Millisecond, true)
				d.End("host")
				d.Decision("imds", metrics.Granted, "")
				d.Renewal("app", metrics.Fine, time.Second)
			}
		})
	}
	for range 3 {
		all.Go(func() {
			for range 10 {
				text(t, d)
			}
		})
	}
	all.Wait()
	for _, expr := range []string{`hostrole_connections_total{listener="host"}`, `hostrole_requests_total{listener="host",code="200"}`,
		`hostrole_request_duration_seconds_count{listener="host"}`, `sum(hostrole_decisions_total)`, `hostrole_renewals_total`} {
		if got := value(t, d, expr); got != workers*rounds {
			t.Errorf("%s = %v, want %d", expr, got, workers*rounds)
		}
	}
	if got := value(t, d, `hostrole_requests_in_flight{listener="host"}`); got != 0 {
		t.Errorf("%v requests in flight at the end", got)
	}
}

// The request path pays nothing for being counted.
func TestCountingAllocatesNothing(t *testing.T) {
	d := newDaemon()
	if n := testing.AllocsPerRun(1000, func() {
		d.Connection("host")
		d.Begin("host")
		d.Request("host", 200, time.Millisecond, true)
		d.Request("host", 401, time.Millisecond, false)
		d.Decision("imds", metrics.Denied, metrics.NoRule)
		d.End("host")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	d := newDaemon()
	b.ReportAllocs()
	for b.Loop() {
		d.Connection("host")
		d.Begin("host")
		d.Request("host", 200, time.Millisecond, true)
		d.Decision("imds", metrics.Granted, "")
		d.End("host")
	}
}

// A panic under a scrape does not end the daemon, and is told.
func TestPanicStaysInItsScrape(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	d.set(func(d *daemon) { d.broken = true })
	if all := text(t, d); strings.Contains(all, "hostrole_role_live{") || !strings.Contains(all, "hostrole_requests_total{") {
		t.Errorf("the scrape is not what was left:\n%s", all)
	}
	if !strings.Contains(d.log.String(), "a fault in this program") || !strings.Contains(d.log.String(), "newDaemon") {
		t.Errorf("the log has no stack: %s", d.log.String())
	}
	d.set(func(d *daemon) { d.broken = false })
	if n := value(t, d, `hostrole_panics_total{part="scrape"}`); n != 1 {
		t.Errorf("%v panics of scrapes, want 1", n)
	}
	if n := value(t, d, `hostrole_role_live`); n != 1 {
		t.Errorf("the next scrape has no roles: %v", n)
	}
}

// Names, units and help texts are as Prometheus wants them.
func TestExposition(t *testing.T) {
	t.Parallel()
	d := newDaemon()
	d.Renewal("app", "refused", time.Second)
	all := text(t, d)
	problems, err := promlint.New(strings.NewReader(all)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for name := range families(t, all) {
		if !regexp.MustCompile(`^(hostrole|go|process)_[a-z_]+$`).MatchString(name) {
			t.Errorf("%s is none of ours", name)
		}
	}
}

// promtool is that of PATH, or what agent/e2e/setup.sh has fetched.
func promtool(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("promtool"); err == nil {
		return path
	}
	cache := os.Getenv("HOSTROLE_E2E_CACHE")
	if base, err := os.UserCacheDir(); cache == "" && err == nil {
		cache = filepath.Join(base, "hostrole-e2e")
	}
	path := filepath.Join(cache, "promtool")
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("HOSTROLE_E2E") == "require" {
			t.Fatal("missing, and HOSTROLE_E2E=require: promtool: run agent/e2e/setup.sh")
		}
		t.Skip("SKIPPED, missing: promtool: run agent/e2e/setup.sh; promlint has looked at the exposition, and TestRules at the rules")
	}
	return path
}

func TestPromtool(t *testing.T) {
	t.Parallel()
	tool := promtool(t)
	check := exec.Command(tool, "check", "metrics")
	check.Stdin = strings.NewReader(text(t, newDaemon()))
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	if out, err := exec.Command(tool, "check", "rules", rulesFile).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
	// Each alert is silent first, and then fires with its words.
	if out, err := exec.Command(tool, "test", "rules", rehearsalFile).CombinedOutput(); err != nil {
		t.Errorf("promtool test rules: %v\n%s", err, out)
	}
}
