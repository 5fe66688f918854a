package imdstest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest"
)

// pair is both ends of a connection.
func pair(t *testing.T) (client *imdstest.Conn, server net.Conn) {
	t.Helper()
	l := imdstest.NewListener("169.254.169.254:80")
	client, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

func TestConnCarriesBytesBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t)
		big := bytes.Repeat([]byte("0123456789abcdef"), 50_000) // more than a window
		go func() {
			if n, err := client.Write(big); n != len(big) || err != nil {
				t.Errorf("writing: %d bytes and %v, want %d", n, err, len(big))
			}
			_ = client.CloseWrite()
		}()
		got, err := io.ReadAll(server)
		if err != nil || !bytes.Equal(got, big) {
			t.Fatalf("read %d bytes and %v, want the %d that were written", len(got), err, len(big))
		}
		_, _ = io.WriteString(server, "answer")
		_ = server.Close()
		if got, err := io.ReadAll(client); string(got) != "answer" || err != nil {
			t.Errorf("after CloseWrite the client read %q and %v", got, err)
		}
	})
}

func TestConnHasAddresses(t *testing.T) {
	t.Parallel()
	l := imdstest.NewListener("169.254.169.254:80")
	from := netip.MustParseAddrPort("172.17.0.2:40001")
	client, err := l.DialFrom(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, got, want string }{
		{"the client's own", client.LocalAddr().String(), from.String()},
		{"the client's other", client.RemoteAddr().String(), "169.254.169.254:80"},
		{"the server's own", server.LocalAddr().String(), "169.254.169.254:80"},
		{"the server's other", server.RemoteAddr().String(), from.String()},
		{"the listener's", l.Addr().String(), "169.254.169.254:80"},
	} {
		if c.got != c.want {
			t.Errorf("%s address is %s, want %s", c.what, c.got, c.want)
		}
	}
}

func TestConnDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t)
		start := time.Now()
		_ = server.SetReadDeadline(start.Add(2 * time.Second))
		_, err := server.Read(make([]byte, 1))
		var timeout net.Error
		if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() || took != 2*time.Second {
			t.Errorf("reading: %v after %v, want a timeout after 2s", err, took)
		}
		// A deadline that comes while a Read waits, and one that is taken back.
		_ = server.SetReadDeadline(time.Time{})
		read := make(chan error)
		go func() { _, err := server.Read(make([]byte, 1)); read <- err }()
		synctest.Wait()
		_ = server.SetReadDeadline(time.Now())
		if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a waiting Read returned %v, want a timeout", err)
		}
		_ = server.SetDeadline(time.Time{})
		_, _ = io.WriteString(client, "x")
		if n, err := server.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("after the deadline was taken back: %d bytes and %v", n, err)
		}
		start = time.Now()
		_ = server.SetWriteDeadline(start.Add(3 * time.Second))
		_, err = server.Write(make([]byte, 1<<20))
		if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took != 3*time.Second {
			t.Errorf("writing to who does not read: %v after %v, want a timeout after 3s", err, took)
		}
	})
}

func TestConnResetsOverUnreadBytes(t *testing.T) {
	t.Parallel()
	client, server := pair(t)
	_, _ = io.WriteString(client, "a request and more")
	_, _ = io.ReadFull(server, make([]byte, len("a request")))
	_, _ = io.WriteString(server, "answer")
	_ = server.Close()
	if got, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %q and %v, want a reset", got, err)
	}
	if _, err := client.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing to a closed connection: %v, want EPIPE", err)
	}
	for _, f := range []func([]byte) (int, error){server.Read, server.Write} {
		if _, err := f(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v, want net.ErrClosed", err)
		}
	}
}

func TestCloseEndsAWaitingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, server := pair(t)
		read := make(chan error)
		go func() { _, err := server.Read(make([]byte, 1)); read <- err }()
		synctest.Wait()
		_ = server.Close()
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the Read returned %v, want net.ErrClosed", err)
		}
	})
}

func TestListenerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := imdstest.NewListener("169.254.169.254:80")
		accepted := make(chan error)
		go func() { _, err := l.Accept(); accepted <- err }()
		synctest.Wait()
		_ = l.Close()
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept returned %v, want net.ErrClosed", err)
		}
		if _, err := l.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Dial returned %v, want a refused connection", err)
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the second Close returned %v, want net.ErrClosed", err)
		}
	})
	l := imdstest.NewListener("169.254.169.254:80")
	client, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that was never accepted: %v, want a reset", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v, want net.ErrClosed", err)
	}
}

func TestListenerHasABacklog(t *testing.T) {
	t.Parallel()
	l := imdstest.NewListener("169.254.169.254:80")
	for range 4096 {
		if _, err := l.Dial(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Dial(t.Context()); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("with a full backlog: %v, want a timeout", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestParseAnswerIsStrict(t *testing.T) {
	t.Parallel()
	a, err := imdstest.ParseAnswer([]byte("HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\n\r\nbody\r\n\r\nmore"))
	if err != nil || a.Status != 200 || a.Reason != "OK" || string(a.Body) != "body\r\n\r\nmore" {
		t.Errorf("got %+v and %v", a, err)
	}
	if v, n := a.Lookup("A"); v != "1" || n != 2 {
		t.Errorf("Lookup returned %q, %d", v, n)
	}
	for _, bad := range []string{
		"", "HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2OO OK\r\n\r\n", "HTTP/1.1 200\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA:1\r\n\r\n", "HTTP/1.1 200 OK\r\nA : 1\r\n\r\n", "HTTP/1.1 200 OK\r\n: 1\r\n\r\n", "HTTP/1.1 200 OK\r\nA: 1\nB: 2\r\n\r\n",
	} {
		if a, err := imdstest.ParseAnswer([]byte(bad)); err == nil {
			t.Errorf("%q was taken for %+v", bad, a)
		}
	}
}

func TestAnswerCheckFindsEachFault(t *testing.T) {
	t.Parallel()
	const good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: Mon, 24 Nov 2025 00:00:00 GMT\r\nServer: EC2ws\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nok"
	check := func(text string, head bool) error {
		a, err := imdstest.ParseAnswer([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return a.Check(head)
	}
	if err := check(good, false); err != nil {
		t.Errorf("a good answer: %v", err)
	}
	if err := check(strings.TrimSuffix(good, "ok"), true); err != nil {
		t.Errorf("a good answer to a HEAD: %v", err)
	}
	for name, bad := range map[string]string{
		"another length":    strings.Replace(good, "Length: 2", "Length: 3", 1),
		"no length":         strings.Replace(good, "Content-Length: 2\r\n", "", 1),
		"two lengths":       strings.Replace(good, "Date", "Content-Length: 2\r\nDate", 1),
		"a date of today":   strings.Replace(good, "GMT", "CET", 1),
		"another server":    strings.Replace(good, "EC2ws", "EC2", 1),
		"a kept connection": strings.Replace(good, "close", "keep-alive", 1),
		"a charset":         strings.Replace(good, "text/plain", "text/plain; charset=utf-8", 1),
		"a redirect":        strings.Replace(good, "200 OK", "301 Moved", 1),
		"CORS":              strings.Replace(good, "Date", "Access-Control-Allow-Origin: *\r\nDate", 1),
		"an encoding":       strings.Replace(good, "Date", "Content-Encoding: gzip\r\nDate", 1),
	} {
		if check(bad, false) == nil {
			t.Errorf("%s passed", name)
		}
	}
	if check(good, true) == nil {
		t.Error("an answer to a HEAD with a body passed")
	}
}
