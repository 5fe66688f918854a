package page_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/cmd/hostrole/page"
)

var now = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

func p[T any](v T) *T { return &v }

// hostile is a name that wants to be more than text.
const hostile = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>` + "\x1b[31m\u202e\x00&amp;"

// day is a host on a day with an outage: what the screenshots show.
func day() (admin.Status, admin.History) {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	s := admin.Status{
		Version: 1, Program: "v0.9.0", Time: now, Started: ago(9*24*time.Hour + 4*time.Hour), PID: 812,
		Listeners: []admin.Endpoint{
			{Name: "host", Kind: "imds", Address: "169.254.169.254:80", Ingress: "lo", Serving: true},
			{Name: "docker", Kind: "imds", Address: "169.254.169.254:80", Ingress: "docker0", Serving: true},
			{Name: "tasks", Kind: "ecs", Address: "169.254.170.2:80", Ingress: "docker0", Serving: true},
		},
		Addresses: []admin.Address{{Address: "169.254.169.254", Link: "lo"}, {Address: "169.254.170.2", Link: "lo"}},
		Decisions: []admin.Decision{
			{Time: ago(2 * time.Second), Caller: admin.Caller{UID: p(uint32(998)), User: "restic", Unit: "backup.service", Listener: "host"}, Endpoint: "imds", Role: "backup", Rule: "backups", Verdict: "granted", Count: 41},
			{Time: ago(9 * time.Second), Caller: admin.Caller{UID: p(uint32(1001)), User: "app", Unit: "app-7.service", Listener: "host"}, Endpoint: "imds", Role: "app", Rule: "app", Verdict: "granted", Count: 212},
			{Time: ago(14 * time.Second), Caller: admin.Caller{UID: p(uint32(0)), User: "root", Container: "3f1c9a77d0e2", Listener: "docker"}, Endpoint: "imds", Role: "web", Rule: "containers", Verdict: "granted", Count: 88},
			{Time: ago(61 * time.Second), Caller: admin.Caller{UID: p(uint32(33)), User: "www-data", Unit: "nginx.service", Listener: "host"}, Endpoint: "imds", Verdict: "denied", Count: 6},
			{Time: ago(7 * time.Minute), Caller: admin.Caller{UID: p(uint32(1000)), User: "mara", Listener: "admin socket"}, Endpoint: "process", Role: "reports", Rule: "people", Verdict: "not ready", Count: 3},
		},
	}
	h := admin.History{Version: 1, Time: now, TallySpan: 300}
	role := func(name, arn, from string, life, every, phase time.Duration, outages ...admin.Outage) *admin.Role {
		past := admin.Past{Role: name, Outages: outages}
		var last admin.Life
		for at := now.Add(-24*time.Hour + phase); at.Before(now); at = at.Add(every) {
			issued := at
			for _, o := range outages { // no renewal while there is an outage
				if issued.After(o.From) && (o.Until == nil || issued.Before(*o.Until)) {
					if o.Until == nil {
						issued = now
					} else {
						issued = *o.Until
					}
				}
			}
			if !issued.Before(now) {
				break
			}
			if n := len(past.Lives); n > 0 {
				if past.Lives[n-1].Issued.Equal(issued) {
					continue
				}
				past.Lives[n-1].Replaced = p(issued)
			}
			last = admin.Life{Credential: fmt.Sprintf("%08x", 0x5e6f7a00+len(past.Lives)*7919), Issued: issued, Expires: p(issued.Add(life))}
			past.Lives = append(past.Lives, last)
		}
		h.Roles = append(h.Roles, past)
		left := max(0, last.Expires.Sub(now))
		r := admin.Role{Name: name, ServedAs: name, ARN: arn, From: from, Session: fmt.Sprintf("%08x", len(s.Roles)+1), State: admin.Live, Credential: last.Credential,
			Issued: p(last.Issued), Expires: last.Expires, Life: p(life.Seconds()), Left: p(left.Seconds()), Next: p(last.Issued.Add(every)), NextIn: p(last.Issued.Add(every).Sub(now).Seconds())}
		s.Roles = append(s.Roles, r)
		return &s.Roles[len(s.Roles)-1]
	}
	over := admin.Outage{From: ago(3*time.Hour + 20*time.Minute), Until: p(ago(2*time.Hour + 25*time.Minute)), Failures: 38,
		Error: "AssumeRoleWithWebIdentity arn:aws:iam::111122223333:role/hub: no answer within 20s"}
	role("hub", "arn:aws:iam::111122223333:role/hub", "source.corp", 2*time.Hour, 57*time.Minute, 6*time.Minute, over)
	role("app", "arn:aws:iam::111122223333:role/app", "role.hub", time.Hour, 28*time.Minute, 11*time.Minute, over)
	role("backup", "arn:aws:iam::444455556666:role/backup", "role.hub", time.Hour, 29*time.Minute, 3*time.Minute, over)
	denied := admin.Outage{From: ago(17 * time.Minute), Failures: 9,
		Error: "AssumeRole arn:aws:iam::777788889999:role/reports: AccessDenied: User: arn:aws:sts::111122223333:assumed-role/hub/db-7 is not authorized to perform: sts:AssumeRole (request 5f0c2b1e-33d7-4b61-9a56-0d0f6a1c2e9b); check the role's trust policy: does it name this identity, and its external id, tags and source identity?"}
	r := role("reports", "arn:aws:iam::777788889999:role/reports", "role.hub", time.Hour, 27*time.Minute, 20*time.Minute, denied)
	r.State, r.Failures, r.Since, r.Error = admin.Failing, denied.Failures, p(denied.From), denied.Error
	r.Next, r.NextIn = p(now.Add(4*time.Minute)), p(240.0)
	role("web", "arn:aws:iam::111122223333:role/web", "source.corp", 12*time.Hour, 59*time.Minute, 31*time.Minute, over)
	for i := 288; i >= 0; i-- {
		t := admin.Tally{From: now.Add(-time.Duration(i) * 5 * time.Minute).Truncate(5 * time.Minute), Granted: 30 + (i*37)%23 + (i%12)*2}
		if i%17 == 0 {
			t.Denied = 6
		}
		if i >= 29 && i < 34 {
			t.Failed, t.Granted = 19, 21
		}
		h.Tallies = append(h.Tallies, t)
	}
	return s, h
}

func serve(s admin.Status, h admin.History, errs ...error) *page.Server {
	err := errors.Join(errs...)
	return page.New(page.Options{Host: "db-7", Idle: time.Minute,
		Status:  func(context.Context) (admin.Status, error) { return s, err },
		History: func(context.Context) (admin.History, error) { return h, err }})
}

// get asks a server as a browser does that has these cookies.
func get(srv http.Handler, host, path string, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = host
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	srv.ServeHTTP(w, r)
	return w
}

// enter opens the page, and returns its path and cookie.
func enter(t testing.TB, srv *page.Server) (path string, c *http.Cookie) {
	t.Helper()
	w := get(srv, "127.0.0.1:1", srv.First())
	all := w.Result().Cookies()
	if w.Code != http.StatusSeeOther || len(all) != 1 {
		t.Fatalf("the address that was printed answers %d, with %d cookies", w.Code, len(all))
	}
	return w.Header().Get("Location"), all[0]
}

// Nobody but the browser that opens the address sees anything.
func TestDoor(t *testing.T) {
	t.Parallel()
	s, h := day()
	srv := serve(s, h, nil)
	first := srv.First()
	preview := httptest.NewRequest(http.MethodHead, first, nil)
	preview.Host = "127.0.0.1:1"
	srv.ServeHTTP(httptest.NewRecorder(), preview) // a chat program that looks at links
	path, c := enter(t, srv)
	if c.Path != path || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || len(path) < 26 || len(c.Value) < 26 {
		t.Errorf("the cookie is %+v, for %s", c, path)
	}
	if w := get(srv, "127.0.0.1:1", path, c); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "arn:aws:iam::444455556666:role/backup") {
		t.Errorf("the page answers %d: %s", w.Code, w.Body)
	}
	for what, w := range map[string]*httptest.ResponseRecorder{
		"the address a second time":    get(srv, "127.0.0.1:1", first),
		"an address of no token":       get(srv, "127.0.0.1:1", "/open/"),
		"the path without a cookie":    get(srv, "127.0.0.1:1", path),
		"the path with another cookie": get(srv, "127.0.0.1:1", path, &http.Cookie{Name: c.Name, Value: c.Value + "A"}),
		"the cookie at another path":   get(srv, "127.0.0.1:1", "/", c),
		"a path below it":              get(srv, "127.0.0.1:1", path+"x", c),
	} {
		if w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "backup") || w.Header().Get("Set-Cookie") != "" {
			t.Errorf("%s answers %d: %s", what, w.Code, w.Body)
		}
	}
	for _, host := range []string{"rebound.example", "rebound.example:80", "127.0.0.1.rebound.example", "10.0.0.1", "169.254.169.254", "", "localhost.", "[::1]:80"} {
		if w := get(srv, host, path, c); w.Code != http.StatusMisdirectedRequest || strings.Contains(w.Body.String(), "backup") {
			t.Errorf("the host %q is answered %d", host, w.Code)
		}
	}
	for _, host := range []string{"localhost", "localhost:8080", "127.0.0.1"} { // through a tunnel
		if w := get(srv, host, path, c); w.Code != http.StatusOK {
			t.Errorf("the host %q is answered %d", host, w.Code)
		}
	}
	r := httptest.NewRequest(http.MethodPost, path, nil)
	r.Host = "127.0.0.1"
	r.AddCookie(c)
	w := httptest.NewRecorder()
	if srv.ServeHTTP(w, r); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST is answered %d", w.Code)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	s, h := day()
	srv := serve(s, h, nil)
	path, c := enter(t, srv)
	for _, w := range []*httptest.ResponseRecorder{get(srv, "127.0.0.1", path, c), get(srv, "127.0.0.1", "/"), get(srv, "evil.example", "/")} {
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Cross-Origin-Resource-Policy": "same-origin", "Content-Type": "text/html; charset=utf-8",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		csp := w.Header().Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'", "style-src 'sha256-"} {
			if !strings.Contains(csp, part) {
				t.Errorf("the policy lacks %s: %s", part, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") {
			t.Errorf("the policy is %s", csp)
		}
	}
}

// A daemon that is away is said to be, and the page goes on looking.
func TestAway(t *testing.T) {
	t.Parallel()
	srv := serve(admin.Status{}, admin.History{}, errors.New("no daemon answers on <here>"))
	path, c := enter(t, srv)
	w := get(srv, "localhost", path, c)
	if body := w.Body.String(); w.Code != http.StatusServiceUnavailable || !strings.Contains(body, "no daemon answers on &lt;here&gt;") || !strings.Contains(body, `http-equiv="refresh"`) {
		t.Errorf("%d: %s", w.Code, body)
	}
}

// An empty daemon has a page, and so has one with more of everything than is
// shown.
func TestExtremes(t *testing.T) {
	t.Parallel()
	srv := serve(admin.Status{Time: now, Started: now}, admin.History{}, nil)
	path, c := enter(t, srv)
	if w := get(srv, "localhost", path, c); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "Nobody has asked yet.") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	s, h := day()
	for i := range 300 {
		one := s.Roles[i%5]
		one.Name, one.Session = fmt.Sprintf("%s-%d", strings.Repeat("long", 20), i), fmt.Sprint(i)
		s.Roles = append(s.Roles, one)
		s.Decisions = append(s.Decisions, s.Decisions[i%5])
	}
	srv = serve(s, h, nil)
	path, c = enter(t, srv)
	for _, query := range []string{"", "?span=1h", "?span=24h&still", "?span=" + strings.Repeat("9", 1000)} {
		w := get(srv, "localhost", path+query, c)
		if n := strings.Count(w.Body.String(), `class="name"`); w.Code != http.StatusOK || n != 25 {
			t.Errorf("%s: %d, with %d lanes", query, w.Code, n)
		}
		if again := strings.Contains(w.Body.String(), "http-equiv"); again == strings.Contains(query, "still") {
			t.Errorf("%s: it looks again: %v", query, again)
		}
	}
}

// A server ends when nobody looks, or when it is told to.
func TestServe(t *testing.T) {
	t.Parallel()
	for _, idle := range []time.Duration{50 * time.Millisecond, time.Hour} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, h := day()
		o := page.Options{Host: "db-7", Idle: idle,
			Status:  func(context.Context) (admin.Status, error) { return s, nil },
			History: func(context.Context) (admin.History, error) { return h, nil }}
		err := page.Open(ctx, o, func(at netip.AddrPort, path string) {
			if !at.Addr().IsLoopback() || !strings.HasPrefix(path, "/open/") {
				t.Errorf("it is at %v%s", at, path)
			}
			if idle == time.Hour {
				cancel()
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// everywhere puts a text where a stranger can put one, and where an upstream
// can.
func everywhere(text string) (admin.Status, admin.History) {
	s, h := day()
	for i := range s.Roles {
		r := &s.Roles[i]
		r.Name, r.ARN, r.From, r.Error, r.Credential, r.State = text, text, text, text, text, admin.State(text)
	}
	s.Program = text
	for i := range s.Decisions {
		d := &s.Decisions[i]
		d.Role, d.Rule, d.Verdict, d.Endpoint = text, text, text, text
		d.Caller.User, d.Caller.Unit, d.Caller.Container, d.Caller.Listener = text, text, text, text
	}
	s.Decisions[0].Caller.Pod = text
	for i := range s.Listeners {
		s.Listeners[i].Name, s.Listeners[i].Kind, s.Listeners[i].Ingress = text, text, text
	}
	s.Addresses[0].Error = text
	s.Troubles = []admin.Trouble{{Kind: text, Text: text, Count: 2}}
	for i := range h.Roles {
		h.Roles[i].Role = text
		for j := range h.Roles[i].Outages {
			h.Roles[i].Outages[j].Error = text
		}
		for j := range h.Roles[i].Lives {
			h.Roles[i].Lives[j].Credential = text
		}
	}
	return s, h
}

// FuzzEscaping: whatever strangers call themselves, the page has the elements
// and attributes that it has without them.
func FuzzEscaping(f *testing.F) {
	for _, seed := range []string{hostile, "", `" onmouseover="alert(1)`, "</script><script>", "&lt;script&gt;", "javascript:alert(1)", "\xff\xfe<", "\u2028\u202e", "<!--", "]]>", "</style><style>*{display:none}"} {
		f.Add(seed)
	}
	shape := func(t *testing.T, text string) (all []string) {
		srv := serve(everywhere(text))
		path, c := enter(t, srv)
		body := get(srv, "localhost", path, c).Body.String()
		for z := html.NewTokenizer(strings.NewReader(body)); ; {
			switch kind := z.Next(); kind {
			case html.ErrorToken:
				return all
			case html.TextToken:
				if strings.ContainsFunc(string(z.Text()), func(r rune) bool { return r < ' ' && r != '\n' || r == '\u202e' }) {
					t.Errorf("what cannot be seen is in %q", z.Token().Data)
				}
			default:
				token := z.Token()
				names := kind.String() + " " + token.Data
				for _, a := range token.Attr {
					names += " " + a.Key
					if a.Key == "href" && !strings.HasPrefix(a.Val, "?") {
						t.Errorf("a link leads to %q", a.Val)
					}
				}
				all = append(all, names)
			}
		}
	}
	plain := sync.OnceValue(func() []string { return shape(&testing.T{}, "x") })
	f.Fuzz(func(t *testing.T, text string) {
		if strings.TrimSpace(text) == "" {
			return // some rows have less to say
		}
		for _, word := range []string{"live", "failing", "starting", "revoked", "down", "refused", "granted", "denied", "not ready"} {
			if text == word {
				return // and a state has a shape of its own
			}
		}
		if got, want := shape(t, text), plain(); !slices.Equal(got, want) {
			t.Errorf("%q changes the page: %d elements, and %d without it", text, len(got), len(want))
		}
	})
}
