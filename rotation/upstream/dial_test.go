package upstream_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/upstream"
)

// names answers every question for an IPv4 address with 127.0.0.1, for as long
// as it is well; from then on as rcode says, 0 for not at all.
type names struct {
	rcode atomic.Int32 // -1: well
	asked atomic.Int32
}

func (n *names) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	n.rcode.Store(-1)
	server, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		b := make([]byte, 512)
		for {
			k, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			if answer := n.answer(b[:k]); answer != nil {
				_, _ = server.WriteTo(answer, from)
			}
		}
	})
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		_ = server.Close()
		all.Wait()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open { // a look-up that nobody waits for any more reads on
			_ = c.Close()
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
		if err == nil {
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
		}
		return c, err
	}}
}

func (n *names) answer(q []byte) []byte {
	n.asked.Add(1)
	end := 12 + bytes.IndexByte(q[12:], 0) + 5
	a := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end]...)
	switch rcode := n.rcode.Load(); {
	case rcode == 0:
		return nil
	case rcode > 0:
		a[3] |= byte(rcode)
	case binary.BigEndian.Uint16(q[end-4:]) == 1:
		a[7] = 1
		a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
	}
	return a
}

// What DNS failed to say in the great outages: that there is no such name, that
// it has a fault, nothing of the name, nothing at all.
func TestANameIsWhereItWasWhileDNSFails(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Host, "sts.example.com.") {
			t.Errorf("asked for %s", r.Host)
		}
	}))
	t.Cleanup(srv.Close) // after the subtests
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for name, rcode := range map[string]int32{"no such name": 3, "a fault": 2, "no answer": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dns, later := &names{}, atomic.Int64{}
			var text bytes.Buffer
			c := upstream.New(upstream.Options{Timeout: 20 * time.Second, Resolver: dns.resolver(t), Logger: slog.New(slog.NewTextHandler(&text, nil)),
				Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }})
			url := "http://sts.example.com.:" + port // a dot at the end: no search list
			dns.rcode.Store(max(rcode, 1))
			if _, err := do(t, c, url); err == nil {
				t.Error("a name that was never known was reached")
			}
			dns.rcode.Store(-1)
			if resp, err := do(t, c, url); err != nil || resp.StatusCode != 200 {
				t.Fatal(err)
			}
			dns.rcode.Store(rcode)
			later.Store(int64(23 * time.Hour))
			if _, err := do(t, c, url); err != nil {
				t.Errorf("within a day: %v", err)
			}
			if !strings.Contains(text.String(), "address=127.0.0.1:"+port) {
				t.Errorf("nobody is told: %s", text.String())
			}
			later.Store(int64(48 * time.Hour))
			dns.rcode.Store(max(rcode, 1))
			if _, err := do(t, c, url); err == nil || !strings.Contains(err.Error(), "sts.example.com") {
				t.Errorf("after a day: %v", err)
			}
		})
	}
}
