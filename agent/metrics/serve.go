package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// openMost bounds the connections of the endpoint: they must not take the
	// descriptors that requests for credentials need.
	openMost = 16

	patience = 5 * time.Second  // for a request
	atMost   = 20 * time.Second // for its answer; a scrape gives up after ten by default
	drain    = time.Second      // for what is open when the daemon ends
)

// ServeHTTP shows the metrics to whoever has been let in: the operator's
// socket puts it behind its own door.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.http.ServeHTTP(w, r) }

// Serve answers GET and HEAD of /metrics on l, and nothing else, until ctx
// ends or l fails. It closes l, and returns when nothing of it is left; nil
// when ctx ended.
func (m *Metrics) Serve(ctx context.Context, l net.Listener) error {
	at, _ := netip.ParseAddrPort(l.Addr().String())
	srv := &http.Server{
		Handler:                      m.door(at.Addr().IsLoopback()),
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            patience, ReadTimeout: patience, WriteTimeout: atMost, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // a scraper that goes away is no news
	}
	srv.SetKeepAlivesEnabled(false) // an idle connection would hold one of few places
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if srv.Shutdown(last) != nil {
			_ = srv.Close()
		}
	})
	few := &bounded{Listener: l, room: make(chan struct{}, openMost), closed: make(chan struct{})}
	err := srv.Serve(few)
	_ = few.Close()
	if stop() {
		_ = srv.Close()
	} else {
		<-ended
	}
	if ctx.Err() == nil {
		return fmt.Errorf("serving metrics: %w", err)
	}
	return nil
}

// door lets through what a scraper asks for. On a loopback address a Host with
// a name of somebody else's DNS is a page in a browser.
func (m *Metrics) door(loopback bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, _, _ := strings.Cut(r.RequestURI, "?") // as sent: nothing is decoded or cleaned
		switch {
		case loopback && !local(r.Host):
			w.WriteHeader(http.StatusForbidden)
		case path != "/metrics":
			w.WriteHeader(http.StatusNotFound)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			m.ServeHTTP(w, r)
		}
	})
}

// local reports whether a Host is an address or localhost, with a port or
// without.
func local(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil || strings.EqualFold(name, "localhost")
}

// A bounded listener has a limited number of open connections.
type bounded struct {
	net.Listener
	room   chan struct{} // has one element for each open connection
	once   sync.Once
	closed chan struct{}
}

// Accept waits for room, and then for a connection.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.room <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.room
		return nil, err
	}
	return &place{Conn: c, leave: sync.OnceFunc(func() { <-b.room })}, nil
}

// Close closes the listener, and ends an Accept that waits for room.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

// A place is a connection that gives its room back.
type place struct {
	net.Conn
	leave func()
}

// Close closes the connection.
func (p *place) Close() error {
	defer p.leave()
	return p.Conn.Close()
}
