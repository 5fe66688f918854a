package hostaddr_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The test binary runs by hand, and as the tests in a network namespace of
// their own.
const (
	roleEnv    = "HOSTROLE_HOSTADDR_TEST" // "" | tests
	leftEnv    = "HOSTROLE_HOSTADDR_LEFT" // the network namespace that must not be used
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

// settleIn sets up lo, once it is sure that this is another network than the
// machine's.
func settleIn() error {
	left := os.Getenv(leftEnv)
	if here, _ := os.Readlink(netPath); here == "" || left == "" || here == left {
		return fmt.Errorf("this may still be the network namespace %q of those who began: it is %q", left, here)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// needNamespace skips t where there is no namespace, and otherwise sees to it
// that t leaves it as it was: links, addresses, routes, open files.
func needNamespace(t *testing.T) {
	t.Helper()
	if refused != "" {
		if os.Getenv(requireEnv) == "require" {
			t.Fatalf("missing, and %s=require: a network namespace of its own: %s", requireEnv, refused)
		}
		t.Skipf("SKIPPED, missing: a network namespace of its own: %s", refused)
	}
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
