package screen_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/cmd/hostrole/screen"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func p[T any](v T) *T { return &v }

// full has every state, and texts that strangers chose.
func full() admin.Status {
	since := now.Add(-10 * time.Minute)
	long := strings.Repeat("a-very-long-name-", 4)
	return admin.Status{
		Version: 1, Time: now, Started: now.Add(-26 * time.Hour), PID: 4711,
		Roles: []admin.Role{
			{Name: "hub", State: admin.Live, Credential: "1a2b3c4d", Life: p(3600.0), Left: p(2530.0), NextIn: p(900.5)},
			{Name: "app", State: admin.Failing, Credential: "5e6f7a8b", Life: p(3600.0), Left: p(59.4), NextIn: p(-1.0), Failures: 12, Since: &since, Skew: 42,
				Error: "AssumeRole arn:aws:iam::111122223333:role/app: no answer from sts.eu-central-1.amazonaws.com within 20s; is the network up?"},
			{Name: "down", State: admin.Down, Failures: 1, Since: &since, Error: "connection refused", NextIn: p(15.0)},
			{Name: "expired", State: admin.Down, Credential: "00000000", Life: p(3600.0), Left: p(0.0)},
			{Name: "no", State: admin.Refused, Failures: 2, Since: &since, Error: "AccessDenied: not \x1b[31mauthorized\x1b[0m\nto do so", NextIn: p(86000.0), Others: []string{"also"}},
			{Name: "off", State: admin.Revoked},
			{Name: "new", State: admin.Starting},
			{Name: long, State: admin.Live, Credential: "9c0d1e2f", Life: p(1e12), Left: p(1e12), NextIn: p(1e9)},
			{Name: "keys", State: admin.Live, Credential: "9c0d1e2f", NextIn: p(3599.0)},
		},
		Listeners: []admin.Endpoint{
			{Name: "host", Kind: "imds", Address: "169.254.169.254:80", Ingress: "lo", Serving: true},
			{Name: "host", Kind: "imds", Address: "[fd00:ec2::254]:80", Ingress: "lo", Serving: true},
			{Name: long, Kind: "ecs", Address: "[2001:db8:1111:2222:3333:4444:5555:6666]:65535", Ingress: "", Serving: false},
			{Name: "docker", Kind: "imds", Address: "169.254.169.254:80", Ingress: "docker0"},
			{Name: "networks", Kind: "imds", Address: "169.254.169.254:80", Ingress: "br-*", Serving: true, Devices: []string{"br-1a2b3c4d5e6f", "br-b", "br-c"}},
			{Name: "cni", Kind: "imds", Address: "169.254.169.254:80", Ingress: "cni0", Serving: true, Devices: []string{"cni0"}},
			{Name: "odd", Kind: "imds", Address: "169.254.169.254:80", Ingress: "br-o*", Devices: []string{"br-o1"}, Serving: true, Error: "on br-o\x1b[31m2: listening on 169.254.169.254:80: address already in use: another program has port 80, be it on this address or on all"},
		},
		Addresses: []admin.Address{{Address: "169.254.169.254", Link: "lo"}, {Address: "fd00:ec2::254", Link: "lo", Error: "putting fd00:ec2::254 on lo: IPv6 is disabled on this host; set net.ipv6.conf.lo.disable_ipv6 to 0"}},
		Troubles: []admin.Trouble{
			{Kind: "config", Time: now.Add(-time.Hour), Text: "the configuration on disk is not at work: hostrole.toml:4:1: upstream.regoin: is not known"},
			{Kind: "requests", Time: now.Add(-time.Minute), Count: 12, Text: "requests on listener host without a valid token are refused, the newest of uid 33 (www-data): a program that knows only version 1 of the protocol needs a newer SDK"},
		},
		Decisions: []admin.Decision{
			{Time: now.Add(-time.Second), Caller: admin.Caller{UID: p(uint32(1000)), User: "app", Listener: "host"}, Role: "app", Verdict: "granted", Count: 3},
			{Time: now.Add(-time.Hour), Caller: admin.Caller{UID: p(uint32(33)), User: "www-data", Listener: admin.Listener}, Role: "\x1b]0;title\x07" + long, Verdict: "denied", Count: 12345},
			{Time: now, Caller: admin.Caller{Listener: "host"}, Verdict: "not ready", Count: 1},
			{Time: now, Caller: admin.Caller{Pod: "shop/api", Listener: "eks"}, Role: "api", Verdict: "granted", Count: 1},
		},
	}
}

// What people see is what testdata says; it fits 80 columns, and nothing in it
// steers the terminal.
func TestStatus(t *testing.T) {
	got := screen.Status(full(), false)
	file := filepath.Join("testdata", "status.txt")
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("it is\n%s\nwant\n%s", got, want)
	}
	fits(t, got)
	fits(t, screen.Status(admin.Status{}, false))
}

func fits(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if n := len([]rune(line)); n > 80 && strings.Contains(strings.TrimSpace(line), " ") {
			t.Errorf("%d columns: %s", n, line)
		}
		if strings.ContainsFunc(line, unicode.IsControl) {
			t.Errorf("a control character in %q", line)
		}
	}
}

