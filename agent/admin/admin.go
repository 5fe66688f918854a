// Package admin is the operator's socket: its server, its client, and what
// they say to each other.
//
// # Why not
//
// Not a port on the loopback address: every user of the host, and every page in
// a browser on it, reaches one. Not a mode of the socket alone: the commands
// that need no right must reach it as well, so that anybody may connect and the
// kernel's word on the peer decides. Not SO_PEERGROUPS for the groups of the
// peer: x/sys has no call for it, and package unsafe is not for us; its first
// group is the kernel's word, and the others are those that the user database
// gives it, which also are right at once after usermod(8). Not gRPC: a person
// with curl --unix-socket must be able to look. Not a credential in any of
// these types: the one answer that holds keys is the document of
// credential_process, and it is rendered behind the gate.
package admin

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// DefaultSocket is where the daemon and the commands meet by default.
const DefaultSocket = "/run/hostrole/admin.sock"

// SocketVar names the environment variable with another path of the socket.
const SocketVar = "HOSTROLE_ADMIN_SOCKET"

// Listener stands in decisions and explanations for the operator's socket. No
// listener of a configuration can have a name with a space.
const Listener = "admin socket"

// StatusSchema is the JSON schema of a [Status].
//
//go:embed status.schema.json
var StatusSchema []byte

// HistorySchema is the JSON schema of a [History].
//
//go:embed history.schema.json
var HistorySchema []byte

// The failures of the operations; the client returns what the server's
// functions did.
var (
	// ErrNoDaemon matches a socket that nobody answers on.
	ErrNoDaemon = errors.New("no daemon answers")
	// ErrDenied matches what this user may not do; it matches fs.ErrPermission.
	ErrDenied = denied{}
	// ErrUnknown matches a role that is not in the configuration.
	ErrUnknown = errors.New("there is no such role")
	// ErrNotReady matches a role without a live credential that may soon have
	// one.
	ErrNotReady = errors.New("no live credential yet")
	// ErrRefused matches what the upstream, or an operator who revoked it, does
	// not give.
	ErrRefused = errors.New("refused")
)

type denied struct{}

func (denied) Error() string        { return "not permitted" }
func (denied) Is(target error) bool { return target == fs.ErrPermission }

// A Failure is an error on its way from the daemon: one of this package's
// errors, and the daemon's words.
type Failure struct {
	Kind error // ErrDenied, ErrUnknown, ErrNotReady, ErrRefused, or nil
	Text string
}

// Error is the daemon's words.
func (f *Failure) Error() string { return f.Text }

// Unwrap returns the kind.
func (f *Failure) Unwrap() error { return f.Kind }

