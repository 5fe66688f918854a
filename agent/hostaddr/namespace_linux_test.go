package hostaddr_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(ownnet.Main(m, ownnet.Plan{})) }

// needNamespace skips t where there is no namespace, and otherwise sees to it
// that t leaves it as it was: links, addresses, routes, open files.
func needNamespace(t *testing.T) {
	t.Helper()
	ownnet.Need(t)
	before, files := snapshot(t), openFiles(t)
	t.Cleanup(func() {
		if diff := cmp.Diff(before, snapshot(t)); diff != "" {
			t.Errorf("the host is not as before (-before +after):\n%s", diff)
		}
		eventually(t, "all files that were opened are closed", func() bool { return openFiles(t) <= files })
	})
}

// snapshot is all that `ip link`, `ip addr` and `ip route show table all` show,
// once the kernel has finished what it does for new IPv6 addresses in its own
// time.
func snapshot(t *testing.T) (s []string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 5000 {
		var settled bool
		if s, settled = look(t); settled {
			return s
		}
		<-tick.C
	}
	t.Fatalf("an IPv6 address has no local route:\n%s", strings.Join(s, "\n"))
	return nil
}

func look(t *testing.T) (s []string, settled bool) {
	t.Helper()
	local, want := 0, 0
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		at := l.Attrs()
		s = append(s, fmt.Sprintf("link %d %s %s %v alias=%q", at.Index, at.Name, l.Type(), at.Flags, at.Alias))
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if a.IP.To4() == nil {
			want++
		}
		s = append(s, fmt.Sprintf("addr %d %v scope=%d flags=%#x", a.LinkIndex, a, a.Scope, a.Flags))
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if family == netlink.FAMILY_V6 && r.Type == unix.RTN_LOCAL {
				local++
			}
			s = append(s, fmt.Sprintf("route %v table=%d type=%d proto=%v", r, r.Table, r.Type, r.Protocol))
		}
	}
	slices.Sort(s)
	return s, local == want
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// eventually waits for a condition, for a time that no machine needs.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	give := time.After(10 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-give:
			t.Fatalf("it never happened that %s; the host has\n%s", what, strings.Join(snapshot(t), "\n"))
		}
	}
}
