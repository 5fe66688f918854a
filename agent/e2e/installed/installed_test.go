//go:build linux

package installed_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/e2e/machine"
)

// A host is a machine on which hostrole is a package.
type host struct {
	*machine.Machine
	upstream *upstream
}

const config = "/etc/hostrole/hostrole.toml"

// bare is a host on which hostrole never was, whose operator has put packages,
// clients and a token where they find them.
func bare(t *testing.T, upstreamAt string) *host {
	t.Helper()
	ground(t)
	h := &host{upstream: newUpstream(t, upstreamAt)}
	h.Machine = machine.Start(t, machine.Options{
		Copies: map[string]string{
			built("first.deb"): "/opt/first.deb", built("second.deb"): "/opt/second.deb", built("clients"): "/opt/clients",
			"testdata/kernel.py": "/opt/kernel.py",
		},
		Files: map[string]string{"/opt/token": h.upstream.token()},
		Size:  "2g",
	}, "hostrole*", "app*")
	// The machine may have one itself.
	h.Try("dpkg", "-P", "hostrole")
	h.Run(t, "sh", "-c", "find /etc /usr /var/lib -xdev -name '*hostrole*' -exec rm -rf {} +; systemctl daemon-reload")
	h.Try("userdel", "hostrole")
	// An index of all manual pages takes seconds, and services may start.
	h.Run(t, "rm", "-f", "/var/lib/dpkg/info/man-db.triggers", "/usr/sbin/policy-rc.d")
	h.Run(t, "install", "-d", "/etc/systemd/system/multi-user.target.wants", "/run/corp")
	h.Run(t, "useradd", "--system", "app")
	h.Run(t, "install", "-m", "644", "/opt/token", "/run/corp/token")
	return h
}

// changes are what an operator puts in the places of the configuration that the
// documentation names, those with CHANGE, and the address of an STS that is not
// AWS's.
func (h *host) changes(t *testing.T) {
	t.Helper()
	text := h.Run(t, "cat", config)
	change := func(pattern, to string) {
		t.Helper()
		re := regexp.MustCompile(`(?m)` + pattern)
		if n := len(re.FindAllString(text, -1)); n != 1 {
			t.Fatalf("%q is %d times in the configuration of the package", pattern, n)
		}
		text = re.ReplaceAllLiteralString(text, to)
	}
	if n := strings.Count(text, "CHANGE"); n != 4 {
		t.Fatalf("the configuration of the package has %d places to change", n)
	}
	change(`^region    = "eu-central-1" .*CHANGE.*\n#endpoint = "".*$`, fmt.Sprintf("region = %q\nendpoint = %q", region, "http://"+h.upstream.address))
	change(`^arn  = "arn:aws:iam::111122223333:role/app".*CHANGE`, fmt.Sprintf("arn = %q # CHANGED", roleARN))
	change(`^user     = \["app"\].*CHANGE`, `user = ["app"] # CHANGED`)
	h.Write(t, config, text+"\n") // the token is where it says
}

// install follows the documentation to a host that serves, and returns a
// session token.
func (h *host) install(t *testing.T) (token string) {
	t.Helper()
	h.Run(t, "dpkg", "-i", "/opt/first.deb")
	if got := h.Try("sh", "-c", "systemctl is-enabled hostrole.service hostrole.socket; systemctl is-active hostrole.service hostrole.socket"); !strings.HasPrefix(got, "disabled\ndisabled\ninactive\ninactive") {
		t.Errorf("installing it enables or starts something: %s", got)
	}
	h.changes(t)
	h.upstream.appear(t, nil)
	h.Run(t, "hostrole", "check", "--live")
	h.Run(t, "systemctl", "enable", "--now", "hostrole.service")
	h.Run(t, "hostrole", "wait", "--timeout", "20s")
	if got := h.Run(t, "hostrole", "status"); !strings.Contains(got, "app") || !strings.Contains(got, "169.254.169.254:80") {
		t.Errorf("hostrole status says\n%s", got)
	}
	return session(t)
}

