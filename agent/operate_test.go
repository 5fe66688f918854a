package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent"
	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/devsts"
)

const (
	hub = "arn:aws:iam::" + account + ":role/hub"
	app = "arn:aws:iam::" + account + ":role/app-role"
)

// operated runs an agent with a hub and a role that is assumed from it, and
// returns the way to its socket.
func operated(t *testing.T) (c *admin.Client, sts *devsts.Server, edit func(func(string) string)) {
	t.Helper()
	return operatedAt(t, "admin.sock")
}

func operatedAt(t *testing.T, socket string) (c *admin.Client, sts *devsts.Server, edit func(func(string) string)) {
	t.Helper()
	if os.Geteuid() == 65534 {
		t.Skip("who has no meaning here reads as nobody as well, so that nobody may have a role or act")
	}
	sts = devsts.New(devsts.Options{Account: account, Region: "eu-central-1", Now: agent.Now, MinSession: time.Second,
		Users: []devsts.User{{ARN: user, AccessKeyID: keyID, SecretAccessKey: secret}},
		Roles: []devsts.Role{{ARN: hub, Principals: []string{user}}, {ARN: app, Principals: []string{hub}}}})
	srv := httptest.NewServer(sts)
	t.Cleanup(srv.Close)
	addr := free(t)
	dir := t.TempDir()
	text := fmt.Sprintf(`version = 1
[admin]
socket = %q
group = ""
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
[source.keys]
kind = "static"
access_key_id = %q
secret_access_key = { env = "DRILL_SECRET" }
[role.hub]
arn = %q
from = "source.keys"
[role.app]
arn = %q
from = "role.hub"
[[allow]]
name = "me"
uid = [%d]
roles = ["app"]
`, socket, srv.URL, addr, keyID, hub, app, os.Geteuid())
	path := filepath.Join(dir, "hostrole.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	a, err := agent.New(cfg, agent.Options{Log: slog.New(slog.DiscardHandler), Environ: []string{"DRILL_SECRET=" + secret}, TrustUserNamespace: true,
		Ready: func() { close(ready) }, Load: func() (*config.Config, error) { return config.Load(path) }})
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
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(socket), "*.sock")); len(left) > 0 {
			t.Errorf("%v is there after the end", left)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	if !filepath.IsAbs(socket) {
		socket = filepath.Join(dir, socket)
	}
	return admin.NewClient(socket), sts, func(change func(string) string) {
		was, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte(change(string(was))), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// state is how a role fares.
func state(t *testing.T, c *admin.Client, name string) admin.Role {
	t.Helper()
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Roles {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("there is no role %s in %+v", name, s)
	return admin.Role{}
}

// becomes waits until a role fares so.
func becomes(t *testing.T, c *admin.Client, name string, want admin.State) admin.Role {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if r := state(t, c, name); r.State == want {
			return r
		}
		<-tick.C
	}
	t.Fatalf("%s is not %s but %+v", name, want, state(t, c, name))
	return admin.Role{}
}

// drawn asks as a program does; keys are what it was given.
func drawn(t *testing.T, c *admin.Client, name string) (keys string, err error) {
	t.Helper()
	text, err := c.Process(t.Context(), name)
	if err != nil {
		return "", err
	}
	var doc struct {
		Version                                   int
		AccessKeyID                               string `json:"AccessKeyId"`
		SecretAccessKey, SessionToken, Expiration string
	}
	if err := json.Unmarshal(text, &doc); err != nil || doc.Version != 1 || doc.SecretAccessKey == "" || doc.SessionToken == "" || doc.Expiration == "" {
		t.Fatalf("not what credential_process is: %v", err)
	}
	return doc.AccessKeyID, nil
}

func TestOperate(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "other.sock")
	c, sts, _ := operatedAt(t, socket)
	was := becomes(t, c, "app", admin.Live)
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Version != 1 || s.PID != os.Getpid() || len(s.Roles) != 2 || s.Roles[0].Name != "hub" || was.ServedAs != "app-role" || was.From != "role.hub" || *was.Left < 3500 || *was.Left > 3600 {
		t.Errorf("status is %+v", s)
	}
	if len(s.Listeners) != 1 || !s.Listeners[0].Serving || s.Listeners[0].Name != "host" || len(s.Addresses) != 0 {
		t.Errorf("listeners are %+v on %+v", s.Listeners, s.Addresses)
	}

	// The same role by all its names, and no other.
	first, err := drawn(t, c, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app", "app-role"} {
		if got, err := drawn(t, c, name); err != nil || got != first {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"hub", "nobody"} {
		if _, err := drawn(t, c, name); !errors.Is(err, admin.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, _ = c.Status(t.Context())
	if d := s.Decisions; len(d) != 2 || d[0].Verdict != "denied" || d[0].Count != 2 || d[1].Verdict != "granted" || d[1].Count != 3 ||
		d[1].Endpoint != "process" || d[1].Rule != "me" || d[1].Caller.Listener != admin.Listener || *d[1].Caller.UID != uint32(os.Geteuid()) {
		t.Errorf("decisions are %+v", d)
	}
	e, err := c.Explain(t.Context(), uint32(os.Geteuid()), "/system.slice/me.service")
	if err != nil || e.Caller.Unit != "me.service" || len(e.Answers) != 2 || e.Answers[0].Rule != "me" || e.Answers[1].Rule != "me" {
		t.Errorf("explained as %+v, %v", e, err)
	}
	if e, err := c.Explain(t.Context(), 4242, ""); err != nil || len(e.Answers[0].Roles) != 0 {
		t.Errorf("a stranger is explained as %+v, %v", e, err)
	}

	// The metrics are there as well.
	web := http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://hostrole/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := web.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "hostrole_") {
		t.Errorf("metrics: %d, %v, %.200s", resp.StatusCode, err, text)
	}

	// Renewed on demand; a failure costs nothing.
	done, err := c.Refresh(t.Context(), "app")
	if err != nil || done.Role.Credential == was.Credential || done.Role.State != admin.Live {
		t.Errorf("refreshed: %+v, %v", done, err)
	}
	sts.Break(devsts.Named("down"))
	if _, err := c.Refresh(t.Context(), "app"); !errors.Is(err, admin.ErrNotReady) {
		t.Errorf("with the upstream down: %v", err)
	}
	if r := state(t, c, "app"); r.State != admin.Failing || r.Credential != done.Role.Credential || r.Failures == 0 || r.Error == "" {
		t.Errorf("after a failure: %+v", r)
	}
	if _, err := drawn(t, c, ""); err != nil {
		t.Errorf("with the upstream down: %v", err)
	}
	sts.Heal()
	if _, err := c.Refresh(t.Context(), "app"); err != nil {
		t.Errorf("after the end of the failure, in the middle of a wait: %v", err)
	}
	if _, err := c.Refresh(t.Context(), "nobody"); !errors.Is(err, admin.ErrUnknown) || !strings.Contains(err.Error(), "there is app, hub") {
		t.Errorf("a role that is not there: %v", err)
	}
}

// What is revoked is gone at once on every way, and the credential with it: a
// reload asks for a session that what kills the old ones does not hit.
func TestRevoke(t *testing.T) {
	t.Parallel()
	c, _, _ := operated(t)
	becomes(t, c, "app", admin.Live)
	old, err := drawn(t, c, "")
	if err != nil {
		t.Fatal(err)
	}
	did, err := c.Revoke(t.Context(), "hub")
	if err != nil || len(did.Roles) != 1 || did.Roles[0] != "hub" || len(did.Children) != 1 || did.Children[0] != "app" || did.ARN != hub {
		t.Errorf("revoked: %+v, %v", did, err)
	}
	if d := did.Time.Sub(agent.Now()); d < -time.Second || d > time.Second || did.Time.Nanosecond() != 0 {
		t.Errorf("the time is %v from now", d)
	}
	if got, err := drawn(t, c, ""); err != nil || got != old {
		t.Errorf("a session that was assumed from it: %v, %v", got, err)
	}
	if _, err := c.Revoke(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	if _, err := drawn(t, c, ""); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("after the revocation: %v", err)
	}
	if r := state(t, c, "app"); r.State != admin.Revoked || r.Credential != "" {
		t.Errorf("status is %+v", r)
	}
	if _, err := c.Refresh(t.Context(), "app"); !errors.Is(err, admin.ErrRefused) {
		t.Errorf("refreshed: %v", err)
	}
	if _, err := c.Revoke(t.Context(), "nobody"); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("a role that is not there: %v", err)
	}
	if done, err := c.Reload(t.Context()); err != nil || len(done.Faults) != 0 {
		t.Fatalf("reloaded: %+v, %v", done, err)
	}
	becomes(t, c, "app", admin.Live)
	if got, err := drawn(t, c, ""); err != nil || got == old {
		t.Errorf("after the reload: the old keys %v, %v", got == old, err)
	}
}

// A configuration with faults changes nothing, and all of them are told.
func TestReloadThroughTheSocket(t *testing.T) {
	t.Parallel()
	c, _, edit := operated(t)
	becomes(t, c, "app", admin.Live)
	edit(func(text string) string {
		return strings.NewReplacer(`roles = ["app"]`, `roles = ["nobody"]`, "timeout", "timeuot").Replace(text)
	})
	done, err := c.Reload(t.Context())
	if err != nil || len(done.Faults) != 2 || done.Faults[0].Line == 0 || !strings.Contains(done.Faults[0].Problem+done.Faults[0].Hint, "timeout") {
		t.Errorf("faults: %+v, %v", done, err)
	}
	if _, err := drawn(t, c, ""); err != nil {
		t.Errorf("after a bad configuration: %v", err)
	}
	edit(func(text string) string {
		return strings.NewReplacer(`roles = ["nobody"]`, `roles = ["hub"]`, "timeuot", "timeout").Replace(text)
	})
	if done, err := c.Reload(t.Context()); err != nil || len(done.Faults) != 0 || done.Summary == "" {
		t.Fatalf("reloaded: %+v, %v", done, err)
	}
	if _, err := drawn(t, c, "app"); !errors.Is(err, admin.ErrDenied) {
		t.Errorf("what was taken away: %v", err)
	}
	if _, err := drawn(t, c, "hub"); err != nil {
		t.Errorf("what was given: %v", err)
	}
}

// No secret leaves by the socket, but in the document that is made of them.
func TestTheSocketTellsNoSecret(t *testing.T) {
	t.Parallel()
	c, sts, _ := operated(t)
	becomes(t, c, "app", admin.Live)
	doc, err := c.Process(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var keys struct{ SecretAccessKey, SessionToken string }
	if err := json.Unmarshal(doc, &keys); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for _, fault := range devsts.AllFaults() {
		if fault.Delay > 0 || fault.Kind == devsts.Transient {
			continue // asked again, and not soon told
		}
		sts.Heal()
		sts.Break(fault)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := c.Refresh(ctx, "hub")
		cancel()
		fmt.Fprintln(&said, err)
		s, err := c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(s)
		said.Write(text)
	}
	if !strings.Contains(said.String(), "AccessDenied") {
		t.Fatal("no error was told")
	}
	for what, canary := range map[string]string{"the host's key": secret, "a served key": keys.SecretAccessKey, "a served token": keys.SessionToken} {
		if canary == "" || strings.Contains(said.String(), canary) {
			t.Errorf("%s is in what the socket says", what)
		}
	}
}

// A socket that cannot be had keeps no daemon from starting, and nothing else
// is removed for it.
func TestWithoutASocket(t *testing.T) {
	t.Parallel()
	for _, socket := range []string{"", "no/folder/admin.sock", "hostrole.toml"} {
		_, _, edit := operatedAt(t, socket)
		edit(func(text string) string { return text }) // the file is there
	}
}
