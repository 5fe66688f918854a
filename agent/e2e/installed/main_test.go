//go:build linux

package installed_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"github.com/hostrole/hostrole/agent/e2e/machine"
)

const (
	scratchEnv = "HOSTROLE_INSTALLED_DIR"            // what was built: see build
	nfpm       = "../../../build/tools/nfpm-v2.45.2" // as the Makefile has it
)

// soak reports whether the counts are those that the promises name.
var soak = os.Getenv("HOSTROLE_SOAK") == "1"

func TestMain(m *testing.M) {
	os.Exit(ownnet.Main(m, ownnet.Plan{Missing: lacks(), Build: func(dir string) ([]string, error) {
		if out, err := exec.Command("testdata/build.sh", dir, nfpm).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("the packages: %w\n%s", err, out)
		}
		return []string{scratchEnv + "=" + dir}, nil
	}}))
}

func lacks() string {
	if why := machine.Missing(); why != "" {
		return why
	}
	if _, err := os.Stat(nfpm); err != nil {
		return err.Error() + ": make deb makes it"
	}
	return ""
}

// ground skips t where there is no machine to boot.
func ground(t *testing.T) {
	t.Helper()
	ownnet.Need(t)
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
