package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Peer is the process at the other end, by the kernel's word.
type Peer struct {
	UID uint32
	GID uint32 // its first group
	// Cgroup is its path from the root of the tree of cgroup v2; "" where the
	// kernel does not say, as before Linux 6.5.
	Cgroup string
}

// CgroupPath finds the path of cgroup v2 in /proc/PID/cgroup; "" without one.
func CgroupPath(text string) string {
	for line := range strings.Lines(text) {
		path, is := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if is && !strings.HasSuffix(path, " (deleted)") {
			return path
		}
	}
	return ""
}

// Options are a Server's parts. The functions are called concurrently; all but
// Await, History, Metrics, Member and Log are required.
type Options struct {
	Status func() Status
	// Await is told before a Status that somebody waits for a role, or "" for
	// any; nil: nobody is told.
	Await func(role string)
	// History is what status --web draws; nil: there is none.
	History func() History
	// Explain is about a user's process in a cgroup; "" for one of no cgroup
	// that is known.
	Explain func(uid uint32, cgroup string) (Explanation, error)
	Refresh func(ctx context.Context, role string) (Renewal, error)
	Reload  func(ctx context.Context) (Reload, error)
	Revoke  func(role string) (Revocation, error)
	// Process returns the document of credential_process for a peer; role ""
	// is the peer's own.
	Process func(ctx context.Context, p Peer, role string) ([]byte, error)
	Metrics http.Handler // nil: there are none

	Group  string                       // its members may read; "" for nobody
	Member func(Peer) (bool, error)     // default: by Group and the user database
	Peer   func(net.Conn) (Peer, error) // default: SO_PEERCRED
	Log    *slog.Logger                 // nil: silent
}

// errRequest is the failure of a request that no client of ours makes.
var errRequest = errors.New("explain needs uid=NUMBER")

// A right is what an operation needs.
type right int

const (
	anybody right = iota // every local user
	reader               // members of the group, root, and the daemon's own user
	actor                // root and the daemon's own user
)

// patience bounds one answer. The clients of credential_process give it a
// minute.
const patience = 50 * time.Second

// A Server answers on a socket.
type Server struct {
	o    Options
	http *http.Server
}

// New returns a Server.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Member == nil {
		o.Member = func(p Peer) (bool, error) { return member(p, o.Group) }
	}
	if o.Peer == nil {
		o.Peer = peerOf
	}
	s := &Server{o: o}
	mux := http.NewServeMux()
	mux.Handle("GET /v1/status", s.to(reader, func(r *http.Request, _ Peer) (any, error) {
		if o.Await != nil && r.URL.Query().Has("await") {
			o.Await(r.FormValue("await"))
		}
		return o.Status(), nil
	}))
	if o.History != nil {
		mux.Handle("GET /v1/history", s.to(reader, func(*http.Request, Peer) (any, error) { return o.History(), nil }))
	}
	mux.Handle("GET /v1/explain", s.to(reader, func(r *http.Request, _ Peer) (any, error) {
		uid, err := strconv.ParseUint(r.FormValue("uid"), 10, 32)
		if err != nil {
			return nil, errRequest
		}
		return o.Explain(uint32(uid), r.FormValue("cgroup")) // #nosec G115 -- 32 bits were asked for
	}))
	mux.Handle("POST /v1/refresh", s.to(actor, func(r *http.Request, _ Peer) (any, error) { return o.Refresh(r.Context(), r.FormValue("role")) }))
	mux.Handle("POST /v1/reload", s.to(actor, func(r *http.Request, _ Peer) (any, error) { return o.Reload(r.Context()) }))
	mux.Handle("POST /v1/revoke", s.to(actor, func(r *http.Request, _ Peer) (any, error) { return o.Revoke(r.FormValue("role")) }))
	mux.Handle("POST /v1/credential-process", s.to(anybody, func(r *http.Request, p Peer) (any, error) {
		text, err := o.Process(r.Context(), p, r.FormValue("role"))
		return json.RawMessage(text), err
	}))
	if o.Metrics != nil {
		mux.Handle("GET /metrics", s.guard(reader, func(w http.ResponseWriter, r *http.Request, _ Peer) { o.Metrics.ServeHTTP(w, r) }))
	}
	s.http = &http.Server{
		Handler:           http.MaxBytesHandler(mux, 4<<10),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // a peer that goes away is no news
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if c, ok := c.(*admitted); ok {
				return context.WithValue(ctx, peerKey{}, c.peer)
			}
			return ctx
		},
	}
	s.http.SetKeepAlivesEnabled(false) // an idle connection would count against its user
	return s
}

