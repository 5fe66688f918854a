package host_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
)

var record = flag.Bool("record", false, "write what this kernel answers to testdata")

// keep writes a question and its answer to testdata, when asked to.
func keep(t *testing.T, e *host.Enricher, c caller.Conn, name string) {
	t.Helper()
	if !*record {
		return
	}
	request, reply, err := e.Exchange(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", name+".nl"), slices.Concat(request, reply), 0o644); err != nil {
		t.Fatal(err)
	}
}

// said is the kernel's answer as it is, believed or not.
func said(t *testing.T, e *host.Enricher, c caller.Conn) host.Answer {
	t.Helper()
	_, reply, err := e.Exchange(c)
	if err != nil {
		t.Fatal(err)
	}
	a, err := host.Decode(reply, 1)
	if err != nil {
		t.Fatalf("decoding what the kernel said: %v", err)
	}
	return a
}

// refuse checks that e does not name the caller, for the reason given.
func refuse(t *testing.T, e *host.Enricher, c caller.Conn, want error) {
	t.Helper()
	var who caller.Caller
	err := e.Enrich(t.Context(), c, &who)
	if !errors.Is(err, want) {
		t.Errorf("named %v with error %v, want the error %v", who, err, want)
	}
	if who.Known() || who.Inode != 0 || who.Cgroup != 0 || who.User != "" || who.Groups != nil {
		t.Errorf("a refused caller has facts: %+v", who)
	}
}

// name checks that e names the caller, and returns it.
func name(t *testing.T, e *host.Enricher, c caller.Conn) caller.Caller {
	t.Helper()
	var who caller.Caller
	if err := e.Enrich(t.Context(), c, &who); err != nil {
		t.Fatal(err)
	}
	return who
}

// eventually waits until the kernel's answer about c is in one of the states.
func eventually(t *testing.T, e *host.Enricher, c caller.Conn, states ...uint8) host.Answer {
	t.Helper()
	for {
		if a := said(t, e, c); slices.Contains(states, a.State) {
			return a
		}
		if t.Context().Err() != nil {
			t.Fatal("the state never came")
		}
	}
}

// someoneElse is a uid that is not ours, where there can be one.
func someoneElse() uint32 {
	if ownnet.RealRoot() {
		return 1002
	}
	return uint32(os.Geteuid())
}

func TestCallerIsIdentified(t *testing.T) {
	e := newEnricher(t)
	for what, tc := range map[string]struct {
		listen, capture string
		mapped          bool
	}{
		"on the metadata address":      {metadataV4 + ":0", "established", false},
		"on the IPv6 metadata address": {"[" + metadataV6 + "]:0", "metadata-ipv6", false},
		"on another loopback address":  {"127.0.0.9:0", "loopback", false},
		"on IPv6":                      {"[::1]:0", "ipv6", false},
		"with a v4-mapped socket":      {metadataV4 + ":0", "mapped", true},
	} {
		t.Run(what, func(t *testing.T) {
			s := listen(t, tc.listen)
			fd, err := connect(unix.IPPROTO_TCP, "", s.addr(), tc.mapped)
			if err != nil {
				t.Fatal(err)
			}
			cl := client{t, fd}
			defer cl.close()
			_, c := s.accept()
			keep(t, e, c, tc.capture)
			who := name(t, e, c)
			if uid, known := who.UID.Get(); !known || int(uid) != os.Geteuid() {
				t.Errorf("uid %v, want %d", who.UID, os.Geteuid())
			}
			if who.Inode != cl.inode() {
				t.Errorf("inode %d, want %d: this is not the client's socket", who.Inode, cl.inode())
			}
			if want := ownCgroup(t); who.Cgroup != want {
				t.Errorf("cgroup %d, want %d", who.Cgroup, want)
			}
		})
	}
}

// ownCgroup is the cgroup v2 id of this process.
func ownCgroup(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		path, v2 := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			var kind unix.Statfs_t
			var st unix.Stat_t
			if v2 && unix.Statfs(mount, &kind) == nil && kind.Type == unix.CGROUP2_SUPER_MAGIC && unix.Stat(filepath.Join(mount, path), &st) == nil {
				return st.Ino
			}
		}
	}
	t.Skip("SKIPPED, missing: a mounted cgroup v2")
	return 0
}