// Colours change nothing but the colours.
func TestColour(t *testing.T) {
	plain, coloured := screen.Status(full(), false), screen.Status(full(), true)
	for _, code := range []string{"\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"} {
		if !strings.Contains(coloured, code) {
			t.Errorf("%q is not used", code)
		}
		coloured = strings.ReplaceAll(coloured, code, "")
	}
	if coloured != plain {
		t.Errorf("without its colours it is\n%s\nwant\n%s", coloured, plain)
	}
}

func TestAFileIsNoTerminal(t *testing.T) {
	if is, colour := screen.Terminal(new(bytes.Buffer)); is || colour {
		t.Error("a buffer is a terminal")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if is, colour := screen.Terminal(f); is || colour {
		t.Error("a file is a terminal")
	}
}

func TestExplanation(t *testing.T) {
	got := screen.Explanation(admin.Explanation{
		Caller: admin.Caller{UID: p(uint32(33)), User: "www-data", Groups: []string{"www-data", "adm"}},
		Answers: []admin.Answer{
			{Listener: "host", Rule: "web", Roles: []string{"web", "logs"}, Reason: "web is the first rule that matches, by user",
				Passed: []string{"db does not match: the caller's user is www-data, and its group is www-data, adm"}, Rehearsed: []string{"new"}},
			{Listener: admin.Listener, Reason: "none of the 3 rules matches: the caller sees a host without a role"},
		},
	})
	fits(t, got)
	for _, want := range []string{"caller  www-data (33)\n", "role    web; by its exact name also logs\n", "because web is the first", "before  db does not match",
		"note    new would have decided", "through hostrole credential-process\n  role    none\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}

func TestSpan(t *testing.T) {
	for seconds, want := range map[float64]string{0: "0s", 0.9: "0s", 59.9: "59s", 60: "1m 00s", 3599.9: "59m 59s", 3600: "1h 00m", 86399: "23h 59m", 86400: "1d 00h", 8639999: "99d 23h", 8640000: "100d"} {
		if got := screen.Span(seconds); got != want {
			t.Errorf("%v s is %q, want %q", seconds, got, want)
		}
	}
}

// What belongs to single callers is told in a line of its own.
func TestCallers(t *testing.T) {
	s := admin.Status{Roles: []admin.Role{
		{Name: "web", State: admin.OnDemand, Callers: &admin.Callers{Most: 256, Facts: []string{"unit"}}},
		{Name: "app", State: admin.Failing, Credential: "5e6f7a8b", Life: p(3600.0), Left: p(59.4), Error: "down", Callers: &admin.Callers{Sessions: 7, Served: 6, Most: 256, Facts: []string{"unit", "user"}}},
	}}
	got := screen.Status(s, false)
	fits(t, got)
	for _, want := range []string{"2 of 2 roles served", "web  -        [··················]        -  when asked\n",
		"7 sessions of single callers, told apart by unit and user, 6 of them served;", "served, and not renewed: down"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	if coloured := screen.Status(s, true); strings.Contains(strings.SplitAfter(coloured, "when asked\n")[0], "\x1b[31m") {
		t.Error("a role that nobody has asked for is red")
	}
}

// An explanation shows what the upstream would be told.
func TestNamed(t *testing.T) {
	got := screen.Explanation(admin.Explanation{Answers: []admin.Answer{{Listener: "host", Rule: "web", Roles: []string{"web"}, Reason: "it is so",
		Named: []admin.Named{{Role: "web", SessionName: "db-7.app.service", SourceIdentity: "app", Tags: map[string]string{"Unit": "app.service", "A": "b\x1b"}}}}}})
	if want := "  named   web: session db-7.app.service, source identity app, tag A=b?, tag\n          Unit=app.service\n"; !strings.Contains(got, want) {
		t.Errorf("there is no %q in\n%s", want, got)
	}
	fits(t, got)
}

// What does not fit is cut; colours end where a line does, and take no room.
func TestFit(t *testing.T) {
	for _, c := range []struct {
		text       string
		wide, high int
		want       string
	}{
		{"one\ntwo\n", 80, 24, "one\ntwo"},
		{"abcdef\n", 3, 24, "abc"},
		{"\x1b[1mabcdef\x1b[0m\n", 3, 24, "\x1b[1mabc\x1b[0m"},
		{"\x1b[31mab\x1b[0mcd\n", 3, 24, "\x1b[31mab\x1b[0mc"},
		{"█████\n", 2, 24, "██"},
		{"1\n2\n3\n4\n5\n", 80, 3, "1\n2\n… and 3 lines more: make the window higher"},
		{"1\n2\n", 1, 1, "…"},
		{"", 80, 24, ""},
	} {
		if got := screen.Fit(c.text, c.wide, c.high); got != c.want {
			t.Errorf("%q in %d×%d is %q, want %q", c.text, c.wide, c.high, got, c.want)
		}
	}
	for wide := range 90 {
		for _, line := range strings.Split(screen.Fit(screen.Status(full(), true), wide, 30), "\n") {
			for _, code := range []string{"\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"} {
				line = strings.ReplaceAll(line, code, "")
			}
			if n := len([]rune(line)); n > wide {
				t.Fatalf("%d columns of %d: %q", n, wide, line)
			}
		}
	}
}
