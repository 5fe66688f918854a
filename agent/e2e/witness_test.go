//go:build linux

package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"testing"
)

// A witness stands in front of MinIO and notes whose keys sign.
type witness struct {
	url string

	mu   sync.Mutex // guards keys
	keys []string
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
	w := &witness{}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
		if m := signer.FindStringSubmatch(r.In.Header.Get("Authorization") + " " + r.In.URL.RawQuery); m != nil {
			w.note(m[1])
		}
	}}
	s := httptest.NewServer(http.Handler(pass))
	t.Cleanup(s.Close)
	w.url = s.URL
	return w
}

func (w *witness) note(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.keys, key) {
		w.keys = append(w.keys, key)
	}
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
	w.keys = nil
}
