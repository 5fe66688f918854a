//go:build linux

package runtimes_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent"
	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/cgroup"
	"github.com/hostrole/hostrole/imds/caller/host"
	"github.com/hostrole/hostrole/imds/policy"
)

// BenchmarkIdentity is what it adds to a connection to know the caller, its
// unit or container, and its role: every other connection is identified, and
// the difference of the medians is shown as µs-added. Other sockets, other
// containers and other rules make no difference.
func BenchmarkIdentity(b *testing.B) {
	need(b)
	for _, n := range []size{{10, 1, 1}, {1000, 1, 1}, {9000, 1, 1}, {10, 100, 1}, {10, 1, 1000}, {9000, 100, 1000}} {
		b.Run(fmt.Sprintf("sockets=%d/containers=%d/rules=%d", n.sockets, n.containers, n.rules), func(b *testing.B) { identify(b, n) })
	}
}

// A size is what else there is on a host.
type size struct{ sockets, containers, rules int }

// It costs no more on a host with many sockets, containers and rules.
func TestIdentityCostsNoMore(t *testing.T) {
	need(t)
	added := func(n size) float64 {
		r := testing.Benchmark(func(b *testing.B) { identify(b, n) })
		t.Logf("%+v: %.1f µs added to %.1f µs, in %d rounds", n, r.Extra["µs-added"], r.Extra["µs-without"], r.N)
		if r.N < 100 {
			t.Fatalf("only %d rounds: this test shows nothing", r.N)
		}
		return r.Extra["µs-added"]
	}
	few, many := added(size{10, 1, 1}), added(size{9000, 100, 1000})
	if many > 1.5*few+2*slower {
		t.Errorf("%.1f µs are added with many sockets, containers and rules, and %.1f with few", many, few)
	}
}

func identify(b *testing.B, n size) {
	b.Helper()
	who, err := host.New(host.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = who.Close() }()
	root := tree(b)
	for i := range n.containers {
		dir := filepath.Join(root, "docker", fmt.Sprintf("%064x", i))
		if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- as all cgroups
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = os.Remove(dir); _ = os.Remove(filepath.Dir(dir)) })
	}
	var p policy.Policy
	for i := range n.rules - 1 {
		p = append(p, policy.Rule{Name: "other", UIDs: []uint32{uint32(2000 + i)}, Roles: []string{"other"}}) // #nosec G115 -- small
	}
	p = append(p, policy.Rule{Name: "mine", UIDs: []uint32{0}, Roles: []string{"mine"}})
	rules := policy.NewMemory(p)
	chain := caller.Chain{who, cgroup.New(cgroup.Options{Root: root, Boot: agent.Boot})}
	crowd(b, n.sockets)
	measure(b, func(c caller.Conn) {
		asker, err := chain.Identify(b.Context(), "host", c)
		if err != nil {
			b.Fatal(err)
		}
		if d := rules.Decide(asker); d.Rule != "mine" {
			b.Fatalf("%v is given %+v", asker, d)
		}
	})
}

// tree is where cgroup v2 is mounted.
func tree(b *testing.B) string {
	b.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		b.Fatal(err)
	}
	for m := range strings.Lines(string(mounts)) {
		if f := strings.Fields(m); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	b.Skip("SKIPPED, missing: cgroup v2")
	return ""
}

// crowd opens so many sockets, in connections to each other.
func crowd(b *testing.B, n int) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	for range n / 2 {
		near, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	}
}

// measure makes connections, and identifies every other one.
func measure(b *testing.B, identify func(caller.Conn)) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var took [2][]time.Duration
	for i := 0; b.Loop(); i++ {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		conn, err := l.(*net.TCPListener).AcceptTCP()
		if err != nil {
			b.Fatal(err)
		}
		if i%2 == 1 {
			raw, err := conn.SyscallConn()
			if err != nil {
				b.Fatal(err)
			}
			identify(caller.Conn{Local: plain(conn.LocalAddr()), Remote: plain(conn.RemoteAddr()), Raw: raw})
		}
		took[i%2] = append(took[i%2], time.Since(began))
		for _, c := range []net.Conn{client, conn} {
			_ = c.(*net.TCPConn).SetLinger(0) // leaves no port behind
			_ = c.Close()
		}
	}
	if len(took[0]) == 0 || len(took[1]) == 0 {
		return
	}
	without, with := median(took[0]), median(took[1])
	b.ReportMetric(without, "µs-without")
	b.ReportMetric(with-without, "µs-added")
}

func plain(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2]) / float64(time.Microsecond)
}
