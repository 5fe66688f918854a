//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest"
)

// A load is callers who never pause. Each asks as an SDK does: a token, the
// role, its credential.
type load struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex // guards all below
	answers  int        // whole ones
	refused  int        // connections that were never made
	cut      int        // connections that ended without a byte of an answer
	failures []string   // all else that went wrong
}

// startLoad asks with a number of callers until end is called.
func startLoad(t testing.TB, callers int) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{stop: cancel}
	for range callers {
		l.done.Go(func() {
			for ctx.Err() == nil {
				l.round(ctx)
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

// end stops the callers and waits for them.
func (l *load) end() { l.stop(); l.done.Wait() }

// round is one caller's three requests. What is under way when the load ends
// is not cut short: it would look like a failure.
func (l *load) round(ctx context.Context) {
	ask := imdstest.Client{Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, "tcp4", metadataHost+":80")
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNeverMade, err)
		}
		return c, nil
	}}
	step := func(method, path string, header imdstest.Field) (string, bool) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		a, err := ask.Do(ctx, method, path, header)
		l.mu.Lock()
		defer l.mu.Unlock()
		switch {
		case errors.Is(err, errNeverMade):
			l.refused++
		case errors.Is(err, imdstest.ErrNoAnswer), errors.Is(err, syscall.ECONNRESET) && strings.Contains(err.Error(), "after 0 bytes"):
			l.cut++
		case err != nil:
			l.failures = append(l.failures, err.Error())
		case a.Status != http.StatusOK:
			l.failures = append(l.failures, fmt.Sprintf("%s %s: %d", method, path, a.Status))
		default:
			l.answers++
			return string(a.Body), true
		}
		return "", false
	}
	token, ok := step("PUT", "/latest/api/token", imdstest.Field{Name: "X-aws-ec2-metadata-token-ttl-seconds", Value: "60"})
	const list = "/latest/meta-data/iam/security-credentials/"
	with := imdstest.Field{Name: "X-aws-ec2-metadata-token", Value: token}
	if !ok {
		return
	}
	role, ok := step("GET", list, with)
	if !ok {
		return
	}
	if text, ok := step("GET", list+role, with); ok {
		var doc document
		if err := json.Unmarshal([]byte(text), &doc); err != nil || doc.Code != "Success" || doc.AccessKeyId == "" {
			l.mu.Lock()
			l.failures = append(l.failures, fmt.Sprintf("a document with code %q: %v", doc.Code, err))
			l.mu.Unlock()
		}
	}
}

var errNeverMade = errors.New("no connection")

// report is what the load has seen so far.
func (l *load) report() (answers, refused, cut int, failures []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers, l.refused, l.cut, l.failures
}

// startReloadable runs hostrole with a configuration that put replaces.
func startReloadable(t *testing.T, config string) (d *daemon, put func(config string)) {
	t.Helper()
	d = startHostrole(t, config)
	file := d.cmd.Args[len(d.cmd.Args)-1]
	if filepath.Base(file) != "hostrole.toml" {
		t.Fatalf("%q is not the configuration", file)
	}
	return d, func(config string) { t.Helper(); replace(t, file, config) }
}

// reload sends SIGHUP and waits until the log has one line more with a text.
func (d *daemon) reload(t testing.TB, text string) {
	t.Helper()
	text = `"msg":"` + text
	before := strings.Count(d.out.since(0), text)
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.await(t, "says: "+text, 10*time.Second, func() bool { return strings.Count(d.out.since(0), text) > before })
}

