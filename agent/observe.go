package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hostrole/hostrole/agent/audit"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/hostaddr"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/rotation"
)

// attempted logs the outcome of an attempt: a renewal each time, a failure
// when it begins and when its text changes, its end once.
func (a *Agent) attempted(e rotation.Event) {
	a.meter.attempted(e)
	log := a.log.With(logRole, e.Name)
	switch {
	case e.Err == nil:
		attrs := []any{logCredential, e.Credential.ID(), "expires", expiry(e), "next", e.Next.Round(time.Second).String(),
			"took", e.Took.Round(time.Millisecond).String(), "request_id", e.Credential.RequestID}
		if e.Recovered > 0 {
			attrs = append(attrs, "failures_before", e.Recovered)
		}
		log.Info("renewed", attrs...)
	default:
		level := slog.LevelWarn
		if !e.Credential.Complete() || e.Class == rotation.Misconfigured {
			level = slog.LevelError
		}
		if !a.recording.changed("role "+e.Name, e.Err.Error(), e.Failures) {
			level = slog.LevelDebug
		}
		log.Log(context.Background(), level, "renewal failed", logError, e.Err.Error(), "failures", e.Failures,
			"next", e.Next.Round(time.Second).String(), "serving", e.Credential.ID(), "expires", expiry(e))
		var p *rotation.PanicError
		if errors.As(e.Err, &p) && e.Failures == 1 {
			log.Error("a fault in this program", "stack", string(p.Stack))
		}
	}
	if a.o.Renewed != nil {
		a.o.Renewed(e)
	}
}

func expiry(e rotation.Event) string {
	if e.Credential.Expires.IsZero() {
		return "never"
	}
	return e.Credential.Expires.Format(time.RFC3339)
}

const (
	// quietFor is how long the same denial of the same caller stays unsaid.
	quietFor = time.Minute
	// rememberedMost bounds what is remembered of callers for that.
	rememberedMost = 1024
)

// A recorder turns events of the request path into log lines and counts.
type recorder struct {
	log   *slog.Logger
	now   func() time.Time
	meter *meter

	audit    *audit.Log // nil: the log has the decisions
	required bool       // no record, no credential

	mu     sync.Mutex
	said   map[string]time.Time // guarded by mu: when a line was last said
	states map[string]string    // guarded by mu: the newest state of a thing
}

func newRecorder(log *slog.Logger, now func() time.Time, m *meter) *recorder {
	return &recorder{log: log, now: now, meter: m, said: map[string]time.Time{}, states: map[string]string{}}
}

// changed reports whether the state of a thing is another than before, or its
// first.
func (r *recorder) changed(thing, state string, count int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.states[thing]
	r.states[thing] = state
	return count == 1 || was != state
}

// quiet reports whether a line was said a short while ago.
func (r *recorder) quiet(line string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if at, ok := r.said[line]; ok && now.Sub(at).Abs() < quietFor {
		return true
	}
	if len(r.said) >= rememberedMost {
		clear(r.said)
	}
	r.said[line] = now
	return false
}

// open opens the audit file, where the config names one.
func (r *recorder) open(c config.Audit) (err error) {
	if c.File != "" {
		r.audit, err = audit.Open(audit.Options{File: c.File, Required: c.Required, Now: r.now})
	}
	r.required = c.Required
	return err
}

func (r *recorder) close() error {
	if r.audit == nil {
		return nil
	}
	return r.audit.Close()
}

// decision records who was given what, and who was not. Its error keeps the
// credential back; there is none unless the operator has asked for that.
func (r *recorder) decision(e gate.Event) (err error) {
	defer func() { r.meter.decided(e, err) }()
	if r.audit == nil {
		r.say(e)
		return nil
	}
	err = r.audit.Write(record(e, r.now()))
	if err == nil {
		return nil
	}
	r.meter.metrics.Unrecorded()
	if r.changed("audit", err.Error(), 0) {
		r.log.Error("a decision is not on record", logError, err.Error(), "kept_back", r.required)
	}
	if r.required {
		return err
	}
	return nil
}