func TestUsersAreToldApart(t *testing.T) {
	needUIDs(t)
	e, err := host.New(host.Options{Etc: fstest.MapFS{
		"passwd": {Data: []byte("root:x:0:0::/:/bin/sh\nalice:x:1001:100::/:/bin/sh\nbob:x:1002:100::/:/bin/sh\n")},
		"group":  {Data: []byte("users:x:100:\nbackup:x:34:bob\n")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	s := listen(t, metadataV4+":0")
	for _, want := range []struct {
		uid    uint32
		user   string
		groups string
	}{{1001, "alice", "users"}, {1002, "bob", "users backup"}, {1003, "", ""}, {0, "root", ""}} {
		p := begin(t, want.uid, "connect", "", s.addr().String())
		_, c := s.accept()
		who := name(t, e, c)
		if who.UID != caller.NewID(want.uid) || who.User != want.user || strings.Join(who.Groups, " ") != want.groups {
			t.Errorf("named %v %q in %v, want uid %d %q in [%s]", who.UID, who.User, who.Groups, want.uid, want.user, want.groups)
		}
		p.end()
	}
}

func TestClosedSocket(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	cl := dial(t, "", s.addr())
	_, c := s.accept()
	if _, err := unix.Write(cl.fd, []byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	cl.close()
	a := eventually(t, e, c, 4, 5)
	if a.Inode != 0 {
		t.Fatalf("the kernel says inode %d of a closed socket: this test shows nothing", a.Inode)
	}
	t.Logf("the kernel says uid %d of it", a.UID)
	keep(t, e, c, "closed")
	refuse(t, e, c, host.ErrGone)
}

// TestVanishingCallers looks at callers in whatever moment of their end it
// meets them.
func TestVanishingCallers(t *testing.T) {
	needUIDs(t)
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	begin(t, 1001, "vanish", s.addr().String())
	named, refused := 0, map[string]int{}
	for range 1000 {
		conn, c := s.accept()
		var who caller.Caller
		if err := e.Enrich(t.Context(), c, &who); err == nil {
			named++
			if who.UID != caller.NewID(1001) {
				t.Fatalf("a caller of uid 1001 was taken for uid %v", who.UID)
			}
		} else if !errors.Is(err, host.ErrGone) && !errors.Is(err, host.ErrNotFound) && !errors.Is(err, host.ErrEnded) {
			t.Fatal(err)
		} else {
			refused[errors.Unwrap(err).Error()]++
		}
		_ = conn.Close()
	}
	// Else the other process waits two minutes for a place in the full queue.
	_ = s.l.Close()
	t.Logf("named %d, refused %v", named, refused)
	if len(refused) == 0 {
		t.Error("no caller was met after its end: this test shows nothing")
	}
}

func TestHalfClosedSocket(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	cl := dial(t, "", s.addr())
	_, c := s.accept()
	if err := unix.Shutdown(cl.fd, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	eventually(t, e, c, 5)
	keep(t, e, c, "half-closed")
	if who := name(t, e, c); who.Inode != cl.inode() {
		t.Errorf("inode %d, want %d", who.Inode, cl.inode())
	}
}

func TestListenerOnTheClientsPort(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	cl := dial(t, "127.0.0.3:6000", s.addr())
	_, c := s.accept()
	cl.reset()
	begin(t, someoneElse(), "listen", "0.0.0.0:6000")
	if a := said(t, e, c); a.State != 10 || a.Inode == 0 {
		t.Fatalf("the kernel does not fall back to the listener: %+v: this test shows nothing", a)
	}
	keep(t, e, c, "listener")
	refuse(t, e, c, host.ErrOther)
}

// TestSamePort has another socket with the same two ports, which a dump meets
// first.
func TestSamePort(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":8080")
	other := listen(t, "127.0.0.1:8080")
	for port := 6100; port < 6120; port++ {
		p := begin(t, someoneElse(), "connect", fmt.Sprintf("127.0.0.2:%d", port), other.addr().String())
		_, wrong := other.accept()
		cl := dial(t, fmt.Sprintf("127.0.0.3:%d", port), s.addr())
		_, c := s.accept()
		who := name(t, e, c)
		if who.Inode != cl.inode() || who.UID != caller.NewID(uint32(os.Geteuid())) {
			t.Errorf("port %d: named uid %v, inode %d, want uid %d, inode %d", port, who.UID, who.Inode, os.Geteuid(), cl.inode())
		}
		if them := name(t, e, wrong); them.Inode == cl.inode() || them.UID != caller.NewID(someoneElse()) {
			t.Errorf("port %d: the other one is uid %v, inode %d, want uid %d and not inode %d", port, them.UID, them.Inode, someoneElse(), cl.inode())
		}
		cl.close()
		p.end()
	}
}

// TestSuccessor has somebody take over the addresses of a connection that has
// ended. All that the kernel says is then true, and about somebody else.
func TestSuccessor(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	cl := dial(t, "127.0.0.3:6200", s.addr())
	_, c := s.accept()
	if who := name(t, e, c); who.Inode != cl.inode() {
		t.Fatalf("inode %d, want %d", who.Inode, cl.inode())
	}
	cl.reset()
	begin(t, someoneElse(), "connect", "127.0.0.3:6200", s.addr().String())
	if a := said(t, e, c); a.State != 1 || a.Answers(c.Remote, c.Local) != nil {
		t.Fatalf("the kernel does not speak of the successor: %+v: this test shows nothing", a)
	}
	refuse(t, e, c, host.ErrEnded)
	_, successor := s.accept()
	if who := name(t, e, successor); who.UID != caller.NewID(someoneElse()) {
		t.Errorf("the successor is uid %v, want %d", who.UID, someoneElse())
	}
}

func TestTimeWait(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	cl := dial(t, "", s.addr())
	conn, c := s.accept()
	cl.close()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, e, c, 6)
	keep(t, e, c, "time-wait")
	refuse(t, e, c, host.ErrGone)
}

func TestNoSuchSocket(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	cl := dial(t, "", s.addr())
	_, c := s.accept()
	cl.reset()
	keep(t, e, c, "not-found")
	refuse(t, e, c, host.ErrNotFound)
}

func TestOwnEndHasEnded(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	cl := dial(t, "", s.addr())
	conn, c := s.accept()
	elsewhere, raw := listen(t, metadataV4+":0"), caller.Conn{}
	gone := dial(t, "", elsewhere.addr())
	_, raw = elsewhere.accept()
	gone.reset()
	t.Run("as its state says", func(t *testing.T) {
		refuse(t, e, caller.Conn{Local: c.Local, Remote: c.Remote, Raw: raw.Raw}, host.ErrEnded)
	})
	t.Run("because we have closed it", func(t *testing.T) {
		if err := conn.SetLinger(-1); err != nil {
			t.Fatal(err)
		}
		dup, err := conn.File() // keeps the connection, so that the client's end stays
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = dup.Close() }()
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if a := said(t, e, c); a.State != 1 || a.Inode != cl.inode() {
			t.Fatalf("the client's end is not open: %+v: this test shows nothing", a)
		}
		refuse(t, e, c, host.ErrEnded)
	})
}
