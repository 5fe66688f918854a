package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hostrole/hostrole/agent/audit"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/hostaddr"
	"github.com/hostrole/hostrole/agent/meter"
	"github.com/hostrole/hostrole/agent/report"
	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/gate"
	"github.com/hostrole/hostrole/rotation"
)

// attempted logs the outcome of an attempt: a renewal each time, a failure
// when it begins and when its text changes, its end once.
func (a *Agent) attempted(e rotation.Event) {
	a.meter.Attempted(e)
	log := a.log.With(logRole, e.Name)
	name, whose := a.sessions.Name(e.Key), e.Name
	if name != "" {
		log, whose = log.With("session", name), e.Name+" of "+name
	}
	if e.Err == nil {
		a.history.Renewed(whose, e.Credential, Now())
	} else {
		a.history.Failed(whose, e.Err.Error(), Now())
	}
	switch {
	case e.Err == nil:
		attrs := []any{logCredential, e.Credential.ID(), "expires", expiry(e), "next", e.Next.Round(time.Second).String(),
			"took", e.Took.Round(time.Millisecond).String(), "request_id", e.Credential.RequestID, "endpoint", e.Credential.Endpoint}
		if e.Recovered > 0 {
			attrs = append(attrs, "failures_before", e.Recovered)
		}
		log.Info("renewed", attrs...)
	default:
		level := slog.LevelWarn
		if !e.Credential.Complete() || e.Class == rotation.Misconfigured {
			level = slog.LevelError
		}
		if !a.recording.changed("role "+e.Name+" "+name, e.Err.Error(), e.Failures) {
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
	// quietFor is how long the same line stays unsaid.
	quietFor = time.Minute
	// rememberedMost bounds what is remembered of callers.
	rememberedMost = 1024
)

// A recorder turns events of the request path into log lines and counts.
type recorder struct {
	log   *slog.Logger
	now   func() time.Time
	meter *meter.Meter
	// troubles are told to the operator; set before anything happens.
	troubles *report.Troubles

	audit    *audit.Log // nil until it is opened
	required bool       // no record, no credential

	mu     sync.Mutex
	said   map[string]time.Time // guarded by mu: when a line was last said
	states map[string]string    // guarded by mu: the newest state of a thing
}

func newRecorder(log *slog.Logger, now func() time.Time, m *meter.Meter) *recorder {
	return &recorder{log: log, now: now, meter: m, said: map[string]time.Time{}, states: map[string]string{}}
}

// changed reports whether the state of a thing is another than before, or its
// first.
func (r *recorder) changed(thing, state string, count int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.states[thing]
	if len(r.states) >= rememberedMost {
		clear(r.states)
	}
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

// open opens the audit: the file where the config names one, else the log.
func (r *recorder) open(c config.Audit) (err error) {
	r.audit, err = audit.Open(audit.Options{File: c.File, Handler: r.log.Handler(), Required: c.Required, Now: r.now})
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
func (r *recorder) decision(rec audit.Record, e gate.Event) (err error) {
	defer func() { r.meter.Decided(e, err) }()
	if r.audit == nil { // nothing is served yet
		return nil
	}
	if err = r.audit.Write(rec); err == nil {
		r.troubles.Clear("audit")
		return nil
	}
	r.unrecorded(err)
	r.meter.Metrics().Unrecorded()
	if r.changed("audit", err.Error(), 0) {
		r.log.Error("a decision is not on record", logError, err.Error(), "kept_back", r.required)
	}
	if r.required {
		return err
	}
	return nil
}

// reopen has the audit look whether its file was renamed.
func (r *recorder) reopen() {
	if r.audit == nil {
		return
	}
	if err := r.audit.Reopen(); err != nil && r.changed("audit", err.Error(), 0) {
		r.log.Error("decisions will not be on record", logError, err.Error())
	}
}

func (r *recorder) exchange(e imds.Exchange) {
	r.meter.Exchange(e)
	if e.Panic != nil {
		r.log.Error("a fault in this program", logListener, e.Listener, "panic", e.Panic, "stack", string(e.Stack))
	}
	if text := turnedAway(e); text != "" {
		r.troubles.Note("requests", fmt.Sprint(e.Listener, " ", e.Status), text, r.now())
	}
	if e.Unknown != nil {
		r.log.Debug("the kernel does not say who calls", logListener, e.Listener, "remote", e.Caller.Remote.String(), logError, e.Unknown.Error())
	}
	if r.log.Enabled(context.Background(), slog.LevelDebug) {
		r.log.Debug("request", logListener, e.Listener, logCaller, e.Caller.String(), "method", e.Method, "path", e.Path, "status", e.Status, "took", e.Took.String())
	}
}

func (r *recorder) address(e hostaddr.Event) {
	r.meter.Address(e)
	r.log.Warn(e.String())
}
