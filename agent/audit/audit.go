// Package audit keeps one record a decision: who asked for what, which rule
// decided, and what left.
//
// # Why not
//
// Not the log's own handler: a record has to be written before its credential
// leaves, and its failure has to be known. Not syslog's text: a client's words
// in it could end one record and begin another; JSON quotes them. Not a signal
// for rotation: whoever renames the file has done enough.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
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
)

// A Record is one decision. It has no secret: a credential is named by its id,
// 8 hexadecimal digits that say nothing about the keys.
type Record struct {
	Time       time.Time `json:"time"`
	Verdict    Verdict   `json:"verdict"`
	Reason     string    `json:"reason,omitempty"` // of a verdict that is not granted
	Endpoint   string    `json:"endpoint"`         // the protocol that asked, such as imds
	Listener   string    `json:"listener"`
	Remote     string    `json:"remote,omitempty"`
	UID        *uint32   `json:"uid"` // null when the kernel did not say
	User       string    `json:"user,omitempty"`
	Groups     []string  `json:"groups,omitempty"`
	Cgroup     uint64    `json:"cgroup,omitempty"`
	Inode      uint32    `json:"inode,omitempty"` // of the client's socket
	Unit       string    `json:"unit,omitempty"`
	Container  string    `json:"container,omitempty"`
	Runtime    string    `json:"runtime,omitempty"` // of the container
	Pod        string    `json:"pod,omitempty"`     // namespace/serviceaccount of a verified token
	Rule       string    `json:"rule,omitempty"`
	Rehearsed  []string  `json:"rehearsed,omitempty"`  // audit-only rules that would have decided
	Role       string    `json:"role,omitempty"`       // by the name asked for
	Credential string    `json:"credential,omitempty"` // id of what left
	RequestID  string    `json:"request_id,omitempty"` // of the STS answer that it came in
	Dropped    int       `json:"dropped,omitempty"`    // records of this caller since the one before that were not written
}

// Options of a Log.
type Options struct {
	File     string // path of the file; it is made with mode 0600
	Required bool   // a grant whose record cannot be written is an error, and no grant is dropped
	Now      func() time.Time
}

// A caller may cause burst records at once and one more each interval: what it
// repeats faster is counted and not written.
const (
	burst    = 60
	interval = time.Second
	// callersMost bounds what is remembered of callers.
	callersMost = 4096
	// lookEvery is how often it is looked whether the file was renamed.
	lookEvery = time.Second
)

// A Log writes records to a file. It may be used concurrently.
type Log struct {
	o Options

	mu      sync.Mutex
	file    *os.File           // guarded by mu
	looked  time.Time          // guarded by mu: when path and file were compared
	callers map[string]*budget // guarded by mu
}

type budget struct {
	left    int       // records that may be written at once
	since   time.Time // when left was last topped up
	dropped int
}

// Open opens or makes the file.
func Open(o Options) (*Log, error) {
	l := &Log{o: o, callers: map[string]*budget{}, looked: o.Now()}
	f, err := openFile(o.File)
	if err != nil {
		return nil, err
	}
	l.file = f
	return l, nil
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

// Write writes r, unless its caller has had more than its share. The error is
// that of the file; without Required it is for the log only.
func (l *Log) Write(r Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.admit(&r) {
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing an audit record: %w", err)
	}
	if err := l.reopen(r.Time); err != nil {
		return err
	}
	if n, err := l.file.Write(append(line, '\n')); err != nil {
		if n > 0 { // the next record must not continue this line
			_, _ = io.WriteString(l.file, "\n")
		}
		return fmt.Errorf("writing an audit record: %w", err)
	}
	return nil
}

// admit decides whether r is written, and gives it the count of those before
// it that were not.
func (l *Log) admit(r *Record) bool {
	uid := "?"
	if r.UID != nil {
		uid = fmt.Sprint(*r.UID)
	}
	who := strings.Join([]string{uid, r.Unit, r.Container, r.Pod, r.Listener}, " ")
	b := l.callers[who]
	if b == nil {
		if len(l.callers) >= callersMost {
			clear(l.callers)
		}
		b = &budget{left: burst, since: r.Time}
		l.callers[who] = b
	}
	if more := int(r.Time.Sub(b.since) / interval); more > 0 {
		b.left, b.since = min(burst, b.left+more), b.since.Add(time.Duration(more)*interval)
	} else if more < 0 { // the clock was put back
		b.since = r.Time
	}
	if b.left == 0 && (!l.o.Required || r.Verdict != Granted) {
		b.dropped++
		return false
	}
	b.left = max(0, b.left-1)
	r.Dropped, b.dropped = b.dropped, 0
	return true
}

// reopen follows a file that was renamed, as logrotate does it.
func (l *Log) reopen(now time.Time) error {
	if l.file != nil && now.Sub(l.looked).Abs() < lookEvery {
		return nil
	}
	l.looked = now
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
	l.file = f
	return nil
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
