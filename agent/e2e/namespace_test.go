//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

const (
	binaryEnv  = "HOSTROLE_BIN"     // the hostrole to test; built when empty
	scratchEnv = "HOSTROLE_E2E_DIR" // a folder for what is built once; it ends with the tests
)

// Without a network of its own nothing may run but the test that says so.
func TestMain(m *testing.M) {
	os.Exit(ownnet.Main(m, ownnet.Plan{Build: build, Without: "^TestOwnNamespace$", Roles: map[string]func() error{"baseline": serveBaseline}}))
}

func build(dir string) ([]string, error) {
	env := []string{scratchEnv + "=" + dir}
	if os.Getenv(binaryEnv) != "" {
		return env, nil
	}
	binary := filepath.Join(dir, "hostrole")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/hostrole")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cmd/hostrole: %w\n%s", err, out)
	}
	return append(env, binaryEnv+"="+binary), nil
}

// TestOwnNamespace is the ground that all others stand on.
func TestOwnNamespace(t *testing.T) { ownnet.Need(t) }
