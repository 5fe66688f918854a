// Package page shows a status in a browser, for as long as somebody looks.
//
// The command serves it, not the daemon: what the daemon holds is worth more
// than a picture of it, and it gains no listener by this. Whoever starts the
// command may read the status, and so may whoever has the address that it
// prints: that works once, and leaves a cookie that is sent to one path, which
// nobody can guess. A cookie knows no port, so that without the path every
// other server on the loopback address would be sent it.
//
// # Why not
//
// Not a listener of the daemon's, as above. Not a password: nobody would choose
// a good one for a page of ten minutes. Not a token that stays in the address,
// which ends up in histories and screenshots. Not a port that stays: see
// [Options.Idle].
package page

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/cmd/hostrole/picture"
)

// Options are what a Server shows. All are required.
type Options struct {
	Status  func(context.Context) (admin.Status, error)
	History func(context.Context) (admin.History, error)
	Host    string        // its name, for the title
	Idle    time.Duration // Serve ends when nobody has looked for so long
}

// cookieName is that of the one cookie.
const cookieName = "hostrole"

// A Server is the page and its door.
type Server struct {
	o      Options
	path   string // of the page: /secret/
	cookie string
	looked chan struct{}

	mu    sync.Mutex
	token string // guarded by mu: "" once it was used
}

// New returns a Server with secrets of its own. It listens on nothing.
func New(o Options) *Server {
	return &Server{o: o, path: "/" + rand.Text() + "/", cookie: rand.Text(), token: rand.Text(), looked: make(chan struct{}, 1)}
}

// First is the path that opens the page, once.
func (s *Server) First() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "/open/" + s.token
}

// Open serves the page on a port of 127.0.0.1 that is free, and says where: path
// opens it. It ends as [Server.Serve] does.
func Open(ctx context.Context, o Options, say func(at netip.AddrPort, path string)) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for the browser: %w", err)
	}
	s := New(o)
	say(l.Addr().(*net.TCPAddr).AddrPort(), s.First())
	return s.Serve(ctx, l)
}

// Serve answers on l, which must be of a loopback address, until ctx ends or
// nobody has looked for a while. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	idle := time.NewTimer(s.o.Idle)
	defer idle.Stop()
	for {
		select {
		case err := <-ended:
			return fmt.Errorf("serving the page: %w", err)
		case <-s.looked:
			idle.Reset(s.o.Idle)
			continue
		case <-idle.C:
		case <-ctx.Done():
		}
		err := srv.Close()
		<-ended
		if errors.Is(err, net.ErrClosed) {
			err = nil
		}
		return err
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", picture.Policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	switch {
	case !local(r.Host):
		// A name that somebody else's DNS has pointed at this host.
		s.refuse(w, http.StatusMisdirectedRequest, "This page answers to 127.0.0.1 and localhost alone.")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		s.refuse(w, http.StatusMethodNotAllowed, "This page can only be looked at.")
	case strings.HasPrefix(r.URL.Path, "/open/"):
		s.enter(w, r)
	case !same(r.URL.Path, s.path) || !s.admitted(r):
		s.refuse(w, http.StatusForbidden, "This page opens by the address that hostrole status --web printed, once. Run it again for another one.")
	default:
		select {
		case s.looked <- struct{}{}:
		default:
		}
		s.show(w, r)
	}
}

// local reports whether a Host names this host, by whatever port a tunnel has.
func local(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	return name == "127.0.0.1" || name == "localhost"
}

// enter takes the token for a cookie. A request for something that the browser
// only wants to look at beforehand does not count.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	good := r.Method == http.MethodGet && r.Header.Get("Sec-Purpose") == "" && s.token != "" && same(r.URL.Path, "/open/"+s.token)
	if good {
		s.token = ""
	}
	s.mu.Unlock()
	if !good {
		s.refuse(w, http.StatusForbidden, "This address has been used, or is not the one that was printed. Run hostrole status --web again.")
		return
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: s.cookie, Path: s.path, HttpOnly: true, SameSite: http.SameSiteStrictMode}) // #nosec G124 -- Secure is for TLS, and what does not leave the host has none
	http.Redirect(w, r, s.path, http.StatusSeeOther)
}

func (s *Server) admitted(r *http.Request) bool {
	c, err := r.Cookie(cookieName)
	return err == nil && same(c.Value, s.cookie)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (s *Server) refuse(w http.ResponseWriter, status int, words string) {
	send(w, status, picture.Words(words))
}

// show answers with the status of now.
func (s *Server) show(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	v := picture.View{Host: s.o.Host, Back: r.URL.Query().Get("span"), Still: r.URL.Query().Has("still")}
	var err error
	if v.Status, err = s.o.Status(ctx); err == nil {
		v.History, err = s.o.History(ctx)
	}
	status := http.StatusOK
	if err != nil {
		v.Trouble, status = err.Error(), http.StatusServiceUnavailable
	}
	send(w, status, picture.Draw(v))
}

func send(w http.ResponseWriter, status int, page string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(page))
}
