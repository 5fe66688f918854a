package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dumps is how often the links are listed, at most, when they change meanwhile.
const dumps = 5

// A space is a network namespace that is held open.
type space struct{ fd int }

type spaces []space

func (all spaces) close() {
	for _, s := range all {
		_ = unix.Close(s.fd)
	}
}

// enter calls do on a thread that is in each of them in turn, until it returns
// an error, and is back before it returns. One thread for all of them: handing
// over to another costs more than the question. A thread that cannot get back
// ends with its goroutine, and is used for nothing else.
func (all spaces) enter(do func() error) error {
	if len(all) == 0 {
		return nil
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		back, err := all.visit(do)
		if back {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// visit is enter, on a thread that belongs to the calling goroutine. It reports
// whether the thread is where it was.
func (all spaces) visit(do func() error) (back bool, err error) {
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true, fmt.Errorf("opening this thread's network namespace: %w", err)
	}
	defer func() { _ = unix.Close(home) }()
	for _, s := range all {
		if err = unix.Setns(s.fd, unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("entering a network namespace: %w", err)
			break
		}
		if err = do(); err != nil {
			break
		}
	}
	if err2 := unix.Setns(home, unix.CLONE_NEWNET); err2 != nil {
		return false, fmt.Errorf("leaving a network namespace: %w", err2)
	}
	return true, err
}

// candidates opens the namespaces of processes in which the links behind
// device have their other ends. The caller closes them, also after an error.
//
// The kernel numbers the namespaces that ours has links into. A namespace that
// only says that it is behind the bridge has no such number.
func candidates(device string) (spaces, error) {
	kernel, err := netlink.NewHandle(unix.NETLINK_ROUTE) // one socket for all questions
	if err != nil {
		return nil, fmt.Errorf("opening a socket for questions about links: %w", err)
	}
	defer kernel.Close()
	behind, err := peers(kernel, device)
	if err != nil || len(behind) == 0 {
		return nil, err
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = proc.Close() }()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("listing the processes: %w", err)
	}
	var all spaces
	seen := map[string]bool{}
	for _, name := range names {
		if len(behind) == 0 {
			break // each namespace has one number, and all are found
		}
		if _, err := strconv.ParseUint(name, 10, 31); err != nil {
			continue
		}
		path := "/proc/" + name + "/ns/net"
		if id, err := os.Readlink(path); err != nil || seen[id] {
			continue // it has ended, or is in one that is done
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		// What was opened counts as seen, not what was read: the process may be
		// this one, whose first thread looks into another namespace and is back.
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil {
			seen[fmt.Sprintf("net:[%d]", st.Ino)] = true
		}
		// By the descriptor: the process may have become another one.
		if number, err := kernel.GetNetNsIdByFd(fd); err == nil && behind[number] {
			delete(behind, number)
			all = append(all, space{fd})
			continue
		}
		_ = unix.Close(fd)
	}
	return all, nil
}

// peers are the numbers of the namespaces in which the links behind device have
// their other ends.
func peers(kernel *netlink.Handle, device string) (map[int]bool, error) {
	links, err := kernel.LinkList()
	for tries := 1; errors.Is(err, netlink.ErrDumpInterrupted) && tries < dumps; tries++ {
		links, err = kernel.LinkList() // one came or went meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("listing the links: %w", err)
	}
	index := 0
	for _, l := range links {
		if l.Attrs().Name == device {
			index = l.Attrs().Index
		}
	}
	if index == 0 {
		return nil, errors.New("there is no such link")
	}
	behind := map[int]bool{}
	for _, l := range links {
		if a := l.Attrs(); (a.Index == index || a.MasterIndex == index) && a.NetNsID >= 0 {
			behind[a.NetNsID] = true
		}
	}
	return behind, nil
}

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
	s := spaces{{own}}
	defer s.close()
	return s.enter(func() error { return nil })
}
