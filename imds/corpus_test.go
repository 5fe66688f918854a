package imds_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hostrole/hostrole/imds"
	"github.com/hostrole/hostrole/imds/imdstest"
)

// good are requests of real clients, which the corpus spoils.
func good(host string) []string {
	return []string{
		"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: aws-cli/2.15\r\nAccept-Encoding: identity\r\nX-aws-ec2-metadata-token: AAAA\r\n\r\n",
		"PUT /latest/api/token HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 0\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n",
		"HEAD / HTTP/1.1\r\nhost: " + host + "\r\naccept: */*\r\n\r\n",
		"GET /latest//meta-data/iam/security-credentials/app%2Brole?x=y HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"PUT / HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody",
		"OPTIONS /latest/api/token HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
		"PUT /latest/api/token HTTP/1.1\r\nHost: " + host + "\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n",
	}
}

// pieces are what attackers put into requests.
var pieces = []string{"\r", "\n", "\r\n", "\r\n\r\n", "\n\n", "\x00", " ", "\t", ":", "\x7f", "\xff", "%", "%00", "%0d%0a", "..", "//", "\\", "#", "?", "HTTP/1.1", "HTTP/9.9", "HTTP/2.0", "HTTP/1.10",
	"Host: evil.example.com\r\n", "Host:\r\n", "Content-Length: 5\r\n", "Content-Length: -1\r\n", "Content-Length: +0\r\n", "Content-Length: 0, 0\r\n", "Content-Length: 99999999999999999999\r\n",
	"Transfer-Encoding: chunked\r\n", "Transfer-Encoding : chunked\r\n", "Transfer-Encoding:\x0bchunked\r\n", " folded\r\n", "X-Forwarded-For:\r\n", "Origin: null\r\n", "http://169.254.169.254/", "*", "CONNECT ", "get ", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"\x16\x03\x01\x02\x00\x01", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "0\r\n\r\n", "0\r\nX: y\r\n\r\n", "00", ";", "\u2028"}

// spoil changes a request in one to four ways.
func spoil(draw *rand.Rand, raw string) string {
	b := []byte(raw)
	for range 1 + draw.IntN(4) {
		at := draw.IntN(len(b) + 1)
		to := at + min(len(b)-at, draw.IntN(20))
		piece := []byte(pieces[draw.IntN(len(pieces))])
		switch draw.IntN(9) {
		case 0: // another byte
			if at < len(b) {
				b[at] = byte(draw.IntN(256))
			}
		case 1: // one bit
			if at < len(b) {
				b[at] ^= 1 << draw.IntN(8)
			}
		case 2: // something gone
			b = bytes.Join([][]byte{b[:at], b[to:]}, nil)
		case 3, 4: // something more
			b = bytes.Join([][]byte{b[:at], piece, b[at:]}, nil)
		case 5: // something twice, or far too often
			b = bytes.Join([][]byte{b[:at], bytes.Repeat(b[at:to], 1+draw.IntN(1+draw.IntN(600))), b[at:]}, nil)
		case 6: // the end gone
			b = b[:at]
		case 7: // a line where lines begin
			if i := bytes.IndexByte(b[at:], '\n'); i >= 0 {
				b = bytes.Join([][]byte{b[:at+i+1], piece, b[at+i+1:]}, nil)
			}
		case 8: // one kind of line end for another
			b = bytes.Replace(b, []byte("\r\n"), [][]byte{[]byte("\n"), []byte("\r"), []byte("\r\n "), []byte("\n\r")}[draw.IntN(4)], 1+draw.IntN(3))
		}
		b = b[:min(len(b), 32<<10)] // beyond what the server lingers for, TCP may reset
	}
	return string(b)
}

