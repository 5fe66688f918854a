// Package imds listens, admits, guards, identifies and drains: what every
// endpoint has in common before its protocol begins.
//
// # Why not
//
// Not net/http's server: it accepts bare line feeds, folded lines, two lengths
// and absolute targets, answers some requests before any handler runs, sends
// headers in an order of its own, and loses requests in Shutdown
// (golang/go#75591). This protocol is three methods without a body and one
// request a connection; a reader of that subset is stricter, smaller, and
// faster. Not keep-alive: identity belongs to a request, and smuggling needs a
// second one.
package imds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hostrole/hostrole/imds/caller"
)

const (
	maxHead   = 8 << 10 // bytes of request line and headers together
	maxTarget = 1 << 10 // bytes of a request target
	maxBody   = 64 << 10

	headTimeout  = 2 * time.Second // from the connection's turn to the end of the head
	writeTimeout = 3 * time.Second
	lingerLimit  = 500 * time.Millisecond // for what a client sends after its head
	drainLimit   = 3 * time.Second        // for open requests when the server ends
)

// A Handler answers requests of one protocol. It is called concurrently, and
// answers within a second: clients wait no longer.
type Handler interface {
	Serve(ctx context.Context, r *Request) Response
}

// An Identifier says who is behind a connection. When it cannot, the Caller is
// unknown, and the error says why.
type Identifier interface {
	Identify(ctx context.Context, listener string, c caller.Conn) (caller.Caller, error)
}

// An Exchange is one request and its answer, for logs and metrics. Method and
// Path are a client's words, cut to 128 bytes.
type Exchange struct {
	Listener string
	Caller   caller.Caller
	Unknown  error // why the caller is unknown; nil when it is not
	Method   string
	Path     string
	Status   int
	Took     time.Duration // from the end of the head to the last byte
	Panic    any           // of the handler or the identifier; nil for none
	Stack    []byte
}

// A Conduct is what a Server does with requests; it may change while the
// Server serves.
type Conduct struct {
	Guard    Guard
	Handler  Handler
	HopLimit int // as in Options
}

// Options are the parts of a Server. Handler, Identifier and Now are required.
type Options struct {
	Name       string // of the listener
	Server     string // of the Server header; "" sends none
	Guard      Guard
	Identifier Identifier
	Handler    Handler
	HopLimit   int // of answers that ask for it: 1 to 64; 0 leaves the kernel's
	Now        func() time.Time
	Observe    func(Exchange) // called from the connection's goroutine; nil for nobody
}

// A Server serves one listener's name, on one or more sockets.
type Server struct {
	o         Options
	conduct   atomic.Pointer[Conduct]
	admission *admission
	buffers   sync.Pool // of *buffer
	open      atomic.Int64
}

// Connections is how many connections are open now.
func (s *Server) Connections() int { return int(s.open.Load()) }

type buffer struct {
	in     [maxHead]byte
	out    []byte
	fields [maxFields]Field
}

// New returns a Server. Nothing runs before Serve.
func New(o Options) *Server {
	if o.Observe == nil {
		o.Observe = func(Exchange) {}
	}
	s := &Server{o: o, admission: newAdmission()}
	s.buffers.New = func() any { return &buffer{out: make([]byte, 0, 4<<10)} }
	s.Change(Conduct{o.Guard, o.Handler, o.HopLimit})
	return s
}

// Change makes c the conduct of every request from now on. One that has begun
// is answered by the conduct that it began with.
func (s *Server) Change(c Conduct) { s.conduct.Store(&c) }

// Serve answers connections of l until ctx ends or l fails; then it closes l,
// waits a few seconds for open requests, and returns when no goroutine of it
// is left. It returns nil when ctx ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	// Handlers outlive ctx until they are drained.
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	open := openConns{conns: map[net.Conn]struct{}{}}
	err := s.accept(ctx, work, l, &open)
	_ = l.Close()
	open.drain(drainLimit, abandon)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Server) accept(ctx, work context.Context, l net.Listener, open *openConns) error {
	pause := time.Duration(0)
	for {
		if !s.admission.open(ctx) {
			return nil
		}
		conn, err := l.Accept()
		if err != nil {
			s.admission.closed()
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of descriptors or memory for a moment: the listener is well.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			wait := time.NewTimer(pause)
			select {
			case <-wait.C:
			case <-ctx.Done():
				wait.Stop()
			}
			continue
		}
		pause = 0
		open.add(conn)
		s.open.Add(1)
		go func() {
			defer func() { s.open.Add(-1); open.remove(conn); s.admission.closed() }()
			s.converse(work, conn)
		}()
	}
}

