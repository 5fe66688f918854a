package hostaddr_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hostrole/hostrole/agent/hostaddr"
)

// While Observe keeps it busy, more happens than the kernel keeps for it.
func TestMissedNewsAreMadeUpFor(t *testing.T) {
	needNamespace(t)
	var heard listener
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4}, Observe: func(e hostaddr.Event) {
		heard.observe(e)
		if e.Kind == hostaddr.PutBack {
			held <- struct{}{}
			<-hold
		}
	}})
	run(t, c)
	remove(t, "lo", v4)
	<-held
	lo := linkByName(t, "lo")
	other := addressOf(t, "169.254.3.4/32")
	for range 3000 {
		if err := netlink.AddrAdd(lo, other); err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrDel(lo, other); err != nil {
			t.Fatal(err)
		}
	}
	remove(t, "lo", v4) // of this the kernel says nothing any more
	close(hold)
	start := time.Now()
	eventually(t, "the address is back", func() bool { return on(t, "lo", v4) != nil })
	t.Logf("back after %v", time.Since(start))
	eventually(t, "that is told", func() bool {
		got := heard.heard(hostaddr.Deaf)
		return len(got) == 1 && strings.Contains(got[0].String(), "no buffer space")
	})
	remove(t, "lo", v4)
	eventually(t, "the address is back", func() bool { return on(t, "lo", v4) != nil })
}

func TestNewsAreAskedForAgain(t *testing.T) {
	needNamespace(t)
	var heard listener
	c := claim(t, hostaddr.Options{Addrs: []netip.Addr{v4}, Observe: heard.observe})
	listening := make(chan struct{})
	c.Subscriptions(func(time int) error {
		if time <= 3 {
			return errors.New("the kernel says nothing")
		}
		close(listening)
		return nil
	})
	remove(t, "lo", v4)
	run(t, c)
	eventually(t, "the address is back although no news come", func() bool { return on(t, "lo", v4) != nil })
	select {
	case <-listening:
		if got := heard.heard(hostaddr.Deaf); len(got) != 1 {
			t.Errorf("heard %v", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it gave up listening")
	}
	hearing(t, c, v4, "lo")
}
