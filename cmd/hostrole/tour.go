package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/rotation"
)

// tourLimit ends a tour in which something does not happen.
const tourLimit = 55 * time.Second

// a document is what a workload reads of its role's credentials.
type documentView struct {
	Code, AccessKeyID, SecretAccessKey, Token string
	Expiration                                time.Time
}

// tour acts as a workload and shows what it sees.
func (d *demo) tour(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, tourLimit)
	defer cancel()
	s := newScreen(d.stdout)
	began := time.Now()
	where := "on lo of a private network namespace"
	if d.imds.Addr().IsLoopback() {
		where = "standing in for 169.254.169.254"
	}
	s.title("hostrole demo")
	s.line("daemon", "%v, %s", d.imds, where)
	s.line("upstream", "an embedded STS, %s; sessions of %v", d.stsURL, tourSession)
	s.line("config", "%s → demo-hub → demo-app, for uid %d alone", masked(demoKeyID), os.Geteuid())
	s.title("a workload asks, as every SDK does")

	w := &workload{base: "http://" + d.imds.String() + "/latest/"}
	role, err := w.begin(ctx, s)
	if err != nil {
		return err
	}
	doc, err := w.document(ctx, role)
	if err != nil {
		return err
	}
	s.line("keys", "GET …/%s: %s, secret ********, token of %d bytes", role, masked(doc.AccessKeyID), len(doc.Token))

	// From now on somebody asks ten times a second, whatever happens.
	var crowd sync.WaitGroup
	watch, rest := context.WithCancel(ctx)
	defer rest()
	crowd.Go(func() { w.keepAsking(watch, role) })
	defer crowd.Wait()
	defer rest()

	s.title("its credentials are renewed at half of their life")
	first := doc
	if _, err := d.await(ctx, s, w, "live", func(e rotation.Event) bool { return e.Err == nil && e.Credential.AccessKeyID != first.AccessKeyID }); err != nil {
		return err
	}
	doc = w.latest()
	s.line("renewed", "%s → %s, before anybody had to wait", masked(first.AccessKeyID), masked(doc.AccessKeyID))

	s.title("the upstream goes away")
	d.sts.Break(devsts.Named("down"))
	cut := doc
	failed, err := d.await(ctx, s, w, "cut off", func(e rotation.Event) bool { return e.Failures >= 2 })
	if err != nil {
		return err
	}
	doc = w.latest()
	s.line("still served", "%s, %v of real life left, after %d failed renewals", masked(doc.AccessKeyID), left(doc), failed.Failures)
	s.line("last error", "%s", short(failed.Err.Error()))

	d.sts.Heal()
	s.title("and comes back")
	if _, err := d.await(ctx, s, w, "recovering", func(e rotation.Event) bool { return e.Err == nil && e.Credential.AccessKeyID != cut.AccessKeyID }); err != nil {
		return err
	}
	s.line("renewed", "%s → %s", masked(cut.AccessKeyID), masked(w.latest().AccessKeyID))
	rest()
	crowd.Wait()
	s.title("in sum")
	s.line("requests", "%d answered, %d without live credentials, in %v", w.asked.Load(), w.failed.Load(), time.Since(began).Round(time.Second))
	s.line("next", "hostrole demo -- aws sts get-caller-identity")
	if n := w.failed.Load(); n > 0 {
		return fmt.Errorf("%d requests were not given live credentials", n)
	}
	return nil
}

// await shows the clock until an attempt ends as asked.
func (d *demo) await(ctx context.Context, s *screen, w *workload, state string, done func(rotation.Event) bool) (rotation.Event, error) {
	tick := time.NewTicker(s.pace)
	defer tick.Stop()
	for {
		select {
		case e := <-d.renewals:
			if done(e) {
				s.settle()
				// The workload's own eyes must see it before it is told.
				return e, w.wait(ctx, e.Credential.AccessKeyID)
			}
		case <-tick.C:
			s.clock(state, w.latest())
		case <-ctx.Done():
			s.settle()
			return rotation.Event{}, errors.New("the demo took too long: is this machine very busy?")
		}
	}
}

// A workload asks for its credentials as an SDK does.
type workload struct {
	base          string
	token         string
	transport     http.Transport // its own: no proxy, no connection of somebody else
	asked, failed atomic.Int64

	mu   sync.Mutex
	seen documentView // guarded by mu
}