type peerKey struct{}

// Serve answers on l until ctx ends, then ends what is open, and returns when
// nothing of it is left. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	// Requests end with ctx: they wait for upstreams, and nobody should wait
	// for them at the end.
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	ended := make(chan error, 1)
	go func() { ended <- s.http.Serve(newDoor(l, s.o.Peer, s.o.Log)) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving the operator's socket: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if s.http.Shutdown(last) != nil {
		_ = s.http.Close()
	}
	<-ended
	return nil
}

// guard lets a request through whose peer has the right.
func (s *Server) guard(need right, next func(http.ResponseWriter, *http.Request, Peer)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				s.o.Log.Error("a fault in this program", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				s.fail(w, errors.New("a fault in the daemon; its log has more"))
			}
		}()
		p, known := r.Context().Value(peerKey{}).(Peer)
		if err := s.admit(p, known, need); err != nil {
			s.o.Log.Warn("the operator's socket refused a request", "uid", p.UID, "path", r.URL.Path)
			s.fail(w, err)
			return
		}
		if need == actor {
			s.o.Log.Info("an operator acts", "uid", p.UID, "path", r.URL.Path, "role", cut(r.FormValue("role")))
		}
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		next(w, r.WithContext(ctx), p)
	})
}

// admit is nil when a peer has a right.
func (s *Server) admit(p Peer, known bool, need right) error {
	switch {
	case !known: // never so behind a door; a mistake here must not open one
		return Fail(ErrDenied, "the kernel does not say whose connection this is")
	case need == anybody, p.UID == 0, own(p.UID):
		return nil
	case need == actor:
		return Fail(ErrDenied, "only root and the daemon's own user may do this, and you are uid %d: try it with sudo", p.UID)
	}
	in, err := s.o.Member(p)
	if err == nil && in {
		return nil
	}
	if s.o.Group == "" {
		return Fail(ErrDenied, "only root and the daemon's own user may read this, and you are uid %d: [admin] of the configuration names no group", p.UID)
	}
	return Fail(ErrDenied, "only members of the group %s may read this, and uid %d is none: `usermod -aG %[1]s USER` makes one", s.o.Group, p.UID)
}

// nobody is how users that have no meaning here read, as those of a user
// namespace that is not mapped: they are not this daemon's, whoever it runs as.
const nobody = 65534

func own(uid uint32) bool { return uid != nobody && int64(uid) == int64(os.Geteuid()) }

// member reports whether a peer is in a group.
func member(p Peer, group string) (bool, error) {
	if group == "" {
		return false, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return false, err
	}
	if g.Gid == strconv.FormatUint(uint64(p.GID), 10) {
		return true, nil
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(p.UID), 10))
	if err != nil {
		return false, err
	}
	all, err := u.GroupIds()
	return slices.Contains(all, g.Gid), err
}

// to is an operation that answers with JSON.
func (s *Server) to(need right, do func(*http.Request, Peer) (any, error)) http.Handler {
	return s.guard(need, func(w http.ResponseWriter, r *http.Request, p Peer) {
		answer, err := do(r, p)
		if err != nil {
			s.fail(w, err)
			return
		}
		text, err := json.Marshal(answer)
		if err != nil {
			s.fail(w, fmt.Errorf("writing the answer: %w", err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text)
	})
}

// kinds are the failures that have a name on the wire, and their statuses.
var kinds = []struct {
	kind   error
	name   string
	status int
}{
	{ErrDenied, "denied", http.StatusForbidden},
	{ErrUnknown, "unknown", http.StatusNotFound},
	{ErrRefused, "refused", http.StatusConflict},
	{ErrNotReady, "not ready", http.StatusServiceUnavailable},
}

// A problem is an error on the wire.
type problem struct {
	Kind  string `json:"kind"` // "" for an error without a name
	Error string `json:"error"`
}

func (s *Server) fail(w http.ResponseWriter, err error) {
	p, status := problem{Error: err.Error()}, http.StatusInternalServerError
	if errors.Is(err, errRequest) {
		status = http.StatusBadRequest
	}
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			p.Kind, status = k.name, k.status
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p)
}

// cut keeps what a client sent short in a log.
func cut(s string) string { return s[:min(len(s), 64)] }
