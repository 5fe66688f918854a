//go:build linux

package runtimes_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

const scratchEnv = "HOSTROLE_RUNTIMES_DIR" // what was built: hostrole, clients, hold

func TestMain(m *testing.M) {
	os.Exit(ownnet.Main(m, ownnet.Plan{
		Missing: ownnet.NotRoot("for systemd and the runtimes"), Build: build, Roles: map[string]func() error{"asker": beAsker},
	}))
}

func build(dir string) ([]string, error) {
	for name, from := range map[string]string{"hostrole": "../../../cmd/hostrole", "clients": "../clients", "hold": "testdata/hold"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, name), ".")
		cmd.Dir = from
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", name, err, out)
		}
	}
	return []string{scratchEnv + "=" + dir}, nil
}

// need skips t unless there is a namespace, and all that is to run in it.
func need(t testing.TB, tools ...string) {
	t.Helper()
	ownnet.Need(t)
	if mounts, err := os.ReadFile("/proc/mounts"); err != nil || !strings.Contains(string(mounts), " cgroup2 ") {
		ownnet.Missing(t, "cgroup v2")
	}
	for _, name := range tools {
		if _, err := exec.LookPath(name); err != nil {
			ownnet.Missing(t, "%s: run agent/e2e/runtimes/setup.sh", name)
		}
	}
}
