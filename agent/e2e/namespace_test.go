//go:build linux

package e2e_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary runs up to four times: by hand, to ask the kernel for a
// namespace, as the tests in that namespace, and as a server to compare with.
const (
	roleEnv     = "HOSTROLE_E2E_ROLE"  // "" | probe | tests | baseline
	leftEnv     = "HOSTROLE_E2E_LEFT"  // the network namespace that must not be used
	binaryEnv   = "HOSTROLE_BIN"       // the hostrole to test; built when empty
	scratchEnv  = "HOSTROLE_E2E_DIR"   // a folder for what is built once; it ends with the tests
	requireEnv  = "HOSTROLE_E2E"       // "require": nothing may be skipped
	refusalTest = "^TestOwnNamespace$" // the only test that may run where the kernel refuses
	ownNetwork  = "/proc/thread-self/ns/net"
)

// refused is why there is no namespace, or "".
var refused string

func TestMain(m *testing.M) {
	flag.Parse()
	switch os.Getenv(roleEnv) {
	case "baseline":
		serveBaseline()
	case "probe", "tests":
		if err := enter(os.Getenv(leftEnv)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if os.Getenv(roleEnv) == "probe" {
			os.Exit(0)
		}
		os.Exit(m.Run())
	}
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	code, err := again()
	if err != nil {
		// What runs here is on the machine's own network: nothing but the
		// test that reports the refusal may.
		refused = err.Error()
		for name, value := range map[string]string{"test.run": refusalTest, "test.bench": "", "test.fuzz": ""} {
			if err := flag.Set(name, value); err != nil {
				panic(err)
			}
		}
		code = m.Run()
	}
	os.Exit(code)
}

// TestOwnNamespace is the ground that all others stand on.
func TestOwnNamespace(t *testing.T) {
	if refused != "" {
		missing(t, "a network namespace of its own: %s", refused)
	}
	if err := alone(os.Getenv(leftEnv)); err != nil {
		t.Fatal(err)
	}
	here, err := os.Readlink(ownNetwork)
	if err != nil {
		t.Fatal(err)
	}
	if alone(here) == nil {
		t.Error("the namespace that was left passes for a new one")
	}
}

// missing skips t for the want of something, or fails it where everything is
// required.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(requireEnv) == "require" {
		t.Fatalf("missing, and "+requireEnv+"=require: "+format, args...)
	}
	t.Skipf("SKIPPED, missing: "+format, args...)
}

// again runs this binary with its arguments in a new network namespace and
// returns its exit status. An error means that there is no such namespace.
func again() (int, error) {
	if out, err := inNamespace("probe").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	dir, err := os.MkdirTemp("", "hostrole-e2e-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := inNamespace("tests")
	cmd.Env = append(cmd.Env, scratchEnv+"="+dir)
	if os.Getenv(binaryEnv) == "" {
		// Built here, because a namespace has no network to fetch modules by.
		binary := filepath.Join(dir, "hostrole")
		build := exec.Command("go", "build", "-o", binary, "./cmd/hostrole")
		build.Dir = "../.."
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building cmd/hostrole: %v\n%s", err, out)
			return 1, nil
		}
		cmd.Env = append(cmd.Env, binaryEnv+"="+binary)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	runtime.LockOSThread() // the child dies with this thread
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// inNamespace is this binary in a new network namespace: root's own, because
// Ceph and callers of other uids need a real root; anybody else's in a user
// namespace where they are root.
func inNamespace(role string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	left, err := os.Readlink(ownNetwork)
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role, leftEnv+"="+left)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

// enter makes the new namespace usable, once it is sure to be one.
func enter(left string) error {
	if err := alone(left); err != nil {
		return err
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

// alone returns an error unless this is another network namespace than left,
// nothing but loopback is up in it, and no default route leads out.
func alone(left string) error {
	here, err := os.Readlink(ownNetwork)
	if err != nil {
		return err
	}
	if left == "" || here == left {
		return fmt.Errorf("still in the network namespace %s", here)
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

// realRoot reports whether root here is root on the host: every uid is its own.
func realRoot(t testing.TB) bool {
	t.Helper()
	m, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	return os.Getuid() == 0 && strings.Join(strings.Fields(string(m)), " ") == "0 0 4294967295"
}
