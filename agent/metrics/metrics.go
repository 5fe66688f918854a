// Package metrics counts what the daemon does and shows it to Prometheus.
//
// # Why not
//
// Not the library's default registry: two agents run in one process in the
// tests, and other libraries put themselves into it. Not a gauge that an event
// sets, where something can be asked at each scrape: an expiry that nobody
// renews any more is exactly what must not be stale. Not a label that a client
// chose, nor the id of a session, a key or a process: anybody could fill a
// monitoring system with new ones. Not a credential in any argument here.
package metrics

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Values of labels. What is counted under another word counts as Other, so
// that no mistake of a caller makes a series.
const (
	Other = "other"

	// How decisions end; the words of the audit records.
	Granted, Denied, Refused, NotReady = "granted", "denied", "refused", "not_ready"

	// Why a decision was Denied.
	UnknownCaller = "unknown_caller" // the kernel does not say who it is
	NoRule        = "no_rule"        // no rule matches
	MissingFact   = "missing_fact"   // the caller has not what its session is named after
	OtherRole     = "other_role"     // the rule that matches does not have that role
	Rejected      = "rejected"       // it did not show the token that its listener asks for

	// What happens to the addresses of listeners.
	PutBack, Lost, Restored, Rival, Exposed, Deaf = "put_back", "lost", "restored", "rival", "exposed", "deaf"

	// Where a panic was contained.
	InRequest, InRenewal, InScrape = "request", "renewal", "scrape"
)

// Fine is the class of a renewal that worked.
const Fine = "fine"

// A Listener is one name of the configuration and the protocol behind it.
type Listener struct{ Name, Endpoint string }

// Options are what a Metrics shows and does not count itself. The functions
// are called at each scrape, concurrently. All are required but Version and
// Revision.
type Options struct {
	Log               *slog.Logger
	Version, Revision string // of the program
	Listeners         []Listener
	Roles             func() []Role
	Config            func() Config
	Missing           func() int // addresses that should be on the host and are not
	// Connections is how many connections of a listener are open.
	Connections func(listener string) int
}

// A Metrics is the daemon's counters and their handler. It may be used
// concurrently. What the request path calls takes no lock and allocates
// nothing.
type Metrics struct {
	http      http.Handler
	listeners map[string]*listener // never changes
	renewals  *renewals
	took      map[bool]prometheus.Observer // by success
	decisions map[[2]string]prometheus.Counter
	denials   counters
	addresses counters
	panics    counters
	unwritten prometheus.Counter
}

// counters are those of one closed set of words.
type counters map[string]prometheus.Counter

func (c counters) of(word string) prometheus.Counter {
	if n := c[word]; n != nil {
		return n
	}
	return c[Other]
}

// A listener has the counters of one listener.
type listener struct {
	codes        map[int]prometheus.Counter // never changes
	other        prometheus.Counter
	tokens       prometheus.Counter
	connections  prometheus.Counter
	unidentified prometheus.Counter
	inFlight     prometheus.Gauge
	took         prometheus.Observer
}

// New returns a Metrics in a registry of its own.
func New(o Options) *Metrics {
	reg := prometheus.NewRegistry()
	m := &Metrics{listeners: map[string]*listener{}, renewals: newRenewals(), decisions: map[[2]string]prometheus.Counter{}}
	add := func(all ...prometheus.Collector) { reg.MustRegister(all...) }
	m.requests(add, o.Listeners)

	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "hostrole_renewal_duration_seconds", Help: "How long the upstream was asked for a credential, retries within the attempt included.",
		Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60},
	}, []string{"result"})
	m.took = map[bool]prometheus.Observer{true: took.WithLabelValues("success"), false: took.WithLabelValues("failure")}

	decisions := counter("hostrole_decisions_total", "Decisions about a credential, by the protocol that asked and how they ended.", "endpoint", "verdict")
	for _, endpoint := range []string{"imds", "ecs", "eks", "process", Other} {
		for _, verdict := range []string{Granted, Denied, Refused, NotReady, Other} {
			m.decisions[[2]string{endpoint, verdict}] = decisions.WithLabelValues(endpoint, verdict)
		}
	}
	denials := counter("hostrole_denials_total", "Decisions that denied a role to a caller, by reason.", "reason")
	m.denials = words(denials, UnknownCaller, NoRule, MissingFact, OtherRole, Rejected, Other)
	addresses := counter("hostrole_address_events_total", "What happened to the addresses that the daemon keeps on the host.", "event")
	m.addresses = words(addresses, PutBack, Lost, Restored, Rival, Exposed, Deaf, Other)
	panics := counter("hostrole_panics_total", "Faults in this program that were contained; each is a bug.", "part")
	m.panics = words(panics, InRequest, InRenewal, InScrape, Other)
	m.unwritten = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "hostrole_audit_failures_total", Help: "Decisions that could not be put on record.",
	})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hostrole_build_info", Help: "Always 1; the labels say which program this is.",
		ConstLabels: prometheus.Labels{"version": cmp.Or(o.Version, "unknown"), "revision": cmp.Or(o.Revision, "unknown"), "goversion": runtime.Version()},
	})
	build.Set(1)
	add(took, decisions, denials, addresses, panics, m.unwritten, build, newState(o, m),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// A few at once: a scrape costs memory. A part that fails is left out.
	m.http = promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, DisableCompression: true, MaxRequestsInFlight: 3})
	return m
}

