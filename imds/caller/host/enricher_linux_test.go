package host_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
)

// TestInheritedDescriptor pins what the kernel means by the owner: who made
// the socket, for as long as anybody holds it.
func TestInheritedDescriptor(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	cl := dial(t, "", s.addr())
	_, c := s.accept()
	inode := cl.inode()
	file := os.NewFile(uintptr(cl.fd), "client")
	heir := start(t, someoneElse(), 0, file, "hold")
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	who := name(t, e, c)
	if who.Inode != inode || who.UID != caller.NewID(uint32(os.Geteuid())) {
		t.Errorf("named uid %v, inode %d, want the maker, uid %d, inode %d", who.UID, who.Inode, os.Geteuid(), inode)
	}
	heir.end()
	eventually(t, e, c, 4, 5)
	refuse(t, e, c, host.ErrGone)
}

// TestReaderInUserNamespace has an Enricher where the client's uid is not
// mapped.
func TestReaderInUserNamespace(t *testing.T) {
	newEnricher(t) // there is a namespace
	s := listen(t, metadataV4+":0")
	dial(t, "", s.addr())
	conn, _ := s.accept()
	file, err := conn.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for trust, want := range map[string]error{"false": host.ErrUserNamespace, "true": host.ErrUnmapped} {
		p := start(t, uint32(os.Geteuid()), unix.CLONE_NEWUSER, file, "enrich", trust)
		if !strings.Contains(p.said, want.Error()) {
			t.Errorf("with trust %s it says %q, want %q", trust, p.said, want)
		}
	}
}

func TestMultipathClient(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	fd, err := connect(unix.IPPROTO_MPTCP, "", s.addr(), false)
	if err != nil {
		t.Skipf("SKIPPED, missing: multipath TCP: %v", err)
	}
	cl := client{t, fd}
	defer cl.close()
	_, c := s.accept()
	keep(t, e, c, "multipath")
	if who := name(t, e, c); who.UID != caller.NewID(uint32(os.Geteuid())) || who.Inode != cl.inode() {
		t.Errorf("named uid %v, inode %d, want uid %d, inode %d", who.UID, who.Inode, os.Geteuid(), cl.inode())
	}
}

func TestNotASocket(t *testing.T) {
	e := newEnricher(t)
	v4, v6 := netip.MustParseAddrPort("127.0.0.1:80"), netip.MustParseAddrPort("[::1]:80")
	s := listen(t, "127.0.0.1:0")
	dial(t, "", s.addr())
	_, c := s.accept()
	refuse(t, e, caller.Conn{Local: c.Local, Remote: c.Remote}, host.ErrNoSocket)
	refuse(t, e, caller.Conn{Local: v4, Remote: v6, Raw: c.Raw}, host.ErrNoSocket)
	refuse(t, e, caller.Conn{Raw: c.Raw}, host.ErrNoSocket)
}

func TestLateAnswersMeetNobody(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	cl, other := dial(t, "", s.addr()), listen(t, metadataV4+":0")
	_, c := s.accept()
	dial(t, "", other.addr())
	_, late := other.accept()
	before := descriptors(t)
	if err := e.LeaveAnswers(late); err != nil {
		t.Fatal(err)
	}
	for range e.Sockets() {
		refuse(t, e, c, host.ErrMalformed)
	}
	for range 2 * e.Sockets() {
		if who := name(t, e, c); who.Inode != cl.inode() {
			t.Errorf("inode %d, want %d", who.Inode, cl.inode())
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}

func TestManyAtOnce(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	var group sync.WaitGroup
	for range 4 * e.Sockets() {
		cl := dial(t, "", s.addr())
		_, c := s.accept()
		inode := cl.inode()
		group.Go(func() {
			for range 200 {
				var who caller.Caller
				if err := e.Enrich(t.Context(), c, &who); err != nil || who.Inode != inode {
					t.Errorf("inode %d, %v, want inode %d", who.Inode, err, inode)
					return
				}
			}
		})
	}
	group.Wait()
}

func TestProbe(t *testing.T) {
	e := newEnricher(t)
	if err := e.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Probe(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestProbeWithoutLoopback(t *testing.T) {
	ownnet.Need(t)
	p := start(t, uint32(os.Geteuid()), unix.CLONE_NEWUSER|unix.CLONE_NEWNET, nil, "probe")
	if !strings.Contains(p.said, "ip link set lo up") {
		t.Errorf("it says %q, and not what to do", p.said)
	}
}

func TestClose(t *testing.T) {
	before := descriptors(t)
	for range 3 {
		e := newEnricher(t)
		if err := e.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Probe(t.Context()); !errors.Is(err, host.ErrClosed) {
			t.Errorf("after Close: %v, want %v", err, host.ErrClosed)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}

func TestRefusedNewLeavesNothing(t *testing.T) {
	ownnet.Need(t)
	before := descriptors(t)
	broken := fstest.MapFS{"passwd/x": {}} // a folder
	if e, err := host.New(host.Options{TrustUserNamespace: true, Etc: broken}); err == nil {
		t.Errorf("New works without a user database: %v", e.Close())
	}
	if !ownnet.WholeUIDs() {
		if _, err := host.New(host.Options{}); !errors.Is(err, host.ErrUserNamespace) {
			t.Errorf("New in a user namespace: %v, want %v", err, host.ErrUserNamespace)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}

// descriptors counts the open sockets of this process; other descriptors are
// the runtime's and the test's.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	sockets := 0
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			sockets++
		}
	}
	return sockets
}

func TestIdentifyAllocatesNothing(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	dial(t, "", s.addr())
	_, c := s.accept()
	var who caller.Caller
	if n := testing.AllocsPerRun(1000, func() {
		if err := e.Enrich(t.Context(), c, &who); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for each caller, want none", n)
	}
}

func BenchmarkIdentify(b *testing.B) {
	for _, open := range []int{10, 1000} {
		b.Run(fmt.Sprintf("sockets=%d", open), func(b *testing.B) {
			e := newEnricher(b)
			s := listen(b, metadataV4+":0")
			for range open/2 - 1 {
				dial(b, "", s.addr())
				s.accept()
			}
			dial(b, "", s.addr())
			_, c := s.accept()
			b.ReportAllocs()
			for b.Loop() {
				var who caller.Caller
				if err := e.Enrich(b.Context(), c, &who); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// An Inquiry is about the namespace that it was opened in, until it is closed.
func TestInquiry(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	cl := dial(t, "", s.addr())
	_, c := s.accept()
	before := descriptors(t)
	i, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var who caller.Caller
		if err := i.Enrich(c, &who); err != nil || who.Inode != cl.inode() || who.UID != caller.NewID(uint32(os.Geteuid())) || who.Cgroup == 0 {
			t.Errorf("got %+v, %v, want uid %d and inode %d", who, err, os.Geteuid(), cl.inode())
		}
		if who.User != "" || who.Groups != nil {
			t.Errorf("it has names of this host: %+v", who)
		}
	}
	i.Close()
	i.Close()
	var who caller.Caller
	if err := i.Enrich(c, &who); !errors.Is(err, host.ErrClosed) || who.Known() {
		t.Errorf("after its end: %+v, %v, want %v", who, err, host.ErrClosed)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
	for what, bad := range map[string]caller.Conn{"not a socket": {Local: c.Local, Remote: c.Remote}, "no addresses": {Raw: c.Raw}} {
		i, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Enrich(bad, &who); !errors.Is(err, host.ErrNoSocket) {
			t.Errorf("about %s: %v, want %v", what, err, host.ErrNoSocket)
		}
		i.Close()
	}
}
