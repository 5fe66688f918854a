package imds_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/imdstest"
)

const address = "169.254.169.254:80"

// handler is a Handler that is one function.
type handler func(ctx context.Context, r *imds.Request) imds.Response

func (h handler) Serve(ctx context.Context, r *imds.Request) imds.Response { return h(ctx, r) }

// hello answers every request alike.
func hello(context.Context, *imds.Request) imds.Response {
	return imds.Response{Status: 200, Head: []imds.Field{{Name: "Content-Type", Value: "text/plain"}}, Body: []byte("hello")}
}

type identifier func(ctx context.Context, listener string, c caller.Conn) (caller.Caller, error)

func (f identifier) Identify(ctx context.Context, listener string, c caller.Conn) (caller.Caller, error) {
	return f(ctx, listener, c)
}

var person = imdstest.Person{UID: caller.NewID(1000), User: "app"}

// options are those of a server that says hello.
func options(addr string, h handler) imds.Options {
	return imds.Options{
		Name: "host", Server: "EC2ws", Handler: h, Identifier: person, Now: time.Now,
		Guard: imds.NewGuard([]netip.AddrPort{netip.MustParseAddrPort(addr)}, true).EmptyChunks("/latest/api/token"),
	}
}

// A running is a server in a bubble, or on a real socket.
type running struct {
	*imdstest.Listener
	stop func()       // ends the context
	wait func() error // for Serve, and returns what it returned
}

func start(t *testing.T, o imds.Options, wrap func(net.Listener) net.Listener) *running {
	t.Helper()
	r := &running{Listener: imdstest.NewListener(address)}
	var l net.Listener = r.Listener
	if wrap != nil {
		l = wrap(l)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var err error
	var done sync.WaitGroup
	done.Go(func() { err = imds.New(o).Serve(ctx, l) })
	r.stop, r.wait = cancel, func() error { done.Wait(); return err }
	t.Cleanup(func() { cancel(); done.Wait() })
	return r
}

func (r *running) dial(t *testing.T) *imdstest.Conn {
	t.Helper()
	conn, err := r.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

const getRequest = "GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"

// exchange sends raw and wants an answer.
func (r *running) exchange(t *testing.T, raw string) imdstest.Answer {
	t.Helper()
	a, err := imdstest.Exchange(t.Context(), r.dial(t), raw)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAnswerIsExactly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(address, func(_ context.Context, r *imds.Request) imds.Response {
			v, n := r.Lookup("x-a")
			return imds.Response{Status: 200, Head: []imds.Field{{Name: "A", Value: r.Method}}, Tail: []imds.Field{{Name: "Z", Value: r.Path}}, Body: []byte(v + strings.Repeat("!", n))}
		})
		o.Now = func() time.Time {
			return time.Date(2026, 1, 2, 3, 4, 5, 999, time.FixedZone("CET", 3600))
		}
		conn := start(t, o, nil).dial(t)
		_, _ = io.WriteString(conn, "GET /a%20b?c=d HTTP/1.1\r\nhost: 169.254.169.254\r\nX-A: \t one \t\r\nx-a:two\r\n\r\n")
		got, err := io.ReadAll(conn)
		const want = "HTTP/1.1 200 OK\r\nA: GET\r\nContent-Length: 5\r\nDate: Fri, 02 Jan 2026 02:04:05 GMT\r\nServer: EC2ws\r\nConnection: close\r\nZ: /a%20b\r\n\r\none!!"
		if string(got) != want || err != nil {
			t.Errorf("got\n%q and %v, want\n%q", got, err, want)
		}
	})
}

func TestHeadHasTheHeadersOfGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, options(address, hello), nil)
		get, head := r.exchange(t, getRequest), r.exchange(t, strings.Replace(getRequest, "GET", "HEAD", 1))
		if err := errors.Join(get.Check(false), head.Check(true)); err != nil {
			t.Error(err)
		}
		if string(get.Body) != "hello" || len(head.Body) != 0 || len(get.Header) != len(head.Header) {
			t.Errorf("GET is %+v, HEAD is %+v", get, head)
		}
		for i, f := range get.Header {
			if head.Header[i] != f {
				t.Errorf("HEAD has %v where GET has %v", head.Header[i], f)
			}
		}
	})
}

func TestWithoutAServerName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(address, hello)
		o.Server = ""
		if got, n := start(t, o, nil).exchange(t, getRequest).Lookup("Server"); n != 0 {
			t.Errorf("Server: %s is sent", got)
		}
	})
}

// read counts the bytes of an answer, and when its end came.
func read(conn net.Conn) (got []byte, after time.Duration, err error) {
	begin := time.Now()
	got, err = io.ReadAll(conn)
	return got, time.Since(begin), err
}