// Fifty changes of the configuration while callers never pause: not one
// request is lost, each change counts at once, and a bad one changes nothing.
func TestReloadUnderLoad(t *testing.T) {
	// The log of every request would be searched a thousand times.
	config := strings.Replace(simple(t, anybody), `level = "debug"`, `level = "info"`, 1)
	d, put := startReloadable(t, config)
	d.credential(t, "app")
	l := startLoad(t, 8)
	for n := range 50 {
		put(config + fmt.Sprintf("[metadata.tags]\nName = \"number-%d\"\n[role.more-%d]\nfrom = \"source.helper\"\n", n, n%3))
		d.reload(t, "the configuration was reloaded")
		status, body, err := fetch(t.Context(), "meta-data/tags/instance/Name")
		if want := fmt.Sprintf("number-%d", n); status != http.StatusOK || string(body) != want {
			t.Fatalf("after reload %d the host is called %q (%d, %v)", n, body, status, err)
		}
	}
	for what, bad := range map[string]string{
		"no TOML": "[", "an unknown key": config + "[metadata.tag]\n", "a role that nobody has": config + "[[allow]]\nany = true\nroles = [\"nobody\"]\n", "no rule": strings.Replace(config, anybody, "", 1),
	} {
		put(bad)
		d.reload(t, "the configuration was not reloaded")
		if status, body, err := fetch(t.Context(), "meta-data/tags/instance/Name"); status != http.StatusOK || string(body) != "number-49" {
			t.Errorf("after %s the host is called %q (%d, %v)", what, body, status, err)
		}
	}
	l.end()
	answers, refused, cut, failures := l.report()
	if refused+cut+len(failures) != 0 || answers < 1000 {
		t.Errorf("%d answers, %d connections refused, %d cut, and failures: %q", answers, refused, cut, failures)
	}
	t.Logf("%d requests over 50 reloads and 4 that failed", answers)
}

// begin sends what is not yet a whole request on a number of connections. When
// it returns they were all accepted: the one behind them has its answer.
func begin(t *testing.T, n int, half string) (conns []net.Conn) {
	t.Helper()
	for range n {
		c, err := overIPv4.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := io.WriteString(c, half); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if a, err := overIPv4.Get(t.Context(), "", "/latest/meta-data/"); err != nil || a.Status != http.StatusUnauthorized {
		t.Fatalf("the request behind them was answered with %d, %v", a.Status, err)
	}
	return conns
}

// What was accepted before SIGTERM is answered. Whoever comes later finds the
// door closed, and never half an answer.
func TestStopUnderLoad(t *testing.T) {
	d := startHostrole(t, simple(t, anybody))
	d.credential(t, "app")
	from := d.settle(t)
	l := startLoad(t, 8)
	d.await(t, "is under load", 10*time.Second, func() bool { n, _, _, _ := l.report(); return n > 500 })
	token, err := overIPv4.Token(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	slow := begin(t, 20, "GET /latest/meta-data/iam/security-credentials/app HTTP/1.1\r\nHost: 169.254.169.254\r\nX-aws-ec2-metadata-token: "+token+"\r\n")
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.await(t, "accepts nobody any more", 5*time.Second, func() bool { _, refused, _, _ := l.report(); return refused > 0 })
	for _, c := range slow {
		if a, err := imdstest.Exchange(t.Context(), c, "\r\n"); err != nil || a.Status != http.StatusOK {
			t.Errorf("a request that had begun was answered with %d, %v", a.Status, err)
		}
	}
	eventually(t, "hostrole ends", 10*time.Second, func() bool {
		select {
		case <-d.done:
			return true
		default:
			return false
		}
	})
	d.stop(t)
	eventually(t, "the callers find nobody", 10*time.Second, func() bool { _, refused, _, _ := l.report(); return refused > 8 })
	l.end()
	answers, _, cut, failures := l.report()
	answers += 1 + len(slow)
	if len(failures) != 0 {
		t.Errorf("%d failures, such as %q", len(failures), failures[0])
	}
	logged := 0
	for _, r := range requests(d.out.since(from)) {
		if r.Status == http.StatusOK {
			logged++
		}
	}
	if answers != logged {
		t.Errorf("hostrole took %d requests, and %d were answered whole", logged, answers)
	}
	// The kernel had them, hostrole never did: one for each caller at most.
	if cut > 8 {
		t.Errorf("%d connections were cut", cut)
	}
	t.Logf("%d answers; %d connections were still the kernel's", answers, cut)
}
