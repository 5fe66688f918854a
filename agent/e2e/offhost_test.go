//go:build linux

package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"golang.org/x/sys/unix"
)

// A neighbour is a network namespace that stands for another host or a container.
type neighbour struct {
	name string
	pid  string
}

// newNeighbour makes one with a link to a bridge or a link of this namespace; its
// own end is eth0. It ends with the test.
func newNeighbour(t *testing.T, name string) *neighbour {
	t.Helper()
	cmd := exec.Command(tool(t, "sleep"), "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	p := start(t, name, cmd)
	m := &neighbour{name, fmt.Sprint(p.cmd.Process.Pid)}
	m.run(t, "ip", "link", "set", "lo", "up")
	return m
}

func (m *neighbour) run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(tool(t, "nsenter"), append([]string{"-t", m.pid, "-n", "--"}, argv...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("on %s: %s: %v\n%s", m.name, strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// dial opens a connection from m, whose caller is root. The thread that goes
// there for it comes back: children die with the thread that started them.
func (m *neighbour) dial(from netip.Addr, to string) (c net.Conn, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var spaces [2]int
	for i, path := range []string{ownnet.Path, "/proc/" + m.pid + "/ns/net"} {
		if spaces[i], err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return nil, err
		}
		defer func() { _ = unix.Close(spaces[i]) }()
	}
	if err = unix.Setns(spaces[1], unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	defer func() {
		if err := unix.Setns(spaces[0], unix.CLONE_NEWNET); err != nil {
			panic(err) // nothing may run on this thread any more
		}
	}()
	d := net.Dialer{Timeout: 150 * time.Millisecond}
	if from.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
		d.Control = func(_, _ string, raw syscall.RawConn) error { // a source that is not its own
			return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
		}
	}
	return d.Dial("tcp", to)
}

// reaches says who answers a request from m: "hostrole", "web", "control" or
// "nobody".
func (m *neighbour) reaches(from netip.Addr, to string) string {
	c, err := m.dial(from, to)
	if err != nil {
		return "nobody"
	}
	defer func() { _ = c.Close() }()
	return whoAnswers(c)
}

func whoAnswers(c net.Conn) string {
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(c, "GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n")
	b, _ := io.ReadAll(io.LimitReader(c, 1<<16))
	for _, who := range []string{"web", "control"} {
		if strings.HasSuffix(string(b), "\r\n\r\n"+who) {
			return who
		}
	}
	if len(b) > 0 {
		return "hostrole"
	}
	return "nobody"
}

// here says who answers a request of this host.
func here(to string) string {
	c, err := net.DialTimeout("tcp", to, time.Second)
	if err != nil {
		return "nobody"
	}
	defer func() { _ = c.Close() }()
	return whoAnswers(c)
}

// answers has a server on addresses of this namespace that says one word, until
// the test ends or close is called.
func answers(t *testing.T, word string, addresses ...string) (closeAll func()) {
	t.Helper()
	var all sync.WaitGroup
	var open []net.Listener
	closeAll = func() {
		for _, l := range open {
			_ = l.Close()
		}
		all.Wait()
	}
	t.Cleanup(closeAll)
	for _, a := range addresses {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, l)
		all.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_ = c.SetDeadline(time.Now().Add(time.Second))
				_, _ = c.Read(make([]byte, 4096))
				_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(word), word)
				_ = c.Close()
			}
		})
	}
	return closeAll
}

// A surrounding is a host, which is this namespace, with what may be around it.
type surrounding struct {
	lan, routed, macvlan     *neighbour // outside
	container, sibling, afar *neighbour // the first two behind br0, the last behind br1
}

