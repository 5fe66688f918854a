//go:build linux

package hostnet_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/e2e/machine"
)

const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE" // from AWS's documentation
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	back          = 100 * time.Millisecond // an address may be away for that long
)

var addresses = []string{"169.254.169.254/32", "fd00:ec2::254/128"}

// missing skips t for the want of something, or fails it where everything is
// required.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("HOSTROLE_E2E") == "require" {
		t.Fatal("missing, and HOSTROLE_E2E=require: " + what)
	}
	t.Skip("SKIPPED, missing: " + what)
}

// binary builds hostrole, once.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("HOSTROLE_BIN"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "hostrole-hostnet-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "hostrole")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/hostrole")
	cmd.Dir = "../../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building cmd/hostrole: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil && os.Getenv("HOSTROLE_BIN") == "" {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// managers is the folder of packages that setup.sh fetches.
func managers(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("HOSTROLE_E2E_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(base, "hostrole-e2e")
	}
	dir = filepath.Join(dir, "hostnet-bookworm")
	if _, err := os.Stat(filepath.Join(dir, "made-of")); err != nil {
		missing(t, "network managers: run agent/e2e/hostnet/setup.sh")
	}
	return dir
}

const common = `version = 1
[metadata]
region = "us-east-1"
[rotation]
splay = "0s"
[[allow]]
any = true
roles = ["app"]
[source.helper]
kind = "process"
command = ["/bin/cat", "/etc/hostrole/credential.json"]
[role.app]
from = "source.helper"
[[listener]]
name = "host"
kind = "imds"
address = ["169.254.169.254:80", "[fd00:ec2::254]:80"]
`

// boot starts a host with hostrole and a link, eth0.
func boot(t *testing.T, o machine.Options) *machine.Machine {
	t.Helper()
	if why := machine.Missing(); why != "" {
		missing(t, why)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	o.OwnNetwork = true
	o.Copies = map[string]string{path: "/usr/bin/hostrole", "../../../systemd/units": "/etc/systemd/system"}
	files := map[string]string{
		"/etc/hostrole/hostrole.toml": common,
		"/etc/hostrole/credential.json": fmt.Sprintf(`{"Version":1,"AccessKeyId":%q,"SecretAccessKey":%q,"SessionToken":"a-session-token","Expiration":%q}`,
			exampleKey, exampleSecret, time.Now().Add(6*time.Hour).UTC().Format(time.RFC3339)),
	}
	maps.Copy(files, o.Files)
	o.Files = files
	m := machine.Start(t, o, "hostrole*", "systemd-networkd*", "NetworkManager*")
	m.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer0")
	m.Run(t, "ip", "link", "set", "peer0", "up")
	return m
}

// served is the id of the key that a program in m is given, or what went wrong.
func served(m *machine.Machine) string {
	return m.Try("sh", "-c", `T=$(curl -sS -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token) &&
		curl -sS -m 3 -H "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/meta-data/iam/security-credentials/app | sed -n 's/.*"AccessKeyId" : "\(.*\)".*/\1/p'`)
}

// eventually polls until is returns true, and fails t after limit.
func eventually(t *testing.T, what string, limit time.Duration, is func() bool) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(limit); !is(); <-poll.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v for: %s", limit, what)
		}
	}
}

// A witness writes down when addresses come and go.
type witness struct {
	cmd *exec.Cmd
	mu  sync.Mutex // guards text
	out []byte
}

func (w *witness) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = append(w.out, b...)
	return len(b), nil
}

func (w *witness) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.out)
}

func watch(t *testing.T, m *machine.Machine) *witness {
	t.Helper()
	w := &witness{cmd: m.Command("ip", "-ts", "-o", "monitor", "address")}
	w.cmd.Stdout, w.cmd.WaitDelay = w, time.Second // what nsenter started goes with the machine
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.cmd.Process.Kill(); _ = w.cmd.Wait() })
	eventually(t, "the witness sees", 10*time.Second, func() bool {
		m.Run(t, "ip", "addr", "add", "203.0.113.1/32", "dev", "lo")
		m.Run(t, "ip", "addr", "del", "203.0.113.1/32", "dev", "lo")
		return strings.Contains(w.text(), "203.0.113.1/32")
	})
	return w
}

// rest waits until nothing has happened for a moment.
func (w *witness) rest(t *testing.T) {
	t.Helper()
	const quiet = 300 * time.Millisecond
	last, since := w.text(), time.Now()
	eventually(t, "addresses stop to come and go", 20*time.Second, func() bool {
		if now := w.text(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > quiet
	})
}

// absences are for how long each of our addresses was away, by the time of the
// kernel's word on it.
func absences(t *testing.T, text string) (away []time.Duration) {
	t.Helper()
	since := map[string]time.Time{}
	for line := range strings.Lines(text) {
		i := slices.IndexFunc(addresses, func(a string) bool { return strings.Contains(line, " "+a+" ") })
		if i < 0 {
			continue
		}
		stamp, what, ok := strings.Cut(strings.TrimPrefix(line, "["), "] ")
		at, err := time.Parse("2006-01-02T15:04:05.999999", stamp)
		if !ok || err != nil {
			t.Fatalf("no time in %q: %v", line, err)
		}
		a := addresses[i]
		gone, was := since[a]
		switch deleted := strings.HasPrefix(what, "Deleted "); {
		case deleted && !was:
			since[a] = at
		case !deleted && was:
			away = append(away, at.Sub(gone))
			delete(since, a)
		}
	}
	for a := range since {
		t.Errorf("%s is gone for good", a)
	}
	return away
}

// A change is what somebody does to the network of a host.
type change struct {
	what     string
	commands [][]string
}

// do makes a change of commands, words with spaces between them.
func do(what string, commands ...string) change {
	c := change{what: what}
	for _, one := range commands {
		c.commands = append(c.commands, strings.Fields(one))
	}
	return c
}

// endure makes changes under a running hostrole whose addresses are on link, and
// returns how often one was taken off.
func endure(t *testing.T, m *machine.Machine, link string, changes []change) (removals int) {
	t.Helper()
	m.Write(t, "/etc/hostrole/hostrole.toml", common+fmt.Sprintf("link = %q\n", link))
	m.Run(t, "systemctl", "restart", "hostrole.service")
	eventually(t, "the role's credential is served", 10*time.Second, func() bool { return served(m) == exampleKey })
	w := watch(t, m)
	w.rest(t)
	for _, c := range changes {
		seen := len(w.text())
		for _, argv := range c.commands {
			m.Run(t, argv...)
		}
		w.rest(t)
		away := absences(t, w.text()[seen:])
		removals += len(away)
		t.Logf("%-9s %-44s away: %v", link, c.what, away)
		if len(away) > 0 && slices.Max(away) > back {
			t.Errorf("%s: an address was away for %v", c.what, slices.Max(away))
		}
		shown := m.Run(t, "ip", "-br", "addr", "show", "dev", link)
		for _, a := range addresses {
			if !strings.Contains(shown, a) {
				t.Errorf("%s: %s has %s", c.what, link, shown)
			}
		}
		if got := served(m); got != exampleKey {
			t.Errorf("%s: served is %s", c.what, got)
		}
	}
	m.Run(t, "systemctl", "stop", "hostrole.service")
	return removals
}