// dropIn lets root of this host have the role as well, for the tests' own
// requests.
const dropIn = "[[allow]]\nname = \"tests\"\nuid = [0]\nroles = [\"app\"]\n"

// left is all that a package could leave behind.
func (h *host) left(t *testing.T) string {
	t.Helper()
	return h.Run(t, "sh", "-c", `ip -o address; ip rule; ip route show table all; ip -6 route show table all; ip -o link; nft list ruleset
		cut -d: -f1,3 /etc/passwd | sort; cut -d: -f1,3 /etc/group | sort
		systemctl list-units --all --plain --no-legend 'hostrole*'
		find /etc /var /run /usr -xdev \( -path /run/systemd -o -path /run/udev -o -path /run/log -o -path /run/dbus -o -path /run/credentials \
			-o -path /var/log -o -path /var/lib/dpkg -o -path /var/cache -o -path /var/lib/systemd -o -path /var/tmp -o -path '/etc/*-' -o -path /etc/subuid -o -path /etc/subgid \
			-o -path '/usr/share/pyshared' -o -name __pycache__ \) -prune -o ! -type d -printf '%p %m %u %s\n' -o -type d -printf '%p %m %u\n' | grep -Ev '^/etc/(passwd|group|shadow|gshadow) |^/etc/\.' | sort`)
}

