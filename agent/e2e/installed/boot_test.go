//go:build linux

package installed_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
	"github.com/hostrole/hostrole/agent/e2e/machine"
)

// The network of a host in the wild, where its upstream is: documentation
// addresses.
const (
	away     = "192.0.2.10"
	awayPort = "7481"
)

// enabled is the configuration of a host that boots before it has a network.
const enabled = `version = 1
[upstream]
region = "` + region + `"
endpoint = "https://example.com:` + awayPort + `"
ca_file = "/etc/hostrole/authority.pem"
[source.corp]
kind = "web-identity"
assertion = { file = "/etc/hostrole/token" }
[role.app]
arn = "` + roleARN + `"
from = "source.corp"
[[allow]]
any = true
roles = ["app"]
[[listener]]
name = "host"
kind = "imds"
address = ["169.254.169.254:80"]
`

// TestBootWithoutNetwork boots a host with hostrole enabled: it answers before
// there is a network, and has a credential within a second of its upstream.
func TestBootWithoutNetwork(t *testing.T) {
	ground(t)
	u := newUpstream(t, away+":"+awayPort)
	certificate, authority := exampleCertificate()
	wants, packages := t.TempDir(), t.TempDir()
	for name, unit := range map[string]string{filepath.Join(wants, "hostrole.service"): "/lib/systemd/system/hostrole.service", filepath.Join(packages, "hostrole.deb"): built("first.deb")} {
		if err := os.Symlink(unit, name); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	m := machine.Start(t, machine.Options{
		Packages: packages,
		Copies:   map[string]string{wants: "/etc/systemd/system/multi-user.target.wants"},
		Files: map[string]string{"/etc/hostrole/hostrole.toml": enabled, "/etc/hostrole/authority.pem": authority, "/etc/hostrole/token": u.token(),
			"/etc/hosts": "127.0.0.1 localhost\n" + away + " example.com\n", "/etc/nsswitch.conf": "hosts: files\n"},
	}, "hostrole*")
	var token string
	eventually(t, "it answers", 10*time.Second, func() bool {
		status, text, err := ask(t.Context(), http.MethodPut, "api/token", "")
		token = text
		return err == nil && status == http.StatusOK
	})
	t.Logf("a machine that was switched on answered after %v", time.Since(began).Round(time.Millisecond))
	since := func(property string) int { return number(t, m.Property("hostrole.service", property)) }
	ready := time.Duration(since("ActiveEnterTimestampMonotonic")-since("InactiveExitTimestampMonotonic")) * time.Microsecond
	t.Logf("it served %v after its unit was started", ready)
	if ready > time.Second {
		t.Error("that is more than a second")
	}

	asked := time.Now()
	status, _, err := ask(t.Context(), http.MethodGet, "meta-data/iam/security-credentials/app", token)
	if took := time.Since(asked); err != nil || status != http.StatusServiceUnavailable || took > time.Second {
		t.Errorf("without a network a credential is answered with %d, %v after %v; want 503 at once", status, err, took)
	}
	if status, body, err := ask(t.Context(), http.MethodGet, "meta-data/instance-id", token); err != nil || status != http.StatusOK || !strings.HasPrefix(body, "i-") {
		t.Errorf("without a network the instance id is answered with %d %q, %v", status, body, err)
	}
	pause(t, 5*time.Second) // it has tried, and waits longer between its attempts

	m.Run(t, "ip", "address", "add", away+"/32", "dev", "lo")
	t.Cleanup(func() { _ = exec.Command("ip", "address", "del", away+"/32", "dev", "lo").Run() })
	u.appear(t, &certificate)
	there := time.Now()
	// Nobody asks meanwhile: that alone has it look for its upstream.
	eventually(t, "its upstream has given a credential", 60*time.Second, func() bool {
		return slices.ContainsFunc(u.Calls(), func(c devsts.Call) bool { return c.Status == http.StatusOK })
	})
	took := time.Since(there)
	if got := key(t.Context(), token); !strings.HasPrefix(got, "ASIA") {
		t.Errorf("what it gives is %s", got)
	}
	t.Logf("it had a credential %v after its upstream had appeared", took.Round(time.Millisecond))
	if took > time.Second {
		t.Error("that is more than a second")
	}
}
