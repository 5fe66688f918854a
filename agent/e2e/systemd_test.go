//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	machines "github.com/hostrole/hostrole/agent/e2e/machine"
)

// A systemHost is a system that runs under systemd, with hostrole installed.
type systemHost struct{ *machines.Machine }

// startSystem boots one in this network namespace until the test ends.
func startSystem(t *testing.T, files map[string]string) *systemHost {
	t.Helper()
	if why := machines.Missing(); why != "" {
		ownnet.Missing(t, "%s", why)
	}
	noteSources(t)
	o := machines.Options{Files: map[string]string{},
		Copies: map[string]string{os.Getenv(binaryEnv): "/usr/bin/hostrole", "../../systemd/units": "/etc/systemd/system"}}
	for name, text := range files {
		o.Files["/etc/hostrole/"+name] = text
	}
	return &systemHost{machines.Start(t, o, "hostrole*")}
}

// try runs a program in the system and returns what it wrote.
func (h *systemHost) try(argv ...string) string { return h.Try(argv...) }

// run is try for what must not fail.
func (h *systemHost) run(t *testing.T, argv ...string) string {
	t.Helper()
	return h.Run(t, argv...)
}

// write puts a file into the system's /etc/hostrole.
func (h *systemHost) write(t *testing.T, name, text string) {
	t.Helper()
	h.Write(t, "/etc/hostrole/"+name, text)
}

func (h *systemHost) property(name string) string {
	return h.Property("hostrole.service", name)
}

const roleDocument = "meta-data/iam/security-credentials/app"

// keyServed is the id of the access key that is served, or what went wrong.
func keyServed(ctx context.Context) string {
	status, body, err := fetch(ctx, roleDocument)
	var doc document
	if err != nil || status != http.StatusOK || json.Unmarshal(body, &doc) != nil {
		return fmt.Sprint(status, " ", err)
	}
	return doc.AccessKeyId
}

// A tally counts what came of requests.
type tally struct {
	mu       sync.Mutex
	good     int
	cut      int      // connections that a process took and did not answer
	failures []string // everything else
}

func (n *tally) add(err error, got string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case err == nil && got == "":
		n.good++
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		// The same, when the end comes before the client waits for an answer;
		// net/http exports no name for it.
		err != nil && strings.Contains(err.Error(), "server closed idle connection"):
		n.cut++
	default:
		n.failures = append(n.failures, fmt.Sprint(got, " ", err))
	}
}

// underLoad counts the requests of four callers for as long as f runs.
func underLoad(t *testing.T, want string, f func()) *tally {
	t.Helper()
	n := &tally{}
	var stop atomic.Bool
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			pace := time.NewTicker(4 * time.Millisecond)
			defer pace.Stop()
			for !stop.Load() {
				status, body, err := fetch(t.Context(), roleDocument)
				got := ""
				if err == nil && (status != http.StatusOK || !strings.Contains(string(body), want)) {
					got = fmt.Sprintf("%d %.40q", status, body)
				}
				n.add(err, got)
				<-pace.C
			}
		})
	}
	f()
	stop.Store(true)
	all.Wait()
	t.Logf("%d answered, %d cut, %d failed", n.good, n.cut, len(n.failures))
	return n
}

// ground is how the addresses and routes of this namespace are.
func ground(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, args := range [][]string{{"-o", "address", "show"}, {"route", "show", "table", "all"}, {"-6", "route", "show", "table", "all"}, {"-o", "link", "show"}} {
		out, err := exec.Command("ip", args...).Output()
		if err != nil {
			t.Fatalf("ip %v: %v", args, err)
		}
		all.Write(out)
	}
	return all.String()
}

func credentialFile(id string) string {
	return fmt.Sprintf(`{"Version":1,"AccessKeyId":%q,"SecretAccessKey":%q,"SessionToken":"a-session-token","Expiration":%q}`,
		id, exampleSecret, time.Now().Add(6*time.Hour).UTC().Format(time.RFC3339))
}

const systemConfig = `version = 1
[upstream]
region = "us-east-1"
[rotation]
splay = "0s"
[[listener]]
name = "host"
kind = "imds"
address = ["169.254.169.254:80"]
[[allow]]
name = "everyone"
any = true
roles = ["app"]
[source.helper]
kind = "process"
command = ["/bin/cat", "/etc/hostrole/credential.json"]
[role.app]
from = "source.helper"
`

