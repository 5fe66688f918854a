// Package upstream is the one outgoing HTTP client: go-retryablehttp with
// limits, redaction and the measured clock skew.
//
// # Why not
//
// Not the SDK's own client and retryer: on their defaults the two layers make
// 15 requests of one permanent 503 and lose the error code and request id.
// Not retryablehttp's defaults: its logger prints URLs, it drains the last
// answer, trusts any Retry-After, follows redirects and knows no throttling
// that comes as a 400. Not keep-alive: a call is made every half an hour, and
// an idle connection is a goroutine and a stale socket. Not the proxy
// variables of the environment unless the operator says so: they would let an
// inherited environment redirect credentials.
package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

const (
	// bodyLimit bounds an answer. An STS answer has a token of at most 4 KiB.
	bodyLimit = 64 << 10
	// retries follow the first try of one call: 200 ms to 3 s apart, so that a
	// signature made for the first is still fresh at the last.
	retries          = 2
	waitMin, waitMax = 200 * time.Millisecond, 3 * time.Second
	// skewNoise is the resolution of a Date header and a round trip: a smaller
	// difference is not a difference between two clocks.
	skewNoise = 2 * time.Second
)

// Options says how a Client reaches its upstream.
type Options struct {
	Roots   *x509.CertPool                        // nil: the system's
	Pins    []Pin                                 // one of these keys is in the chain of the server; none: any key is good
	Proxy   func(*http.Request) (*url.URL, error) // nil: none
	Timeout time.Duration                         // of one call with its retries; required

	// Resolver looks names up. While it cannot, a name is taken to be where it
	// was last, for a day.
	Resolver *net.Resolver // nil: the system's
	// Transient reports whether an answer of 400 or above is worth another
	// try at once. It is asked after the rule for 429 and 5xx.
	Transient func(status int, body []byte) bool // nil: none is
	// Final reports whether an answer of 400 or above is one that another try
	// at once cannot mend: some servers refuse a password with a 500, and count.
	Final func(status int, body []byte) bool // nil: none is
	// Certificate is asked for the certificate of this client at each
	// connection of a server that wants one.
	Certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error) // nil: none
	Logger      *slog.Logger                                                // nil: silent
	Now         func() time.Time                                            // for the age of addresses; nil: time.Now
}

// A Client makes calls to one upstream. It may be used concurrently.
type Client struct {
	retry     *retryablehttp.Client
	timeout   time.Duration
	transient func(int, []byte) bool
	final     func(int, []byte) bool
	skew      atomic.Int64 // server minus local, ns
}

// New returns a Client. It makes no connection.
func New(o Options) *Client {
	c := &Client{retry: retryablehttp.NewClient(), timeout: o.Timeout, transient: o.Transient, final: o.Final}
	dial := &dialer{Dialer: net.Dialer{Timeout: dialTimeout, Resolver: o.Resolver}, now: o.Now}
	if dial.now == nil {
		dial.now = time.Now
	}
	c.retry.HTTPClient = &http.Client{
		Transport: &http.Transport{
			Proxy:       o.Proxy,
			DialContext: dial.DialContext,
			TLSClientConfig: &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12, GetClientCertificate: o.Certificate,
				VerifyConnection: pinned(o.Pins)},
			TLSHandshakeTimeout:    3 * time.Second,
			ResponseHeaderTimeout:  5 * time.Second,
			MaxResponseHeaderBytes: 32 << 10,
			DisableKeepAlives:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.retry.Logger = nil
	c.retry.RetryMax = retries
	c.retry.RetryWaitMin, c.retry.RetryWaitMax = waitMin, waitMax
	c.retry.CheckRetry, c.retry.Backoff, c.retry.ErrorHandler = c.check, backoff, lastAnswer
	if o.Logger != nil {
		log := o.Logger
		c.retry.RequestLogHook = func(_ retryablehttp.Logger, r *http.Request, n int) {
			log.Debug("upstream request", "method", r.Method, "host", r.URL.Host, "attempt", n+1)
		}
		c.retry.ResponseLogHook = func(_ retryablehttp.Logger, r *http.Response) {
			log.Debug("upstream answer", "host", r.Request.URL.Host, "status", r.StatusCode, "request_id", requestID(r.Header))
		}
		dial.old = func(name, address string) {
			log.Warn("DNS has no answer: the name is taken to be where it was last", "name", name, "address", address)
		}
	}
	return c
}

// Timeout is the limit of one call with its retries.
func (c *Client) Timeout() time.Duration { return c.timeout }

// Skew is the upstream's clock minus ours, as its last answer showed it; 0
// while unknown or too small to tell.
func (c *Client) Skew() time.Duration { return time.Duration(c.skew.Load()) }

// Do makes one call: at most three tries, all of the same bytes, within the
// context. The answer, whatever its status, has been read whole; an error
// means that there was none.
func (c *Client) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), c.timeout)
	defer cancel() // the body is in memory by then
	rr, err := retryablehttp.FromRequest(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	resp, err := c.retry.Do(rr)
	if err != nil {
		return nil, redacted(err)
	}
	return resp, nil
}

