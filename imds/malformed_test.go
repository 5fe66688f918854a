package imds_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/imdstest"
)

// A target is a server in a bubble, for scripts.
type target struct{ *running }

func (m target) Dial(ctx context.Context, _ string) (net.Conn, error) { return m.Listener.Dial(ctx) }

func (target) Value(context.Context, string, string) (string, error) {
	return "", errors.New("there are no values here")
}

func greeter(t *testing.T) target {
	return target{start(t, options(address, func(ctx context.Context, r *imds.Request) imds.Response {
		if strings.Contains(r.Path, "second") {
			t.Error("a second request was served")
		}
		return hello(ctx, r)
	}), nil)}
}

func TestMalformed(t *testing.T) {
	cases, err := imdstest.Load("testdata/*.http")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := c.Run(t.Context(), greeter(t)); err != nil {
					t.Error(err)
				}
			})
		})
		for _, bad := range c.Spoiled() {
			synctest.Test(t, func(t *testing.T) {
				if bad.Run(t.Context(), greeter(t)) == nil {
					t.Errorf("%s:%d: %s passes", bad.File, bad.Line, bad)
				}
			})
		}
	}
}

// However a request is cut into segments, its answer is the same.
func TestSegmentation(t *testing.T) {
	for _, raw := range []string{
		getRequest,
		"PUT / HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 4\r\n\r\nbody",
		"GET / HTTP/1.1\r\nHost: 169.254.169.254\nX: y\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n\n",
	} {
		var want string
		for at := range len(raw) {
			synctest.Test(t, func(t *testing.T) {
				conn := greeter(t).dial(t)
				if at > 0 {
					_, _ = conn.Write([]byte(raw[:at]))
					synctest.Wait()
				}
				a, err := imdstest.Exchange(t.Context(), conn, raw[at:])
				if err != nil {
					t.Fatalf("%q cut at %d: %v", raw, at, err)
				}
				got := a.Reason + " " + string(a.Body)
				if want == "" {
					want = got
				}
				if got != want {
					t.Errorf("%q cut at %d gets %q, in one piece %q", raw, at, got, want)
				}
			})
		}
	}
}

// A client that asked to be told is told to go on, once, before it sends the
// end of a body in chunks; then it has its answer at once. One that sends
// something else, nothing, or goes away is done with.
func TestNoChunksIsToldToGoOn(t *testing.T) {
	const head = "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nTransfer-Encoding: chunked\r\nExpect: 100-Continue\r\n\r\n"
	for name, c := range map[string]struct {
		rest   string
		status int // 0 is none
		after  time.Duration
	}{
		"the end":        {"0\r\n\r\n", 200, 0},
		"a chunk":        {"1\r\nx\r\n", 400, 0},
		"half of an end": {"0\r\n", 408, 2 * time.Second},
		"nothing":        {"", 408, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := greeter(t).dial(t)
				if _, err := io.WriteString(conn, head); err != nil {
					t.Fatal(err)
				}
				told := make([]byte, 64)
				n, err := conn.Read(told)
				if want := "HTTP/1.1 100 Continue\r\n\r\n"; string(told[:n]) != want {
					t.Fatalf("it is told %q (%v), want %q", told[:n], err, want)
				}
				began := time.Now()
				a, err := imdstest.Exchange(t.Context(), conn, c.rest)
				if err != nil || a.Status != c.status || a.Continued {
					t.Errorf("the answer is %d (%v), want %d", a.Status, err, c.status)
				}
				if took := time.Since(began); took < c.after || took > c.after+time.Second {
					t.Errorf("it took %v, want %v", took, c.after)
				}
			})
		})
	}
}
