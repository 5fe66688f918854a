//go:build linux

package failures_test

import (
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

const (
	leftEnv    = "HOSTROLE_FAILURES_LEFT" // the network namespace that must not be used
	binaryEnv  = "HOSTROLE_FAILURES_BIN"
	ownNetwork = "/proc/thread-self/ns/net"
)

// refused is why there is no namespace of our own, or "".
var refused string

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
		code = m.Run() // every test looks at it first
	}
	os.Exit(code)
}

// again builds hostrole and runs the tests in a network namespace of their own.
func again() (int, error) {
	if os.Getuid() != 0 {
		return 0, errors.New("this needs root: hostrole tells callers apart only where every uid is its own")
	}
	dir, err := os.MkdirTemp("", "hostrole-failures-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // #nosec G302 -- another user runs what is in it
		return 0, err
	}
	binary := filepath.Join(dir, "hostrole")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "./cmd/hostrole")
	build.Dir = "../../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building cmd/hostrole: %v\n%s", err, out)
		return 1, nil
	}
	left, err := os.Readlink(ownNetwork)
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), leftEnv+"="+left, binaryEnv+"="+binary)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the child dies with this thread
	defer runtime.UnlockOSThread()
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	} else if err != nil {
		return 0, err
	}
	return 0, nil
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
		if l.Flags&net.FlagLoopback == 0 && l.Flags&net.FlagUp != 0 {
			return fmt.Errorf("link %s is up in what should be an empty network namespace", l.Name)
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

// alone skips t, or fails it where nothing may be skipped, without a namespace
// of our own.
func alone(t *testing.T) {
	t.Helper()
	if refused != "" {
		missing(t, "a network namespace of its own: "+refused)
	}
}

// missing skips t for the want of something, or fails it where everything is
// required.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("HOSTROLE_E2E") == "require" {
		t.Fatalf("missing, and HOSTROLE_E2E=require: %s", what)
	}
	t.Skipf("SKIPPED, missing: %s", what)
}

// noteSources looks at every folder of the module, so that the test cache of the
// go command does not call the tests of yesterday's program passed.
func noteSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("../../..", func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), "..") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
