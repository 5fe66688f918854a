package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// insideVar marks the copy of the program that runs in a private network
// namespace; its value is "yes".
const insideVar = "HOSTROLE_DEMO_INSIDE"

// exitNoNamespace is how that copy says that its namespace is of no use: some
// kernels give one without any rights in it.
const exitNoNamespace = 125

// fullMap covers every uid; only root may write it.
const fullMap = 4294967295

// namespaces are the ways into a private network namespace, best first.
func namespaces() []*syscall.SysProcAttr {
	const own = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET
	if os.Geteuid() == 0 {
		all := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: fullMap}}
		return []*syscall.SysProcAttr{
			{Cloneflags: own, UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true},
			{Cloneflags: syscall.CLONE_NEWNET},
		}
	}
	// The user stays who they are; the two capabilities hold in there only.
	uid, gid := os.Geteuid(), os.Getegid()
	name := uid
	if uid == 65534 || uid == 65535 {
		name = 1000 // the kernel's word for "unknown" is no caller's uid
	}
	return []*syscall.SysProcAttr{{
		Cloneflags:  own,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: name, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE},
	}}
}

// enterNamespace runs the program anew, with the same arguments, in a private
// network namespace, and returns how it ended. errNoNamespace means that it
// could not.
func enterNamespace(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	var last error
	for _, attr := range namespaces() {
		attr.Pdeathsig = syscall.SIGKILL
		cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...) // #nosec G204 G702 -- ourselves
		cmd.Env = append(os.Environ(), insideVar+"=yes")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
		cmd.SysProcAttr = attr
		cmd.Cancel = func() error { return end(cmd.Process) }
		if err := cmd.Start(); err != nil {
			// The rest of the text is about a program that could not be started.
			var errno syscall.Errno
			if last = err; errors.As(err, &errno) {
				last = errno
			}
			if errno == unix.ENOSPC { // its text speaks of a disk
				last = errors.New("the limit of namespaces is reached")
			}
			continue
		}
		err := cmd.Wait()
		var exited *exec.ExitError
		if !errors.As(err, &exited) || exited.ExitCode() != exitNoNamespace {
			return err
		}
		last = unix.EPERM
	}
	return fmt.Errorf("%w: %w", errNoNamespace, last)
}

// inside reports whether this is the copy in the private namespace, and makes
// that ready: its loopback interface is up.
func inside() (bool, error) {
	if os.Getenv(insideVar) != "yes" {
		return false, nil
	}
	_ = os.Unsetenv(insideVar)
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	return true, err
}

// namespaceHint says what forbids user namespaces here, as far as it can be
// seen, and how to allow them.
func namespaceHint() string {
	read := func(path string) string { b, _ := os.ReadFile(path); return strings.TrimSpace(string(b)) }
	switch {
	case read("/proc/sys/user/max_user_namespaces") == "0":
		return "allow user namespaces with `sysctl user.max_user_namespaces=15000`"
	case read("/proc/sys/user/max_net_namespaces") == "0":
		return "allow network namespaces with `sysctl user.max_net_namespaces=15000`"
	case read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
		return "allow user namespaces with `sysctl kernel.unprivileged_userns_clone=1`"
	case read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
		return "allow user namespaces with `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
	}
	return "a container's seccomp profile or a security module may forbid them; try it outside, or as root"
}
