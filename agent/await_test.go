package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent"
	"github.com/hostrole/hostrole/agent/admin"
	"github.com/hostrole/hostrole/agent/config"
	"github.com/hostrole/hostrole/agent/devsts"
)

// The splay is for what nobody waits for: who waits has the role, and the one
// that it is assumed from, at once, and the others are put off as before.
func TestWhoWaitsIsNotPutOff(t *testing.T) {
	if os.Geteuid() == 65534 {
		t.Skip("who has no meaning here reads as nobody as well, so that nobody may have a role or act")
	}
	var all []devsts.Role
	tables := ""
	for i := range 20 {
		arn := fmt.Sprintf("arn:aws:iam::%s:role/other-%d", account, i)
		all = append(all, devsts.Role{ARN: arn, Principals: []string{user}})
		tables += fmt.Sprintf("[role.other-%d]\narn = %q\nfrom = 'source.keys'\n", i, arn)
	}
	sts := devsts.New(devsts.Options{Account: account, Region: "eu-central-1", Now: agent.Now,
		Users: []devsts.User{{ARN: user, AccessKeyID: keyID, SecretAccessKey: secret}},
		Roles: append(all, devsts.Role{ARN: hub, Principals: []string{user}}, devsts.Role{ARN: app, Principals: []string{hub}})})
	srv := httptest.NewServer(sts)
	t.Cleanup(srv.Close)
	addr := free(t)
	path := filepath.Join(t.TempDir(), "hostrole.toml")
	text := fmt.Sprintf(`version = 1
[admin]
socket = "admin.sock"
group = ""
[upstream]
region = "eu-central-1"
endpoint = %q
[rotation]
splay = "10m"
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
%s[[allow]]
uid = [%d]
roles = ["app"]
`, srv.URL, addr, keyID, hub, app, tables, os.Geteuid())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	a, err := agent.New(cfg, agent.Options{Log: slog.New(slog.DiscardHandler), Environ: []string{"DRILL_SECRET=" + secret}, TrustUserNamespace: true,
		Ready: func() { close(ready) }})
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
	c := admin.NewClient(filepath.Join(filepath.Dir(path), "admin.sock"))
	for _, r := range []string{"hub", "app"} {
		if state(t, c, r).State != admin.Starting {
			t.Skip("the draws of this machine have it first")
		}
	}
	began := time.Now()
	if _, err := c.Await(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for state(t, c, "app").State != admin.Live {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("the role is %s after 10 s", state(t, c, "app").State)
		}
		<-look.C
	}
	starting := 0
	for i := range 20 {
		if state(t, c, fmt.Sprintf("other-%d", i)).State == admin.Starting {
			starting++
		}
	}
	if starting < 10 {
		t.Errorf("only %d of 20 roles that nobody waits for are put off", starting)
	}
}
