//go:build linux

package installed_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

// The suite of agent/e2e, confined: what of it runs always, and with
// HOSTROLE_SOAK=1 what takes minutes.
const (
	confined     = "^(TestScripts|TestContainerScripts|TestAddress|TestReloadUnderLoad|TestStopUnderLoad|TestHandover|TestRefusesTheAddressOfSomebodyElse|TestASecondDaemonIsHarmless)$/^(|req|creds|norole|refused|signed|ecs_.*|eks_.*)$"
	confinedSoak = "^Test"
	// What of it is about callers on bridges, for which there is a drop-in.
	bridged = "^(TestHopLimitOnTheWire|TestNobodyOutsideReachesA.*|TestStolenAddressGetsNothing|TestRefusesToListenWithoutItsDevice)$"
	// These boot systems of their own, have credentials of seconds, which a start
	// by Python outlasts, run the daemon as another user, or are about other
	// users' processes, which a daemon without CAP_SYS_PTRACE cannot look at.
	unconfined = "^(TestService|TestMedian|TestClientsDoc|TestField.*|TestOwnNamespace|TestBench.*|TestSequence|TestCeph.*|TestOrdinaryUser)$" +
		"|^TestScripts$/^(stale|expired)$|^TestRedirectBesideAWebServer$/^which"
)

// sandboxed is the configuration for what else a daemon can do.
const sandboxed = `
[[listener]]
name = "ecs"
kind = "ecs"
[[listener]]
name = "open"
kind = "imds"
address = ["169.254.169.253:80"]
redirect = true
[[listener]]
name = "later"
kind = "imds"
address = ["169.254.169.252:80"]
`

const docker = `[[listener]]
name = "docker"
kind = "imds"
ingress = "docker0"
[[allow]]
any = true
listener = ["docker"]
roles = ["app"]
`

// bridge makes the bridge of a container engine, and a container of which there
// is but a network.
const bridge = `ip link add docker0 type bridge
ip address add 172.17.0.1/16 dev docker0
ip link set docker0 up
ip netns add container
ip link add veth0 type veth peer name eth0 netns container
ip link set veth0 master docker0 up
ip -n container address add 172.17.0.2/16 dev eth0
ip -n container link set eth0 up
ip -n container link set lo up
ip -n container route add default via 172.17.0.1
`

