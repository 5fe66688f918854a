package netns_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
	"github.com/hostrole/hostrole/imds/caller/netns"
)

// name checks that e finds the container, and the socket that it has told of.
func name(t *testing.T, e *netns.Enricher, c caller.Conn, of *container, inode string) {
	t.Helper()
	var who caller.Caller
	if err := e.Enrich(t.Context(), c, &who); err != nil {
		t.Error(err)
	} else if who.UID != caller.NewID(of.uid) || fmt.Sprint(who.Inode) != inode || who.Cgroup == 0 || who.User != "" || who.Groups != nil {
		t.Errorf("got %+v, want uid %d and inode %s and a cgroup, and no names", who, of.uid, inode)
	}
}

// refuse checks that e does not name the caller, for the reason given.
func refuse(t *testing.T, e *netns.Enricher, c caller.Conn, want error) {
	t.Helper()
	var who caller.Caller
	if err := e.Enrich(t.Context(), c, &who); !errors.Is(err, want) {
		t.Errorf("got %+v with error %v, want the error %v", who, err, want)
	}
	if who.Known() || who.Inode != 0 || who.Cgroup != 0 {
		t.Errorf("a refused caller has facts: %+v", who)
	}
}

func TestBridgedCaller(t *testing.T) {
	e := newEnricher(t)
	for what, address := range map[string]string{"IPv4": metadataV4 + ":0", "IPv6": "[" + metadataV6 + "]:0"} {
		t.Run(what, func(t *testing.T) {
			s := listen(t, address)
			a := contain(t, 1234, "", false)
			a.plug("172.30.0.2/24", "fd30::2/64")
			b := contain(t, 1235, "", false)
			b.plug("172.30.0.3/24", "fd30::3/64")
			ia := a.tell("dial - " + s.addr())
			_, ca := s.accept()
			ib := b.tell("dial - " + s.addr())
			_, cb := s.accept()
			name(t, e, ca, a, ia)
			name(t, e, cb, b, ib)
			name(t, e, ca, a, ia)
			var who caller.Caller
			if err := newHost(t).Enrich(t.Context(), ca, &who); !errors.Is(err, host.ErrNotFound) {
				t.Errorf("in the host's own namespace: %+v, %v: this test shows nothing", who, err)
			}
		})
	}
}

func TestContainerWithUsersOfItsOwn(t *testing.T) {
	if os.Geteuid() != 0 || !mapIsWhole() {
		t.Skip("SKIPPED, missing: root, to start processes of several users")
	}
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	c := contain(t, 1003, "172.30.0.2/24", true)
	inode := c.tell("dial - " + s.addr())
	_, conn := s.accept()
	name(t, e, conn, c, inode)
}

// A neighbour takes the address and the MAC address of another container. He
// has its connections for that, but not its name.
func TestSpoofedAddress(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	victim := contain(t, 1234, "172.30.0.2/24", false)
	before := victim.tell("dial 172.30.0.2:5000 " + s.addr())
	_, old := s.accept()
	name(t, e, old, victim, before)

	thief := contain(t, 1235, "172.30.0.2/24", false)
	thief.tell("mac " + victim.tell("which") + " 172.30.0.2/24")
	inode := thief.tell("dial 172.30.0.2:5001 " + s.addr())
	_, c := s.accept()
	if c.Remote.Addr() != old.Remote.Addr() {
		t.Fatalf("the thief comes from %v and not from %v: this test shows nothing", c.Remote, old.Remote)
	}
	name(t, e, c, thief, inode)
	name(t, e, old, victim, before)
}

// A container makes up a socket for another one's connection. It gets nothing
// for that, but the other one is unknown then. What is not behind the bridge
// cannot do even that.
func TestMadeUpConnection(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	victim := contain(t, 1234, "172.30.0.2/24", false)
	inode := victim.tell("dial 172.30.0.2:5000 " + s.addr())
	_, c := s.accept()

	stranger := contain(t, 1235, "", false)
	stranger.tell("pose 172.30.0.2/32")
	stranger.tell("pretend 172.30.0.2:5000 " + s.addr())
	name(t, e, c, victim, inode)

	neighbour := contain(t, 1236, "172.30.0.3/24", false)
	neighbour.tell("pretend 172.30.0.2:5000 " + s.addr())
	refuse(t, e, c, netns.ErrAmbiguous)
	neighbour.tell("close")
	name(t, e, c, victim, inode) // the neighbour's end is there, and nobody's
}

