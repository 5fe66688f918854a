package host_test

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
)

// receive takes a descriptor that comes with a message over the socket fd.
func receive(fd int) (int, error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(fd, make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("receiving a descriptor: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("receiving a descriptor: %d messages, %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("receiving a descriptor: %d of them, %w", len(fds), err)
	}
	return fds[0], nil
}

// TestPassedDescriptor has a client hand its socket to another user's process.
// The maker counts, for as long as anybody holds it: who got it from him could
// have got the answer from him as well. Who has it takes nothing else of the
// maker's: each connection that he makes himself is his own.
func TestPassedDescriptor(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	cl := dial(t, "", s.addr())
	_, c := s.accept()
	inode := cl.inode()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(cl.fd), nil, 0); err != nil {
		t.Fatal(err)
	}
	far := os.NewFile(uintptr(pair[1]), "far end")
	heir := start(t, someoneElse(), 0, far, "receive")
	if heir.said != "ok" {
		t.Fatalf("the heir said %q", heir.said)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(pair[0]); err != nil {
		t.Fatal(err)
	}
	cl.close() // the heir alone has it now
	who := name(t, e, c)
	if who.Inode != inode || who.UID != caller.NewID(uint32(os.Geteuid())) {
		t.Errorf("named uid %v, inode %d, want the maker, uid %d, inode %d", who.UID, who.Inode, os.Geteuid(), inode)
	}
	if a := said(t, e, c); a.State != 1 || a.Inode != inode {
		t.Errorf("the kernel says %+v: the heir does not hold it, and this test shows nothing", a)
	}
	own := begin(t, someoneElse(), "connect", "", s.addr().String())
	_, his := s.accept()
	if who := name(t, e, his); who.UID != caller.NewID(someoneElse()) {
		t.Errorf("the heir's own connection is named %v, want %d", who.UID, someoneElse())
	}
	own.end()
	heir.end()
	eventually(t, e, c, 4, 5)
	refuse(t, e, c, host.ErrGone)
}

// TestResetSocket has a client end its connection with a reset, which leaves
// nothing that could be asked about, on either end.
func TestResetSocket(t *testing.T) {
	e := newEnricher(t)
	s := listen(t, metadataV4+":0")
	cl := dial(t, "127.0.0.3:6300", s.addr())
	conn, c := s.accept()
	if who := name(t, e, c); who.Inode != cl.inode() {
		t.Fatalf("inode %d, want %d", who.Inode, cl.inode())
	}
	cl.reset()
	refuse(t, e, c, host.ErrNotFound)
	if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); err == nil {
		t.Error("what is answered goes somewhere")
	}
	refuse(t, e, c, host.ErrNotFound)
}

// BenchmarkAdded is what a caller's identity adds to a connection: each round
// connects, accepts and closes, with the question and without, in turn, and the
// difference of the medians is shown as µs-added. The number of other sockets
// makes no difference.
func BenchmarkAdded(b *testing.B) {
	for _, open := range []int{10, 1000, 9000} {
		b.Run(fmt.Sprintf("sockets=%d", open), func(b *testing.B) {
			e := newEnricher(b)
			crowd := listen(b, "127.0.0.1:0")
			for range open / 2 {
				dial(b, "", crowd.addr())
				crowd.accept()
			}
			s := listen(b, metadataV4+":0")
			measure(b, s, func(c caller.Conn) {
				var who caller.Caller
				if err := e.Enrich(b.Context(), c, &who); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}
