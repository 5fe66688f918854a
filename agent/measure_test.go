package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent"
	"github.com/hostrole/hostrole/agent/config"
)

// A measured agent shows its metrics on a loopback port.
type measured struct {
	dir, url, metrics string
	log               *lockedBuffer
	reload            chan os.Signal

	mu   sync.Mutex
	text string // of the configuration, guarded by mu
}

// measure runs an agent with a role that works, another that does not, and a
// rule that gives this user the first.
func measure(t *testing.T) *measured {
	t.Helper()
	m := &measured{dir: t.TempDir(), log: &lockedBuffer{}, reload: make(chan os.Signal)}
	ports := [2]string{free(t), free(t)}
	m.url, m.metrics = "http://"+ports[0]+"/latest/", "http://"+ports[1]+"/metrics"
	document := fmt.Sprintf(`{"Version": 1, "AccessKeyId": %q, "SecretAccessKey": %q, "SessionToken": "canary-session", "Expiration": %q}`,
		keyID, secret, agent.Now().Add(time.Hour).Format(time.RFC3339))
	if err := os.WriteFile(filepath.Join(m.dir, "works.json"), []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	m.text = fmt.Sprintf(`version = 1
[admin]
socket = ""
metrics = %q
[audit]
file = "audit.log"
[rotation]
splay = "0s"
[[listener]]
name = "host"
kind = "imds"
address = [%q]
ingress = ""
manage_address = false
tokens = "optional"
[source.works]
kind = "process"
command = ["/bin/cat", "%[3]s/works.json"]
[source.fails]
kind = "process"
command = ["/bin/cat", "%[3]s/canary-missing.json"]
[role.app]
from = "source.works"
[role.broken]
from = "source.fails"
[[allow]]
name = "me"
uid = [%[4]d]
roles = ["app"]
`, ports[1], ports[0], m.dir, os.Getuid())
	path := filepath.Join(m.dir, "hostrole.toml")
	load := func() (*config.Config, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.text == "unreadable" {
			return nil, errors.New("reading the configuration: canary")
		}
		return config.Parse(path, []byte(m.text))
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	a, err := agent.New(cfg, agent.Options{
		Log: slog.New(slog.NewJSONHandler(m.log, nil)), Environ: os.Environ(), Version: "v0.0.1", Revision: "cafe",
		TrustUserNamespace: true, Ready: func() { close(ready) }, Reload: m.reload, Load: load,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	return m
}

// get asks for a path with a token, or without when it is "".
func (m *measured) get(t *testing.T, url, token string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-aws-ec2-metadata-token", token)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// shows waits until the metrics have all of these lines.
func (m *measured) shows(t *testing.T, lines ...string) {
	t.Helper()
	tick, by := time.NewTicker(20*time.Millisecond), time.Now().Add(10*time.Second)
	defer tick.Stop()
	for {
		status, text := m.get(t, m.metrics, "")
		if status != http.StatusOK {
			t.Fatalf("the metrics answer with %d", status)
		}
		for _, word := range []string{"canary", keyID, secret, m.dir} {
			if strings.Contains(text, word) {
				t.Fatalf("the metrics show %q:\n%s", word, text)
			}
		}
		var missing []string
		for _, line := range lines {
			if !strings.Contains(text, line) {
				missing = append(missing, line)
			}
		}
		if len(missing) == 0 {
			return
		}
		if time.Now().After(by) {
			t.Fatalf("not shown: %q\n%s", missing, text)
		}
		<-tick.C
	}
}

// line is the line of the metrics that begins like this.
func (m *measured) line(t *testing.T, begin string) string {
	t.Helper()
	_, text := m.get(t, m.metrics, "")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, begin) {
			return strings.TrimSuffix(line, "\n")
		}
	}
	t.Fatalf("no line begins with %s", begin)
	return ""
}

// configure has the agent reload a configuration.
func (m *measured) configure(edit func(string) string) {
	m.mu.Lock()
	m.text = edit(m.text)
	m.mu.Unlock()
	m.reload <- syscall.SIGHUP
}

// What happens to an agent is in its metrics, and no word of a request, of a
// key or of an error is.
func TestMetrics(t *testing.T) {
	t.Parallel()
	m := measure(t)
	m.shows(t,
		`hostrole_build_info{goversion="go`, `revision="cafe",version="v0.0.1"} 1`,
		`hostrole_role_live{role="app"} 1`, `hostrole_role_live{role="broken"} 0`,
		`hostrole_role_consecutive_failures{role="app"} 0`,
		`hostrole_renewals_total{class="fine",result="success",role="app"} 1`,
		`hostrole_renewals_total{class="fine",result="success",role="broken"} 0`, `",result="failure",role="broken"} `,
		`hostrole_renewal_duration_seconds_count{result="success"} 1`,
		`hostrole_credential_expiry_timestamp_seconds{role="app"} 1.`, `hostrole_outage_headroom_seconds{role="app"} 3`,
		`hostrole_outage_headroom_seconds{role="broken"} 0`,
		`hostrole_config_last_reload_successful 1`, `hostrole_addresses_missing 0`,
		`hostrole_connections_total{listener="host"} 0`)
	if strings.HasSuffix(m.line(t, `hostrole_role_consecutive_failures{role="broken"}`), " 0") {
		t.Error("the role that fails has not failed")
	}

	for path, want := range map[string]int{
		"meta-data/iam/security-credentials/app":    http.StatusOK,
		"meta-data/iam/security-credentials/broken": http.StatusNotFound,
		"meta-data/iam/security-credentials/canary": http.StatusNotFound,
		"meta-data/canary?canary":                   http.StatusNotFound,
	} {
		if status, body := m.get(t, m.url+path, ""); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := m.get(t, m.url+"meta-data/", "canary"); status != http.StatusUnauthorized {
		t.Errorf("with a wrong token: %d", status)
	}
	m.shows(t,
		`hostrole_connections_total{listener="host"} 5`, `hostrole_requests_in_flight{listener="host"} 0`,
		`hostrole_requests_total{code="200",endpoint="imds",listener="host"} 1`,
		`hostrole_requests_total{code="404",endpoint="imds",listener="host"} 3`,
		`hostrole_request_duration_seconds_count{listener="host"} 5`,
		`hostrole_token_failures_total{listener="host"} 1`, `hostrole_unidentified_callers_total{listener="host"} 0`,
		`hostrole_decisions_total{endpoint="imds",verdict="granted"} 1`,
		`hostrole_decisions_total{endpoint="imds",verdict="denied"} 2`,
		`hostrole_denials_total{reason="other_role"} 2`, `hostrole_audit_failures_total 0`)

	const since = "hostrole_config_last_reload_success_timestamp_seconds "
	began := m.line(t, since)
	good := m.text
	m.configure(func(text string) string { return text + "[metadata]\ncanary = 1\n" })
	m.shows(t, `hostrole_config_last_reload_successful 0`, began)
	m.configure(func(text string) string { return strings.Replace(text, "canary = 1", "image_id = \"ami-1\"", 1) })
	m.shows(t, `hostrole_config_last_reload_successful 1`)
	mended := m.line(t, since)
	if mended == began {
		t.Errorf("%s, as before the reload", mended)
	}
	m.configure(func(string) string { return "unreadable" })
	m.shows(t, `hostrole_config_last_reload_successful 0`, mended)
	// One that worked and was followed by one that did not before anybody looked.
	m.configure(func(string) string { return good })
	m.configure(func(text string) string { return text }) // taken once the first reload has ended
	m.configure(func(string) string { return "unreadable" })
	m.shows(t, `hostrole_config_last_reload_successful 0`)
	if last := m.line(t, since); last == mended {
		t.Errorf("%s, as before the last reload that worked", last)
	}

	// A file in whose place a folder stands cannot be written.
	if err := os.Rename(filepath.Join(m.dir, "audit.log"), filepath.Join(m.dir, "audit.log.1")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(m.dir, "audit.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	tick, by := time.NewTicker(50*time.Millisecond), time.Now().Add(10*time.Second)
	defer tick.Stop()
	for !strings.Contains(m.log.String(), "a decision is not on record") {
		if status, _ := m.get(t, m.url+"meta-data/iam/security-credentials/app", ""); status != http.StatusOK {
			t.Fatalf("without a record that is not required: %d", status)
		}
		if time.Now().After(by) {
			t.Fatal("the record did not fail")
		}
		<-tick.C
	}
	m.shows(t, `hostrole_audit_failures_total 1`)
}

// A caller without a rule, and one role that a reload takes away.
func TestMetricsAfterAReload(t *testing.T) {
	t.Parallel()
	m := measure(t)
	m.configure(func(text string) string {
		text = strings.Replace(text, "[role.broken]\nfrom = \"source.fails\"\n", "", 1)
		return strings.Replace(text, fmt.Sprintf("uid = [%d]", os.Getuid()), "uid = [4242]", 1)
	})
	m.configure(func(text string) string { return text }) // taken once the first reload has ended
	if _, text := m.get(t, m.metrics, ""); strings.Contains(text, `role="broken"`) {
		t.Errorf("a role that was taken away is shown:\n%s", text)
	}
	if status, _ := m.get(t, m.url+"meta-data/iam/security-credentials/app", ""); status != http.StatusNotFound {
		t.Errorf("without a rule: %d", status)
	}
	m.shows(t, `hostrole_denials_total{reason="no_rule"} 1`, `hostrole_role_live{role="app"} 1`)
}

// A port that another program has keeps no agent from serving.
func TestMetricsWithoutAPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg, err := config.Parse(filepath.Join(t.TempDir(), "hostrole.toml"), fmt.Appendf(nil, `version = 1
[admin]
socket = ""
metrics = %q
[[listener]]
name = "host"
kind = "imds"
address = ["127.0.0.1:1"]
ingress = ""
manage_address = false
[source.works]
kind = "process"
command = ["/bin/cat", "/dev/null"]
[role.app]
from = "source.works"
[[allow]]
any = true
roles = ["app"]
`, l.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	a, err := agent.New(cfg, agent.Options{Log: slog.New(slog.NewJSONHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	serve, closeSocket := a.Measure(t.Context())
	defer closeSocket()
	if serve || !strings.Contains(log.String(), "metrics are not served") {
		t.Errorf("it is served: %t, and the log says %s", serve, log.String())
	}
}