// A container vanishes without a word, and another one gets its address.
func TestAddressIsUsedAgain(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	for i := range uint32(3) {
		first := contain(t, 1300+i, "172.30.0.2/24", false)
		inode := first.tell("dial 172.30.0.2:5000 " + s.addr())
		old, c := s.accept()
		name(t, e, c, first, inode)
		first.tell("vanish")
		first.end()
		refuse(t, e, c, host.ErrNotFound)

		second := contain(t, 1400+i, "172.30.0.2/24", false)
		refuse(t, e, c, host.ErrNotFound)
		inode = second.tell("dial 172.30.0.2:6000 " + s.addr())
		_, next := s.accept()
		name(t, e, next, second, inode)
		refuse(t, e, c, host.ErrNotFound)
		second.end()
		if err := old.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		_ = old.Close()
	}
}

func TestClientThatHasClosed(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	c := contain(t, 1234, "172.30.0.2/24", false)
	c.tell("dial - " + s.addr())
	_, conn := s.accept()
	c.tell("close")
	refuse(t, e, conn, host.ErrGone)
}

// A neighbour listens on the port that a client has.
func TestListenerOnTheClientsPort(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	client, neighbour := contain(t, 1234, "172.30.0.2/24", false), contain(t, 1235, "172.30.0.3/24", false)
	neighbour.tell("listen 0.0.0.0:5000")
	inode := client.tell("dial 172.30.0.2:5000 " + s.addr())
	_, c := s.accept()
	name(t, e, c, client, inode)
	client.tell("close")
	var who caller.Caller
	if err := e.Enrich(t.Context(), c, &who); !errors.Is(err, host.ErrGone) && !errors.Is(err, host.ErrOther) || who.Known() {
		t.Errorf("got %+v, %v", who, err)
	}
}

func TestNothingIsKept(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	c := contain(t, 1234, "172.30.0.2/24", false)
	inode := c.tell("dial - " + s.addr())
	_, conn := s.accept()
	before := descriptors(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				name(t, e, conn, c, inode)
			}
		})
	}
	group.Wait()
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if at, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net"); err == nil && at != home {
			t.Errorf("thread %s is in %s, and not at home in %s", task.Name(), at, home)
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestNobodyBehindTheDevice(t *testing.T) {
	h := newHost(t)
	s := listen(t, metadataV4+":0")
	c := contain(t, 1234, "172.30.0.2/24", false)
	c.tell("dial - " + s.addr())
	_, conn := s.accept()
	refuse(t, netns.New(netns.Options{Host: h, Device: "lo"}), conn, host.ErrNotFound)
	var who caller.Caller
	if err := netns.New(netns.Options{Host: h, Device: "none"}).Enrich(t.Context(), conn, &who); err == nil || !strings.Contains(err.Error(), "no such link") {
		t.Errorf("with a device that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := netns.New(netns.Options{Host: h, Device: bridge}).Enrich(ctx, conn, &who); !errors.Is(err, context.Canceled) || who.Known() {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// A link that leads to a container without a bridge.
func TestLinkOfAContainer(t *testing.T) {
	h := newHost(t)
	s := listen(t, metadataV4+":0")
	c := contain(t, 1234, "172.30.0.2/24", false)
	inode := c.tell("dial - " + s.addr())
	_, conn := s.accept()
	name(t, netns.New(netns.Options{Host: h, Device: fmt.Sprintf("v%d", containers)}), conn, c, inode)
}

func TestProbe(t *testing.T) {
	e := newEnricher(t)
	if err := e.Probe(); err != nil {
		t.Error(err)
	}
	if os.Geteuid() != 0 || !mapIsWhole() {
		t.Skip("SKIPPED, missing: root, to start a process without rights")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=probe")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EACCES) {
		t.Skipf("SKIPPED, missing: a test binary that others may run: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "CAP_SYS_ADMIN and CAP_SYS_PTRACE") || !strings.Contains(string(out), netns.ErrPrivileges.Error()) {
		t.Errorf("without rights it says %q, %v", out, err)
	}
}

// BenchmarkBridged is what the identity of a bridged caller costs, with so many
// containers on the bridge.
func BenchmarkBridged(b *testing.B) {
	for _, n := range []int{1, 20, 100} {
		b.Run(fmt.Sprintf("containers=%d", n), func(b *testing.B) {
			e := newEnricher(b)
			s := listen(b, metadataV4+":0")
			for i := range n - 1 {
				contain(b, 1300, fmt.Sprintf("172.30.0.%d/24", 100+i), false)
			}
			c := contain(b, 1234, "172.30.0.2/24", false)
			c.tell("dial - " + s.addr())
			_, conn := s.accept()
			b.ReportAllocs()
			for b.Loop() {
				var who caller.Caller
				if err := e.Enrich(b.Context(), conn, &who); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
