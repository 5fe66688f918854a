package hostaddr_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/agent/hostaddr"
)

// run runs c until the end of t, and sees to it that nothing of it is left.
func run(t *testing.T, c *hostaddr.Claim) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		goleak.VerifyNone(t, before)
	})
}

// hearing waits until c's Run has looked at the host, and heals.
func hearing(t *testing.T, c *hostaddr.Claim, a netip.Addr, link string) {
	t.Helper()
	remove(t, link, a)
	eventually(t, a.String()+" is put back once", func() bool { return on(t, link, a) != nil })
}

// watch says when addresses come and go.
func watch(t *testing.T) <-chan netlink.AddrUpdate {
	t.Helper()
	done, all := make(chan struct{}), make(chan netlink.AddrUpdate, 1024)
	if err := netlink.AddrSubscribe(all, done); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(done)
		for range all {
		}
	})
	return all
}

// untilThere waits until packets to a stay on this host, and looks often, for
// the sake of a measurement. The kernel's news would be too early: of an IPv6
// address it tells before it works.
func untilThere(t *testing.T, a netip.Addr) {
	t.Helper()
	tick := time.NewTicker(50 * time.Microsecond)
	defer tick.Stop()
	give := time.After(10 * time.Second)
	for !local(a) {
		select {
		case <-tick.C:
		case <-give:
			t.Fatalf("%v is not put back", a)
		}
	}
}

func TestRemovalIsHealed(t *testing.T) {
	const limit = 100 * time.Millisecond
	for _, a := range []netip.Addr{v4, v6} {
		t.Run(a.String(), func(t *testing.T) {
			needNamespace(t)
			var heard listener
			c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4, v6}, Observe: heard.observe})
			run(t, c)
			hearing(t, c, a, "lo")
			best := time.Duration(math.MaxInt64) // of three: other work on the machine is not the keeper's
			for round := 0; round < 3 && best > limit; round++ {
				var took []time.Duration
				for range 100 {
					start := time.Now()
					remove(t, "lo", a)
					untilThere(t, a)
					took = append(took, time.Since(start))
				}
				slices.Sort(took)
				t.Logf("of 100 removals: median %v, 90th %v, 99th %v, longest %v", took[49], took[89], took[98], took[99])
				best = min(best, took[98])
			}
			if best > limit {
				t.Errorf("the 99th of 100 took %v at best, want less than %v", best, limit)
			}
			if got := heard.heard(hostaddr.PutBack); len(got) != 1 || got[0].Addr != a || got[0].Link != "lo" || got[0].Count != 1 {
				t.Errorf("heard %v, want the first one, and the others counted later", got)
			}
			if lost := append(heard.heard(hostaddr.Lost), heard.heard(hostaddr.Exposed)...); len(lost) > 0 || len(c.Lost()) > 0 {
				t.Errorf("lost on the way: %v", lost)
			}
		})
	}
}

func TestFloodOfRemovalsIsBounded(t *testing.T) {
	needNamespace(t)
	var heard listener
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4}, Observe: heard.observe})
	run(t, c)
	hearing(t, c, v4, "lo")
	const lasts = time.Second
	removed := 0
	gone := &netlink.Addr{IPNet: netlink.NewIPNet(v4.AsSlice())}
	lo := linkByName(t, "lo")
	end := time.Now().Add(lasts)
	for time.Now().Before(end) {
		if err := netlink.AddrDel(lo, gone); err == nil {
			removed++
		} else if !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Fatal(err)
		}
	}
	// Twice what is meant to be, for a machine that is slow to end the loop.
	most := 2 * (hostaddr.LooksAtOnce + int(lasts/hostaddr.AnotherLook))
	t.Logf("%d removals in %v were put back", removed, lasts)
	if removed > most {
		t.Errorf("put back %d times in %v, want at most %d", removed, lasts, most)
	}
	if removed < hostaddr.LooksAtOnce {
		t.Errorf("put back %d times only: it gave up", removed)
	}
	eventually(t, "the address is back after the fight", func() bool { return on(t, "lo", v4) != nil })
	if got := heard.heard(hostaddr.PutBack); len(got) != 1 {
		t.Errorf("told %d times, want once, and the others counted later: %v", len(got), got)
	}
}