// surround makes
//
//	routed 10.9.0.2 -- 10.9.0.1 lan 192.0.2.2 -- 192.0.2.1 lan0 HOST br0 172.30.0.1 -- container .2, sibling .3
//	                                   macvlan 192.0.2.3 on lan0      br1 172.31.0.1 -- afar .2
//
// all of them with a route to the metadata addresses by way of the host.
func surround(t *testing.T) *surrounding {
	t.Helper()
	if !ownnet.RealRoot() {
		ownnet.Missing(t, "a real root: in a user namespace hostrole does not start")
	}
	s := &surrounding{}
	for _, m := range []struct {
		to   **neighbour
		name string
	}{{&s.lan, "lan"}, {&s.routed, "routed"}, {&s.macvlan, "macvlan"}, {&s.container, "container"}, {&s.sibling, "sibling"}, {&s.afar, "afar"}} {
		*m.to = newNeighbour(t, m.name)
	}
	for _, l := range []string{"br0", "br1"} {
		ip(t, "link", "add", l, "type", "bridge")
		t.Cleanup(func() { ip(t, "link", "del", l) })
	}
	for _, p := range []struct {
		link, bridge, v4, v6 string
		to                   *neighbour
	}{
		{"lan0", "", "192.0.2.2/24", "fd31::2/64", s.lan}, {"vc", "br0", "172.30.0.2/24", "fd30::2/64", s.container},
		{"vs", "br0", "172.30.0.3/24", "fd30::3/64", s.sibling}, {"va", "br1", "172.31.0.2/24", "fd32::2/64", s.afar},
	} {
		ip(t, "link", "add", p.link, "type", "veth", "peer", "name", "eth0", "netns", p.to.pid)
		t.Cleanup(func() { ip(t, "link", "del", p.link) })
		if p.bridge != "" {
			ip(t, "link", "set", p.link, "master", p.bridge)
		}
		ip(t, "link", "set", p.link, "up")
		p.to.settle(t, p.v4, p.v6)
	}
	for link, at := range map[string][2]string{"lan0": {"192.0.2.1/24", "fd31::1/64"}, "br0": {"172.30.0.1/24", "fd30::1/64"}, "br1": {"172.31.0.1/24", "fd32::1/64"}} {
		ip(t, "addr", "add", at[0], "dev", link)
		ip(t, "addr", "add", at[1], "dev", link, "nodad")
		ip(t, "link", "set", link, "up")
	}
	ip(t, "link", "add", "mv0", "link", "lan0", "type", "macvlan", "mode", "bridge")
	ip(t, "link", "set", "mv0", "name", "eth0", "netns", s.macvlan.pid)
	s.macvlan.settle(t, "192.0.2.3/24", "fd31::3/64")
	s.lan.run(t, "ip", "link", "add", "inner", "type", "veth", "peer", "name", "eth0", "netns", s.routed.pid)
	s.lan.run(t, "ip", "addr", "add", "10.9.0.1/24", "dev", "inner")
	s.lan.run(t, "ip", "link", "set", "inner", "up")
	s.lan.run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	s.routed.settle(t, "10.9.0.2/24", "fd33::2/64")
	ip(t, "route", "add", "10.9.0.0/24", "via", "192.0.2.2")
	for _, m := range []struct {
		*neighbour
		via4, via6 string
	}{{s.lan, "192.0.2.1", "fd31::1"}, {s.macvlan, "192.0.2.1", "fd31::1"}, {s.routed, "10.9.0.1", ""},
		{s.container, "172.30.0.1", "fd30::1"}, {s.sibling, "172.30.0.1", "fd30::1"}, {s.afar, "172.31.0.1", "fd32::1"}} {
		for _, net := range []string{"169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/16"} {
			m.run(t, "ip", "route", "replace", net, "via", m.via4)
		}
		if m.via6 != "" {
			m.run(t, "ip", "route", "add", "fd00:ec2::/64", "via", m.via6)
		}
	}
	forward := func(on string) {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(on), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	forward("1")
	t.Cleanup(func() { forward("0") })
	return s
}

func (m *neighbour) settle(t *testing.T, v4, v6 string) {
	t.Helper()
	m.run(t, "ip", "addr", "add", v4, "dev", "eth0")
	m.run(t, "ip", "addr", "add", v6, "dev", "eth0", "nodad")
	m.run(t, "ip", "link", "set", "eth0", "up")
}

// everyListener is a configuration with each kind of listener, and one behind
// br0. more goes into each.
func everyListener(t *testing.T, more string) string {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(keys, []byte(`{"keys":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return simple(t, fmt.Sprintf(`
[[listener]]
name = "host"
kind = "imds"
address = ["169.254.169.254:80", "[fd00:ec2::254]:80"]
%[1]s
[[listener]]
name = "tasks"
kind = "ecs"
address = ["169.254.170.2:80"]
%[1]s
[[listener]]
name = "pods"
kind = "eks"
address = ["169.254.170.23:80", "[fd00:ec2::23]:80"]
eks = { issuer = "https://issuer.example.com", jwks_file = %[2]q }
%[1]s
[[listener]]
name = "behind"
kind = "imds"
address = ["169.254.169.254:80", "[fd00:ec2::254]:80"]
ingress = "br0"
%[1]s
[[allow]]
listener = ["host"]
any = true
roles = ["app"]
[[allow]]
listener = ["behind"]
uid = [4711]
roles = ["app"]
`, more, keys))
}

var everyAddress = []string{"169.254.169.254:80", "169.254.170.2:80", "169.254.170.23:80", "[fd00:ec2::254]:80", "[fd00:ec2::23]:80"}

// offHost checks who can reach hostrole and who cannot. unclaimed is who
// answers instead of it on port 80.
func offHost(t *testing.T, s *surrounding, unclaimed string) {
	t.Helper()
	// Whoever reaches this has a way to the address: what it does not reach is
	// not out of its way.
	answers(t, "control", ":8081")
	for _, at := range everyAddress {
		eventually(t, "this host reaches "+at, 5*time.Second, func() bool { return here(at) == "hostrole" })
	}
	eventually(t, "the container reaches its listener", 5*time.Second, func() bool {
		return s.container.reaches(netip.Addr{}, "169.254.169.254:80") == "hostrole" && s.container.reaches(netip.Addr{}, "[fd00:ec2::254]:80") == "hostrole"
	})

	static := func() { // no route: the neighbour is said to have the address itself
		mac := strings.Fields(ip(t, "-br", "link", "show", "lan0"))[2]
		for _, a := range []string{"169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"} {
			s.lan.run(t, "ip", "route", "replace", a, "dev", "eth0")
			s.lan.run(t, "ip", "neigh", "replace", a, "lladdr", mac, "nud", "permanent", "dev", "eth0")
		}
	}
	type outsider struct {
		what string
		*neighbour
		from  string
		to    []string
		blind bool // nothing comes back to it at all
		prep  func()
	}
	v4, both := everyAddress[:3], everyAddress
	for _, o := range []outsider{
		{"a neighbour with a route", s.lan, "", both, false, nil},
		{"a routed neighbour", s.routed, "", v4, false, nil},
		{"a sibling on macvlan", s.macvlan, "", both, true, nil},
		{"a neighbour that calls itself the metadata service", s.lan, "169.254.169.254", v4, true, nil},
		{"a neighbour with the host's own source", s.lan, "192.0.2.1", v4, true, nil},
		{"a neighbour with the source of a container", s.lan, "172.30.0.2", v4, true, nil},
		{"a neighbour with a static ARP entry", s.lan, "", both, false, static},
		{"a container on another bridge", s.afar, "", both, false, nil},
		{"a container with the source of one on another bridge", s.afar, "172.30.0.2", v4, true, nil},
		{"a container, to the listeners of the host", s.container, "", []string{"169.254.170.2:80", "169.254.170.23:80", "[fd00:ec2::23]:80"}, false, nil},
		{"a container that takes the address for its source", s.container, "169.254.169.254", v4, true, nil},
	} {
		if o.prep != nil {
			o.prep()
		}
		source := netip.Addr{}
		if o.from != "" {
			source = netip.MustParseAddr(o.from)
		}
		for _, at := range o.to {
			for _, port := range []string{":80", ":254"} {
				to := strings.TrimSuffix(at, ":80") + port
				want := []string{"nobody"}
				if port == ":80" {
					want = append(want, unclaimed)
				}
				if got := o.reaches(source, to); got != want[0] && got != want[len(want)-1] {
					t.Errorf("%s reaches %s at %s", o.what, got, to)
				}
			}
			if got := o.reaches(source, strings.TrimSuffix(at, ":80")+":8081"); !o.blind && got != "control" {
				t.Errorf("%s has no way to %s: this test shows nothing", o.what, at)
			}
		}
	}
}

func TestNobodyOutsideReachesAListener(t *testing.T) {
	s := surround(t)
	d := startHostrole(t, everyListener(t, ""))
	d.credential(t, "app")
	offHost(t, s, "nobody")
}

// A neighbour on the bridge takes the address and the MAC of its victim: the
// kernel finds its own socket, or none, and never the victim's.
func TestStolenAddressGetsNothing(t *testing.T) {
	for name, more := range map[string]string{"on port 80": "", "behind a redirect": "redirect = true"} {
		t.Run(name, func(t *testing.T) { stealAddress(t, more) })
	}
}

// asked is what a user of m gets when it asks for the role app.
func (m *neighbour) asked(t *testing.T, uid string) string {
	t.Helper()
	out, _ := exec.Command(tool(t, "nsenter"), "-t", m.pid, "-n", "--", tool(t, "setpriv"), "--reuid", uid, "--regid", uid, "--clear-groups",
		"sh", "-c", `T=$(curl -s -m 2 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token) &&
			curl -s -m 2 -w ' %{http_code}' -H "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/meta-data/iam/security-credentials/app`).CombinedOutput()
	return string(out)
}

func stealAddress(t *testing.T, more string) {
	s := surround(t)
	if more != "" {
		answers(t, "web", ":80")
	}
	d := startHostrole(t, everyListener(t, more))
	d.credential(t, "app")
	if got := s.container.asked(t, "4711"); !strings.Contains(got, `"Success"`) {
		t.Fatalf("the victim itself gets no credential: %s", got)
	}
	mac := strings.Fields(s.container.run(t, "ip", "-br", "link", "show", "eth0"))[2]
	s.sibling.run(t, "ip", "link", "set", "eth0", "down")
	s.sibling.run(t, "ip", "link", "set", "eth0", "address", mac)
	s.sibling.run(t, "ip", "addr", "flush", "dev", "eth0")
	s.sibling.settle(t, "172.30.0.2/24", "fd30::2/64")
	s.sibling.run(t, "ip", "route", "replace", "169.254.0.0/16", "via", "172.30.0.1")
	answered := 0
	for range 15 {
		// The bridge sends what comes back to whoever spoke last.
		s.sibling.run(t, "sh", "-c", "ping -c 1 -W 1 172.30.0.1 >/dev/null 2>&1 || true")
		got := s.sibling.asked(t, "0")
		if strings.Contains(got, "AccessKeyId") {
			t.Fatalf("the thief got %s", got)
		}
		if strings.HasSuffix(got, " 404") {
			answered++
		}
	}
	if answered == 0 {
		t.Error("the thief was never answered at all: this test shows nothing")
	}
	s.sibling.run(t, "ip", "link", "set", "eth0", "down")
	eventually(t, "the victim is served again", 10*time.Second, func() bool { return strings.Contains(s.container.asked(t, "4711"), `"Success"`) })
}

// A link that leads to others is not for callers of this host.
func TestRefusesALinkThatLeadsToOthers(t *testing.T) {
	before := snapshot(t)
	ip(t, "link", "add", "br7", "type", "bridge")
	refuses(t, simple(t, anybody+`
[[listener]]
name = "host"
kind = "imds"
link = "br7"
`), 1, "the link leads to others", "br7", "write link = 'lo'")
	ip(t, "link", "del", "br7")
	if after := snapshot(t); after != before {
		t.Errorf("the host is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}
