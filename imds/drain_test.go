package imds_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/imdstest"
)

// What was asked before the end is answered, in time for it to matter; what
// comes after is refused.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, options(address, func(ctx context.Context, q *imds.Request) imds.Response {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				t.Error("the request was abandoned")
			}
			return hello(ctx, q)
		}), nil)
		var answers sync.WaitGroup
		for range 50 {
			conn := r.dial(t)
			answers.Go(func() {
				if a, err := imdstest.Exchange(t.Context(), conn, getRequest); err != nil || a.Status != 200 {
					t.Errorf("an open request got %+v and %v", a, err)
				}
			})
		}
		// One that has begun to send, and one that has not.
		begun, silent := r.dial(t), r.dial(t)
		_, _ = io.WriteString(begun, getRequest[:10])
		synctest.Wait()
		begin := time.Now()
		r.stop()
		synctest.Wait()
		if _, err := r.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a new connection: %v, want it refused", err)
		}
		answers.Go(func() {
			if a, err := imdstest.Exchange(t.Context(), begun, getRequest[10:]); err != nil || a.Status != 200 {
				t.Errorf("a request that had begun got %+v and %v", a, err)
			}
		})
		if err := r.wait(); err != nil {
			t.Errorf("Serve returned %v", err)
		}
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("draining took %v, want the 2s that the silent one had", took)
		}
		answers.Wait()
		_ = silent.Close()
	})
}

func TestDrainOfNothingIsInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, options(address, hello), nil)
		r.exchange(t, getRequest)
		begin := time.Now()
		r.stop()
		if err := r.wait(); err != nil || time.Since(begin) != 0 {
			t.Errorf("Serve returned %v after %v", err, time.Since(begin))
		}
	})
}

// A handler that does not come to an end is told to, and its client is cut
// off, after three seconds.
func TestDrainCutsAStuckHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, options(address, func(ctx context.Context, _ *imds.Request) imds.Response {
			<-ctx.Done()
			return imds.Empty(200)
		}), nil)
		conn := r.dial(t)
		_, _ = io.WriteString(conn, getRequest)
		synctest.Wait()
		begin := time.Now()
		r.stop()
		if err := r.wait(); err != nil {
			t.Errorf("Serve returned %v", err)
		}
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("draining took %v, want 3s", took)
		}
		if got, err := io.ReadAll(conn); len(got) != 0 {
			t.Errorf("the client got %q and %v, want nothing", got, err)
		}
	})
}

func TestFullServerLetsCallersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startStreet(t, options(address, hello))
		begin := time.Now()
		var open []*imdstest.Conn
		for i := range 1024 { // of eight houses, so that none has more than its share
			open = append(open, s.dial(t, 1+i%8))
		}
		synctest.Wait()
		var late sync.WaitGroup
		for range 100 {
			conn := s.dial(t, 9)
			late.Go(func() {
				a, err := imdstest.Exchange(t.Context(), conn, getRequest)
				if took := time.Since(begin); err != nil || a.Status != 200 || took != time.Second {
					t.Errorf("a caller that waited got %+v and %v after %v, want 200 after 1s", a.Status, err, took)
				}
			})
		}
		time.Sleep(time.Second) // nobody is answered in it
		_ = open[7].Close()
		late.Wait()
	})
}

func TestStopsWhileFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, options(address, hello), nil)
		for range 1025 {
			r.dial(t)
		}
		synctest.Wait()
		begin := time.Now()
		r.stop()
		if err := r.wait(); err != nil || time.Since(begin) > 3*time.Second {
			t.Errorf("Serve returned %v after %v", err, time.Since(begin))
		}
	})
}

// A sick listener has failures in front of what the listener in it accepts.
type sick struct {
	net.Listener
	failures []error
}

func (s *sick) Accept() (net.Conn, error) {
	if len(s.failures) > 0 {
		err := s.failures[0]
		s.failures = s.failures[1:]
		return nil, err
	}
	return s.Listener.Accept()
}

func TestAcceptErrors(t *testing.T) {
	busy := &net.OpError{Op: "accept", Err: syscall.EMFILE}
	t.Run("the server waits longer each time, and goes on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			r := start(t, options(address, hello), func(l net.Listener) net.Listener {
				return &sick{l, []error{busy, busy, busy, busy, busy, busy, busy, busy, busy, busy}}
			})
			if a := r.exchange(t, getRequest); a.Status != 200 {
				t.Errorf("status %d", a.Status)
			}
			// 5, 10, 20, 40, 80, 160, 320, 640 ms and twice 1 s.
			if took := time.Since(begin); took != 3275*time.Millisecond {
				t.Errorf("ten failures took %v, want 3.275s", took)
			}
			r.stop()
			if err := r.wait(); err != nil {
				t.Errorf("Serve returned %v", err)
			}
		})
	})
	t.Run("the server stops in between", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			r := start(t, options(address, hello), func(l net.Listener) net.Listener {
				return &sick{l, []error{busy, busy, busy, busy, busy, busy, busy, busy, busy, busy, busy}}
			})
			time.Sleep(2500 * time.Millisecond)
			r.stop()
			if err := r.wait(); err != nil || time.Since(begin) != 2500*time.Millisecond {
				t.Errorf("Serve returned %v after %v", err, time.Since(begin))
			}
		})
	})
	t.Run("a closed listener ends the server", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, options(address, hello), nil)
			synctest.Wait()
			_ = r.Listener.Close()
			if err := r.wait(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Serve returned %v, want net.ErrClosed", err)
			}
		})
	})
}

// Two sockets of one server share its places.
func TestTwoSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := imds.New(options(address, hello))
		if got, want := srv.String(), `listener "host"`; got != want {
			t.Errorf("the server calls itself %s, want %s", got, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		for range 2 {
			r := &running{Listener: imdstest.NewListener(address)}
			done.Go(func() {
				if err := srv.Serve(ctx, r.Listener); err != nil {
					t.Error(err)
				}
			})
			if a := r.exchange(t, getRequest); a.Status != 200 {
				t.Errorf("status %d", a.Status)
			}
		}
		cancel()
		done.Wait()
	})
}

// A request is answered by the conduct that it began with; the next one by the
// new one. No connection is refused in between.
func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := imds.New(options(address, func(ctx context.Context, q *imds.Request) imds.Response {
			time.Sleep(time.Second)
			return hello(ctx, q)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		r := &running{Listener: imdstest.NewListener(address)}
		var done sync.WaitGroup
		done.Go(func() { _ = srv.Serve(ctx, r.Listener) })
		done.Go(func() {
			if a := r.exchange(t, getRequest); a.Status != 200 {
				t.Errorf("a request that had begun got %d", a.Status)
			}
		})
		synctest.Wait()
		srv.Change(imds.Conduct{Handler: handler(func(context.Context, *imds.Request) imds.Response { return imds.Empty(404) })})
		if a := r.exchange(t, getRequest); a.Status != 403 {
			t.Errorf("a guard that knows no host lets a request pass: %d", a.Status)
		}
		srv.Change(imds.Conduct{Guard: imds.NewGuard([]netip.AddrPort{netip.MustParseAddrPort(address)}, true),
			Handler: handler(func(context.Context, *imds.Request) imds.Response { return imds.Empty(404) })})
		if a := r.exchange(t, getRequest); a.Status != 404 {
			t.Errorf("the next request got %d, want the new handler's 404", a.Status)
		}
		time.Sleep(time.Second)
		cancel()
		done.Wait()
	})
}
