package host_test

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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/host"
)

const (
	metadataV4 = "169.254.169.254"
	metadataV6 = "fd00:ec2::254"
)

// The tests look at processes that this binary plays.
func TestMain(m *testing.M) {
	os.Exit(ownnet.Main(m, ownnet.Plan{Settle: settleIn, Roles: map[string]func() error{
		"process": func() error { return play(flag.Args()) },
	}}))
}

// settleIn puts the metadata addresses on lo.
func settleIn() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, a := range []string{metadataV4 + "/32", metadataV6 + "/128"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Scope = unix.RT_SCOPE_HOST
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(lo, addr); err != nil {
			return fmt.Errorf("adding %s: %w", a, err)
		}
	}
	return nil
}

// needUIDs skips t unless processes can have several uids here.
func needUIDs(t testing.TB) {
	t.Helper()
	ownnet.Need(t)
	if !ownnet.RealRoot() {
		t.Skip("SKIPPED, missing: root, to start processes of several users")
	}
}

func newEnricher(t testing.TB) *host.Enricher {
	t.Helper()
	ownnet.Need(t)
	e, err := host.New(host.Options{TrustUserNamespace: !ownnet.WholeUIDs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// A server accepts connections on an address.
type server struct {
	t testing.TB
	l *net.TCPListener
}

func listen(t testing.TB, address string) server {
	t.Helper()
	ownnet.Need(t)
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return server{t, l.(*net.TCPListener)}
}

func (s server) addr() netip.AddrPort { return s.l.Addr().(*net.TCPAddr).AddrPort() }

// accept returns the next connection, and what an Enricher needs of it.
func (s server) accept() (*net.TCPConn, caller.Conn) {
	s.t.Helper()
	if err := s.l.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
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

// A client is a socket of this process, with nothing of package net around it.
type client struct {
	t  testing.TB
	fd int
}

// dial connects to an address from one of its own, which may be "".
func dial(t testing.TB, from string, to netip.AddrPort) client {
	t.Helper()
	fd, err := connect(unix.IPPROTO_TCP, from, to, false)
	if err != nil {
		t.Fatal(err)
	}
	c := client{t, fd}
	t.Cleanup(c.close)
	return c
}

func connect(protocol int, from string, to netip.AddrPort, mapped bool) (fd int, err error) {
	family := unix.AF_INET
	if to.Addr().Is6() || mapped {
		family = unix.AF_INET6
	}
	if fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol); err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if from != "" {
		at := netip.MustParseAddrPort(from)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return -1, err
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
			return -1, fmt.Errorf("bind to %v: %w", at, err)
		}
	}
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(to.Port())}
	if family == unix.AF_INET6 {
		sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	} else {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	if err := unix.Connect(fd, sa); err != nil {
		return -1, fmt.Errorf("connect to %v: %w", to, err)
	}
	return fd, nil
}

func (c client) close() { _ = unix.Close(c.fd) }

// reset ends the connection with a RST.
func (c client) reset() {
	c.t.Helper()
	if err := unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		c.t.Fatal(err)
	}
	c.close()
}

func (c client) inode() uint32 {
	c.t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(c.fd, &st); err != nil {
		c.t.Fatal(err)
	}
	return uint32(st.Ino)
}

// A process is a copy of this binary that plays a part until it is ended.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.WriteCloser
	said string // its first line
}

// start starts a process of another user; file is its descriptor 3 unless nil.
func start(t testing.TB, uid uint32, flags uintptr, file *os.File, part ...string) *process {
	t.Helper()
	cmd := ownnet.Command("process", 0, part...)
	cmd.SysProcAttr.Cloneflags = flags
	if int(uid) != os.Geteuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
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
		if errors.Is(err, unix.EPERM) && flags != 0 {
			t.Skipf("SKIPPED, missing: a namespace for a process: %v", err)
		}
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, in: in}
	t.Cleanup(p.end)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("process %v said nothing: %v", part, err)
	}
	p.said = strings.TrimSpace(line)
	return p
}

// begin is start for a process that has to say ok.
func begin(t testing.TB, uid uint32, part ...string) *process {
	t.Helper()
	p := start(t, uid, 0, nil, part...)
	if p.said != "ok" {
		t.Fatalf("process %v said %q", part, p.said)
	}
	return p
}

func (p *process) end() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}

// play is the part of a process: its first line goes to the test, and it lives
// until its input ends.
func play(part []string) error {
	say := func(line string) { fmt.Println(line); _, _ = io.Copy(io.Discard, os.Stdin) }
	switch part[0] {
	case "connect": // FROM TO
		if _, err := connect(unix.IPPROTO_TCP, part[1], netip.MustParseAddrPort(part[2]), false); err != nil {
			return err
		}
		say("ok")
	case "listen": // AT
		l, err := net.Listen("tcp4", part[1])
		if err != nil {
			return err
		}
		say("ok")
		return l.Close()
	case "hold": // descriptor 3
		say("ok")
	case "receive": // a descriptor, by a message over descriptor 3
		if _, err := receive(3); err != nil {
			return err
		}
		say("ok")
	case "vanish": // TO: one connection after the other, each closed at once
		to := netip.MustParseAddrPort(part[1])
		fmt.Println("ok")
		for fd, err := connect(unix.IPPROTO_TCP, "", to, false); err == nil; fd, err = connect(unix.IPPROTO_TCP, "", to, false) {
			_, _ = unix.Write(fd, []byte("GET / HTTP/1.1\r\n\r\n"))
			_ = unix.Close(fd)
		} // until the server has gone
	case "enrich": // TRUST: who is at the other end of descriptor 3?
		c, err := net.FileConn(os.NewFile(3, "connection"))
		if err != nil {
			return err
		}
		e, err := host.New(host.Options{TrustUserNamespace: part[1] == "true"})
		if err != nil {
			return err
		}
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			return err
		}
		var who caller.Caller
		if err := e.Enrich(context.Background(), caller.Conn{Local: plain(c.LocalAddr()), Remote: plain(c.RemoteAddr()), Raw: raw}, &who); err != nil {
			return err
		}
		say("uid " + who.UID.String())
	case "probe":
		e, err := host.New(host.Options{TrustUserNamespace: true})
		if err != nil {
			return err
		}
		if err := e.Probe(context.Background()); err != nil {
			return err
		}
		say("ok")
	}
	return nil
}
