//go:build linux

package hostnet_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/e2e/machine"
)

// load asks for the role's key, each time for a new token, until told to stop,
// and writes down what it was given.
const load = `#!/bin/bash
url=http://169.254.169.254/latest
asks() {
  while [ ! -e /run/stop ]; do
    T=$(curl -s -f -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $url/api/token) || { echo "token: $?"; continue; }
    if C=$(curl -s -m 5 -o /dev/null -w '%{http_code}' -H "X-aws-ec2-metadata-token: $T" $url/meta-data/iam/security-credentials/app); then echo "$C"; else echo "curl: $?"; fi
  done
}
for _ in 1 2 3 4; do asks & done
wait
`

// The service as it is shipped, beside a web server that has port 80: it names
// the web server's unit, serves behind a redirect over restarts and crashes
// without one request for the web server, and leaves no table behind.
func TestRedirectUnderSystemd(t *testing.T) {
	m := boot(t, machine.Options{Files: map[string]string{
		"/etc/systemd/system/web.service": "[Service]\nExecStart=/usr/bin/env -u PYENV_VERSION python3 -m http.server --bind :: --directory /opt/web 80\nDynamicUser=yes\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n",
		"/opt/web/index.html":             "it works\n",
		"/opt/load":                       load,
	}})
	page := func() string { return m.Try("curl", "-s", "-m", "3", "http://127.0.0.1/") }
	tables := func() string { return m.Run(t, "nft", "list", "ruleset") }
	m.Run(t, "systemctl", "start", "web")
	eventually(t, "the web server answers", 10*time.Second, func() bool { return page() == "it works" })

	if got := m.Try("systemctl", "start", "hostrole.service"); !strings.Contains(got, "failed") {
		t.Errorf("it starts on a port that is taken: %s", got)
	}
	m.Run(t, "systemctl", "stop", "hostrole.service")
	if got := m.Try("journalctl", "-u", "hostrole.service", "--no-pager", "-o", "cat"); !strings.Contains(got, "on [::]:80 in web.service; write redirect = true") {
		t.Errorf("the journal does not name who has the port:\n%s", got)
	}

	m.Write(t, "/etc/hostrole/hostrole.toml", common+"redirect = true\n")
	m.Run(t, "systemctl", "start", "hostrole.service")
	eventually(t, "the role's credential is served", 10*time.Second, func() bool { return served(m) == exampleKey })
	if page() != "it works" {
		t.Errorf("the web server says %q", page())
	}
	if got := m.Property("hostrole.service", "NFileDescriptorStore"); got != "5" { // two sockets, two tables, a state
		t.Errorf("the service manager keeps %s descriptors", got)
	}

	m.Run(t, "chmod", "755", "/opt/load")
	m.Run(t, "systemd-run", "--unit=load", "-p", "StandardOutput=file:/run/load", "/opt/load")
	for range 8 {
		m.Run(t, "systemctl", "restart", "hostrole.service")
	}
	for range 4 {
		was := m.Property("hostrole.service", "NRestarts")
		m.Run(t, "systemctl", "kill", "--kill-who=main", "--signal=KILL", "hostrole.service")
		eventually(t, "it runs again", 10*time.Second, func() bool {
			return m.Property("hostrole.service", "NRestarts") != was && m.Property("hostrole.service", "ActiveState") == "active"
		})
	}
	m.Run(t, "touch", "/run/stop")
	eventually(t, "the load ends", 15*time.Second, func() bool { return m.Property("load.service", "ActiveState") != "active" })
	count := map[string]int{}
	for line := range strings.Lines(m.Run(t, "cat", "/run/load")) {
		count[strings.TrimSpace(line)]++
	}
	t.Logf("answers over 8 restarts and 4 crashes: %v", count)
	for what, n := range count {
		// A crash cuts what is open at that moment: 52 and 56 are curl's words.
		if cut := strings.HasSuffix(what, ": 52") || strings.HasSuffix(what, ": 56"); what != "200" && (!cut || n > 4*4) {
			t.Errorf("%d times: %s", n, what)
		}
	}
	if count["200"] == 0 {
		t.Error("there was no load")
	}
	if got := strings.Count(tables(), "table inet hostrole-"); got != 2 {
		t.Errorf("there are %d tables:\n%s", got, tables())
	}

	m.Run(t, "systemctl", "stop", "hostrole.service")
	eventually(t, "stop leaves no table and no address", 20*time.Second, func() bool {
		return tables() == "" && !strings.Contains(m.Run(t, "ip", "addr"), "169.254.169.254")
	})
	if got := page(); got != "it works" {
		t.Errorf("the web server says %q", got)
	}
	if log := m.Try("journalctl", "-u", "hostrole.service", "--no-pager", "-o", "cat"); strings.Contains(log, exampleSecret) {
		t.Error("the journal shows a secret")
	}
}