func (c *Client) check(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	// With no time left for another wait, give up now: a context that ends
	// during the wait would lose the code of this answer.
	deadline, bounded := ctx.Deadline()
	mayWait := !bounded || time.Until(deadline) > waitMax
	if err != nil {
		var cert *tls.CertificateVerificationError
		if errors.As(err, &cert) || errors.Is(err, ErrPinned) {
			return false, err
		}
		return mayWait, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit+1))
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	switch {
	case err != nil && !mayWait, err != nil && ctx.Err() != nil:
		return false, fmt.Errorf("reading the answer: %w", err)
	case err != nil:
		return true, nil //nolint:nilerr // likewise
	case len(body) > bodyLimit:
		return false, fmt.Errorf("the answer is larger than %d bytes", bodyLimit)
	}
	c.measure(resp)
	again := resp.StatusCode == http.StatusTooManyRequests ||
		resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented ||
		resp.StatusCode >= 400 && c.transient != nil && c.transient(resp.StatusCode, body)
	if again && c.final != nil && c.final(resp.StatusCode, body) {
		again = false
	}
	return again && mayWait, nil
}

// requestID is the server's name for an answer: AWS's, or another's.
func requestID(h http.Header) string {
	for _, name := range []string{"X-Amzn-Requestid", "X-Amz-Request-Id", "X-Request-Id", "Audit-Id"} {
		if id := h.Get(name); id != "" {
			return Clean(id)
		}
	}
	return ""
}

// measure notes the difference of the clocks. An answer with an Age comes
// from a cache and tells the time at which it was stored.
func (c *Client) measure(resp *http.Response) {
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil || resp.Header.Get("Age") != "" {
		return
	}
	d := time.Until(date)
	if d.Abs() < skewNoise {
		d = 0
	}
	c.skew.Store(int64(d))
}

// backoff grows from waitMin to waitMax with full jitter in the upper half.
// Retry-After is honoured up to waitMax; the scheduler does the long waits.
func backoff(lo, hi time.Duration, n int, resp *http.Response) time.Duration {
	d := min(lo<<min(n, 6), hi)
	d = d/2 + rand.N(d/2+1) // #nosec G404 -- spreads load, hides nothing
	if resp != nil {
		d = max(d, min(RetryAfter(resp.Header), hi))
	}
	return d
}

func lastAnswer(resp *http.Response, err error, tries int) (*http.Response, error) {
	switch {
	case err == nil && resp != nil:
		return resp, nil // the caller decodes code and request id
	case err == nil:
		err = errors.New("no answer")
	}
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	if tries > 1 {
		return nil, fmt.Errorf("after %d attempts: %w", tries, err)
	}
	return nil, err
}

// redacted takes the URL out of an error of net/http, which quotes it whole
// and with it whatever a query or a path may hold.
func redacted(err error) error {
	var u *url.Error
	if !errors.As(err, &u) {
		return err
	}
	host := "the upstream"
	if p, perr := url.Parse(u.URL); perr == nil && p.Host != "" {
		host = p.Host
	}
	return fmt.Errorf("calling %s: %w", host, u.Err)
}