// The service as it is shipped, under a real systemd: it starts confined,
// reloads, loses no request over restarts, refuses nobody over crashes and goes
// on with the same credential while its upstream is down, is ended when it
// hangs, and leaves the host as it was.
func TestService(t *testing.T) {
	ownnet.Need(t)
	tool(t, "ip")
	h := startSystem(t, map[string]string{"hostrole.toml": systemConfig, "credential.json": credentialFile(exampleKey)})
	before := ground(t)
	h.run(t, "systemctl", "start", "hostrole.service")
	eventually(t, "the role's credential is served", 10*time.Second, func() bool { return keyServed(t.Context()) == exampleKey })
	if got := h.property("StatusText"); !strings.Contains(got, "serving 1 roles on 1 listeners") {
		t.Errorf("the status line is %q", got)
	}
	eventually(t, "socket and state are kept by the service manager", 10*time.Second, func() bool { return h.property("NFileDescriptorStore") == "2" })
	h.holds(t, "0000000000001400") // CAP_NET_ADMIN, CAP_NET_BIND_SERVICE
	h.run(t, "systemctl", "start", "hostrole-credentials.target")
	eventually(t, "the journal has the attributes of a record as fields", 5*time.Second, func() bool {
		got := h.Try("journalctl", "-u", "hostrole.service", "HOSTROLE_ROLE=app", "PRIORITY=6", "-o", "cat", "--no-pager")
		return strings.Contains(got, "renewed role=app credential=")
	})
	token := sessionToken(t)

	t.Run("reload", func(t *testing.T) {
		h.write(t, "hostrole.toml", systemConfig+"[metadata.tags]\nround = \"2\"\n")
		h.run(t, "systemctl", "reload", "hostrole.service")
		eventually(t, "the new configuration is at work", 5*time.Second, func() bool {
			_, body, _ := fetch(t.Context(), "meta-data/tags/instance/round")
			return string(body) == "2"
		})
		h.write(t, "hostrole.toml", systemConfig+"nonsense\n")
		if got := h.try("systemctl", "reload", "hostrole.service"); !strings.Contains(got, "failed") {
			t.Errorf("the reload of a bad configuration says %q", got)
		}
		eventually(t, "the refusal is on the status line", 5*time.Second, func() bool {
			return strings.Contains(h.property("StatusText"), "not reloaded") && h.property("ActiveState") == "active"
		})
		if got := keyServed(t.Context()); got != exampleKey {
			t.Errorf("after a bad configuration %s is served", got)
		}
		h.write(t, "hostrole.toml", systemConfig)
		h.run(t, "systemctl", "reload", "hostrole.service")
		eventually(t, "the good one is back", 5*time.Second, func() bool { return !strings.Contains(h.property("StatusText"), "not reloaded") })
	})

	t.Run("restarts lose nothing", func(t *testing.T) {
		n := underLoad(t, exampleKey, func() {
			for range 20 {
				h.run(t, "systemctl", "restart", "hostrole.service")
			}
		})
		if n.cut != 0 || len(n.failures) != 0 || n.good == 0 {
			t.Errorf("%d answered, %d cut, failed: %.200q", n.good, n.cut, n.failures)
		}
		accepts(t, token)
	})

	t.Run("crashes without an upstream refuse nobody", func(t *testing.T) {
		h.run(t, "rm", "/etc/hostrole/credential.json")
		n := underLoad(t, exampleKey, func() {
			for range 10 {
				h.crash(t, "KILL", 10*time.Second)
				if got := keyServed(t.Context()); got != exampleKey {
					t.Errorf("after a crash %s is served", got)
				}
			}
		})
		if n.cut > 4*10 || len(n.failures) != 0 || n.good == 0 {
			t.Errorf("%d answered, %d cut, failed: %.200q", n.good, n.cut, n.failures)
		}
		accepts(t, token)
	})

	t.Run("a hang ends", func(t *testing.T) {
		began := time.Now()
		h.crash(t, "STOP", 30*time.Second)
		t.Logf("back after %v", time.Since(began).Round(time.Millisecond))
		if got := keyServed(t.Context()); got != exampleKey {
			t.Errorf("after a hang %s is served", got)
		}
		if got := h.try("journalctl", "-u", "hostrole.service", "--no-pager", "-g", "Watchdog timeout"); !strings.Contains(got, "Watchdog timeout") {
			t.Errorf("the journal says nothing of the watchdog: %s", got)
		}
	})

	t.Run("stop leaves no trace", func(t *testing.T) {
		if got := h.try("systemctl", "is-active", "hostrole-wait.service", "hostrole-credentials.target"); got != "active\nactive" {
			t.Errorf("restarts of the daemon reached what waited for it: %s", got)
		}
		h.run(t, "systemctl", "stop", "hostrole.service")
		eventually(t, "addresses and routes are as before", 20*time.Second, func() bool { return ground(t) == before })
	})

	t.Run("with the socket unit", func(t *testing.T) {
		h.write(t, "credential.json", credentialFile(exampleKey))
		dropIn, err := os.ReadFile("../../systemd/units/examples/hostrole.service.d/socket.conf")
		if err != nil {
			t.Fatal(err)
		}
		h.write(t, "socket.conf", string(dropIn))
		h.run(t, "install", "-D", "-m", "644", "/etc/hostrole/socket.conf", "/etc/systemd/system/hostrole.service.d/socket.conf")
		h.run(t, "systemctl", "daemon-reload")
		h.run(t, "systemctl", "start", "hostrole.service")
		eventually(t, "the role's credential is served", 10*time.Second, func() bool { return keyServed(t.Context()) == exampleKey })
		h.holds(t, "0000000000001000") // CAP_NET_ADMIN
		n := underLoad(t, exampleKey, func() {
			for range 5 {
				h.run(t, "systemctl", "restart", "hostrole.service")
			}
		})
		if n.cut != 0 || len(n.failures) != 0 || n.good == 0 {
			t.Errorf("%d answered, %d cut, failed: %.200q", n.good, n.cut, n.failures)
		}
		// Only the state: the socket is the socket unit's.
		eventually(t, "the state alone is stored", 5*time.Second, func() bool { return h.property("NFileDescriptorStore") == "1" })
		h.run(t, "systemctl", "stop", "hostrole.service", "hostrole.socket")
		eventually(t, "addresses and routes are as before", 20*time.Second, func() bool { return ground(t) == before })
	})
	if got := h.try("journalctl", "-u", "hostrole.service", "--no-pager", "-o", "cat"); strings.Contains(got, exampleSecret) || strings.Contains(got, "a-session-token") {
		t.Error("the journal shows a secret")
	}
}

