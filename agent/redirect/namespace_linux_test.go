package redirect_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(ownnet.Main(m, ownnet.Plan{Settle: settleIn})) }

var (
	v4 = netip.MustParseAddr("169.254.169.254")
	v6 = netip.MustParseAddr("fd00:ec2::254")
)

// settleIn gives lo both addresses.
func settleIn() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, a := range []netip.Addr{v4, v6} {
		at := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
		if a.Is6() {
			at.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(lo, at); err != nil {
			return err
		}
	}
	return nil
}

// needNamespace skips t where there is no namespace, and otherwise sees to it
// that t leaves tables and open files as they were.
func needNamespace(t *testing.T) {
	t.Helper()
	ownnet.Need(t)
	before, files := tables(t), openFiles(t)
	t.Cleanup(func() {
		if diff := cmp.Diff(before, tables(t)); diff != "" {
			t.Errorf("the tables are not as before (-before +after):\n%s", diff)
		}
		eventually(t, "all files that were opened are closed", func() bool { return openFiles(t) <= files })
	})
}

// nft is a connection of somebody else.
func nft(t *testing.T) *nftables.Conn {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tables are the names of all tables, with the number of their chains.
func tables(t *testing.T) (all []string) {
	t.Helper()
	list, err := nft(t).ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range list {
		all = append(all, fmt.Sprintf("%d %s %d", one.Family, one.Name, one.Use))
	}
	slices.Sort(all)
	return all
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
			t.Fatalf("it never happened that %s; the tables are %q", what, tables(t))
		}
	}
}
