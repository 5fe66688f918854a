//go:build linux

package installed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

const latest = "http://169.254.169.254/latest/"

// ask sends one request on a connection of its own.
func ask(ctx context.Context, method, path, token string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, latest+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("X-aws-ec2-metadata-token", token)
	if method == http.MethodPut {
		req.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "21600")
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b), err
}

// session is a token for six hours.
func session(t *testing.T) string {
	t.Helper()
	status, token, err := ask(t.Context(), http.MethodPut, "api/token", "")
	if err != nil || status != http.StatusOK {
		t.Fatalf("a token was answered with %d: %v", status, err)
	}
	return token
}

// key is the id of the key that is served, or what went wrong.
func key(ctx context.Context, token string) string {
	status, body, err := ask(ctx, http.MethodGet, "meta-data/iam/security-credentials/app", token)
	var doc struct{ AccessKeyId string }
	if err == nil {
		err = json.Unmarshal([]byte(body), &doc)
	}
	if err != nil || status != http.StatusOK || doc.AccessKeyId == "" {
		return fmt.Sprintf("status %d, %v", status, err)
	}
	return doc.AccessKeyId
}

// A request is one of a load, and what came of it.
type request struct {
	from, to time.Time
	lost     string // "" for one that was answered with what was wanted
	refused  bool
}

// A load is what came of requests at an even pace, each on a connection of its
// own.
type load []request

const pace = 5 * time.Millisecond // 200 a second

// under sends requests for as long as f runs; each must be answered with want.
func under(t *testing.T, token, want string, f func()) load {
	t.Helper()
	var (
		mu   sync.Mutex
		all  load
		sent sync.WaitGroup
	)
	done := make(chan struct{})
	sent.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		began := time.Now()
		for n := 0; ; {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			for ; n < int(time.Since(began)/pace); n++ { // also those of ticks that were missed
				sent.Go(func() {
					r := send(context.WithoutCancel(t.Context()), token, want) // what is sent is to be answered
					mu.Lock()
					defer mu.Unlock()
					all = append(all, r)
				})
			}
		}
	})
	f()
	close(done)
	sent.Wait()
	return all
}

// send sends one request of a load.
func send(ctx context.Context, token, want string) request {
	r := request{from: time.Now()}
	status, body, err := ask(ctx, http.MethodGet, "meta-data/iam/security-credentials/app", token)
	r.to = time.Now()
	var doc struct{ AccessKeyId string }
	switch {
	case err != nil:
		r.lost, r.refused = err.Error(), errors.Is(err, syscall.ECONNREFUSED)
	case status != http.StatusOK || json.Unmarshal([]byte(body), &doc) != nil || doc.AccessKeyId != want:
		r.lost = fmt.Sprintf("%d %q", status, doc.AccessKeyId)
	}
	return r
}

// longest is how long an answer took: half of them, and all.
func (l load) longest() (half, most time.Duration) {
	took := make([]time.Duration, 0, len(l))
	for _, r := range l {
		took = append(took, r.to.Sub(r.from))
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)-1]
}

// lost are the requests that were not answered as they should be.
func (l load) lost() load {
	return slices.DeleteFunc(slices.Clone(l), func(r request) bool { return r.lost == "" })
}

// whole fails t unless every request of a load was answered, and there were as
// many as the pace gives.
func (l load) whole(t *testing.T, took time.Duration) {
	t.Helper()
	if len(l) < int(took/pace)*9/10 {
		t.Fatalf("only %d requests in %v", len(l), took)
	}
	half, most := l.longest()
	lost := l.lost()
	t.Logf("%d requests in %v, %d lost; an answer took %v at the median, %v at most", len(l), took.Round(time.Millisecond), len(lost), half.Round(10*time.Microsecond), most.Round(time.Millisecond))
	for _, r := range lost[:min(len(lost), 5)] {
		t.Errorf("lost: %s", r.lost)
	}
}