// requests makes the counters of the listeners. Every status that the server
// knows has its series from the start, so that the first of a kind is seen as
// an increase.
func (m *Metrics) requests(add func(...prometheus.Collector), all []Listener) {
	answers := counter("hostrole_requests_total", "Requests that were answered, by HTTP status.", "listener", "endpoint", "code")
	tokens := counter("hostrole_token_failures_total", "Requests that were answered 401, for want of a valid token; they are in hostrole_requests_total, too.", "listener")
	connections := counter("hostrole_connections_total", "Connections that were accepted.", "listener")
	unidentified := counter("hostrole_unidentified_callers_total", "Requests of callers that the kernel did not name.", "listener")
	inFlight := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "hostrole_requests_in_flight", Help: "Requests that are being worked on.",
	}, []string{"listener"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "hostrole_request_duration_seconds", Help: "From the end of a request's head to the last byte of its answer.",
		Buckets: []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1},
	}, []string{"listener"})
	for _, l := range all {
		one := &listener{
			codes: map[int]prometheus.Counter{}, other: answers.WithLabelValues(l.Name, l.Endpoint, Other),
			tokens: tokens.WithLabelValues(l.Name), connections: connections.WithLabelValues(l.Name),
			unidentified: unidentified.WithLabelValues(l.Name), inFlight: inFlight.WithLabelValues(l.Name), took: took.WithLabelValues(l.Name),
		}
		for _, code := range []int{200, 400, 401, 403, 404, 405, 408, 413, 414, 429, 431, 500, 503, 505} {
			one.codes[code] = answers.WithLabelValues(l.Name, l.Endpoint, fmt.Sprint(code))
		}
		m.listeners[l.Name] = one
	}
	add(answers, tokens, connections, unidentified, inFlight, took)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func words(vec *prometheus.CounterVec, all ...string) counters {
	c := counters{}
	for _, w := range all {
		c[w] = vec.WithLabelValues(w)
	}
	return c
}

// Connection counts a connection that a listener has accepted.
func (m *Metrics) Connection(listener string) {
	if l := m.listeners[listener]; l != nil {
		l.connections.Inc()
	}
}

// Begin counts a request of a listener as being worked on, until End.
func (m *Metrics) Begin(listener string) {
	if l := m.listeners[listener]; l != nil {
		l.inFlight.Inc()
	}
}

// End is the end of what began with Begin.
func (m *Metrics) End(listener string) {
	if l := m.listeners[listener]; l != nil {
		l.inFlight.Dec()
	}
}

// Request counts an answer of a listener. identified tells whether the kernel
// named the caller.
func (m *Metrics) Request(listener string, status int, took time.Duration, identified bool) {
	l := m.listeners[listener]
	if l == nil {
		return
	}
	n := l.codes[status]
	if n == nil {
		n = l.other
	}
	n.Inc()
	l.took.Observe(took.Seconds())
	if status == http.StatusUnauthorized {
		l.tokens.Inc()
	}
	if !identified {
		l.unidentified.Inc()
	}
}

// Decision counts a decision of an endpoint. reason says why it was Denied;
// with another verdict it is not looked at.
func (m *Metrics) Decision(endpoint, verdict, reason string) {
	n := m.decisions[[2]string{endpoint, verdict}]
	if n == nil {
		n = m.decisions[[2]string{Other, Other}]
	}
	n.Inc()
	if verdict == Denied {
		m.denials.of(reason).Inc()
	}
}

// Renewal counts an attempt to renew the credential of a role, with the class
// of its failure: Fine for none. took is the time upstream; 0 when it was not
// asked.
func (m *Metrics) Renewal(role, class string, took time.Duration) {
	m.renewals.count(role, class)
	if took > 0 {
		m.took[class == Fine].Observe(took.Seconds())
	}
}

// Unrecorded counts a decision that could not be put on record.
func (m *Metrics) Unrecorded() { m.unwritten.Inc() }

// Address counts what happened to an address, n times.
func (m *Metrics) Address(event string, n int) { m.addresses.of(event).Add(float64(max(n, 0))) }

// Panic counts a fault that was contained.
func (m *Metrics) Panic(part string) { m.panics.of(part).Inc() }
