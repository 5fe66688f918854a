//go:build linux

package runtimes_test

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

	"github.com/vishvananda/netlink"
)

// The test binary runs by hand, again as the tests in a network namespace of
// their own, and there as callers.
const (
	roleEnv    = "HOSTROLE_RUNTIMES_ROLE" // "" | tests | asker
	leftEnv    = "HOSTROLE_RUNTIMES_LEFT" // the network namespace that must not be used
	scratchEnv = "HOSTROLE_RUNTIMES_DIR"  // what was built: hostrole, clients, hold
	requireEnv = "HOSTROLE_E2E"           // "require": nothing may be skipped
	netPath    = "/proc/thread-self/ns/net"
)

// refused is why there is no namespace, or "".
var refused string

func TestMain(m *testing.M) {
	flag.Parse()
	switch os.Getenv(roleEnv) {
	case "asker":
		if err := beAsker(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "tests":
		if err := settleIn(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	code, err := again()
	if err != nil {
		refused = err.Error()
		code = m.Run() // each test says so
	}
	os.Exit(code)
}

// again builds the programs, while there is a network to fetch modules by, and
// runs this binary in a new network namespace.
func again() (int, error) {
	if os.Getuid() != 0 {
		return 0, errors.New("not root: systemd and the runtimes need it")
	}
	dir, err := os.MkdirTemp("", "hostrole-runtimes-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for name, from := range map[string]string{"hostrole": "../../../cmd/hostrole", "clients": "../clients", "hold": "testdata/hold"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), ".")
		build.Dir = from
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("building %s: %w\n%s", name, err, bytes.TrimSpace(out))
		}
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	left, err := os.Readlink(netPath)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleEnv+"=tests", leftEnv+"="+left, scratchEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	runtime.LockOSThread() // the child dies with this thread
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// settleIn makes the new namespace usable, once it is sure to be one: nothing
// leads out of it.
func settleIn() error {
	if here, err := os.Readlink(netPath); err != nil || here == os.Getenv(leftEnv) || os.Getenv(leftEnv) == "" {
		return fmt.Errorf("still in the network namespace %s: %w", here, err)
	}
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Flags&net.FlagLoopback == 0 {
			return fmt.Errorf("link %s is in what should be an empty network namespace", l.Name)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
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

// need skips t unless there is a namespace, and all that is to run in it.
func need(t testing.TB, tools ...string) {
	t.Helper()
	if refused != "" {
		missing(t, "a network namespace of its own: %s", refused)
	}
	if mounts, err := os.ReadFile("/proc/mounts"); err != nil || !strings.Contains(string(mounts), " cgroup2 ") {
		missing(t, "cgroup v2")
	}
	for _, name := range tools {
		if _, err := exec.LookPath(name); err != nil {
			missing(t, "%s: run agent/e2e/runtimes/setup.sh", name)
		}
	}
}
