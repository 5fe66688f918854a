package ownnet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// The file that was built, and the namespaces of the process that was run by
// hand, which one in a user namespace cannot look up.
const builtEnv, mntEnv, netEnv = "HOSTROLE_OWNNET_BUILT", "HOSTROLE_OWNNET_MNT", "HOSTROLE_OWNNET_NET"

var settled int

func TestMain(m *testing.M) {
	os.Exit(Main(m, Plan{
		Mounts: true,
		Build: func(dir string) ([]string, error) {
			file := filepath.Join(dir, "file")
			mounts, err := os.Readlink("/proc/self/ns/mnt")
			network, err2 := os.Readlink("/proc/self/ns/net")
			return []string{builtEnv + "=" + file, mntEnv + "=" + mounts, netEnv + "=" + network},
				errors.Join(err, err2, os.WriteFile(file, []byte("built"), 0o600))
		},
		Settle: func() error { settled++; return nil },
		Roles: map[string]func() error{
			"arrived": func() error { fmt.Println(Arrived(), "as", Role()); return nil },
			"failing": func() error { return errors.New("on purpose") },
		},
	}))
}

func TestNetworkOfItsOwn(t *testing.T) {
	Need(t)
	if err := Arrived(); err != nil || settled != 1 || Role() != "" {
		t.Errorf("not there: %v; settled %d times, in the role %q", err, settled, Role())
	}
	if built, err := os.ReadFile(os.Getenv(builtEnv)); string(built) != "built" {
		t.Errorf("what was built is %q, %v", built, err)
	}
	if lo, err := net.InterfaceByName("lo"); err != nil || lo.Flags&net.FlagUp == 0 {
		t.Errorf("lo is %+v, %v", lo, err)
	}
	for _, name := range []string{roleEnv, leftEnv} {
		if got, ok := os.LookupEnv(name); ok {
			t.Errorf("what the tests start would have %s=%s", name, got)
		}
	}
	for word, env := range map[string]string{"mnt": mntEnv, "net": netEnv} {
		if ours, parents := link(t, "self", word), os.Getenv(env); parents == "" || ours == parents {
			t.Errorf("%s is that of the process which was run by hand, %q", ours, parents)
		}
	}
}

func link(t *testing.T, process, namespace string) string {
	t.Helper()
	name, err := os.Readlink("/proc/" + process + "/ns/" + namespace)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// What could be the machine's own network is left alone.
func TestAlone(t *testing.T) {
	Need(t)
	here := link(t, "thread-self", "net")
	refuses := func(left, why string) {
		t.Helper()
		if err := alone(left); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("left %q: %v, want an error with %q", left, err, why)
		}
	}
	refuses(here, "still in")
	refuses("", "still in")
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	out := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}
	if err := netlink.RouteAdd(out); err != nil {
		t.Fatal(err)
	}
	refuses("another", "default route leads out by lo")
	if err := netlink.RouteDel(out); err != nil {
		t.Fatal(err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "way"}, PeerName: "out"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(veth) })
	if err := alone("another"); err != nil {
		t.Errorf("with a link that is down: %v", err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		t.Fatal(err)
	}
	refuses("another", "link way is up")
}

// Whoever sets the variables by hand gets no tests on the machine's network.
func TestByHand(t *testing.T) {
	Need(t)
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"tests, having left nothing":      {[]string{As(tests)}, "still in the network namespace"},
		"tests, having left what is here": {[]string{As(tests), leftEnv + "=" + link(t, "thread-self", "net")}, "still in the network namespace"},
		"a role that there is not":        {[]string{As("nobody")}, "no such role"},
		"a role that fails":               {[]string{As("failing")}, "on purpose"},
		"a role, having left nothing":     {[]string{As("arrived")}, ""},
	} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNetworkOfItsOwn$")
		cmd.Env = append(os.Environ(), c.env...)
		out, err := cmd.CombinedOutput()
		if (err == nil) != (c.want == "") || !strings.Contains(string(out), c.want) || strings.Contains(string(out), "PASS") {
			t.Errorf("%s: %v, %s", name, err, out)
		}
	}
}

func TestCommand(t *testing.T) {
	Need(t)
	for name, c := range map[string]struct {
		flags uintptr
		want  string
	}{
		"here":      {0, "still in the network namespace"},
		"elsewhere": {syscall.CLONE_NEWNET, "<nil> as arrived"},
	} {
		if out, err := Command("arrived", c.flags).CombinedOutput(); err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %s, %v, want %q", name, out, err, c.want)
		}
	}
}