// judge says what is wrong with what became of raw. Whatever the server lets
// pass to a handler, which answers 200, another reader must understand, too,
// and in the same way. asked is the path that the handler saw.
func judge(raw string, a imdstest.Answer, err error) error {
	if errors.Is(err, imdstest.ErrNoAnswer) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := a.Check(strings.HasPrefix(raw, "HEAD ")); err != nil {
		return err
	}
	if a.Status != 200 {
		if a.Status < 400 || a.Status >= 500 && a.Status != 505 {
			return fmt.Errorf("status %d", a.Status)
		}
		return nil
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	var escape *url.Error
	if errors.As(err, &escape) {
		return nil // the target is the handler's
	}
	if err != nil {
		return fmt.Errorf("answered, and net/http says %w", err)
	}
	if len(r.TransferEncoding) > 0 {
		if body, err := io.ReadAll(r.Body); err != nil || len(body) > 0 || len(r.Trailer) > 0 || r.Method != "PUT" || r.URL.Path != "/latest/api/token" {
			return fmt.Errorf("%s %s was served with the codings %q, a body of %d bytes, and the trailer %q (%w)", r.Method, r.RequestURI, r.TransferEncoding, len(body), r.Trailer, err)
		}
	}
	target, query, _ := strings.Cut(r.RequestURI, "?")
	if query != "" {
		target += "?" + query
	}
	if seen, _ := a.Lookup("Seen"); seen != r.Method+" "+target || r.ContentLength > 0 && r.Method != "PUT" && r.Method != "POST" {
		return fmt.Errorf("the handler saw %q, and net/http %s %s with %d bytes", seen, r.Method, r.RequestURI, r.ContentLength)
	}
	return nil
}

// seer says what it saw.
func seer(_ context.Context, r *imds.Request) imds.Response {
	target := r.Path
	if r.Query != "" {
		target += "?" + r.Query
	}
	return imds.Response{Status: 200, Head: []imds.Field{{Name: "Content-Type", Value: "text/plain"}, {Name: "Seen", Value: r.Method + " " + target}}, Body: []byte("hello")}
}

// 10 000 requests that are not as they should be, always the same ones, over
// real connections: each is refused or answered, none is an error of the
// server, and nothing of them is left.
func TestCorpus(t *testing.T) {
	const cases, seed = 10_000, 1
	before := goleak.IgnoreCurrent()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	o := options(host, seer)
	var panics atomic.Int64
	o.Observe = func(e imds.Exchange) {
		if e.Panic != nil {
			panics.Add(1)
			t.Errorf("panic: %v\n%s", e.Panic, e.Stack)
		}
	}
	open := descriptors(t)
	ctx, cancel := context.WithCancel(t.Context())
	var server, clients sync.WaitGroup
	server.Go(func() {
		if err := imds.New(o).Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	var mu sync.Mutex
	outcomes := map[int]int{}
	const workers = 16
	for w := range workers {
		clients.Go(func() {
			for i := w; i < cases; i += workers {
				draw := rand.New(rand.NewPCG(seed, uint64(i)))
				all := good(host)
				raw := spoil(draw, all[draw.IntN(len(all))])
				a, err := send(t.Context(), host, raw)
				if err := judge(raw, a, err); err != nil {
					t.Errorf("case %d, %q: %v", i, raw, err)
				}
				mu.Lock()
				outcomes[a.Status]++ // 0 is none
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	cancel()
	server.Wait()
	if refused := cases - outcomes[200] - outcomes[0]; refused < cases/2 || outcomes[200] < 100 || outcomes[0] < 100 {
		t.Errorf("the corpus is lopsided: %v", outcomes)
	}
	t.Logf("statuses: %v", outcomes)
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
	if now := descriptors(t); open >= 0 && now > open-1 { // the listener is closed
		t.Errorf("%d descriptors are open, before there were %d and a listener", now, open-1)
	}
}

// send exchanges raw, after which nothing more comes.
func send(ctx context.Context, addr, raw string) (imdstest.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", addr)
	if err != nil {
		return imdstest.Answer{}, err
	}
	_, _ = io.WriteString(conn, raw)
	_ = conn.(*net.TCPConn).CloseWrite()
	return imdstest.Exchange(ctx, conn, "")
}

// descriptors counts what this process has open; -1 where that cannot be seen.
func descriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Logf("descriptors are not counted: %v", err)
		return -1
	}
	return len(d)
}

// FuzzRequest sends any bytes at all through reader, guard and writer.
func FuzzRequest(f *testing.F) {
	for i, raw := range good("169.254.169.254") {
		f.Add([]byte(raw))
		for j := range uint64(20) {
			f.Add([]byte(spoil(rand.New(rand.NewPCG(uint64(i), j)), raw)))
		}
	}
	l := imdstest.NewListener(address)
	o := options(address, seer)
	var panics atomic.Int64
	o.Observe = func(e imds.Exchange) {
		if e.Panic != nil {
			panics.Add(1)
		}
	}
	o.Guard = imds.NewGuard([]netip.AddrPort{netip.MustParseAddrPort(address)}, true)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = imds.New(o).Serve(ctx, l) })
	f.Cleanup(func() { cancel(); done.Wait() })
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 32<<10 {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err := l.Dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(raw)
		_ = conn.CloseWrite()
		a, err := imdstest.Exchange(ctx, conn, "")
		if err := judge(string(raw), a, err); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
		if panics.Load() > 0 {
			t.Errorf("%q: a panic", raw)
		}
	})
}