// A fight is counted after ten seconds.
func TestFightIsCounted(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED with -short: takes ten seconds")
	}
	needNamespace(t)
	var heard listener
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4}, Observe: heard.observe})
	run(t, c)
	hearing(t, c, v4, "lo")
	for range 5 {
		remove(t, "lo", v4)
		untilThere(t, v4)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for give := time.After(20 * time.Second); len(heard.heard(hostaddr.PutBack)) < 2; {
		select {
		case <-tick.C:
		case <-give:
			t.Fatal("the count was never told")
		}
	}
	got := heard.heard(hostaddr.PutBack)[1]
	if got.Count != 5 || got.Within != hostaddr.QuietFor || !strings.Contains(got.String(), "5 times in 10s") {
		t.Errorf("heard %q, want a count of 5", got)
	}
}

func TestLoDownAndUp(t *testing.T) {
	needNamespace(t)
	var heard listener
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4, v6}, Observe: heard.observe})
	run(t, c)
	hearing(t, c, v6, "lo")
	lo := linkByName(t, "lo")
	var took []time.Duration
	for range 5 {
		start := time.Now()
		if err := netlink.LinkSetDown(lo); err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			t.Fatal(err)
		}
		eventually(t, "both addresses work again", func() bool { return local(v4) && local(v6) })
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("lo down and up: both work after %v", took)
	if took[2] > 100*time.Millisecond {
		t.Errorf("took %v at the median", took[2])
	}
	if err := netlink.LinkSetDown(lo); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the address waits on lo while that is down", func() bool { return on(t, "lo", v6) != nil })
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both addresses work again", func() bool { return local(v4) && local(v6) })
	if got := heard.heard(hostaddr.Lost); len(got) > 0 {
		t.Errorf("lost on the way: %v", got)
	}
}

// local reports whether the kernel keeps packets to a on this host.
func local(a netip.Addr) bool {
	r, err := netlink.RouteGet(a.AsSlice())
	return err == nil && len(r) == 1 && r[0].Type == unix.RTN_LOCAL
}

func TestDeletedLinkIsMadeAgain(t *testing.T) {
	needNamespace(t)
	var heard listener
	c := claim(t, hostaddr.Options{Link: "imds0", Addrs: []netip.Addr{v4, v6}, Observe: heard.observe})
	run(t, c)
	hearing(t, c, v4, "imds0")
	for range 3 {
		was := linkByName(t, "imds0").Attrs().Index
		start := time.Now()
		if err := netlink.LinkDel(linkByName(t, "imds0")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the link is back with its addresses", func() bool { return on(t, "imds0", v4) != nil && on(t, "imds0", v6) != nil })
		t.Logf("back after %v", time.Since(start))
		if is := linkByName(t, "imds0").Attrs(); is.Index == was || is.Alias != hostaddr.Mark {
			t.Errorf("the link is %+v", is)
		}
	}
}

func TestForeignLinkIsWaitedFor(t *testing.T) {
	needNamespace(t)
	bridge(t, "other0")
	var heard listener
	c := claim(t, hostaddr.Options{Link: "other0", Addrs: []netip.Addr{v4, v6}, Observe: heard.observe})
	run(t, c)
	hearing(t, c, v4, "other0")
	if err := netlink.LinkDel(linkByName(t, "other0")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the loss is told", func() bool { return len(heard.heard(hostaddr.Lost)) == 2 && len(c.Lost()) == 2 })
	if _, err := netlink.LinkByName("other0"); err == nil {
		t.Fatal("another program's link was made by us")
	}
	if got := heard.heard(hostaddr.Lost)[0].String(); !strings.Contains(got, "other0") {
		t.Errorf("the loss is told as %q", got)
	}
	bridge(t, "other0")
	start := time.Now()
	eventually(t, "the addresses are on the new link", func() bool { return on(t, "other0", v4) != nil && on(t, "other0", v6) != nil })
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("back after %v: found by trying again, not by the kernel's news", took)
	}
	eventually(t, "that is told", func() bool { return len(heard.heard(hostaddr.Restored)) == 2 && len(c.Lost()) == 0 })
}

func TestWhoCameWhileItWasLostKeepsIt(t *testing.T) {
	needNamespace(t)
	bridge(t, "other0")
	bridge(t, "rival0")
	c := claim(t, hostaddr.Options{Link: "other0", Addrs: []netip.Addr{v4, v6}})
	run(t, c)
	hearing(t, c, v6, "other0")
	if err := netlink.LinkDel(linkByName(t, "other0")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both are lost", func() bool { return len(c.Lost()) == 2 })
	put(t, "rival0", metadataV4+"/32")
	bridge(t, "other0")
	eventually(t, "IPv6 is back", func() bool { return on(t, "other0", v6) != nil })
	eventually(t, "only IPv4 is lost, for a reason", func() bool {
		lost := c.Lost()
		return len(lost) == 1 && errors.Is(lost[0], hostaddr.ErrHeld) && strings.Contains(lost[0].Error(), "rival0")
	})
	if on(t, "other0", v4) != nil || on(t, "rival0", v4) == nil {
		t.Error("the address of another program was taken")
	}
	remove(t, "rival0", v4)
	eventually(t, "IPv4 is back once it is free", func() bool { return on(t, "other0", v4) != nil })
}

func TestRivalIsTold(t *testing.T) {
	needNamespace(t)
	bridge(t, "other0")
	var heard listener
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4, v6}, Observe: heard.observe})
	run(t, c)
	hearing(t, c, v4, "lo")
	put(t, "other0", metadataV4+"/32")
	eventually(t, "the rival is told", func() bool {
		got := heard.heard(hostaddr.Rival)
		return len(got) == 1 && got[0].Link == "other0" && got[0].Addr == v4
	})
	remove(t, "lo", v4) // of two, the kernel takes the one that is named
	eventually(t, "ours is back beside it", func() bool { return on(t, "lo", v4) != nil && on(t, "other0", v4) != nil })
}

