package sts_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/sts"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// What the upstream asks for reaches those who do the long waits.
func TestRetryAfterIsHandedOn(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "86400": time.Hour, "-1": 0, "soon": 0, "99999999999999999999": 0,
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusTooManyRequests)
		}))
		b := newBench(t, time.Second)
		h := upstream.New(upstream.Options{Timeout: time.Second, Transient: sts.Transient})
		c := sts.New(sts.Options{Region: "eu-central-1", Endpoint: srv.URL, HTTP: h, Now: now, Boot: func() time.Duration { return time.Hour }})
		_, err := c.AssumeRole(t.Context(), b.base, hubSession())
		srv.Close()
		var e *source.Error
		if !errors.As(err, &e) || e.RetryAfter != want || e.Status != http.StatusTooManyRequests {
			t.Errorf("Retry-After %q: %v after an answer of %v, want %v", header, e.RetryAfter, err, want)
		}
	}
}
