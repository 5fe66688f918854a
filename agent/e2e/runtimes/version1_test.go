//go:build linux

package runtimes_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Where /sys/fs/cgroup is no version 2, as on hosts with version 1 or with both,
// the kernel cannot tell units and containers: a rule that asks for them does
// not load, and the daemon ends and says why. It must not look as if it matched,
// nor leave its callers to the next rule.
func TestVersion1RefusesRulesAboutUnits(t *testing.T) {
	need(t, "mount")
	for _, facts := range []string{`unit = ["app.service"]`, `container = ["*"]`, `image = ["web:*"]`, `label = ["tier=front"]`, `user = ["root"]`} {
		file := filepath.Join(t.TempDir(), "hostrole.toml")
		config := `version = 1
[[listener]]
name = "host"
kind = "imds"
address = ["127.0.0.1:31338"]
ingress = ""
[source.helper]
kind = "process"
command = ["/bin/false"]
[role.app]
from = "source.helper"
[[allow]]
` + facts + `
roles = ["app"]
`
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sh", "-c", `mount -t tmpfs none /sys/fs/cgroup && exec "$0" check --config "$1"`, filepath.Join(os.Getenv(scratchEnv), "hostrole"), file) // #nosec G204 -- the program under test
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if strings.HasPrefix(facts, "user") {
			if err != nil {
				t.Errorf("%s: %v\n%s", facts, err, out)
			}
			continue
		}
		exit, _ := errors.AsType[*exec.ExitError](err)
		if exit == nil || exit.ExitCode() != 78 || !strings.Contains(string(out), "boot with cgroup v2 alone") {
			t.Errorf("%s: %v, want status 78 and the reason\n%s", facts, err, out)
		}
	}
}
