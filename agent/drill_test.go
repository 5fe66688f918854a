package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/devsts"
)

const (
	account = "111122223333"
	user    = "arn:aws:iam::" + account + ":user/host"
	role    = "arn:aws:iam::" + account + ":role/app"
	keyID   = "AKIAIOSFODNN7EXAMPLE"
	secret  = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// A host is a running agent on a loopback port and the STS behind it.
type host struct {
	sts    *devsts.Server
	agent  *agent.Agent
	dir    string // of the configuration
	mu     sync.Mutex
	text   string // of the configuration, guarded by mu once the agent runs
	signal chan os.Signal
	url    string
	log    *lockedBuffer
	// off is how far this host's clock may be from the upstream's: an expiry
	// is the issuer's word by the issuer's clock, and is never adjusted.
	off time.Duration
}

// startHost runs an agent for one role with sessions of the given length;
// fault, when it has a name, is there from the start.
func startHost(t *testing.T, session time.Duration, fault devsts.Fault, extra string) *host {
	t.Helper()
	h := &host{log: &lockedBuffer{}, off: fault.Skew.Abs()}
	h.sts = devsts.New(devsts.Options{Account: account, Region: "eu-central-1", Now: agent.Now, MinSession: time.Second,
		Users: []devsts.User{{ARN: user, AccessKeyID: keyID, SecretAccessKey: secret}},
		Roles: []devsts.Role{{ARN: role, Principals: []string{user}, TagSession: true, SetSourceIdentity: true}}})
	if fault.Name != "" {
		h.sts.Break(fault)
	}
	srv := httptest.NewServer(h.sts)
	t.Cleanup(srv.Close)
	addr := free(t)
	h.url = "http://" + addr + "/latest/"
	text := fmt.Sprintf(`version = 1
[admin]
socket = "admin.sock"
[upstream]
region = "eu-central-1"
endpoint = %q
timeout = "3s"
[rotation]
splay = "0s"
[[listener]]
name = "host"
kind = "imds"
address = [%q]
ingress = ""
manage_address = false
tokens = "optional"
[source.keys]
kind = "static"
access_key_id = %q
secret_access_key = { env = "DRILL_SECRET" }
[role.app]
arn = %q
from = "source.keys"
duration = %q
[[allow]]
any = true
roles = ["app"]
# extra
%s`, srv.URL, addr, keyID, role, session, extra)
	h.dir = t.TempDir()
	path := filepath.Join(h.dir, "hostrole.toml")
	h.text, h.signal = text, make(chan os.Signal)
	cfg, err := config.Parse(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	a, err := agent.New(cfg, agent.Options{
		Log: slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Environ: []string{"DRILL_SECRET=" + secret},
		TrustUserNamespace: true, Ready: func() { close(ready) },
		Reload: h.signal, Load: func() (*config.Config, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return config.Parse(path, []byte(h.text))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.agent = a
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		if strings.Contains(h.log.String(), secret) {
			t.Error("the log shows the secret key")
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	return h
}

// change has the agent reload another configuration, and returns when the
// reload has ended.
func (h *host) change(t *testing.T, edit func(string) string) {
	t.Helper()
	h.mu.Lock()
	was := h.text
	h.text = edit(was)
	same := h.text == was
	h.mu.Unlock()
	if same {
		t.Fatal("nothing changes")
	}
	h.signal <- syscall.SIGHUP
	h.signal <- syscall.SIGHUP // taken once the first reload has ended
}

// reload changes what stands behind the mark of startHost's configuration.
func (h *host) reload(t *testing.T, extra string) {
	t.Helper()
	h.change(t, func(text string) string {
		head, _, _ := strings.Cut(text, "# extra")
		return head + "# extra\n" + extra
	})
}

// get asks once. Clients have a second; a machine that runs many cases at once
// and watches for races gets some more.
func (h *host) get(ctx context.Context, path string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// An outcome is what one request for the document came to.
type outcome string

const (
	live    outcome = "live"    // whole, true and unexpired credentials
	not     outcome = "not yet" // 503 with an empty body
	failure outcome = "failure" // the failure document
)

// ask requests the document and fails the test on whatever no client may see.
func (h *host) ask(t *testing.T) outcome {
	t.Helper()
	status, body, err := h.get(t.Context(), "meta-data/iam/security-credentials/app")
	if err != nil {
		t.Fatalf("no answer within a client's patience: %v", err)
	}
	if status == http.StatusServiceUnavailable && body == "" {
		return not
	}
	var doc struct {
		Code, AccessKeyID, SecretAccessKey, Token, Message string
		Expiration                                         time.Time
	}
	if err := json.Unmarshal([]byte(body), &doc); status != http.StatusOK || err != nil {
		t.Fatalf("status %d with the body %q: %v", status, body, err)
	}
	if doc.Code != "Success" {
		if doc.AccessKeyID != "" || doc.SecretAccessKey != "" || doc.Token != "" || doc.Message == "" {
			t.Fatalf("a failure document with keys or without a message: %s", body)
		}
		return failure
	}
	s, err := h.sts.Verify(doc.AccessKeyID, doc.SecretAccessKey, doc.Token)
	if errors.Is(err, devsts.ErrTorn) {
		t.Fatalf("keys that do not belong together: %v", err)
	}
	// An expiry may be earlier than the upstream's own, never later.
	if !doc.Expiration.After(time.Now().Add(-h.off)) || doc.Expiration.After(s.Expires.Add(h.off)) {
		t.Fatalf("served at %v with Expiration %v; the session ends at %v", time.Now(), doc.Expiration, s.Expires)
	}
	return live
}

// until asks until an outcome is there, and fails the test after limit.
func (h *host) until(t *testing.T, want outcome, limit time.Duration) (took time.Duration) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for time.Since(began) < limit {
		if h.ask(t) == want {
			return time.Since(began)
		}
		<-tick.C
	}
	t.Fatalf("not %q after %v", want, limit)
	return 0
}

// Each way of an upstream to fail, before the first credential and at a
// renewal: no client ever sees empty, torn or expired credentials, or a
// Success without keys, and a minute after the upstream is well, all is.
func TestFaultDrill(t *testing.T) {
	for _, f := range devsts.AllFaults() {
		f.Delay = min(f.Delay, 5*time.Second)
		t.Run(f.Name+"/first", func(t *testing.T) {
			t.Parallel()
			h := startHost(t, 20*time.Second, f, "")
			for range 20 {
				h.ask(t)
			}
			h.sts.Heal()
			t.Logf("live %v after the upstream was well", h.until(t, live, time.Minute).Round(10*time.Millisecond))
		})
		t.Run(f.Name+"/renewal", func(t *testing.T) {
			t.Parallel()
			h := startHost(t, 6*time.Second, devsts.Fault{}, "")
			h.until(t, live, 10*time.Second)
			h.off = f.Skew.Abs()
			h.sts.Break(f)
			// Past the end of the credential that is live now.
			for end := time.Now().Add(7 * time.Second); time.Now().Before(end); {
				h.ask(t)
			}
			h.sts.Heal()
			t.Logf("live %v after the upstream was well", h.until(t, live, time.Minute).Round(10*time.Millisecond))
		})
	}
}

// While the credential lives, an outage costs no request at all.
func TestOutageCostsNothingWhileTheCredentialLives(t *testing.T) {
	t.Parallel()
	h := startHost(t, 12*time.Second, devsts.Fault{}, "")
	h.until(t, live, 10*time.Second)
	h.sts.Break(devsts.Named("down"))
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if got := h.ask(t); got != live {
			t.Fatalf("an outage shorter than half of the life was seen: %v", got)
		}
	}
}