// converse answers the one request of a connection.
func (s *Server) converse(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	// Before the first byte: a caller that has sent its request may close.
	from := connOf(conn)
	ex := Exchange{Listener: s.o.Name, Caller: caller.Caller{Listener: s.o.Name, Remote: from.Remote}}
	ex.contain(func() { ex.Caller, ex.Unknown = s.o.Identifier.Identify(ctx, s.o.Name, from) })

	who := partyOf(ex.Caller, from)
	if !s.admission.enter(ctx, who) {
		return
	}
	defer s.admission.leave(who)
	buf := s.buffers.Get().(*buffer)
	defer s.buffers.Put(buf)
	_ = conn.SetDeadline(time.Now().Add(headTimeout))
	r := Request{Caller: ex.Caller, fields: buf.fields[:0]}
	var resp Response
	n, head, verdict := readHead(conn, buf.in[:])
	began, by := time.Now(), s.conduct.Load()
	if verdict == accepted {
		verdict = r.parse(string(buf.in[:head]))
	}
	if verdict == accepted {
		verdict = by.Guard.check(&r)
	}
	if verdict == accepted && r.chunked {
		verdict = readNoChunks(conn, &r, buf.in[head:n])
		head = min(head+len(noChunks), n) // what may have come with it
	}
	if verdict == hungUp {
		clear(buf.fields[:len(r.fields)])
		if ex.Panic != nil {
			s.o.Observe(ex)
		}
		return
	}
	switch {
	case verdict != accepted:
		resp = Empty(int(verdict))
	case ex.Panic == nil:
		ex.contain(func() { resp = by.Handler.Serve(ctx, &r) })
	}
	if ex.Panic != nil {
		resp = Empty(500)
	}

	if resp.HopLimited && by.HopLimit > 0 {
		limitHops(conn, by.HopLimit)
	}
	buf.out = resp.appendTo(buf.out[:0], s.o.Now(), s.o.Server, r.Method == "HEAD")
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := conn.Write(buf.out)
	clear(buf.out)                    // it held secrets,
	clear(buf.fields[:len(r.fields)]) // and these a token
	ex.Method, ex.Path, ex.Status, ex.Took = cut(r.Method), cut(r.Path), resp.Status, time.Since(began)
	s.o.Observe(ex)
	if err == nil && (n > head || r.length > 0 || verdict != accepted) {
		linger(conn, buf.in[:])
	}
}

// contain keeps a panic of f in the exchange that it belongs to.
func (ex *Exchange) contain(f func()) {
	defer func() {
		if p := recover(); p != nil {
			ex.Panic, ex.Stack = p, debug.Stack()
		}
	}()
	f()
}

var lineEnd, headEnd = []byte("\r\n"), []byte("\r\n\r\n")

// hungUp is the verdict on a client that said nothing to the end.
const hungUp refusal = -1

// readHead reads up to the empty line. It returns how much was read and how
// much of that is the head. A line feed alone is refused as soon as it is
// seen: who ends lines with it would wait in vain for the end of its head.
func readHead(conn io.Reader, b []byte) (n, head int, verdict refusal) {
	for {
		m, err := conn.Read(b[n:])
		line := n
		n += m
		for i := bytes.IndexByte(b[line:n], '\n'); i >= 0; i = bytes.IndexByte(b[line:n], '\n') {
			line += i + 1
			switch {
			case !bytes.HasSuffix(b[:line], lineEnd):
				return n, n, 400
			case bytes.HasSuffix(b[:line], headEnd):
				return n, line, accepted
			}
		}
		var timeout net.Error
		switch {
		case n == len(b):
			return n, n, 431
		case err == nil:
		case n > 0 && errors.As(err, &timeout) && timeout.Timeout():
			return n, n, 408
		default:
			return n, n, hungUp
		}
	}
}

// linger reads what a client still sends, so that closing does not reset the
// connection under an answer that it has not read.
func linger(conn net.Conn, b []byte) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = conn.SetReadDeadline(time.Now().Add(lingerLimit))
	for left := maxBody; left > 0; {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		left -= n
	}
}

func cut(s string) string { return s[:min(len(s), 128)] }

// openConns are the connections of one Serve.
type openConns struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{} // guarded by mu
	all   sync.WaitGroup
}

func (o *openConns) add(c net.Conn) {
	o.all.Add(1)
	o.mu.Lock()
	o.conns[c] = struct{}{}
	o.mu.Unlock()
}

func (o *openConns) remove(c net.Conn) {
	o.mu.Lock()
	delete(o.conns, c)
	o.mu.Unlock()
	o.all.Done()
}

// drain waits for the open requests. Those that take longer than limit are
// closed, and their handlers told by abandon.
func (o *openConns) drain(limit time.Duration, abandon context.CancelFunc) {
	late := time.AfterFunc(limit, func() {
		abandon()
		o.mu.Lock()
		defer o.mu.Unlock()
		for c := range o.conns {
			_ = c.Close()
		}
	})
	o.all.Wait()
	late.Stop()
}

// String names the server in an error.
func (s *Server) String() string { return fmt.Sprintf("listener %q", s.o.Name) }
