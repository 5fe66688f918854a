//go:build linux

package installed_test

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/agent/e2e/machine"
)

const (
	leftEnv    = "HOSTROLE_INSTALLED_LEFT" // the network namespace that must not be used
	scratchEnv = "HOSTROLE_INSTALLED_DIR"  // what was built: see build
	requireEnv = "HOSTROLE_E2E"            // "require": nothing may be skipped
	ownNetwork = "/proc/thread-self/ns/net"
	nfpm       = "../../../build/tools/nfpm-v2.45.2" // as the Makefile has it
)

// refused is why there is no machine, or "".
var refused string

// soak reports whether the counts are those that the promises name.
var soak = os.Getenv("HOSTROLE_SOAK") == "1"

func TestMain(m *testing.M) {
	flag.Parse()
	if left := os.Getenv(leftEnv); left != "" {
		if err := enter(left); err != nil {
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

// again builds what is installed, while there is a network to fetch modules by,
// and runs this binary in a new network namespace.
func again() (int, error) {
	if why := machine.Missing(); why != "" {
		return 0, errors.New(why)
	}
	if _, err := os.Stat(nfpm); err != nil {
		return 0, fmt.Errorf("%w: make deb makes it", err)
	}
	dir, err := os.MkdirTemp("", "hostrole-installed-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if out, err := exec.Command("testdata/build.sh", dir, nfpm).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the packages: %v\n%s", err, out)
		return 1, nil
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	left, err := os.Readlink(ownNetwork)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), leftEnv+"="+left, scratchEnv+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the child dies with this thread
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// enter sets lo up, in what is sure to be another namespace than left, with
// nothing in it.
func enter(left string) error {
	here, err := os.Readlink(ownNetwork)
	if err != nil || here == left {
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
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// missing skips t for the want of something, or fails it where everything is
// required.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv(requireEnv) == "require" {
		t.Fatalf("missing, and "+requireEnv+"=require: "+format, args...)
	}
	t.Skipf("SKIPPED, missing: "+format, args...)
}

// ground skips t where there is no machine to boot.
func ground(t *testing.T) {
	t.Helper()
	if refused != "" {
		missing(t, "%s", refused)
	}
	noteSources(t)
	// That of an earlier test's machine, which is gone, would end by itself in
	// ten seconds.
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(addresses, func(a net.Addr) bool { return a.String() == "169.254.169.254/32" }) {
		if out, err := exec.Command("ip", "address", "del", "169.254.169.254/32", "dev", "lo").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// built is the path of what build.sh made: hostrole, clients, first.deb,
// second.deb.
func built(name string) string { return filepath.Join(os.Getenv(scratchEnv), name) }

// noteSources looks at every folder of the module, so that the test cache of the
// go command does not call the tests of yesterday's program passed.
func noteSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("../../..", func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() && (e.Name() == "build" || strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), "..")) {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls until is returns true, and fails t after limit.
func eventually(t *testing.T, what string, limit time.Duration, is func() bool) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(limit); !is(); <-poll.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v for: %s", limit, what)
		}
	}
}

// pause waits, and ends with the test.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
