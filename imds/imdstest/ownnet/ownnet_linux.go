package ownnet

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	roleEnv = "HOSTROLE_TEST_ROLE" // what a test binary is when it is not run by hand: tests, or one of Plan.Roles
	leftEnv = "HOSTROLE_TEST_LEFT" // the network namespace that was left and must not be used
	tests   = "tests"

	// Path is the network namespace of the calling thread, see namespaces(7).
	Path = "/proc/thread-self/ns/net"
)

// A Plan says what the tests of a package need beside a network of their own.
// The zero Plan is: nothing.
type Plan struct {
	// Missing is why the tests cannot run on this machine at all, such as
	// [NotRoot], or "".
	Missing string
	// Mounts gives the tests mounts of their own, too.
	Mounts bool
	// Build is called before the namespace is made, because there is no network
	// in it to fetch modules by. What it writes to dir is there until the tests
	// end, and any user may read it; what it returns is added to their
	// environment.
	Build func(dir string) (env []string, err error)
	// Settle is called in the namespace, where lo is up, before the tests. An
	// error counts as a machine without what the tests need.
	Settle func() error
	// Roles are what the test binary is when it is started by [Command] with
	// that name, instead of tests.
	Roles map[string]func() error
	// Without is the pattern of the tests that may run where there is no such
	// namespace. By default all may: those that need it call [Need].
	Without string
}

var (
	role, left = os.Getenv(roleEnv), os.Getenv(leftEnv)
	refused    string // what is missing for the tests, or ""
)

// Role is the role in which this process was started, of [Plan.Roles], or "".
func Role() string {
	if role == tests {
		return ""
	}
	return role
}

// Main runs m in a network namespace of its own and returns what the binary is
// to exit with.
func Main(m *testing.M, p Plan) int {
	flag.Parse()
	for _, name := range []string{roleEnv, leftEnv} { // not for what the tests start
		if err := os.Unsetenv(name); err != nil {
			return complain(err)
		}
	}
	switch {
	case role == tests:
		if err := enter(p.Mounts); err != nil {
			return complain(err)
		}
		if p.Settle != nil {
			if err := p.Settle(); err != nil {
				return without(m, p, err.Error())
			}
		}
		return m.Run()
	case role != "":
		play, ok := p.Roles[role]
		if !ok {
			return complain(fmt.Errorf("%s=%s: this test binary has no such role", roleEnv, role))
		}
		if err := play(); err != nil {
			_, _ = fmt.Fprintln(os.Stdout, "error:", err) // to who started it, and reads it
			return 1
		}
		return 0
	case flag.Lookup("test.list").Value.String() != "", flag.Lookup("test.fuzzworker").Value.String() == "true":
		return m.Run() // no test is run, or it is the child of one that has moved
	case p.Missing != "":
		return without(m, p, p.Missing)
	}
	code, err := again(p)
	if err != nil {
		return without(m, p, "a network namespace of its own: "+err.Error())
	}
	return code
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "ownnet:", err)
	return 1
}

// without runs the tests that may run on the machine's own network.
func without(m *testing.M, p Plan, why string) int {
	refused = why
	if p.Without != "" {
		for name, value := range map[string]string{"test.run": p.Without, "test.bench": "", "test.fuzz": ""} {
			if err := flag.Set(name, value); err != nil {
				return complain(err)
			}
		}
	}
	return m.Run()
}

// again runs this binary with its arguments in a new network namespace, and
// returns its exit status. An error means that there is no such namespace.
func again(p Plan) (int, error) {
	var env []string
	if p.Build != nil {
		dir, err := os.MkdirTemp("", "hostrole-")
		if err != nil {
			return complain(err), nil
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := os.Chmod(dir, 0o755); err != nil { // #nosec G302 -- other users run what is in it
			return complain(err), nil
		}
		if env, err = p.Build(dir); err != nil {
			return complain(fmt.Errorf("building what the tests need: %w", err)), nil
		}
	}
	flags := uintptr(syscall.CLONE_NEWNET)
	if p.Mounts {
		flags |= syscall.CLONE_NEWNS
	}
	runtime.LockOSThread() // the child dies with this thread
	defer runtime.UnlockOSThread()
	var last error
	for _, user := range []uintptr{0, syscall.CLONE_NEWUSER} {
		cmd := Command(tests, flags|user, os.Args[1:]...)
		cmd.Env = append(cmd.Env, env...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if last = cmd.Start(); last != nil {
			continue
		}
		err := cmd.Wait()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return max(exit.ExitCode(), 1), nil
		}
		return 0, err
	}
	return 0, last
}

// Command is this binary in a role of the [Plan], in new namespaces by the
// flags of clone(2); in a user namespace it is root. It ends with the thread
// that starts it.
func Command(role string, flags uintptr, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", args...) // #nosec G702 -- a test binary with arguments of its tests
	cmd.Env = append(os.Environ(), As(role))
	if role != tests {
		cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0") // one process of many
	}
	if left, err := os.Readlink(Path); err == nil {
		cmd.Env = append(cmd.Env, leftEnv+"="+left)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if flags&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

// As is the variable that gives this binary a role of the [Plan], for those who
// start it by themselves.
func As(role string) string { return roleEnv + "=" + role }

// enter makes a new namespace usable, once it is sure to be one.
func enter(mounts bool) error {
	if err := Arrived(); err != nil {
		return err
	}
	if mounts {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("keeping mounts from the machine: %w", err)
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket to set lo up: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("setting lo up: %w", err)
	}
	return nil
}

// Arrived returns an error unless this is another network namespace than that of
// the process that started this one by [Command], nothing but loopback is up in
// it, and no default route leads out.
func Arrived() error { return alone(left) }

func alone(left string) error {
	here, err := os.Readlink(Path)
	if err != nil {
		return err
	}
	if left == "" || here == left {
		return fmt.Errorf("still in the network namespace %s that was to be left: %q", here, left)
	}
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Flags&net.FlagLoopback == 0 && l.Flags&net.FlagUp != 0 {
			return fmt.Errorf("link %s is up in what should be an empty network namespace", l.Name)
		}
	}
	routes, err := os.ReadFile("/proc/thread-self/net/route")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(routes)) {
		if f := strings.Fields(line); len(f) > 7 && f[1] == "00000000" && f[7] == "00000000" {
			return fmt.Errorf("a default route leads out by %s", f[0])
		}
	}
	return nil
}
