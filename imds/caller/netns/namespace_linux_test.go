package netns_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
	"github.com/hostrole/hostrole/imds/caller/netns"
	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

const (
	bridge     = "br0"
	gateway    = "172.30.0.1"
	gatewayV6  = "fd30::1"
	metadataV4 = "169.254.169.254"
	metadataV6 = "fd00:ec2::254"
)

func init() {
	if ownnet.Role() == "container" {
		runtime.LockOSThread() // the first thread of a process is the one whose namespaces /proc shows
	}
}

// The tests run on a host of their own with a bridge, and this binary there
// once more as each container behind it.
func TestMain(m *testing.M) {
	os.Exit(ownnet.Main(m, ownnet.Plan{Settle: settleIn, Roles: map[string]func() error{
		"container": func() error { return play(flag.Args()) },
		"probe":     func() error { fmt.Println(netns.New(nil).Probe()); return nil },
	}}))
}

// settleIn makes a host with the metadata addresses and a bridge.
func settleIn() error {
	if err := set("lo", metadataV4+"/32", metadataV6+"/128"); err != nil {
		return err
	}
	// Without an address of its own it would take that of a port, and forget its
	// neighbours each time that it takes another.
	own := net.HardwareAddr{2, 0x42, 0, 0, 0, 1}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge, HardwareAddr: own}}); err != nil {
		return fmt.Errorf("making a bridge: %w", err)
	}
	return set(bridge, gateway+"/24", gatewayV6+"/64")
}

// set brings up a link with these addresses.
func set(name string, addresses ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("adding %s: %w", a, err)
		}
	}
	return netlink.LinkSetUp(link)
}

func newHost(t testing.TB) *host.Enricher {
	t.Helper()
	ownnet.Need(t)
	h, err := host.New(host.Options{TrustUserNamespace: !ownnet.WholeUIDs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func newEnricher(t testing.TB) *netns.Enricher {
	t.Helper()
	h := newHost(t)
	e := netns.New(h)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// A server accepts connections that arrive on the bridge.
type server struct {
	t testing.TB
	l *net.TCPListener
}

func listen(t testing.TB, address string) server {
	t.Helper()
	return listenOn(t, bridge, address)
}

func listenOn(t testing.TB, device, address string) server {
	t.Helper()
	ownnet.Need(t)
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		err2 := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) })
		return errors.Join(err, err2)
	}}
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return server{t, l.(*net.TCPListener)}
}

func (s server) addr() string { return s.l.Addr().String() }

// accept returns the next connection, and what an Enricher needs of it.
func (s server) accept() (*net.TCPConn, caller.Conn) {
	s.t.Helper()
	if err := s.l.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	c, err := s.l.AcceptTCP()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	raw, err := c.SyscallConn()
	if err != nil {
		s.t.Fatal(err)
	}
	return c, caller.Conn{Local: plain(c.LocalAddr()), Remote: plain(c.RemoteAddr()), Raw: raw}
}

func plain(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// A container is a copy of this binary in a network namespace of its own, that
// does what it is told.
type container struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	uid uint32 // on the host
}

var containers int // so far; their links have to have names

// contain starts a container with an address on the bridge; with "" it stays
// by itself. With owner it has a user namespace, in which it is root.
func contain(t testing.TB, uid uint32, address string, owner bool) *container {
	t.Helper()
	ownnet.Need(t)
	flags := uintptr(syscall.CLONE_NEWNET)
	if owner {
		flags |= syscall.CLONE_NEWUSER
	}
	if !ownnet.WholeUIDs() {
		uid = 0 // there is no other
	}
	cmd := ownnet.Command("container", flags, fmt.Sprint(uid))
	if owner {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(uid), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(uid), Size: 1}}
		cmd.SysProcAttr.Credential = &syscall.Credential{}
		cmd.Args[1] = "0" // which is uid there
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // the child dies with this thread
	t.Cleanup(runtime.UnlockOSThread)
	if err := cmd.Start(); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skipf("SKIPPED, missing: a network namespace for a container: %v", err)
		}
		t.Fatal(err)
	}
	c := &container{t, cmd, in, bufio.NewReader(out), uid}
	t.Cleanup(c.end)
	if address != "" {
		c.plug(address)
	}
	return c
}

// plug gives c a link to the bridge.
func (c *container) plug(addresses ...string) {
	c.t.Helper()
	containers++
	port := fmt.Sprintf("v%d", containers)
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: "eth0", PeerNamespace: netlink.NsPid(c.cmd.Process.Pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		c.t.Fatalf("making a link: %v", err)
	}
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := errors.Join(netlink.LinkSetMaster(veth, br), netlink.LinkSetUp(veth)); err != nil {
		c.t.Fatal(err)
	}
	// The kernel takes its time to clear a namespace away, which answers for its
	// addresses until then.
	c.t.Cleanup(func() { _ = netlink.LinkDel(veth) })
	c.tell("plug " + strings.Join(addresses, " "))
	// Who had the address before is remembered for some seconds.
	neighbours, err := netlink.NeighList(br.Attrs().Index, unix.AF_INET)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, n := range neighbours {
		if slices.ContainsFunc(addresses, func(a string) bool { return strings.HasPrefix(a, n.IP.String()+"/") }) {
			_ = netlink.NeighDel(&n)
		}
	}
}

