package admin

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// peerOf asks the kernel who connected.
func peerOf(c net.Conn) (Peer, error) {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, errors.New("the connection is no unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var who *unix.Ucred
	var cgroup string
	var failed error
	if err := raw.Control(func(fd uintptr) {
		who, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) // #nosec G115 -- a descriptor
		if failed == nil {
			cgroup = cgroupOf(int(fd), who.Pid) // #nosec G115 -- a descriptor
		}
	}); err != nil {
		return Peer{}, err
	}
	if failed != nil {
		return Peer{}, failed
	}
	return Peer{UID: who.Uid, GID: who.Gid, Cgroup: cgroup}, nil
}

// cgroupOf reads the cgroup of the process that connected. Its number may be
// another one's by then; that it is not is sure when the process is there
// after the reading, by the descriptor that the kernel has kept of it.
func cgroupOf(fd int, pid int32) string {
	held, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		return ""
	}
	defer func() { _ = unix.Close(held) }()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	if err := unix.PidfdSendSignal(held, 0, nil, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return ""
	}
	return CgroupPath(string(text))
}
