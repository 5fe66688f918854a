package metrics_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/hostrole/hostrole/imds/imdstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const loopback, everywhere = "127.0.0.1:9464", "192.0.2.7:9464"

// serve serves d in memory until the test ends.
func serve(t testing.TB, d *daemon, at string) *imdstest.Listener {
	t.Helper()
	l := imdstest.NewListener(at)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Serve returned %v", err)
		}
		if _, err := l.Dial(context.WithoutCancel(t.Context())); err == nil {
			t.Error("it still listens")
		}
	})
	return l
}

func exchange(t testing.TB, l *imdstest.Listener, raw string) (imdstest.Answer, error) {
	t.Helper()
	conn, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return imdstest.Exchange(t.Context(), conn, raw)
}

func TestServe(t *testing.T) {
	t.Parallel()
	local, open := serve(t, newDaemon(), loopback), serve(t, newDaemon(), everywhere)
	const host = "Host: 127.0.0.1:9464\r\n\r\n"
	for name, c := range map[string]struct {
		at   *imdstest.Listener
		raw  string
		want int
	}{
		"GET is answered":                     {local, "GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip\r\n" + host, 200},
		"HEAD is answered":                    {local, "HEAD /metrics HTTP/1.1\r\n" + host, 200},
		"a query is not looked at":            {local, "GET /metrics?x=1 HTTP/1.1\r\n" + host, 200},
		"POST is refused":                     {local, "POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n" + host, 405},
		"PUT is refused":                      {local, "PUT /metrics HTTP/1.1\r\nContent-Length: 0\r\n" + host, 405},
		"OPTIONS * is not there":              {local, "OPTIONS * HTTP/1.1\r\n" + host, 404},
		"the root is not there":               {local, "GET / HTTP/1.1\r\n" + host, 404},
		"a slash at the end is not there":     {local, "GET /metrics/ HTTP/1.1\r\n" + host, 404},
		"two slashes are not there":           {local, "GET //metrics HTTP/1.1\r\n" + host, 404},
		"dots are not there":                  {local, "GET /x/../metrics HTTP/1.1\r\n" + host, 404},
		"an encoded path is not there":        {local, "GET /%6detrics HTTP/1.1\r\n" + host, 404},
		"an absolute target is not there":     {local, "GET http://127.0.0.1/metrics HTTP/1.1\r\n" + host, 404},
		"metadata is not there":               {local, "GET /latest/meta-data/ HTTP/1.1\r\n" + host, 404},
		"localhost is this host":              {local, "GET /metrics HTTP/1.1\r\nHost: LocalHost:9464\r\n\r\n", 200},
		"an IPv6 address is an address":       {local, "GET /metrics HTTP/1.1\r\nHost: [::1]:9464\r\n\r\n", 200},
		"one without a port too":              {local, "GET /metrics HTTP/1.1\r\nHost: [::1]\r\n\r\n", 200},
		"a name of somebody's DNS is refused": {local, "GET /metrics HTTP/1.1\r\nHost: rebound.example:9464\r\n\r\n", 403},
		"elsewhere a name is a name":          {open, "GET /metrics HTTP/1.1\r\nHost: db-7.example:9464\r\n\r\n", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := exchange(t, c.at, c.raw)
			if err != nil || a.Status != c.want {
				t.Fatalf("status %d and %v, want %d", a.Status, err, c.want)
			}
			if shown := strings.Contains(string(a.Body), "hostrole_build_info"); shown != (c.want == 200 && !strings.HasPrefix(c.raw, "HEAD")) {
				t.Errorf("the body is %.200q", a.Body)
			}
			if typ, _ := a.Lookup("Content-Type"); c.want == 200 && !strings.HasPrefix(typ, "text/plain; version=0.0.4") {
				t.Errorf("the type is %q", typ)
			}
			if _, n := a.Lookup("Content-Encoding"); n > 0 {
				t.Error("it is compressed: that costs memory, and saves nothing on a host")
			}
			if allow, _ := a.Lookup("Allow"); c.want == 405 && allow != "GET, HEAD" {
				t.Errorf("Allow is %q", allow)
			}
		})
	}
}

// Nothing that a client sends comes back to it or to another.
func TestNoWordOfARequestIsShown(t *testing.T) {
	t.Parallel()
	l := serve(t, newDaemon(), loopback)
	rapid.Check(t, func(r *rapid.T) {
		word := rapid.StringMatching(`canary[a-zA-Z0-9]{0,20}`)
		raw := rapid.SampledFrom([]string{"GET", "HEAD", word.Draw(r, "method")}).Draw(r, "methods") +
			" /" + rapid.SampledFrom([]string{"metrics", word.Draw(r, "path")}).Draw(r, "paths") + "?" + word.Draw(r, "query") +
			" HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: " + rapid.SampledFrom([]string{"*/*", "text/plain;version=0.0.4;escaping=" + word.Draw(r, "escaping"), word.Draw(r, "type") + "/x"}).Draw(r, "accept") +
			"\r\nUser-Agent: " + word.Draw(r, "agent") + "\r\n" + word.Draw(r, "name") + ": " + word.Draw(r, "value") + "\r\n\r\n"
		a, err := exchange(t, l, raw)
		if err != nil {
			r.Fatal(err)
		}
		for _, f := range a.Header {
			if strings.Contains(f.Name+f.Value, "canary") {
				r.Errorf("%q came back as %+v", raw, f)
			}
		}
		if strings.Contains(string(a.Body), "canary") {
			r.Errorf("%q came back in %s", raw, a.Body)
		}
	})
}

// However many connect and say nothing, few are open, and each for a short
// time.
func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := imdstest.NewListener(loopback)
		l := &counting{Listener: memory}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- newDaemon().Serve(ctx, l) }()
		for range 40 {
			if _, err := memory.Dial(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := l.accepted.Load(); n != 16 {
			t.Errorf("%d connections are open, want 16", n)
		}
		begin := time.Now()
		a, err := exchange(t, memory, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if err != nil || a.Status != http.StatusOK {
			t.Errorf("behind those who say nothing: %d, %v", a.Status, err)
		}
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("it took %v to be answered", took)
		}
		// All places are taken again when it ends.
		for range 40 {
			if _, err := memory.Dial(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		begin = time.Now()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Serve returned %v", err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %v to end", took)
		}
	})
}

// A counting listener counts what it has given away.
type counting struct {
	*imdstest.Listener
	accepted atomic.Int64
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted.Add(1)
	}
	return conn, err
}

func TestServeTellsOfAListenerThatFails(t *testing.T) {
	t.Parallel()
	l := &failing{Listener: imdstest.NewListener(loopback)}
	if err := newDaemon().Serve(t.Context(), l); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(err.Error(), "serving metrics: ") {
		t.Errorf("Serve returned %v", err)
	}
}

type failing struct{ *imdstest.Listener }

func (*failing) Accept() (net.Conn, error) { return nil, io.ErrUnexpectedEOF }