func (w *workload) begin(ctx context.Context, s *screen) (role string, err error) {
	if w.token, err = w.call(ctx, http.MethodPut, "api/token"); err != nil {
		return "", err
	}
	s.line("token", "PUT /latest/api/token: %d characters, good for 6 h", len(w.token))
	if role, err = w.call(ctx, http.MethodGet, "meta-data/iam/security-credentials/"); err != nil {
		return "", err
	}
	s.line("role", "GET …/iam/security-credentials/: %s", role)
	return role, nil
}

func (w *workload) call(ctx context.Context, method, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, w.base+path, nil)
	if err != nil {
		return "", err
	}
	if method == http.MethodPut {
		req.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "21600")
	} else {
		req.Header.Set("X-aws-ec2-metadata-token", w.token)
	}
	resp, err := w.transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: status %d", method, path, resp.StatusCode)
	}
	return string(body), err
}

// document reads the role's document; a first one may take a moment.
func (w *workload) document(ctx context.Context, role string) (documentView, error) {
	for {
		doc, err := w.try(ctx, role)
		if err == nil || ctx.Err() != nil {
			return doc, err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (w *workload) try(ctx context.Context, role string) (documentView, error) {
	var doc documentView
	body, err := w.call(ctx, http.MethodGet, "meta-data/iam/security-credentials/"+role)
	if err != nil {
		return doc, err
	}
	switch err := json.Unmarshal([]byte(body), &doc); {
	case err != nil:
		return doc, errors.New("the document is no JSON")
	case doc.Code != "Success" || doc.AccessKeyID == "" || doc.SecretAccessKey == "" || doc.Token == "":
		return doc, fmt.Errorf("the document says %q", doc.Code)
	case !doc.Expiration.After(time.Now()):
		return doc, errors.New("the credentials have expired")
	}
	w.mu.Lock()
	w.seen = doc
	w.mu.Unlock()
	return doc, nil
}

func (w *workload) latest() documentView {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

func (w *workload) keepAsking(ctx context.Context, role string) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := w.try(ctx, role); ctx.Err() == nil {
			w.asked.Add(1)
			if err != nil {
				w.failed.Add(1)
			}
		}
	}
}

// wait returns when the workload has been given that key.
func (w *workload) wait(ctx context.Context, keyID string) error {
	for w.latest().AccessKeyID != keyID {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func left(doc documentView) time.Duration {
	return max(0, time.Until(doc.Expiration)).Round(time.Second)
}

// masked shows enough of a key id to tell two apart.
func masked(id string) string {
	if len(id) < 12 {
		return "****"
	}
	return id[:4] + "…" + id[len(id)-4:]
}

// short keeps a line on one screen line.
func short(s string) string {
	if r := []rune(s); len(r) > 64 {
		return string(r[:63]) + "…"
	}
	return s
}

// A screen writes for a person: on a terminal the clock moves in place, and
// elsewhere it is a line every few seconds.
type screen struct {
	w        io.Writer
	terminal bool
	colour   bool
	pace     time.Duration
	moving   bool // the cursor stands in the line of the clock
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w, pace: 3 * time.Second}
	if f, ok := w.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb" {
			s.terminal, s.pace = true, 200*time.Millisecond
			s.colour = os.Getenv("NO_COLOR") == ""
		}
	}
	return s
}

func (s *screen) title(text string) {
	if s.colour {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	_, _ = fmt.Fprintln(s.w, text)
}

func (s *screen) line(label, format string, args ...any) {
	_, _ = fmt.Fprintf(s.w, "  %-13s %s\n", label, fmt.Sprintf(format, args...))
}

const clockWidth = 24

func (s *screen) clock(state string, doc documentView) {
	life := left(doc)
	full := min(clockWidth, int(life*clockWidth/tourSession))
	text := fmt.Sprintf("  %-13s [%s%s] %3v of life left  %s", state, strings.Repeat("█", full), strings.Repeat("·", clockWidth-full), life, masked(doc.AccessKeyID))
	if !s.terminal {
		_, _ = fmt.Fprintln(s.w, text)
		return
	}
	s.moving = true
	_, _ = fmt.Fprintf(s.w, "\r%s\x1b[K", text)
}

// settle ends the line of the clock.
func (s *screen) settle() {
	if s.moving {
		_, _ = fmt.Fprint(s.w, "\r\x1b[K")
		s.moving = false
	}
}
