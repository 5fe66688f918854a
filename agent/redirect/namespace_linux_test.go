package redirect_test

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The test binary runs by hand, and as the tests in a network namespace of
// their own.
const (
	roleEnv    = "HOSTROLE_REDIRECT_TEST" // "" | tests
	leftEnv    = "HOSTROLE_REDIRECT_LEFT" // the network namespace that must not be used
	requireEnv = "HOSTROLE_E2E"           // "require": nothing may be skipped
	netPath    = "/proc/thread-self/ns/net"
)

// refused is why the kernel gives no namespace, or "".
var refused string

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(roleEnv) == "tests" {
		if err := settleIn(); err != nil {
			fmt.Fprintln(os.Stderr, "preparing the network namespace:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	var last error
	for _, flags := range []uintptr{syscall.CLONE_NEWNET, syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER} {
		cmd := again(flags)
		runtime.LockOSThread() // the child dies with this thread
		if last = cmd.Start(); last != nil {
			continue
		}
		if err := cmd.Wait(); err != nil {
			os.Exit(max(cmd.ProcessState.ExitCode(), 1))
		}
		os.Exit(0)
	}
	refused = last.Error() // what needs no namespace runs all the same
	os.Exit(m.Run())
}

// again is this binary in new namespaces. In a user namespace it is root.
func again(flags uintptr) *exec.Cmd {
	left, _ := os.Readlink(netPath)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleEnv+"=tests", leftEnv+"="+left)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if flags&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

var (
	v4 = netip.MustParseAddr("169.254.169.254")
	v6 = netip.MustParseAddr("fd00:ec2::254")
)

// settleIn sets up lo with both addresses, once it is sure that this is another
// network than the machine's.
func settleIn() error {
	left := os.Getenv(leftEnv)
	if here, _ := os.Readlink(netPath); here == "" || left == "" || here == left {
		return fmt.Errorf("this may still be the network namespace %q of those who began: it is %q", left, here)
	}
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
	return netlink.LinkSetUp(lo)
}

// needNamespace skips t where there is no namespace, and otherwise sees to it
// that t leaves tables and open files as they were.
func needNamespace(t *testing.T) {
	t.Helper()
	if refused != "" {
		if os.Getenv(requireEnv) == "require" {
			t.Fatalf("missing, and %s=require: a network namespace of its own: %s", requireEnv, refused)
		}
		t.Skipf("SKIPPED, missing: a network namespace of its own: %s", refused)
	}
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