// TestInstalled is the life of a package on a host, from the installation to
// the purge.
func TestInstalled(t *testing.T) {
	h := bare(t, "127.0.0.1:7480")
	before := h.left(t)
	token := h.install(t)

	t.Run("a unit with its own user gets its role through an SDK", func(t *testing.T) {
		creds := func(user, kind string) string {
			return h.Try("systemd-run", "--quiet", "--wait", "--pipe", "--collect", "-p", "User="+user, "-E", "AWS_REGION="+region, "/opt/clients", "creds", kind)
		}
		for _, kind := range []string{"v2", "v1", "minio"} {
			if got := creds("app", kind); !strings.Contains(got, `"accessKeyId":"ASIA`) {
				t.Errorf("%s: %s", kind, got)
			}
		}
		if got := creds("nobody", "v2"); strings.Contains(got, "ASIA") || !strings.Contains(got, "exit status") {
			t.Errorf("another user: %s", got)
		}
	})

	t.Run("a file that appears is applied", func(t *testing.T) {
		began := time.Now()
		h.Write(t, "/etc/hostrole/hostrole.d/tests.toml", dropIn)
		eventually(t, "root has the role", 10*time.Second, func() bool { return strings.HasPrefix(key(t.Context(), token), "ASIA") })
		t.Logf("a drop-in is at work after %v", time.Since(began).Round(time.Millisecond))
	})
	if t.Failed() {
		t.FailNow() // what follows asks as root
	}
	served := key(t.Context(), token)

	t.Run("a file that is edited is applied", func(t *testing.T) {
		began := time.Now()
		h.Run(t, "sed", "-i", `s/^#Name = "db-7".*/Name = "edited"/`, config)
		tag := func() string {
			_, body, _ := ask(t.Context(), "GET", "meta-data/tags/instance/Name", token)
			return body
		}
		eventually(t, "the edit is at work", 10*time.Second, func() bool { return tag() == "edited" })
		t.Logf("an edit is at work after %v", time.Since(began).Round(time.Millisecond))

		h.Run(t, "cp", config, "/opt/good.toml")
		h.Run(t, "sed", "-i", `s/^Name = "edited"/Name = "edited"\nnonsense/`, config)
		eventually(t, "the fault is on the status line", 10*time.Second, func() bool { return strings.Contains(h.Property("hostrole.service", "StatusText"), "not reloaded") })
		if got := h.Run(t, "hostrole", "status"); !strings.Contains(got, "the configuration on disk is not at work") || !strings.Contains(got, "hostrole.toml:") {
			t.Errorf("hostrole status does not say it:\n%s", got)
		}
		if got := tag(); got != "edited" {
			t.Errorf("a bad file has changed something: %q", got)
		}
	})

	t.Run("a reload says whether it worked", func(t *testing.T) {
		since := h.Run(t, "date", "+%s")
		if err := h.Command("systemctl", "reload", "hostrole.service").Run(); err == nil {
			t.Error("the reload of a bad file succeeds")
		}
		if got := h.Try("journalctl", "-u", "hostrole.service", "--no-pager", "-o", "cat", "--since", "@"+since); !strings.Contains(got, "hostrole.toml:") || !strings.Contains(got, "the old one serves") {
			t.Errorf("the journal does not name the fault:\n%s", got)
		}
		if got := key(t.Context(), token); got != served {
			t.Errorf("after a bad reload: %s", got)
		}
		h.Run(t, "sh", "-c", `sed 's/^Name = "edited"/Name = "again"/' /opt/good.toml >`+config)
		h.Run(t, "systemctl", "reload", "hostrole.service")
		if _, body, _ := ask(t.Context(), "GET", "meta-data/tags/instance/Name", token); body != "again" {
			t.Errorf("the reload came back before the new file is at work: %q", body)
		}
		if got := h.Property("hostrole.service", "StatusText"); strings.Contains(got, "not reloaded") {
			t.Errorf("the status line is %q", got)
		}
		if got := h.Run(t, "hostrole", "status"); strings.Contains(got, "not at work") {
			t.Errorf("hostrole status still says:\n%s", got)
		}
	})

	t.Run("restarts lose nothing", func(t *testing.T) {
		n := 10
		if soak {
			n = 50
		}
		began := time.Now()
		l := under(t, token, served, func() {
			for range n {
				h.Run(t, "systemctl", "restart", "hostrole.service")
				pause(t, 100*time.Millisecond)
			}
		})
		t.Logf("%d restarts", n)
		l.whole(t, time.Since(began))
	})

	t.Run("an upgrade loses nothing", func(t *testing.T) {
		was := h.Run(t, "hostrole", "version")
		began := time.Now()
		l := under(t, token, served, func() { h.Run(t, "dpkg", "-i", "--force-confdef", "--force-confold", "/opt/second.deb") })
		l.whole(t, time.Since(began))
		now := h.Run(t, "hostrole", "version")
		if was == now || !strings.HasPrefix(now, "hostrole v1.0.1 ") {
			t.Errorf("it was %s, and is %s", was, now)
		}
		if got := h.Run(t, "readlink", "/proc/"+h.Property("hostrole.service", "MainPID")+"/exe"); got != "/usr/bin/hostrole" {
			t.Errorf("what runs is %s", got)
		}
		if got := h.Run(t, "hostrole", "status", "--json"); !strings.Contains(got, `"v1.0.1`) {
			t.Errorf("the daemon is not of the new package: %.300s", got)
		}
	})

	t.Run("crashes without an upstream refuse nobody", func(t *testing.T) { h.crashes(t, token, served) })

	t.Run("a crash loop ends with its cause", func(t *testing.T) {
		h.Run(t, "mv", "/usr/bin/hostrole", "/opt/hostrole")
		h.Write(t, "/opt/broken", "#!/bin/sh\nexit 1\n")
		h.Run(t, "install", "-m", "755", "/opt/broken", "/usr/bin/hostrole")
		was := number(t, h.Property("hostrole.service", "NRestarts"))
		h.Run(t, "kill", "-9", h.Property("hostrole.service", "MainPID"))
		eventually(t, "it has failed more often than systemd's default allows", 20*time.Second, func() bool {
			return number(t, h.Property("hostrole.service", "NRestarts")) > was+12
		})
		answered := make(chan string, 1)
		go func() { answered <- key(t.Context(), token) }() // while nobody listens
		pause(t, 500*time.Millisecond)
		began := time.Now()
		h.Run(t, "install", "-m", "755", "/opt/hostrole", "/usr/bin/hostrole")
		if got := <-answered; got != served {
			t.Errorf("who asked during the loop was answered with %s, not %s", got, served)
		}
		t.Logf("back %v after its cause was gone", time.Since(began).Round(time.Millisecond))
	})

	t.Run("a start that fails is made again, without haste", func(t *testing.T) {
		h.Run(t, "systemctl", "stop", "hostrole.service")
		other, err := net.Listen("tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		h.upstream.appear(t, nil)
		h.Try("systemctl", "start", "--no-block", "hostrole.service")
		pause(t, 3*time.Second)
		if n := number(t, h.Property("hostrole.service", "NRestarts")); n < 2 || n > 7 {
			t.Errorf("%d starts in 3 s", n)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it serves once the port is free", 3*time.Second, func() bool {
			_, token, _ := ask(t.Context(), "PUT", "api/token", "") // what ended with its listeners forgets its tokens
			return strings.HasPrefix(key(t.Context(), token), "ASIA")
		})
	})

	t.Run("stop and purge leave nothing", func(t *testing.T) {
		h.Run(t, "systemctl", "stop", "hostrole.service")
		h.Run(t, "dpkg", "-P", "hostrole")
		h.Try("systemctl", "reset-failed")
		// A stop could be a restart: the address ends by itself, after ten seconds.
		eventually(t, "the address is gone", 20*time.Second, func() bool { return !strings.Contains(h.Run(t, "ip", "-o", "address"), "169.254.169.254") })
		if after := h.left(t); before != after {
			t.Errorf("the host is not as it was:\n%s", difference(before, after))
		}
	})
	if got := h.Try("journalctl", "-u", "hostrole.service", "--no-pager", "-o", "cat"); strings.Contains(got, "SecretAccessKey") || strings.Contains(got, h.upstream.token()[:40]) {
		t.Error("the journal shows a secret")
	}
}

