package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/imds/caller/host"
)

// deviceOf is the index of the link that the listener of a connection is bound
// to, as its sockets are: the one that the connection came by.
func deviceOf(raw syscall.RawConn) (index uint32, err error) {
	n, err2 := 0, error(nil)
	err = raw.Control(func(fd uintptr) {
		n, err2 = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX) // #nosec G115 -- a descriptor
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", host.ErrEnded, err)
	case err2 != nil:
		return 0, fmt.Errorf("%w: asking its socket: %w", ErrDevice, err2)
	case n <= 0:
		return 0, fmt.Errorf("%w: its listener is bound to none", ErrDevice)
	}
	return uint32(n), nil
}

// A space is a network namespace that is held open.
type space struct{ fd int }

func (s space) close() { _ = unix.Close(s.fd) }

// enter calls do on a thread that is in there, and is back before it returns. A
// thread that cannot get back ends with its goroutine, and is used for nothing
// else.
func (s space) enter(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		back, err := s.visit(do)
		if back {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// visit is enter, on a thread that belongs to the calling goroutine. It reports
// whether the thread is where it was.
func (s space) visit(do func() error) (back bool, err error) {
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true, fmt.Errorf("opening this thread's network namespace: %w", err)
	}
	defer func() { _ = unix.Close(home) }()
	if err := unix.Setns(s.fd, unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("entering a network namespace: %w", err)
	}
	err = do()
	if err2 := unix.Setns(home, unix.CLONE_NEWNET); err2 != nil {
		return false, fmt.Errorf("leaving a network namespace: %w", err2)
	}
	return true, err
}

// search opens the namespace of a number, and a process in there. The caller
// closes both.
//
// The kernel numbers the namespaces that ours has links into. One that only
// says that it is behind the bridge has no such number.
func search(ctx context.Context, number int32) (space, *process, error) {
	var g guide
	if err := g.open(); err != nil {
		return space{}, nil, err
	}
	defer g.line.Close()
	names, err := processes()
	if err != nil {
		return space{}, nil, err
	}
	// Its first thread may be in another namespace just now, for another search.
	self, _ := os.Readlink("/proc/self")
	seen := map[string]bool{}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return space{}, nil, err
		}
		path := "/proc/" + name + "/ns/net"
		id, err := os.Readlink(path)
		if err != nil || seen[id] || name == self {
			continue // it has ended, or is in one that is done
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		in := space{fd}
		// By the descriptor: the process may have become another one.
		if got, err := readNumber(g.line.Ask(numberOf(fd))); err != nil || got != number {
			if err != nil && !g.line.IsOpen() {
				in.close()
				return space{}, nil, fmt.Errorf("asking for the number of a network namespace: %w", err)
			}
			seen[in.name()] = true
			in.close()
			continue
		}
		p, err := open(name)
		if err == nil {
			if id, err := os.Readlink(path); err == nil && id == in.name() {
				return in, p, nil
			}
			p.close()
		}
		in.close()
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return space{}, nil, err
		}
		// It has ended. Another one may be in there.
	}
	return space{}, nil, fmt.Errorf("%w: no process that can be seen is in its network namespace", host.ErrNotFound)
}

// name is what a link in /proc says of it.
func (s space) name() string {
	var st unix.Stat_t
	if err := unix.Fstat(s.fd, &st); err != nil {
		return ""
	}
	return fmt.Sprintf("net:[%d]", st.Ino)
}

// processes are the names of all in /proc.
func processes() ([]string, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = proc.Close() }()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("listing the processes: %w", err)
	}
	all := names[:0]
	for _, name := range names {
		if _, err := strconv.ParseUint(name, 10, 31); err == nil {
			all = append(all, name)
		}
	}
	return all, nil
}

// A process is a descriptor of one, which stays its own when its id is used
// again.
type process struct{ fd *os.File }

func open(name string) (*process, error) {
	id, err := strconv.Atoi(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.PidfdOpen(id, unix.O_NONBLOCK) // PIDFD_NONBLOCK: to be waited for without a thread
	if err != nil {
		return nil, fmt.Errorf("pidfd_open: %w", err)
	}
	return &process{os.NewFile(uintptr(fd), "process "+name)}, nil // #nosec G115 -- a descriptor
}

// wait returns when the process has ended, or was closed.
func (p *process) wait() {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} // #nosec G115 -- a descriptor
		n, err := unix.Poll(ready, 0)
		return n != 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
}

func (p *process) close() { _ = p.fd.Close() }

// privileged returns an error that names what is missing.
func privileged() error {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return fmt.Errorf("reading the capabilities: %w", err)
	}
	var missing []string
	for _, c := range []struct {
		number uint
		name   string
	}{{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"}} {
		if data[c.number/32].Effective&(1<<(c.number%32)) == 0 {
			missing = append(missing, c.name)
		}
	}
	if missing != nil {
		return fmt.Errorf("it lacks %s", strings.Join(missing, " and "))
	}
	// What a filter of system calls forbids shows only here.
	own, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening this process's network namespace: %w", err)
	}
	s := space{own}
	defer s.close()
	return s.enter(func() error { return nil })
}
