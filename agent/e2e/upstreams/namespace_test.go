//go:build linux

package upstreams_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// The test binary runs twice: by hand, to build what the tests run and to make
// namespaces of network and mounts, and in these, as the tests.
const (
	insideEnv  = "HOSTROLE_UPSTREAMS_LEFT" // the network namespace that was left
	binaryEnv  = "HOSTROLE_BIN"            // the hostrole to test; built when empty
	clientsEnv = "HOSTROLE_UPSTREAMS_CLIENTS"
	idpEnv     = "HOSTROLE_UPSTREAMS_IDP"
	requireEnv = "HOSTROLE_E2E" // "require": nothing may be skipped
	ownNetwork = "/proc/thread-self/ns/net"
)

// unable is why no test can run, or "".
var unable string

func TestMain(m *testing.M) {
	flag.Parse()
	if left := os.Getenv(insideEnv); left != "" {
		if err := enter(left); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		unable = "root, for namespaces and for callers that the kernel can tell apart"
		os.Exit(m.Run())
	}
	code, err := again()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// needs is what every test here begins with.
func needs(t testing.TB) {
	t.Helper()
	if unable != "" {
		missing(t, "%s", unable)
	}
	// The go command's cache of tests notes what a test reads: without a look at
	// every folder of the module, those of yesterday's hostrole would pass today.
	err := filepath.WalkDir("../../..", func(_ string, e os.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // what somebody else has just taken away
			return nil
		}
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), ".") && len(e.Name()) > 2 {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
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
// returns its exit status. What has to be built is built before: a namespace
// has no network to fetch modules by.
func again() (int, error) {
	dir, err := os.MkdirTemp("", "hostrole-upstreams-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	env := os.Environ()
	for _, b := range []struct{ name, variable, from string }{
		{"hostrole", binaryEnv, "../../../cmd/hostrole"},
		{"clients", clientsEnv, "../clients"}, // those of agent/e2e
		{"idp", idpEnv, "idp"},
	} {
		if os.Getenv(b.variable) != "" {
			continue
		}
		file := filepath.Join(dir, b.name)
		build := exec.Command("go", "build", "-C", b.from, "-o", file, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("building %s: %w\n%s", b.name, err, out)
		}
		env = append(env, b.variable+"="+file)
	}
	left, err := os.Readlink(ownNetwork)
	if err != nil {
		return 1, err
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(env, insideEnv+"="+left)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	runtime.LockOSThread() // the child dies with this thread
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// enter makes the new namespace usable, once it is sure to be one: the root of
// the machine's network is not for tests.
func enter(left string) error {
	here, err := os.Readlink(ownNetwork)
	if err != nil {
		return err
	}
	if here == left {
		return fmt.Errorf("still in the network namespace %s", here)
	}
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Flags&net.FlagUp != 0 {
			return fmt.Errorf("link %s is up in what should be an empty network namespace", l.Name)
		}
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts from the machine: %w", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("setting lo up: %w: %s", err, out)
	}
	return nil
}

// ip runs ip(8) in this namespace.
func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(tool(t, "ip"), args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