// Fail makes a Failure of a kind.
func Fail(kind error, format string, args ...any) error {
	return &Failure{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// Status is how the daemon fares. It may gain fields; those that are there keep
// their names and meanings while Version is 1.
type Status struct {
	Version   int        `json:"version"` // of this form: 1
	Program   string     `json:"program"` // version of the daemon; "" for one that was built without
	Time      time.Time  `json:"time"`    // of the daemon's clock
	Started   time.Time  `json:"started"`
	PID       int        `json:"pid"`
	Roles     []Role     `json:"roles"` // by name, a role after the one that it is assumed from
	Listeners []Endpoint `json:"listeners"`
	Addresses []Address  `json:"addresses"` // that the daemon keeps on the host
	Decisions []Decision `json:"decisions"` // the newest of each caller, newest first
	Troubles  []Trouble  `json:"troubles"`  // what is wrong beside all that
}

// A Trouble is something that is wrong and that no role, address or decision
// tells of.
type Trouble struct {
	Kind  string    `json:"kind"`  // audit | config | handover | requests
	Time  time.Time `json:"time"`  // since when; of one with a count, when it was last so
	Count int       `json:"count"` // how often within the last hours; 0 for what lasts
	Text  string    `json:"text"`  // what is wrong, why, and what to do
}

// A State is how a role fares.
type State string

// The states of a role.
const (
	Live     State = "live"      // it is served, and the newest renewal worked
	Failing  State = "failing"   // it is served, and the newest renewal failed
	Starting State = "starting"  // the first attempt has not ended
	Down     State = "down"      // it is not served: the upstream does not answer
	Refused  State = "refused"   // it is not served: the upstream said no
	Revoked  State = "revoked"   // it is not served: an operator revoked it
	OnDemand State = "on demand" // each caller has a session of its own, and none has asked for one
)

// Served reports whether callers are given a credential, as far as is known
// before they ask.
func (s State) Served() bool { return s == Live || s == Failing || s == OnDemand }

// A Role is one role of the configuration and its session.
type Role struct {
	Name       string     `json:"name"`              // of its table
	ServedAs   string     `json:"served_as"`         // on the wire
	ARN        string     `json:"arn"`               // "" where the upstream fixes the role
	From       string     `json:"from"`              // such as source.corp or role.hub
	Session    string     `json:"session"`           // 8 hexadecimal digits that stand for all its parameters
	State      State      `json:"state"`             //
	Credential string     `json:"credential"`        // id, as in logs and audit records; "" without one
	Endpoint   string     `json:"endpoint"`          // host that gave the credential; "" when that is not known
	Issued     *time.Time `json:"issued,omitempty"`  // of the credential
	Expires    *time.Time `json:"expires,omitempty"` // absent for one that never does
	// Life is the whole life of the credential and Left what remains of it, by
	// the clock that has less: for so long the upstream may be away. Both are
	// in seconds, and absent without a credential or an end.
	Life     *float64   `json:"life_seconds,omitempty"`
	Left     *float64   `json:"left_seconds,omitempty"`
	Next     *time.Time `json:"next_renewal,omitempty"` // or the next attempt
	NextIn   *float64   `json:"next_renewal_seconds,omitempty"`
	Failures int        `json:"failures"` // in a row
	Since    *time.Time `json:"failing_since,omitempty"`
	Error    string     `json:"error"`                  // of the newest attempt; "" when it worked
	Skew     float64    `json:"clock_skew_seconds"`     // the upstream's clock minus ours; 0 while unknown or too small to tell
	Others   []string   `json:"same_session,omitempty"` // other roles that share the session
	Callers  *Callers   `json:"callers,omitempty"`      // absent for a role with one session for all
}

// Callers are the sessions of a role that has one for each caller. The
// credential, dates and failures of the role are then those of the session that
// fares worst.
type Callers struct {
	Sessions int      `json:"sessions"` // that there are
	Served   int      `json:"served"`   // of these
	Most     int      `json:"most"`     // that there can be
	Facts    []string `json:"facts"`    // that tell callers apart: unit, user, uid, container
}

// An Endpoint is one address that is listened on.
type Endpoint struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Address string `json:"address"`
	Ingress string `json:"ingress"` // device that packets must arrive on; "" for any
	Serving bool   `json:"serving"`
	// Devices are those that Ingress means now and that are served, where they
	// can come and go.
	Devices []string `json:"devices,omitempty"`
	Error   string   `json:"error,omitempty"` // why one of these is not served
}

// Waits reports whether there is no device yet that Ingress means.
func (e Endpoint) Waits() bool {
	return !e.Serving && e.Error == "" && e.Ingress != "" && e.Ingress != "lo"
}

// An Address is one that the daemon puts on the host.
type Address struct {
	Address string `json:"address"`
	Link    string `json:"link"`
	Error   string `json:"error"` // why it is not there; "" while it is
}

// A Decision is the newest answer of one kind to one caller.
type Decision struct {
	Time     time.Time `json:"time"`
	Caller   Caller    `json:"caller"`
	Endpoint string    `json:"endpoint"` // protocol that asked, such as imds
	Role     string    `json:"role"`     // as it was asked for, cut; "" for the caller's own
	Rule     string    `json:"rule"`     // that decided; "" when none matched
	Verdict  string    `json:"verdict"`  // granted | denied | refused | not ready
	Count    int       `json:"count"`    // of such answers in a row
}

// A Caller is who asked.
type Caller struct {
	UID       *uint32  `json:"uid"` // null when the kernel did not say
	User      string   `json:"user"`
	Groups    []string `json:"groups,omitempty"`
	Unit      string   `json:"unit,omitempty"`
	Container string   `json:"container,omitempty"`
	Pod       string   `json:"pod,omitempty"`
	Listener  string   `json:"listener"` // or the constant Listener
}

// An Explanation is what one caller would be given, and why.
type Explanation struct {
	Caller  Caller   `json:"caller"`
	Answers []Answer `json:"answers"` // one for each listener, and one for the operator's socket
}

// An Answer is what the rules say about a caller on one listener.
type Answer struct {
	Listener  string   `json:"listener"` // or the constant Listener, for credential_process
	Rule      string   `json:"rule"`     // that decides; "" when none matches
	Roles     []string `json:"roles"`    // tables; the first is the caller's own; none is a host without a role
	Reason    string   `json:"reason"`
	Named     []Named  `json:"named,omitempty"` // roles whose session is the caller's own
	Passed    []string `json:"passed"`          // rules before the one that decides, each with why it does not match
	Rehearsed []string `json:"rehearsed"`       // audit-only rules that would have decided
}

// Named is what the upstream is told of a caller, so that its own records name
// the caller.
type Named struct {
	Role           string            `json:"role"` // of its table
	SessionName    string            `json:"session_name"`
	SourceIdentity string            `json:"source_identity,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
}

// A Renewal is the outcome of one refresh.
type Renewal struct {
	Role Role `json:"role"` // afterwards
}

// A Reload is the outcome of reading the configuration again. One with Faults
// changed nothing.
type Reload struct {
	Summary string  `json:"summary"`
	Faults  []Fault `json:"faults"`
}

// A Fault is one thing that is wrong with the configuration.
type Fault struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // 0 where the file as a whole is meant
	Column  int    `json:"column"`
	Key     string `json:"key"`
	Problem string `json:"problem"`
	Hint    string `json:"hint"`
}

// A Revocation is what came of revoking a role.
type Revocation struct {
	Roles    []string  `json:"roles"` // that are not served any more: the role, and those with the same session
	ARN      string    `json:"arn"`   // "" where the upstream fixes the role
	Time     time.Time `json:"time"`  // sessions issued before it are to be killed
	Children []string  `json:"children"`
}
