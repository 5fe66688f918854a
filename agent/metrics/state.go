package metrics

import (
	"math"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Role is how a role fares at the moment of a scrape.
type Role struct {
	Name     string // of its table
	Live     bool   // callers are given a credential
	Revoked  bool   // by an operator
	Callers  bool   // each has a session of its own
	Sessions int    // of these; 0 for a role with one for all
	Failures int    // renewals that failed in a row
	// Expires is the end of the newest credential; zero without a credential.
	// With Endless there is a credential that has no end.
	Expires time.Time
	Endless bool
	// Headroom is how long the upstream may be away before callers notice; 0
	// without a live credential.
	Headroom time.Duration
	Skew     time.Duration // the upstream's clock minus ours; 0 while unknown
}

// A Config is how the newest look at the configuration ended.
type Config struct {
	AtWork bool      // the newest that was read is at work
	Since  time.Time // when the one that is at work was read
}

// A state asks at each scrape what can be asked.
type state struct {
	o Options
	m *Metrics

	live, revoked, failures, expires, headroom, skew *prometheus.Desc
	renewed, sessions                                *prometheus.Desc
	atWork, since, missing, open                     *prometheus.Desc
}

func newState(o Options, m *Metrics) *state {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hostrole_"+name, help, labels, nil)
	}
	return &state{
		o: o, m: m,
		live:     desc("role_live", "1 while callers are given a credential of the role, else 0.", "role"),
		revoked:  desc("role_revoked", "1 while an operator keeps the role from being served, else 0.", "role"),
		failures: desc("role_consecutive_failures", "Renewals of the role that have failed in a row.", "role"),
		expires:  desc("credential_expiry_timestamp_seconds", "End of the role's newest credential; absent while there is none, +Inf when it has no end.", "role"),
		headroom: desc("outage_headroom_seconds", "How long the role's upstream may be away before callers notice.", "role"),
		skew:     desc("clock_skew_seconds", "Clock of the role's upstream minus ours; 0 while it is unknown or too small to tell.", "role"),
		sessions: desc("role_sessions", "Sessions of a role that has one for each caller.", "role"),
		renewed:  desc("renewals_total", "Attempts to renew the role's credential, by result and by what kind of failure it was.", "role", "result", "class"),
		atWork:   desc("config_last_reload_successful", "1 while the configuration that was read last is at work, else 0."),
		since:    desc("config_last_reload_success_timestamp_seconds", "When the configuration that is at work was read."),
		open:     desc("connections_open", "Connections that are open.", "listener"),
		missing:  desc("addresses_missing", "Addresses that the daemon should keep on the host and cannot."),
	}
}

// Describe is of prometheus.Collector.
func (s *state) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.live, s.revoked, s.failures, s.expires, s.headroom, s.skew, s.renewed, s.sessions, s.atWork, s.since, s.missing, s.open} {
		to <- d
	}
}

// Collect is of prometheus.Collector. The registry calls it in a goroutine of
// its own, where a panic would end the daemon.
func (s *state) Collect(to chan<- prometheus.Metric) {
	defer func() {
		if p := recover(); p != nil {
			s.m.Panic(InScrape)
			s.o.Log.Error("a fault in this program", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	roles := s.o.Roles()
	for _, r := range roles {
		gauge(s.live, truth(r.Live), r.Name)
		gauge(s.revoked, truth(r.Revoked), r.Name)
		gauge(s.failures, float64(r.Failures), r.Name)
		gauge(s.skew, r.Skew.Seconds(), r.Name)
		switch {
		case r.Endless:
			gauge(s.expires, math.Inf(1), r.Name)
		case !r.Expires.IsZero():
			gauge(s.expires, seconds(r.Expires), r.Name)
		}
		if r.Callers {
			gauge(s.sessions, float64(r.Sessions), r.Name)
		}
		switch {
		case r.Live && r.Callers && r.Sessions == 0: // there is nothing that callers could notice
		case r.Live && r.Endless:
			gauge(s.headroom, math.Inf(1), r.Name)
		case r.Live:
			gauge(s.headroom, r.Headroom.Seconds(), r.Name)
		default:
			gauge(s.headroom, 0, r.Name)
		}
	}
	s.m.renewals.each(roles, func(role, result, class string, n uint64) {
		to <- prometheus.MustNewConstMetric(s.renewed, prometheus.CounterValue, float64(n), role, result, class)
	})
	c := s.o.Config()
	gauge(s.atWork, truth(c.AtWork))
	gauge(s.since, seconds(c.Since))
	gauge(s.missing, float64(s.o.Missing()))
	for _, l := range s.o.Listeners {
		gauge(s.open, float64(s.o.Connections(l.Name)), l.Name)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// renewals are counted by role and class.
type renewals struct {
	classes []string // the closed set; Fine is the first

	mu    sync.Mutex
	roles map[string][]uint64 // guarded by mu: by role, then in the order of classes
}

func newRenewals() *renewals {
	return &renewals{classes: []string{Fine, "transient", "throttled", "refetch", "refused", "misconfigured", Other}, roles: map[string][]uint64{}}
}

func (r *renewals) count(role, class string) {
	at := len(r.classes) - 1
	for i, c := range r.classes {
		if c == class {
			at = i
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.roles[role] == nil {
		r.roles[role] = make([]uint64, len(r.classes))
	}
	r.roles[role][at]++
}

// each reports the counts of roles, and forgets those of others: a reload has
// taken them away. Successes are reported from the start; failures, of which
// there are many kinds, once there are any.
func (r *renewals) each(roles []Role, report func(role, result, class string, n uint64)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := make(map[string][]uint64, len(roles))
	for _, role := range roles {
		counts := r.roles[role.Name]
		if counts == nil {
			counts = make([]uint64, len(r.classes))
		}
		kept[role.Name] = counts
		report(role.Name, "success", Fine, counts[0])
		for i, n := range counts[1:] {
			if n > 0 {
				report(role.Name, "failure", r.classes[i+1], n)
			}
		}
	}
	r.roles = kept
}