func TestSlowClients(t *testing.T) {
	for _, c := range []struct {
		name, want string
		every      time.Duration // between bytes; 0 sends none
	}{
		{"a byte a second", "HTTP/1.1 408 ", time.Second},
		{"a byte a millisecond, without end", "HTTP/1.1 408 ", time.Millisecond},
		{"nothing", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, options(address, func(context.Context, *imds.Request) imds.Response {
					t.Error("the handler was called")
					return imds.Empty(200)
				}), nil)
				conn := r.dial(t)
				begin := time.Now()
				var writer sync.WaitGroup
				ctx, cancel := context.WithCancel(t.Context())
				if c.every > 0 {
					writer.Go(func() {
						text := "GET /" + strings.Repeat("a", 1<<20)
						for i := 0; ctx.Err() == nil; i++ {
							if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
								return
							}
							time.Sleep(c.every)
						}
					})
				}
				head := make([]byte, 13)
				_, err := io.ReadFull(conn, head)
				if took := time.Since(begin); string(bytes.TrimRight(head, "\x00")) != c.want || took != 2*time.Second {
					t.Errorf("got %q and %v after %v, want %q after 2s", head, err, took, c.want)
				}
				_, _ = io.Copy(io.Discard, conn)
				if took := time.Since(begin); took > 2500*time.Millisecond {
					t.Errorf("the connection was closed after %v, want 2.5s at most", took)
				}
				cancel()
				writer.Wait()
			})
		})
	}
}

// A body that never comes is not waited for longer than the linger.
func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := start(t, options(address, hello), nil).dial(t)
		_, _ = io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 1000\r\n\r\n")
		got, took, err := read(conn)
		if !strings.HasSuffix(string(got), "hello") || err != nil || took != 0 {
			t.Errorf("got %q and %v after %v, want the answer at once", got, err, took)
		}
		synctest.Wait()
		time.Sleep(501 * time.Millisecond)
		if _, err := conn.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("half a second later a write returned %v, want EPIPE", err)
		}
	})
}

func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := make(chan imds.Exchange, 1)
		o := options(address, func(context.Context, *imds.Request) imds.Response {
			return imds.Response{Status: 200, Body: make([]byte, 1<<20)}
		})
		o.Observe = func(e imds.Exchange) { seen <- e }
		conn := start(t, o, nil).dial(t)
		begin := time.Now()
		_, _ = io.WriteString(conn, getRequest)
		<-seen
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("who does not read was waited for %v, want 3s", took)
		}
	})
}

func TestPanicIsOneAnswer(t *testing.T) {
	for name, prepare := range map[string]func(*imds.Options, *atomic.Bool){
		"of the handler": func(o *imds.Options, ill *atomic.Bool) {
			o.Handler = handler(func(ctx context.Context, r *imds.Request) imds.Response {
				if ill.Load() {
					panic("a fault")
				}
				return hello(ctx, r)
			})
		},
		"of the identifier": func(o *imds.Options, ill *atomic.Bool) {
			o.Identifier = identifier(func(ctx context.Context, l string, c caller.Conn) (caller.Caller, error) {
				if ill.Load() {
					panic("a fault")
				}
				return person.Identify(ctx, l, c)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ill atomic.Bool
				ill.Store(true)
				seen := make(chan imds.Exchange, 2)
				o := options(address, hello)
				prepare(&o, &ill)
				o.Observe = func(e imds.Exchange) { seen <- e }
				r := start(t, o, nil)
				a := r.exchange(t, getRequest)
				if err := a.Check(false); a.Status != 500 || len(a.Body) != 0 || err != nil {
					t.Errorf("the answer is %+v, %v", a, err)
				}
				e := <-seen
				if e.Panic != "a fault" || !bytes.Contains(e.Stack, []byte("server_test.go")) || e.Status != 500 || e.Caller.Known() && name == "of the identifier" {
					t.Errorf("told was %+v", e)
				}
				ill.Store(false)
				if a := r.exchange(t, getRequest); a.Status != 200 {
					t.Errorf("the next request gets %d", a.Status)
				}
				if e := <-seen; e.Panic != nil || e.Stack != nil {
					t.Errorf("the next request is told with %+v", e)
				}
			})
		})
	}
}

func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unknown := errors.New("the socket is gone")
		seen := make(chan imds.Exchange, 1)
		o := options(address, func(_ context.Context, r *imds.Request) imds.Response {
			if r.Caller.Known() {
				t.Error("the handler knows the caller")
			}
			time.Sleep(100 * time.Millisecond)
			return imds.Empty(404)
		})
		o.Identifier = identifier(func(_ context.Context, l string, c caller.Conn) (caller.Caller, error) {
			if c.Raw != nil || c.Local.String() != address || !c.Remote.IsValid() || c.Remote == c.Local {
				t.Errorf("asked about %+v", c)
			}
			return caller.Caller{Listener: l, Remote: c.Remote}, unknown
		})
		o.Observe = func(e imds.Exchange) { seen <- e }
		r := start(t, o, nil)
		r.exchange(t, strings.Replace(getRequest, "/", "/"+strings.Repeat("p", 500), 1))
		e := <-seen
		if e.Listener != "host" || !errors.Is(e.Unknown, unknown) || e.Method != "GET" || e.Path != "/"+strings.Repeat("p", 127) || e.Status != 404 || e.Took != 100*time.Millisecond {
			t.Errorf("told was %+v", e)
		}
		r.exchange(t, strings.Repeat("M", 500)+" / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n")
		if e := <-seen; e.Method != strings.Repeat("M", 128) {
			t.Errorf("the method told has %d bytes", len(e.Method))
		}
	})
}

// The kernel is asked before the first byte is awaited: a client may be gone
// right after it.
func TestIdentifiesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan bool, 1)
		o := options(address, hello)
		o.Identifier = identifier(func(ctx context.Context, l string, c caller.Conn) (caller.Caller, error) {
			asked <- true
			return person.Identify(ctx, l, c)
		})
		r := start(t, o, nil)
		conn := r.dial(t)
		<-asked
		_ = conn.Close()
	})
}