// record puts a decision into the form of the audit file.
func record(e gate.Event, now time.Time) audit.Record {
	rec := audit.Record{
		Time: now, Verdict: verdict(e.Err), Endpoint: e.Endpoint, Listener: e.Caller.Listener, Remote: remote(e.Caller),
		User: e.Caller.User, Groups: e.Caller.Groups, Cgroup: e.Caller.Cgroup, Inode: e.Caller.Inode,
		Unit: e.Caller.Unit, Container: e.Caller.Container, Runtime: e.Caller.Runtime, Pod: e.Caller.Pod,
		Rule: e.Verdict.Rule, Rehearsed: e.Verdict.Rehearsed, Role: e.Role, Credential: e.Credential, RequestID: e.RequestID,
	}
	if uid, known := e.Caller.UID.Get(); known {
		rec.UID = &uid
	}
	if e.Err != nil {
		rec.Reason = e.Err.Error()
	}
	return rec
}

func verdict(err error) audit.Verdict {
	switch {
	case err == nil:
		return audit.Granted
	case errors.Is(err, gate.ErrDenied):
		return audit.Denied
	case errors.Is(err, gate.ErrRefused):
		return audit.Refused
	}
	return audit.NotReady
}

// remote is where a caller came from; "" for one that has no address.
func remote(who caller.Caller) string {
	if !who.Remote.IsValid() {
		return ""
	}
	return who.Remote.String()
}

// party names a caller, without where it came from.
func party(who caller.Caller) string {
	if !who.Known() {
		return "unknown on " + who.Listener
	}
	return who.String()
}

// say logs a decision: a denial once a minute for each caller, the others only
// where somebody looks for them.
func (r *recorder) say(e gate.Event) {
	for _, rule := range e.Verdict.Rehearsed {
		if !r.quiet("rehearsed " + rule + party(e.Caller)) {
			r.log.Info("an audit-only rule would have decided", logRule, rule, logCaller, e.Caller.String())
		}
	}
	denied := len(e.Verdict.Roles) == 0
	if !denied && !r.log.Enabled(context.Background(), slog.LevelDebug) {
		return // the common case costs nothing
	}
	attrs := []any{logCaller, e.Caller.String(), logRule, e.Verdict.Rule, logRole, e.Role, "endpoint", e.Endpoint}
	switch {
	case errors.Is(e.Err, errRejected):
		if !r.quiet("rejected " + party(e.Caller)) {
			r.log.Info("denied: "+errRejected.Error(), append(attrs, logError, e.Err.Error())...)
		}
	case denied:
		if !r.quiet("denied " + party(e.Caller)) {
			r.log.Info("denied: no rule gives this caller a role", attrs...)
		}
	case e.Err == nil:
		r.log.Debug("granted", append(attrs, logCredential, e.Credential)...)
	default:
		r.log.Debug("not granted", append(attrs, logError, e.Err.Error())...)
	}
}

func (r *recorder) exchange(e imds.Exchange) {
	r.meter.exchange(e)
	if e.Panic != nil {
		r.log.Error("a fault in this program", logListener, e.Listener, "panic", e.Panic, "stack", string(e.Stack))
	}
	if e.Unknown != nil {
		r.log.Debug("the kernel does not say who calls", logListener, e.Listener, "remote", e.Caller.Remote.String(), logError, e.Unknown.Error())
	}
	if r.log.Enabled(context.Background(), slog.LevelDebug) {
		r.log.Debug("request", logListener, e.Listener, logCaller, e.Caller.String(), "method", e.Method, "path", e.Path, "status", e.Status, "took", e.Took.String())
	}
}

func (r *recorder) address(e hostaddr.Event) {
	r.meter.address(e)
	r.log.Warn(e.String())
}
