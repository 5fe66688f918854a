//go:build linux

package e2e_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/imds/imdstest"
)

// A packet is one of TCP with data, as a link carried it.
type packet struct {
	hops int // TTL or hop limit
	from netip.AddrPort
	to   netip.AddrPort
	data []byte
}

// A wire shows the packets of a link.
type wire struct{ fd int }

// tap listens to a link until the test ends.
func tap(t *testing.T, link string) wire {
	t.Helper()
	i, err := net.InterfaceByName(link)
	if err != nil {
		t.Fatal(err)
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	// SOCK_DGRAM leaves the link's own header out.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		ownnet.Missing(t, "a packet socket: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	err = errors.Join(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}))
	if err != nil {
		t.Fatal(err)
	}
	return wire{fd}
}

// packets are those with data that were on the link since the last look. None
// for a fifth of a second ends a look.
func (w wire) packets(t *testing.T) (seen []packet) {
	t.Helper()
	b := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(w.fd, b, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return seen
		case err != nil:
			t.Fatal(err)
		}
		if p, ok := parsePacket(bytes.Clone(b[:n])); ok {
			seen = append(seen, p)
		}
	}
}

// parsePacket takes IP and TCP apart. Extension headers of IPv6 do not occur.
func parsePacket(b []byte) (p packet, ok bool) {
	var from, to []byte
	var segment []byte
	switch {
	case len(b) >= 20 && b[0]>>4 == 4 && b[9] == unix.IPPROTO_TCP:
		head, end := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if end > len(b) || head > end {
			return p, false
		}
		p.hops, from, to, segment = int(b[8]), b[12:16], b[16:20], b[head:end]
	case len(b) >= 40 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_TCP:
		end := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if end > len(b) {
			return p, false
		}
		p.hops, from, to, segment = int(b[7]), b[8:24], b[24:40], b[40:end]
	default:
		return p, false
	}
	if len(segment) < 20 || int(segment[12]>>4)*4 > len(segment) {
		return p, false
	}
	address := func(ip []byte, port []byte) netip.AddrPort {
		a, _ := netip.AddrFromSlice(ip)
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
	}
	p.from, p.to, p.data = address(from, segment), address(to, segment[2:]), segment[int(segment[12]>>4)*4:]
	return p, len(p.data) > 0
}

// answers are the hops that the packets with an answer's data from an address
// may make; each has to be seen, and all have to agree.
func (w wire) answers(t *testing.T, from netip.AddrPort) (hops int) {
	t.Helper()
	n := 0
	for _, p := range w.packets(t) {
		if p.from != from {
			continue
		}
		if n > 0 && p.hops != hops {
			t.Errorf("one packet may make %d hops, another %d", hops, p.hops)
		}
		n, hops = n+1, p.hops
	}
	if n == 0 {
		t.Fatalf("no answer of %v was on the wire", from)
	}
	return hops
}

// A token does not travel: the packets of its answer may make one hop, and
// those of all others as many as usual. Row 28 of the protocol, seen on lo and
// on a link that leads into another namespace.
func TestHopLimitOnTheWire(t *testing.T) {
	config := simple(t, anybody+bothFamilies+`[[listener]]
name = "guest"
kind = "imds"
address = ["169.254.169.254:80", "[fd00:ec2::254]:80"]
ingress = "bridge"
hop_limit = 2
manage_address = false
`)
	ip(t, "link", "add", "bridge", "type", "veth", "peer", "name", "guest")
	defer ip(t, "link", "del", "bridge")
	ip(t, "link", "set", "bridge", "up")
	ip(t, "addr", "add", "10.9.0.1/24", "dev", "bridge")
	ip(t, "addr", "add", "fd09::1/64", "dev", "bridge", "nodad")
	d := startHostrole(t, config)
	d.credential(t, "app")

	for _, c := range []struct {
		name, address string
		ask           imdstest.Client
	}{{"the host, IPv4", "169.254.169.254:80", overIPv4}, {"the host, IPv6", "[fd00:ec2::254]:80", overIPv6}} {
		t.Run(c.name, func(t *testing.T) {
			at := netip.MustParseAddrPort(c.address)
			w := tap(t, "lo")
			token, err := c.ask.Token(t.Context(), 60)
			if err != nil {
				t.Fatal(err)
			}
			if hops := w.answers(t, at); hops != 1 {
				t.Errorf("the answer with a token may make %d hops, want 1", hops)
			}
			if a, err := c.ask.Get(t.Context(), token, "/latest/meta-data/instance-id"); err != nil || a.Status != 200 {
				t.Fatalf("%d %v", a.Status, err)
			}
			if hops := w.answers(t, at); hops != 64 {
				t.Errorf("another answer may make %d hops, want 64", hops)
			}
		})
	}

	guest := newGuest(t, "guest")
	for _, c := range []struct {
		name, address string
	}{{"a guest, IPv4", "169.254.169.254"}, {"a guest, IPv6", "[fd00:ec2::254]"}} {
		t.Run(c.name, func(t *testing.T) {
			at := netip.MustParseAddrPort(c.address + ":80")
			w := tap(t, "bridge")
			token := guest.curl(t, "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", "http://"+c.address+"/latest/api/token")
			if hops := w.answers(t, at); hops != 2 {
				t.Errorf("the answer with a token may make %d hops, want 2", hops)
			}
			guest.curl(t, "-H", "X-aws-ec2-metadata-token: "+token, "http://"+c.address+"/latest/meta-data/instance-id")
			if hops := w.answers(t, at); hops != 64 {
				t.Errorf("another answer may make %d hops, want 64", hops)
			}
		})
	}
}

// A guest is a network namespace at the other end of a link.
type guest struct{ enter []string }

// newGuest gives the link to a new namespace that lasts as long as the test.
func newGuest(t *testing.T, link string) guest {
	t.Helper()
	cmd := exec.Command(tool(t, "unshare"), "--net", "sh", "-c", "echo ready; exec sleep 120")
	cmd.Env = bare(t)
	p := start(t, "the guest", cmd)
	p.await(t, "has its namespace", 5*time.Second, func() bool { return p.out.since(0) == "ready\n" })
	at := fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	ip(t, "link", "set", link, "netns", fmt.Sprint(cmd.Process.Pid))
	g := guest{[]string{tool(t, "nsenter"), "--net=" + at}}
	for _, line := range []string{
		"link set lo up", "link set " + link + " up", "addr add 10.9.0.2/24 dev " + link, "addr add fd09::2/64 dev " + link + " nodad",
		"route add 169.254.169.254/32 via 10.9.0.1", "-6 route add fd00:ec2::254/128 via fd09::1",
	} {
		g.run(t, append([]string{tool(t, "ip")}, strings.Fields(line)...)...)
	}
	return g
}

func (g guest) run(t *testing.T, argv ...string) string {
	t.Helper()
	return string(output(t, 10*time.Second, bare(t), append(slices.Clone(g.enter), argv...)...))
}

func (g guest) curl(t *testing.T, args ...string) string {
	t.Helper()
	return g.run(t, append([]string{tool(t, "curl"), "-sSf", "-m", "5", "--noproxy", "*"}, args...)...)
}