// tell has c do something, and returns what it says of it.
func (c *container) tell(order string) string {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, order); err != nil {
		c.t.Fatal(err)
	}
	line, err := c.out.ReadString('\n')
	said, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "ok ")
	if err != nil || !ok {
		c.t.Fatalf("told to %s, a container says %q, %v", order, line, err)
	}
	return said
}

func (c *container) end() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

// play is a container: it obeys until its input ends.
func play(part []string) error {
	if err := ownnet.Arrived(); err != nil {
		return err
	}
	runtime.LockOSThread()
	var uid int
	if _, err := fmt.Sscan(part[0], &uid); err != nil {
		return err
	}
	fd := -1
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		words := strings.Fields(in.Text())
		said, err := "", error(nil)
		switch words[0] {
		case "plug": // ADDRESS...
			err = errors.Join(set("lo"), set("eth0", words[1:]...), route(words[1:]...))
		case "link": // ADDRESS GATEWAY
			err = errors.Join(set("lo"), set("eth0", words[1]), netlink.RouteReplace(&netlink.Route{Gw: net.ParseIP(words[2])}))
		case "pose": // ADDRESS: as one that has it, without a link to anybody
			if err = set("lo", words[1]); err == nil {
				l, err2 := netlink.LinkByName("lo")
				if err = err2; err == nil {
					err = netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}})
				}
			}
		case "mac": // MAC ADDRESS
			err = errors.Join(unplugged(func(l netlink.Link) error {
				mac, err := net.ParseMAC(words[1])
				return errors.Join(err, netlink.LinkSetHardwareAddr(l, mac))
			}), route(words[2]))
		case "which": // its MAC address
			l, err2 := netlink.LinkByName("eth0")
			if err = err2; err == nil {
				said = l.Attrs().HardwareAddr.String()
			}
		case "nat": // ADDRPORT: its connections come from there, whatever its sockets say
			err = translate(netip.MustParseAddrPort(words[1]))
		case "vanish": // from the network, without a word to anybody
			err = unplugged(func(l netlink.Link) error { return nil }, false)
		case "dial", "pretend": // FROM TO
			if fd, err = connect(uid, words[1], words[2], words[0] == "pretend"); err == nil {
				said, err = inode(fd)
			}
		case "crowd": // COUNT
			var n int
			if _, err = fmt.Sscan(words[1], &n); err == nil {
				err = crowd(n)
			}
		case "say": // WHAT
			_, err = unix.Write(fd, []byte(words[1]))
		case "listen": // AT
			_, err = net.Listen("tcp4", words[1])
		case "close":
			err = unix.Close(fd)
		case "renew": // ends what it has, and is a new container with nothing
			if fd >= 0 {
				err = unix.Close(fd)
				fd = -1
			}
			err = errors.Join(err, unix.Unshare(unix.CLONE_NEWNET))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", in.Text(), err)
		}
		fmt.Println("ok", said)
	}
	return nil
}

func inode(fd int) (string, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return fmt.Sprint(st.Ino), err
}

// unplugged does something while the link is down, and brings it up again
// unless told not to.
func unplugged(do func(netlink.Link) error, up ...bool) error {
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetDown(l), do(l)); err != nil || len(up) > 0 {
		return err
	}
	return netlink.LinkSetUp(l)
}

// route sends all to the host, in the families of these addresses.
func route(addresses ...string) (err error) {
	for _, a := range addresses {
		via := gateway
		if netip.MustParsePrefix(a).Addr().Is6() {
			via = gatewayV6
		}
		err = errors.Join(err, netlink.RouteReplace(&netlink.Route{Gw: net.ParseIP(via)}))
	}
	return err
}

// connect makes a connection of a user's, or only the socket of one, from an
// address which may be "-".
func connect(uid int, from, to string, pretend bool) (fd int, err error) {
	at := netip.MustParseAddrPort(to)
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()})
	if at.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	// Of the thread, for as long as the socket is made: it keeps its rights.
	if _, err := unix.SetfsuidRetUid(uid); err != nil {
		return -1, err
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if _, err := unix.SetfsuidRetUid(0); err != nil {
		return -1, err
	}
	if err != nil {
		return -1, err
	}
	if pretend {
		if err := errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1), unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)); err != nil {
			return -1, fmt.Errorf("setting a socket up for repair: %w", err)
		}
	}
	if from != "-" {
		a := netip.MustParseAddrPort(from)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return -1, err
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}); err != nil {
			return -1, fmt.Errorf("bind to %v: %w", a, err)
		}
	}
	err = unix.Connect(fd, sa)
	if err == nil && pretend {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_OFF_NO_WP)
	}
	return fd, err
}
