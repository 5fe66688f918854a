//go:build linux

package e2e_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
)

// A witness stands in front of MinIO and notes whose keys sign. What it was
// told the end of, it refuses from then on.
type witness struct {
	url string

	mu   sync.Mutex
	keys []string             // guarded by mu
	ends map[string]time.Time // guarded by mu
	late int                  // requests that were refused; guarded by mu
}

// signer is in the Authorization header, or in the query of an address that is
// signed.
var signer = regexp.MustCompile(`(?:Credential=|AWS |AWSAccessKeyId=)([A-Z0-9]{16,32})\b`)

// newWitness passes requests on to MinIO until the test ends. It leaves the
// Host alone, which is signed as well.
func newWitness(t testing.TB) *witness {
	t.Helper()
	to, err := url.Parse(minioURL)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{ends: map[string]time.Time{}}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}}
	s := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if m := signer.FindStringSubmatch(r.Header.Get("Authorization") + " " + r.URL.RawQuery); m != nil && !w.note(m[1]) {
			out.Header().Set("Content-Type", "application/xml")
			out.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(out, "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>")
			return
		}
		pass.ServeHTTP(out, r)
	}))
	t.Cleanup(s.Close)
	w.url = s.URL
	return w
}

// note reports whether the key is still good.
func (w *witness) note(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.keys, key) {
		w.keys = append(w.keys, key)
	}
	end, mortal := w.ends[key]
	if mortal && !time.Now().Before(end) {
		w.late++
		return false
	}
	return true
}

// outlive makes w refuse a key from a time on.
func (w *witness) outlive(key string, end time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends[key] = end
}

// refused counts the requests that came too late since the last forget.
func (w *witness) refused() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.late
}

// seen are the keys since the last forget, each once.
func (w *witness) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.keys)
}

func (w *witness) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys, w.late = nil, 0
}
