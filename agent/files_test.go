package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/devsts"
)

// startOnFiles runs an agent on files as they are on a host, and nothing tells
// it to read them again. put replaces a file, as an editor does.
func startOnFiles(t *testing.T) (h *host, put func(name, content string)) {
	t.Helper()
	h = &host{log: &lockedBuffer{}}
	h.sts = devsts.New(devsts.Options{Account: account, Region: "eu-central-1", Now: agent.Now, MinSession: time.Second,
		Users: []devsts.User{{ARN: user, AccessKeyID: keyID, SecretAccessKey: secret}},
		Roles: []devsts.Role{{ARN: role, Principals: []string{user}}}})
	srv := httptest.NewServer(h.sts)
	t.Cleanup(srv.Close)
	h.url = "http://" + free(t) + "/latest/"
	dir := t.TempDir()
	put = func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+"~", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+"~", path); err != nil {
			t.Fatal(err)
		}
	}
	h.text = fmt.Sprintf(`version = 1
[admin]
socket = "admin.sock"
[upstream]
region = "eu-central-1"
endpoint = %q
[rotation]
splay = "0s"
[[listener]]
name = "host"
kind = "imds"
address = [%q]
ingress = ""
manage_address = false
tokens = "optional"
[metadata]
user_data = { file = "user-data" }
[source.keys]
kind = "static"
access_key_id = %q
secret_access_key = { file = "secret" }
[role.app]
arn = %q
from = "source.keys"
[[allow]]
any = true
roles = ["app"]
`, srv.URL, strings.TrimSuffix(strings.TrimPrefix(h.url, "http://"), "/latest/"), keyID, role)
	put("hostrole.toml", h.text)
	put("user-data", "one")
	put("secret", secret)
	path := filepath.Join(dir, "hostrole.toml")
	load := func() (*config.Config, error) { return config.Load(path) }
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	a, err := agent.New(cfg, agent.Options{
		Log:                slog.New(slog.NewTextHandler(h.log, nil)),
		TrustUserNamespace: true, Ready: func() { close(ready) },
		Load: load, Files: func() []string { return config.Files(path) },
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
	return h, put
}

// serves waits until a path has a content.
func (h *host) serves(t *testing.T, path, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, got, err := h.get(ctx, path)
		if err == nil && got == want {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s is %q, %v, and not %q:\n%s", path, got, err, want, h.log)
		case <-tick.C:
		}
	}
}

// says waits until the log has a text.
func (h *host) says(t *testing.T, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(h.log.String(), text) {
		select {
		case <-ctx.Done():
			t.Fatalf("the log does not say %q:\n%s", text, h.log)
		case <-tick.C:
		}
	}
}

// A change of any file that the configuration is made of is put to work without
// a word from anybody; one that is bad changes nothing, and is explained.
func TestFilesAreFollowed(t *testing.T) {
	t.Parallel()
	h, put := startOnFiles(t)
	h.serves(t, "user-data", "one")
	h.until(t, live, 10*time.Second)
	calls := h.sts.CallCount("")

	put("user-data", "two")
	h.serves(t, "user-data", "two")
	put("hostrole.d/50-tags.toml", "[metadata.tags]\nrack = \"r1\"\n")
	h.serves(t, "meta-data/tags/instance/rack", "r1")
	put("hostrole.d/50-tags.toml", "[metadata.tags]\nrack = \"r2\"\n") // a file that is known since the last reload
	h.serves(t, "meta-data/tags/instance/rack", "r2")
	put("hostrole.toml", h.text+"[metadata.tags]\nrow = 7\n")
	h.says(t, "metadata.tags.row")
	h.says(t, "the old one serves")
	h.serves(t, "meta-data/tags/instance/rack", "r2")
	put("hostrole.toml", strings.Replace(h.text, `{ file = "user-data" }`, `{ file = "other" }`, 1))
	h.says(t, "other is not there") // named by a good file, and not there
	put("other", "three")
	h.serves(t, "user-data", "three")
	if n := h.sts.CallCount(""); n != calls {
		t.Errorf("%d calls upstream for roles that did not change", n-calls)
	}
}

// A role whose source's file was wrong is asked for as soon as the file is
// right, and not at the end of the wait after a refusal.
func TestAMendedFileIsTriedAtOnce(t *testing.T) {
	t.Parallel()
	h, put := startOnFiles(t)
	h.until(t, live, 10*time.Second)
	put("secret", "wrong")
	put("hostrole.toml", strings.Replace(h.text, `[role.app]`, "[role.app]\nduration = \"30m\"", 1)) // a session of its own
	h.until(t, failure, 10*time.Second)
	start := time.Now()
	put("secret", secret)
	h.until(t, live, 10*time.Second)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("tried after %v", took)
	}
}