// TestNoDeniedSystemCall runs the daemon in the sandbox of its unit, where
// systemd's filters end it at the first system call that they deny; and the
// suite of agent/e2e against a daemon under the filters of the unit as the
// kernel has them.
func TestNoDeniedSystemCall(t *testing.T) {
	h := bare(t, "127.0.0.1:7482")
	token := h.install(t)
	h.Write(t, "/etc/hostrole/hostrole.d/tests.toml", dropIn)
	eventually(t, "root has the role", 10*time.Second, func() bool { return strings.HasPrefix(key(t.Context(), token), "ASIA") })
	filters := h.filters(t)
	const dropIns = "/etc/systemd/system/hostrole.service.d/"
	h.Run(t, "install", "-D", "-m", "644", "-t", dropIns, "/usr/share/doc/hostrole/examples/hostrole.service.d/containers.conf")
	h.Run(t, "systemctl", "daemon-reload")
	h.Run(t, "systemctl", "restart", "hostrole.service")
	forContainers := h.filters(t)
	h.Run(t, "rm", dropIns+"containers.conf")

	t.Run("the unit", func(t *testing.T) {
		// The one that it is denied and does without: Go asks for the limit on
		// open files.
		h.Write(t, dropIns+"strict.conf", "[Service]\nSystemCallErrorNumber=kill\nSystemCallFilter=prlimit64\nRestart=no\n")
		h.Run(t, "systemctl", "daemon-reload")
		if got := h.Property("hostrole.service", "SystemCallErrorNumber"); got != "2147483646" {
			t.Fatalf("systemd denies with %s", got)
		}
		h.Run(t, "systemctl", "restart", "hostrole.service")
		h.Write(t, "/etc/hostrole/hostrole.d/more.toml", sandboxed)
		h.Run(t, "hostrole", "check")
		h.Run(t, "systemctl", "restart", "hostrole.service")
		h.Run(t, "systemctl", "reload", "hostrole.service")
		for _, url := range []string{"http://169.254.169.252/latest/api/token", "http://169.254.169.253/latest/api/token"} {
			if got := h.Run(t, "curl", "-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", url); got != "200" {
				t.Errorf("%s: %s", url, got)
			}
		}
		if got := h.Run(t, "curl", "-sS", "-m", "5", "http://169.254.170.2/role/app"); !strings.Contains(got, "ASIA") {
			t.Errorf("ecs: %.100s", got)
		}
		for _, kind := range []string{"v2", "v1", "minio"} {
			h.Run(t, "env", "AWS_REGION="+region, "/opt/clients", "creds", kind)
		}
		h.Run(t, "hostrole", "refresh", "app")
		h.Run(t, "hostrole", "explain", "--user", "app")
		h.Run(t, "hostrole", "status", "--json")
		h.Run(t, "ip", "address", "del", "169.254.169.254/32", "dev", "lo")
		eventually(t, "the address is back", 5*time.Second, func() bool { return strings.HasPrefix(key(t.Context(), token), "ASIA") })
		h.Run(t, "systemctl", "restart", "hostrole.service")
		eventually(t, "it serves", 5*time.Second, func() bool { return strings.HasPrefix(key(t.Context(), token), "ASIA") })

		// With the drop-in for containers, and a caller on their bridge.
		h.Run(t, "cp", "/usr/share/doc/hostrole/examples/hostrole.service.d/containers.conf", dropIns)
		h.Write(t, "/etc/hostrole/hostrole.d/docker.toml", docker)
		h.Run(t, "sh", "-ec", bridge)
		t.Cleanup(func() { h.Try("ip", "link", "del", "docker0") })
		h.Run(t, "systemctl", "daemon-reload")
		h.Run(t, "systemctl", "restart", "hostrole.service")
		h.Run(t, "ip", "netns", "exec", "container", "env", "AWS_REGION="+region, "/opt/clients", "creds", "v2")

		h.Run(t, "systemctl", "stop", "hostrole.service")
		if got := h.Property("hostrole.service", "Result"); got != "success" {
			t.Errorf("the service ended with %s", got)
		}
		if got := h.Try("journalctl", "-u", "hostrole.service", "--no-pager", "-o", "cat"); strings.Contains(got, "SYS") || strings.Contains(got, "core-dump") {
			t.Errorf("it was ended:\n%s", got)
		}
	})

	t.Run("what is denied ends it", func(t *testing.T) {
		python, err := exec.LookPath("python3")
		if err != nil {
			ownnet.Missing(t, "python3")
		}
		cmd := exec.Command(python, "testdata/kernel.py", "under", filters, "/usr/bin/unshare", "--mount", "true")
		if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.String() != "signal: bad system call (core dumped)" && cmd.ProcessState.String() != "signal: bad system call" {
			t.Fatalf("a program that is denied something ends with %v\n%s", cmd.ProcessState, out)
		}
	})

	run, skip := confined, unconfined
	if soak {
		run, skip = confinedSoak, unconfined+"|"+bridged
	}
	t.Run("the suite", func(t *testing.T) { suite(t, filters, "+net_admin,+net_bind_service", run, skip) })
	t.Run("the suite with the drop-in for containers", func(t *testing.T) {
		suite(t, forContainers, "+net_admin,+net_bind_service,+sys_admin,+sys_ptrace", bridged, "^$")
	})
}

// filters are those of the daemon that runs, in a file.
func (h *host) filters(t *testing.T) (path string) {
	t.Helper()
	taken := h.Run(t, "python3", "/opt/kernel.py", "take", h.Property("hostrole.service", "MainPID"))
	if n := strings.Count(taken, `"`) / 2; n < 5 {
		t.Fatalf("the daemon is under %d filters", n)
	}
	path = filepath.Join(t.TempDir(), "filters")
	if err := os.WriteFile(path, []byte(taken), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// suite runs tests of agent/e2e against a daemon under filters, with
// capabilities and no more.
func suite(t *testing.T, filters, capabilities, run, skip string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		ownnet.Missing(t, "python3")
	}
	kernel, err := filepath.Abs("testdata/kernel.py")
	if err != nil {
		t.Fatal(err)
	}
	wrapper := filepath.Join(t.TempDir(), "hostrole")
	text := fmt.Sprintf("#!/bin/sh\nexec setpriv --bounding-set -all,%s --no-new-privs %s %s under %s %s \"$@\"\n", capabilities, python, kernel, filters, built("hostrole"))
	if err := os.WriteFile(wrapper, []byte(text), 0o755); err != nil { // #nosec G306 -- a program
		t.Fatal(err)
	}
	cmd := exec.Command(built("e2e.test"), "-test.run", run, "-test.skip", skip, "-test.v")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "HOSTROLE_BIN="+wrapper)
	out, err := cmd.CombinedOutput()
	text = string(out)
	t.Logf("%d tests passed, %d failed, %d were skipped", strings.Count(text, "--- PASS"), strings.Count(text, "--- FAIL"), strings.Count(text, "--- SKIP"))
	if n := strings.Count(text, "SIGSYS"); n != 0 || err != nil {
		t.Errorf("%v, and %d system calls were denied:\n%s", err, n, text)
	}
}