// crashes ends the daemon at random moments while its upstream is away.
func (h *host) crashes(t *testing.T, token, served string) {
	t.Helper()
	n := 20
	if soak {
		n = 200
	}
	h.upstream.leave()
	type span struct{ from, to time.Time }
	var kills []span
	var back []time.Duration
	l := under(t, token, served, func() {
		for range n {
			pid := h.Property("hostrole.service", "MainPID")
			pause(t, rand.N(200*time.Millisecond)) // #nosec G404 -- moments of a test
			k := span{from: time.Now()}
			h.Run(t, "kill", "-9", pid)
			k.to = time.Now()
			kills = append(kills, k)
			if got := key(t.Context(), token); got != served {
				t.Errorf("after a kill: %s", got)
			}
			back = append(back, time.Since(k.from))
			eventually(t, "there is another process", 10*time.Second, func() bool {
				now := h.Property("hostrole.service", "MainPID")
				return now != pid && now != "0" && h.Property("hostrole.service", "ActiveState") == "active"
			})
		}
	})
	slices.Sort(back)
	lost := l.lost()
	t.Logf("%d kills under %d requests: %d lost, all in flight; an answer came %v after a kill at the median, %v at most", n, len(l), len(lost),
		back[n/2].Round(time.Millisecond), back[n-1].Round(time.Millisecond))
	for _, r := range lost {
		inFlight := slices.ContainsFunc(kills, func(k span) bool { return !r.from.After(k.to) && !r.to.Before(k.from) })
		if r.refused || !inFlight {
			t.Errorf("lost, and not by a kill: %s", r.lost)
		}
	}
	if back[n/2] > 200*time.Millisecond {
		t.Errorf("it is back after %v at the median, want less than 200ms", back[n/2])
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// difference is what diff says of two texts.
func difference(a, b string) string {
	dir, err := os.MkdirTemp("", "hostrole-difference-")
	if err != nil {
		return err.Error()
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for name, text := range map[string]string{"before": a, "after": b} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			return err.Error()
		}
	}
	cmd := exec.Command("diff", "-u0", "before", "after")
	cmd.Dir = dir
	out, _ := cmd.Output()
	return string(out)
}
