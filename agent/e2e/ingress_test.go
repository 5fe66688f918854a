//go:build linux

package e2e_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

// bridged makes a bridge and a container behind it, which ends with the test.
func bridged(t *testing.T, bridge string, subnet int) *neighbour {
	t.Helper()
	m := newNeighbour(t, fmt.Sprintf("container on %s", bridge))
	port, gateway := fmt.Sprintf("v%d", subnet), fmt.Sprintf("172.30.%d.1", subnet)
	ip(t, "link", "add", bridge, "type", "bridge")
	ip(t, "addr", "add", gateway+"/24", "dev", bridge)
	ip(t, "link", "set", bridge, "up")
	ip(t, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", m.pid)
	ip(t, "link", "set", port, "master", bridge, "up")
	m.settle(t, fmt.Sprintf("172.30.%d.2/24", subnet), fmt.Sprintf("fd30:%d::2/64", subnet))
	m.run(t, "ip", "route", "add", "169.254.0.0/16", "via", gateway)
	return m
}

// Bridges come and go while the daemon runs: container runtimes start after it,
// and make networks. Each is served by the listener that means it first, at
// once, and so is one that is made anew under its old name.
func TestBridgesThatComeAndGo(t *testing.T) {
	for name, more := range map[string]string{"on port 80": "", "behind a redirect": "redirect = true\n"} {
		t.Run(name, func(t *testing.T) { comeAndGo(t, more) })
	}
}

func comeAndGo(t *testing.T, more string) {
	if !ownnet.RealRoot() {
		ownnet.Missing(t, "a real root: in a user namespace hostrole does not start")
	}
	if more != "" {
		answers(t, "web", ":80")
	}
	before := snapshot(t)
	bridges := []string{"docker0", "br-a", "br-b", "br-fixed", "br-uplink", "br-lan"}
	t.Cleanup(func() {
		for _, b := range bridges {
			_, _ = exec.Command(tool(t, "ip"), "link", "del", b).CombinedOutput()
		}
	})
	listener := func(name, ingress string) string {
		return fmt.Sprintf("[[listener]]\nname = %q\nkind = \"imds\"\naddress = [\"169.254.169.254:80\"]\n%s%s", name, ingress, more)
	}
	d := startHostrole(t, simple(t, listener("host", "")+listener("docker", "ingress = \"docker0\"\n")+listener("fixed", "ingress = \"br-fixed\"\n")+
		listener("networks", "ingress = \"br-*\"\n")+listener("pods", "ingress = \"cali*\"\n")+`
[[allow]]
listener = ["docker", "networks", "pods"]
uid = [4711]
roles = ["app"]
`))
	d.await(t, "says that it waits", 5*time.Second, func() bool {
		return strings.Contains(d.out.since(0), "waits for its device") && strings.Contains(d.out.since(0), `"ingress":"docker0"`)
	})
	served := func(m *neighbour) {
		t.Helper()
		eventually(t, m.name+" has its role", 5*time.Second, func() bool { return strings.Contains(m.asked(t, "4711"), `"Success"`) })
		if got := m.asked(t, "4712"); !strings.HasSuffix(got, " 404") {
			t.Errorf("another user of the %s gets %s", m.name, got)
		}
	}
	docker := bridged(t, "docker0", 1)
	served(docker)
	a := bridged(t, "br-a", 2)
	served(a)
	served(bridged(t, "br-b", 3))
	// The listener that means it has no rule, and another that means it as well
	// is not asked.
	fixed := bridged(t, "br-fixed", 4)
	eventually(t, fixed.name+" is answered", 5*time.Second, func() bool { return strings.HasSuffix(fixed.asked(t, "4711"), " 404") })
	// A pod with a device of its own.
	pod := newNeighbour(t, "pod")
	ip(t, "link", "add", "cali1", "type", "veth", "peer", "name", "eth0", "netns", pod.pid)
	ip(t, "addr", "add", "172.30.5.1/24", "dev", "cali1")
	ip(t, "link", "set", "cali1", "up")
	pod.settle(t, "172.30.5.2/24", "fd30:5::2/64")
	pod.run(t, "ip", "route", "add", "169.254.0.0/16", "via", "172.30.5.1")
	served(pod)
	// A link of that name that leads out of this host.
	ip(t, "link", "add", "br-uplink", "type", "veth", "peer", "name", "elsewhere")
	ip(t, "link", "set", "br-uplink", "up")
	// A bridge that leads out, by such a link; and one that comes to do so.
	ip(t, "link", "add", "br-lan", "type", "bridge")
	ip(t, "link", "set", "elsewhere", "master", "br-lan", "up")
	d.await(t, "does not serve the bridge that leads out", 5*time.Second, func() bool {
		said := d.out.since(0)
		return strings.Count(said, `"device":"br-lan"`)%2 == 0 // served and gone, or never served
	})
	ip(t, "link", "set", "elsewhere", "nomaster")
	d.await(t, "serves a bridge that leads nowhere", 5*time.Second, func() bool {
		return strings.Count(d.out.since(0), `"device":"br-lan"`)%2 == 1
	})
	ip(t, "link", "set", "elsewhere", "master", "br-lan")
	d.await(t, "has left it again", 5*time.Second, func() bool { return strings.Count(d.out.since(0), `"device":"br-lan"`)%2 == 0 })

	for range 2 {
		ip(t, "link", "del", "docker0")
		d.await(t, "knows that it is gone", 5*time.Second, func() bool { return strings.Contains(d.out.since(0), `"device":"docker0"`) })
		ip(t, "link", "del", "v1")
		docker = bridged(t, "docker0", 1)
		served(docker)
		served(a)
	}
	if strings.Contains(d.out.since(0), "br-uplink") {
		t.Errorf("a link that leads to no container is served:\n%s", d.out.since(0))
	}
	for _, b := range bridges {
		ip(t, "link", "del", b)
	}
	for _, v := range []string{"v1", "v2", "v3", "v4", "cali1"} {
		ip(t, "link", "del", v)
	}
	d.stop(t)
	d.killed = true // it has ended
	if more == "" {
		if after := snapshot(t); after != before {
			t.Errorf("the host is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
		}
	}
}

// A link that hostrole makes for its address can be deleted: it is made anew, and
// callers on this host are answered as before.
func TestLinkOfItsOwnIsDeleted(t *testing.T) {
	before := snapshot(t)
	d := startHostrole(t, simple(t, anybody+"[[listener]]\nname = \"host\"\nkind = \"imds\"\naddress = [\"169.254.169.254:80\", \"[fd00:ec2::254]:80\"]\nlink = \"imds0\"\n"))
	d.credential(t, "app")
	for range 3 {
		ip(t, "link", "del", "imds0")
		eventually(t, "both addresses are served again", 5*time.Second, func() bool {
			return here("169.254.169.254:80") == "hostrole" && here("[fd00:ec2::254]:80") == "hostrole"
		})
		d.credential(t, "app")
	}
	d.stop(t)
	d.killed = true // it has ended
	if after := snapshot(t); after != before {
		t.Errorf("the host is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}