func TestReleaseEndsHealing(t *testing.T) {
	needNamespace(t)
	c := claim(t, hostaddr.Options{Link: "imds0", Addrs: []netip.Addr{v4, v6}})
	run(t, c)
	hearing(t, c, v4, "imds0")
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	news := watch(t)
	wait := time.After(50 * time.Millisecond)
	for done := false; !done; {
		select {
		case u := <-news:
			t.Errorf("after Release: %+v", u)
		case <-wait:
			done = true
		}
	}
}

func TestWhatCannotBeHealedIsTold(t *testing.T) {
	needNamespace(t)
	var heard listener
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4}, Observe: heard.observe})
	fence := &netlink.Route{Dst: netlink.NewIPNet(v4.AsSlice()), Type: unix.RTN_UNREACHABLE}
	if err := netlink.RouteDel(fence); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ran error
	done := make(chan error, 1)
	go func() { done <- unprivileged(func() { ran = c.Run(ctx) }) }()
	eventually(t, "the missing route is told", func() bool { return len(heard.heard(hostaddr.Exposed)) == 1 })
	remove(t, "lo", v4)
	eventually(t, "the loss is told", func() bool { return len(heard.heard(hostaddr.Lost)) == 1 && len(c.Lost()) == 1 })
	cancel()
	if err := errors.Join(<-done, ran); err != nil {
		t.Errorf("Run: %v", err)
	}
	for _, kind := range []hostaddr.Kind{hostaddr.Exposed, hostaddr.Lost} {
		if got := heard.heard(kind); len(got) != 1 || !strings.Contains(got[0].String(), "CAP_NET_ADMIN") {
			t.Errorf("heard %v", got)
		}
	}
	if len(heard.heard(hostaddr.PutBack)) > 0 {
		t.Error("it was said that the address is back")
	}
	run(t, c)
	eventually(t, "the address is back once it may be", func() bool { return on(t, "lo", v4) != nil && len(heard.heard(hostaddr.Restored)) == 1 })
}

func TestFenceIsMended(t *testing.T) {
	needNamespace(t)
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4, v6}})
	run(t, c)
	hearing(t, c, v4, "lo")
	fences := func() (n int) {
		for _, line := range snapshot(t) {
			if strings.Contains(line, fmt.Sprintf("type=%d proto=236", unix.RTN_UNREACHABLE)) {
				n++
			}
		}
		return n
	}
	if n := fences(); n != 2 {
		t.Errorf("%d routes stand in for the addresses, want 2: %v", n, snapshot(t))
	}
	lo := linkByName(t, "lo") // going down takes the one of IPv6
	if err := netlink.LinkSetDown(lo); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both routes stand in again", func() bool { return fences() == 2 })
}
