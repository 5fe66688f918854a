// Package audit keeps one record a decision: who asked for what, which rule
// decided, and what left.
//
// # Why not
//
// Not a line of the log like any other: a record has to be written before its
// credential leaves, and its failure has to be known. Not syslog's text: a
// client's words in it could end one record and begin another, or steer the
// terminal of who reads it; every letter here is printable ASCII. Not a signal
// for rotation: whoever renames the file, or cuts it, has done enough.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"
)

// A Verdict is how a decision ended.
type Verdict string

// The verdicts.
const (
	Granted  Verdict = "granted"   // a credential left
	Denied   Verdict = "denied"    // no rule gives this caller that role
	Refused  Verdict = "refused"   // a rule does, and the upstream does not
	NotReady Verdict = "not ready" // there is no live credential at the moment
	Dropped  Verdict = "dropped"   // no decision: only tells how many records of a caller were not written
)

// A Rehearsal is an audit-only rule that would have decided, and what it would
// have given.
type Rehearsal struct {
	Rule  string   `json:"rule"`
	Roles []string `json:"roles"` // tables; the first would be the caller's own
}

// A Record is one decision. It has no secret: a credential is named by its id,
// 8 hexadecimal digits that say nothing about the keys.
type Record struct {
	Time           time.Time         `json:"time"`
	Verdict        Verdict           `json:"verdict"`
	Reason         string            `json:"reason,omitempty"` // of a verdict that is not granted
	Endpoint       string            `json:"endpoint"`         // the protocol that asked, such as imds
	Listener       string            `json:"listener"`
	Remote         string            `json:"remote,omitempty"`
	UID            *uint32           `json:"uid"` // null when the kernel did not say
	User           string            `json:"user,omitempty"`
	Groups         []string          `json:"groups,omitempty"`
	Cgroup         uint64            `json:"cgroup,omitempty"`
	Inode          uint32            `json:"inode,omitempty"` // of the client's socket
	Unit           string            `json:"unit,omitempty"`
	Container      string            `json:"container,omitempty"`
	Runtime        string            `json:"runtime,omitempty"` // of the container; what follows is its word
	ContainerName  string            `json:"container_name,omitempty"`
	Image          string            `json:"image,omitempty"`
	ImageDigest    string            `json:"image_digest,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"` // those that rules ask for
	Namespace      string            `json:"namespace,omitempty"`
	ServiceAccount string            `json:"service_account,omitempty"`
	Pod            string            `json:"pod,omitempty"` // namespace/serviceaccount of a verified token
	Rule           string            `json:"rule,omitempty"`
	Rehearsed      []Rehearsal       `json:"rehearsed,omitempty"`  // by audit-only rules before the one that decided
	Role           string            `json:"role,omitempty"`       // by the name asked for, cut
	Session        string            `json:"session,omitempty"`    // name of a session that is the caller's own
	Credential     string            `json:"credential,omitempty"` // id of what left
	RequestID      string            `json:"request_id,omitempty"` // of the STS answer that it came in
	Dropped        int               `json:"dropped,omitempty"`    // records of this caller since the one before that were not written
}

// Options of a Log.
type Options struct {
	File     string       // path of the file; it is made with mode 0600. "" is Handler
	Handler  slog.Handler // of the log that has the records where there is no file
	Required bool         // a grant whose record cannot be written is an error, and no grant is dropped
	Now      func() time.Time
}

// A Log writes records. It may be used concurrently.
type Log struct {
	o Options

	mu      sync.Mutex
	file    *os.File // guarded by mu; nil for Handler, and after a failure
	torn    bool     // guarded by mu: the newest record was not written to its end
	callers callers  // guarded by mu
}

// Open opens or makes the file, where one is named.
func Open(o Options) (*Log, error) {
	l := &Log{o: o, callers: callers{burst: logBurst, every: logEvery}}
	if o.File == "" {
		return l, nil
	}
	l.callers.burst, l.callers.every = fileBurst, fileEvery
	var err error
	l.file, err = openFile(o.File)
	return l, err
}

func openFile(path string) (*os.File, error) {
	// Non-blocking: to open a pipe that nobody reads would wait for ever.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o600) // #nosec G304 -- the operator's path
	if err != nil {
		return nil, fmt.Errorf("opening the audit file: %w", err)
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("the audit file %s is no regular file", path), err, f.Close())
	}
	return f, nil
}

// roleMost is how much of a role's name is kept: a stranger has chosen it.
const roleMost = 256

// Write writes r, unless its caller has had more than its share, and before it
// what is to be told of callers who do not come back. The error is that of the
// file or the log; without Required it is for the log only.
func (l *Log) Write(r Record) error {
	r.Role = r.Role[:min(len(r.Role), roleMost)]
	l.mu.Lock()
	defer l.mu.Unlock()
	var failed error
	for _, told := range l.callers.overdue(r.Time) {
		failed = errors.Join(failed, l.put(told))
	}
	if !l.callers.admit(&r, l.o.Required && r.Verdict == Granted) {
		return failed
	}
	return errors.Join(failed, l.put(r))
}

// put writes a record. The caller holds l.mu.
func (l *Log) put(r Record) error {
	if l.o.File == "" {
		return l.say(r)
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing an audit record: %w", err)
	}
	if err := l.follow(); err != nil {
		return err
	}
	line = append(ascii(line), '\n')
	if l.torn { // this record must not continue the line
		line = append([]byte{'\n'}, line...)
	}
	n, err := l.file.Write(line)
	if err != nil {
		l.torn = l.torn || n > 0
		return fmt.Errorf("writing an audit record: %w", err)
	}
	l.torn = false
	return nil
}

// say writes a record to the log.
func (l *Log) say(r Record) error {
	ctx := context.Background()
	if !l.o.Handler.Enabled(ctx, slog.LevelInfo) {
		return nil // the operator wants none; the configuration does not take that together with Required
	}
	line := slog.NewRecord(r.Time, slog.LevelInfo, r.message(), 0)
	line.AddAttrs(r.attrs()...)
	if err := l.o.Handler.Handle(ctx, line); err != nil {
		return fmt.Errorf("writing an audit record: %w", err)
	}
	return nil
}

// follow opens the file again when its path leads to another, or to none: it
// was renamed. It is looked each time, because what is renamed may be
// compressed and gone a moment later.
func (l *Log) follow() error {
	if l.file != nil {
		have, err1 := l.file.Stat()
		want, err2 := os.Stat(l.o.File)
		if err1 == nil && err2 == nil && os.SameFile(have, want) {
			return nil
		}
	}
	f, err := openFile(l.o.File)
	if err != nil {
		return err
	}
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file, l.torn = f, false
	return nil
}

// Reopen looks at once whether the file was renamed, and not with the next
// record.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.o.File == "" {
		return nil
	}
	return l.follow()
}

// Close writes what is to be told of callers, and closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var failed error
	for _, told := range l.callers.all(l.o.Now()) {
		failed = errors.Join(failed, l.put(told))
	}
	if l.file != nil {
		failed = errors.Join(failed, l.file.Close())
	}
	return failed
}
