//go:build linux

package failures_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

const binaryEnv = "HOSTROLE_FAILURES_BIN"

func TestMain(m *testing.M) {
	os.Exit(ownnet.Main(m, ownnet.Plan{
		Missing: ownnet.NotRoot("for callers that the kernel can tell apart"),
		Build: func(dir string) ([]string, error) {
			binary := filepath.Join(dir, "hostrole")
			cmd := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "./cmd/hostrole")
			cmd.Dir = "../../.."
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("cmd/hostrole: %w\n%s", err, out)
			}
			return []string{binaryEnv + "=" + binary}, nil
		},
	}))
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
