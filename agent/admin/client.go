package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// answerLimit bounds an answer. A role takes about 500 bytes.
const answerLimit = 16 << 20

// A Client asks a daemon through its socket. It may be used concurrently.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a Client of the socket at path. It makes no connection.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status asks how the daemon fares.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "status", nil, &s)
}

// Await is Status for who waits for a role, or with "" for any: its first call is
// not put off any longer. It waits for nothing itself.
func (c *Client) Await(ctx context.Context, role string) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "status", url.Values{"await": {role}}, &s)
}

// History asks what has happened lately.
func (c *Client) History(ctx context.Context) (h History, err error) {
	return h, c.call(ctx, http.MethodGet, "history", nil, &h)
}

// Explain asks what a user's process in a cgroup would be given, and why; the
// cgroup may be "".
func (c *Client) Explain(ctx context.Context, uid uint32, cgroup string) (e Explanation, err error) {
	return e, c.call(ctx, http.MethodGet, "explain", url.Values{"uid": {strconv.FormatUint(uint64(uid), 10)}, "cgroup": {cgroup}}, &e)
}

// Refresh renews the role of that table now, and returns what came of it.
func (c *Client) Refresh(ctx context.Context, role string) (r Renewal, err error) {
	return r, c.call(ctx, http.MethodPost, "refresh", url.Values{"role": {role}}, &r)
}

// Reload has the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) (r Reload, err error) {
	return r, c.call(ctx, http.MethodPost, "reload", nil, &r)
}

// Revoke stops the role of that table from being served.
func (c *Client) Revoke(ctx context.Context, role string) (r Revocation, err error) {
	return r, c.call(ctx, http.MethodPost, "revoke", url.Values{"role": {role}}, &r)
}

// Process returns the document of credential_process; role "" is that of the
// user who asks.
func (c *Client) Process(ctx context.Context, role string) ([]byte, error) {
	var text json.RawMessage
	err := c.call(ctx, http.MethodPost, "credential-process", url.Values{"role": {role}}, &text)
	return text, err
}

func (c *Client) call(ctx context.Context, method, verb string, values url.Values, into any) error {
	u := url.URL{Scheme: "http", Host: "hostrole", Path: "/v1/" + verb, RawQuery: values.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unanswered(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return c.unanswered(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		return failure(resp.StatusCode, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("what answers on %s is not hostrole, or not of this version: %w", c.path, err)
	}
	return nil
}

func (c *Client) unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var u *url.Error // which names a URL that nobody knows
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("asking the daemon at %s: %w", c.path, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w on %s: is hostrole running (systemctl status hostrole), and is this its socket (--socket, %s)?", ErrNoDaemon, c.path, SocketVar)
	}
	return fmt.Errorf("%w on %s: %w", ErrNoDaemon, c.path, err)
}

// failure is the daemon's error.
func failure(status int, text []byte) error {
	var p problem
	if json.Unmarshal(text, &p) != nil || p.Error == "" {
		return fmt.Errorf("the daemon answered with status %d: %.200q; is it of another version?", status, bytes.TrimSpace(text))
	}
	f := &Failure{Text: p.Error}
	for _, k := range kinds {
		if k.name == p.Kind {
			f.Kind = k.kind
		}
	}
	return f
}

// refused reports whether nobody listens on a socket.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}