// holds checks the capabilities of the daemon, and that it can gain none.
func (h *systemHost) holds(t *testing.T, mask string) {
	t.Helper()
	status := h.run(t, "cat", "/proc/"+h.property("MainPID")+"/status")
	for _, line := range []string{"CapEff:\t" + mask, "CapBnd:\t" + mask, "NoNewPrivs:\t1"} {
		if !strings.Contains(status, line+"\n") {
			t.Errorf("the daemon's status has no line %q:\n%s", line, status)
		}
	}
}

// sessionToken asks for a session token of an hour.
func sessionToken(t *testing.T) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, metadataURL+"api/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "3600")
	status, body := answer(t, req)
	if status != http.StatusOK {
		t.Fatalf("a token was answered with %d", status)
	}
	return body
}

// accepts checks that a token of an earlier process is good still.
func accepts(t *testing.T, token string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, metadataURL+roleDocument, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-aws-ec2-metadata-token", token)
	if status, _ := answer(t, req); status != http.StatusOK {
		t.Errorf("a token from before is answered with %d", status)
	}
}

func answer(t *testing.T, req *http.Request) (status int, body string) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// crash sends a signal to the daemon's process and returns when another one has
// started.
func (h *systemHost) crash(t *testing.T, signal string, limit time.Duration) {
	t.Helper()
	was := h.property("NRestarts")
	h.run(t, "systemctl", "kill", "--kill-who=main", "--signal="+signal, "hostrole.service")
	eventually(t, "hostrole runs again after SIG"+signal, limit, func() bool {
		return h.property("NRestarts") != was && h.property("ActiveState") == "active"
	})
}
