package upstream_test

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func do(t *testing.T, c *upstream.Client, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("Action=X"))
	if err != nil {
		t.Fatal(err)
	}
	return c.Do(req)
}

func TestTheLastAnswerIsHandedThrough(t *testing.T) {
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, _ := io.ReadAll(r.Body); string(b) != "Action=X" {
			t.Errorf("try %d has the body %q", n.Load(), b)
		}
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(503)
		_, _ = io.WriteString(w, "try "+string(rune('0'+n.Add(1))))
	}))
	defer srv.Close()
	began := time.Now()
	resp, err := do(t, upstream.New(upstream.Options{Timeout: 30 * time.Second}), srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 503 || string(b) != "try 3" || n.Load() != 3 {
		t.Errorf("status %d, body %q after %d tries", resp.StatusCode, b, n.Load())
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("Retry-After was not capped: %v", d)
	}
}

func TestNoTimeLeftKeepsTheAnswer(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	defer srv.Close()
	resp, err := do(t, upstream.New(upstream.Options{Timeout: 2 * time.Second}), srv.URL)
	if err != nil || resp.StatusCode != 503 {
		t.Errorf("got %v; the answer's code is lost", err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var followed atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			followed.Store(true)
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	resp, err := do(t, upstream.New(upstream.Options{Timeout: 10 * time.Second}), srv.URL)
	if err != nil || resp.StatusCode != 307 || followed.Load() {
		t.Errorf("%v, followed: %v", err, followed.Load())
	}
}

func TestBodyLimit(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 1 << 10 {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return
			}
		}
	}))
	defer srv.Close()
	if _, err := do(t, upstream.New(upstream.Options{Timeout: 10 * time.Second}), srv.URL); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

// Nothing is sent before the chain and the name hold.
func TestCertificates(t *testing.T) {
	var reached atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	if resp, err := do(t, upstream.New(upstream.Options{Timeout: 10 * time.Second, Roots: roots}), srv.URL); err != nil || resp.StatusCode != 200 {
		t.Errorf("with its own root: %v", err)
	}
	before := reached.Load()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(srv.URL, "https://"))
	for name, c := range map[string]struct {
		o   upstream.Options
		url string
	}{
		"unknown root": {upstream.Options{Timeout: 10 * time.Second, Roots: x509.NewCertPool()}, srv.URL},
		"wrong name":   {upstream.Options{Timeout: 10 * time.Second, Roots: roots}, "https://localhost:" + port},
	} {
		began := time.Now()
		if _, err := do(t, upstream.New(c.o), c.url); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("%s: took %v; a bad certificate does not get better", name, d)
		}
	}
	if reached.Load() != before {
		t.Error("a request was sent to a server that could not prove its name")
	}
}

func TestProxyVariablesAreIgnored(t *testing.T) {
	var proxied atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied.Add(1) }))
	defer proxy.Close()
	for _, v := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		t.Setenv(v, proxy.URL)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	// The environment's rule spares what it knows as a loopback address;
	// 0.0.0.0 leads there as well, and it does not know.
	url := strings.Replace(srv.URL, "127.0.0.1", "0.0.0.0", 1)
	if resp, err := do(t, upstream.New(upstream.Options{Timeout: 10 * time.Second}), url); err != nil || resp.StatusCode != 200 {
		t.Error(err)
	}
	if proxied.Load() != 0 {
		t.Error("the environment sent a call to a proxy")
	}
	if _, err := do(t, upstream.New(upstream.Options{Timeout: 10 * time.Second, Proxy: http.ProxyFromEnvironment}), url); err != nil || proxied.Load() != 1 {
		t.Errorf("a proxy that was asked for is not used: %v", err)
	}
}

func TestSkew(t *testing.T) {
	for _, c := range []struct {
		off    time.Duration
		cached bool
		want   time.Duration
	}{
		{0, false, 0}, {time.Second, false, 0}, {20 * time.Minute, false, 20 * time.Minute}, {-3 * time.Hour, false, -3 * time.Hour}, {time.Hour, true, 0},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(c.off).UTC().Format(http.TimeFormat))
			if c.cached {
				w.Header().Set("Age", "3600")
			}
		}))
		client := upstream.New(upstream.Options{Timeout: 10 * time.Second})
		if _, err := do(t, client, srv.URL); err != nil {
			t.Error(err)
		}
		srv.Close()
		if got := client.Skew(); (got - c.want).Abs() > 2*time.Second {
			t.Errorf("a clock off by %v (cached: %v) is measured as %v", c.off, c.cached, got)
		}
	}
}

func TestErrorsShowNoURL(t *testing.T) {
	_, err := do(t, upstream.New(upstream.Options{Timeout: 10 * time.Second}), "http://127.0.0.1:1/path?token=SECRET")
	if err == nil || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
}

func TestCancelled(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
	began := time.Now()
	if _, err := upstream.New(upstream.Options{Timeout: 30 * time.Second}).Do(req); err == nil || time.Since(began) > 3*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                       "plain",
		"two\r\nlines\x1b[31m\x00":    "two lines [31m",
		"bidi \u202e and \xff bad":    "bidi and bad",
		"my key is hunter2, hunter2!": "my key is [secret], [secret]!",
		strings.Repeat("ä", 150):      strings.Repeat("ä", 100) + "…",
	} {
		if got := upstream.Clean(in, credential.NewSecret("hunter2"), credential.Secret{}); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\nb\xff", "b")
	f.Fuzz(func(t *testing.T, text, secret string) {
		got := upstream.Clean(text, credential.NewSecret(secret))
		if len(got) > 210 || strings.ContainsAny(got, "\r\n\x1b\x00") {
			t.Fatalf("%q", got)
		}
	})
}

// Some servers refuse a password with a 500, and lock the account after a few.
func TestAFinalAnswerIsNotTriedAgain(t *testing.T) {
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		w.WriteHeader(500)
		_, _ = io.WriteString(w, "<Fault>")
	}))
	defer srv.Close()
	final := func(status int, body []byte) bool { return status == 500 && strings.Contains(string(body), "Fault") }
	resp, err := do(t, upstream.New(upstream.Options{Timeout: 30 * time.Second, Final: final}), srv.URL)
	if err != nil || resp.StatusCode != 500 || n.Load() != 1 {
		t.Errorf("%v after %d tries, want one", err, n.Load())
	}
}
