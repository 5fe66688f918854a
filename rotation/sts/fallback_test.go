package sts_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/source"
	"github.com/hostrole/hostrole/rotation/sts"
	"github.com/hostrole/hostrole/rotation/upstream"
)

// A pair is a client of two STS of one account.
type pair struct {
	*bench
	second *devsts.Server
	boot   atomic.Int64
	moved  []string
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{bench: newBench(t, 20*time.Second)}
	role := devsts.Role{ARN: hub, Principals: []string{user}, ExternalID: "ext", TagSession: true, SetSourceIdentity: true, MaxSession: 12 * time.Hour}
	p.second = devsts.New(devsts.Options{Account: account, Region: "eu-west-1", Now: func() time.Time { return now().Add(time.Hour) },
		Users: []devsts.User{{ARN: user, AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: secret}}, Roles: []devsts.Role{role}})
	var urls []string
	for _, s := range []http.Handler{p.sts, p.second} {
		srv := httptest.NewServer(s)
		t.Cleanup(srv.Close)
		urls = append(urls, srv.URL)
	}
	p.client = sts.New(sts.Options{Region: "eu-central-1", Endpoint: urls[0], HTTP: p.http, Now: now, Boot: func() time.Duration { return time.Duration(p.boot.Load()) },
		Fallback: &sts.Fallback{Region: "eu-west-1", Endpoint: urls[1], HTTP: upstream.New(upstream.Options{Timeout: 20 * time.Second, Transient: sts.Transient}),
			Moved: func(to string, why error) {
				if (why == nil) != (to == urls[0]) {
					t.Errorf("moved to %s: %v", to, why)
				}
				p.moved = append(p.moved, strings.Replace(strings.Replace(to, urls[0], "first", 1), urls[1], "second", 1))
			}}})
	return p
}

// ask makes one attempt, and tells how many calls each has had in it.
func (p *pair) ask(t *testing.T) (c credential.Credential, first, second int, err error) {
	t.Helper()
	a, b := p.sts.CallCount(""), p.second.CallCount("")
	c, err = p.client.AssumeRole(t.Context(), p.base, hubSession())
	return c, p.sts.CallCount("") - a, p.second.CallCount("") - b, err
}

func TestTheFallbackIsAskedWhileTheFirstIsAway(t *testing.T) {
	p := newPair(t)
	if c, first, second, err := p.ask(t); err != nil || first != 1 || second != 0 || p.client.Skew() != 0 || c.Endpoint == "" {
		t.Fatalf("well: %d and %d calls, %v", first, second, err)
	}
	p.sts.Break(devsts.Named("down"))
	c, first, second, err := p.ask(t)
	if err != nil || first == 0 || second != 2 || p.client.Skew() < 59*time.Minute {
		t.Fatalf("down: %d and %d calls, skew %v: %v", first, second, p.client.Skew(), err) // two: the first told the skew
	}
	from := c.Endpoint
	if _, first, second, err := p.ask(t); err != nil || first != 0 || second != 1 {
		t.Errorf("a moment later: %d and %d calls, %v", first, second, err)
	}
	p.sts.Heal()
	p.boot.Store(int64(4 * time.Minute))
	if _, first, second, err := p.ask(t); err != nil || first != 0 || second != 1 {
		t.Errorf("4 minutes later: %d and %d calls, %v", first, second, err)
	}
	p.boot.Store(int64(6 * time.Minute))
	if c, first, second, err := p.ask(t); err != nil || first != 1 || second != 0 || c.Endpoint == from {
		t.Errorf("6 minutes later: %d and %d calls, %v", first, second, err)
	}
	if got := strings.Join(p.moved, " "); got != "second first" {
		t.Errorf("was told of %q", got)
	}
}

// What is an answer is the answer, and a second opinion would only hide it; and
// a quota is not to be dodged.
func TestTheFallbackIsNotAskedForAnotherAnswer(t *testing.T) {
	for fault, asked := range map[string]bool{
		"access-denied": false, "signature-does-not-match": false, "throttling": false, "too-many-requests": false,
		"http-500": true, "http-502": true, "http-503": true, "html": true, "region-disabled": true, "no-credentials": true,
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.sts.Break(devsts.Named(fault))
			if _, _, second, err := p.ask(t); (second > 0) != asked || (err == nil) != asked {
				t.Errorf("%d calls of the second, %v", second, err)
			}
		})
	}
}

// Some servers say that they have enough to do with a 503.
func TestAQuotaIsNotDodgedWhateverTheStatus(t *testing.T) {
	p := newPair(t)
	f := devsts.Named("throttling")
	f.Status = http.StatusServiceUnavailable
	p.sts.Break(f)
	if _, _, second, err := p.ask(t); second > 0 || err == nil {
		t.Errorf("%d calls of the second, %v", second, err)
	}
}

// While both are away each is asked once in an attempt, whoever was asked last.
func TestBothAreAway(t *testing.T) {
	p := newPair(t)
	p.sts.Break(devsts.Named("http-503"))
	p.second.Break(devsts.Named("http-503-retry-after"))
	for range 2 {
		_, first, second, err := p.ask(t)
		var e *source.Error
		if first != 3 || second != 3 || !errors.As(err, &e) || e.Kind != nil || source.RetryAfter(err) != time.Second || !strings.Contains(err.Error(), "neither STS answers: http://") || strings.Count(err.Error(), "try again later") != 2 {
			t.Fatalf("%d and %d calls: %v", first, second, err)
		}
	}
	p.sts.Heal()
	if _, _, _, err := p.ask(t); err != nil || len(p.moved) != 0 {
		t.Errorf("the first is back: %v, %v", err, p.moved)
	}
	p.sts.Break(devsts.Named("http-503"))
	p.second.Heal()
	p.second.Break(devsts.Named("access-denied"))
	if _, _, _, err := p.ask(t); !errors.Is(err, source.ErrAccessDenied) {
		t.Errorf("what the second refuses is refused: %v", err)
	}
}
