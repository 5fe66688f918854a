package hostaddr_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/hostaddr"
)

// sysctl writes a switch of the namespace, and writes it back at the end.
func sysctl(t *testing.T, key, value string) {
	t.Helper()
	path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Skipf("SKIPPED, missing: the right to set %s: %v", key, err)
	}
	t.Cleanup(func() { _ = os.WriteFile(path, was, 0) })
}

func TestFamiliesAreIndependent(t *testing.T) {
	needNamespace(t)
	sysctl(t, "net.ipv6.conf.lo.disable_ipv6", "1")
	var heard listener
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v6, v4}, Observe: heard.observe})
	if on(t, "lo", v4) == nil {
		t.Fatal("IPv4 has to go without because IPv6 is off")
	}
	lost := c.Lost()
	if len(lost) != 1 || !strings.Contains(lost[0].Error(), "net.ipv6.conf.lo.disable_ipv6") {
		t.Errorf("lost %v, want IPv6 and its switch", lost)
	}
	if errors.Is(errors.Join(lost...), os.ErrPermission) || strings.Contains(fmt.Sprint(lost), "CAP_NET_ADMIN") {
		t.Errorf("it is said that a capability is missing: %v", lost)
	}
	if got := heard.heard(hostaddr.Lost); len(got) != 1 || got[0].Addr != v6 {
		t.Errorf("heard %v, want that IPv6 is lost", got)
	}
	run(t, c)
	hearing(t, c, v4, "lo")
	start := time.Now()
	sysctl(t, "net.ipv6.conf.lo.disable_ipv6", "0")
	eventually(t, "IPv6 is there once it is on", func() bool { return on(t, "lo", v6) != nil && len(c.Lost()) == 0 })
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("back after %v: found by trying again, not by the kernel's news", took)
	}
	if got := heard.heard(hostaddr.Restored); len(got) != 1 || got[0].Addr != v6 {
		t.Errorf("heard %v, want that IPv6 is there", got)
	}
	sysctl(t, "net.ipv6.conf.lo.disable_ipv6", "1")
	eventually(t, "its loss is told", func() bool { return len(c.Lost()) == 1 })
	remove(t, "lo", v4)
	eventually(t, "IPv4 is still healed", func() bool { return on(t, "lo", v4) != nil })
	sysctl(t, "net.ipv6.conf.lo.disable_ipv6", "0")
	eventually(t, "IPv6 is there again", func() bool { return on(t, "lo", v6) != nil })
}

func TestLostIsTriedAgainWithoutNews(t *testing.T) {
	needNamespace(t)
	sysctl(t, "net.ipv6.conf.lo.disable_ipv6", "1")
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v6, v4}})
	c.Silence()
	remove(t, "lo", v4)
	run(t, c)
	eventually(t, "it has looked", func() bool { return on(t, "lo", v4) != nil })
	remove(t, "lo", v4)
	sysctl(t, "net.ipv6.conf.lo.disable_ipv6", "0")
	eventually(t, "both are there", func() bool { return on(t, "lo", v4) != nil && on(t, "lo", v6) != nil })
}

func TestNothingClaimedIsAnError(t *testing.T) {
	needNamespace(t)
	sysctl(t, "net.ipv6.conf.all.disable_ipv6", "1")
	for _, link := range []string{"lo", "imds0"} {
		before := snapshot(t)
		if c, err := hostaddr.NewClaimOn(t.Context(), hostaddr.Options{Link: link, Addrs: []netip.Addr{v6}}, firmware()); err == nil {
			t.Error("nothing was claimed, and it is no error")
			_ = c.Release()
		}
		if after := snapshot(t); !slices.Equal(before, after) {
			t.Errorf("the host is not as before: was\n%s\nis\n%s", before, after)
		}
	}
}
