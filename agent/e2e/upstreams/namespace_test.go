//go:build linux

package upstreams_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

const (
	binaryEnv  = "HOSTROLE_BIN" // the hostrole to test; built when empty
	clientsEnv = "HOSTROLE_UPSTREAMS_CLIENTS"
	idpEnv     = "HOSTROLE_UPSTREAMS_IDP"
)

func TestMain(m *testing.M) {
	os.Exit(ownnet.Main(m, ownnet.Plan{
		Missing: ownnet.NotRoot("for mounts and for callers that the kernel can tell apart"),
		Mounts:  true, Build: build,
	}))
}

func build(dir string) (env []string, err error) {
	for _, b := range []struct{ name, variable, from string }{
		{"hostrole", binaryEnv, "../../../cmd/hostrole"},
		{"clients", clientsEnv, "../clients"}, // those of agent/e2e
		{"idp", idpEnv, "idp"},
	} {
		if os.Getenv(b.variable) != "" {
			continue
		}
		file := filepath.Join(dir, b.name)
		cmd := exec.Command("go", "build", "-C", b.from, "-o", file, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", b.name, err, out)
		}
		env = append(env, b.variable+"="+file)
	}
	return env, nil
}

// needs is what every test here begins with.
func needs(t testing.TB) {
	t.Helper()
	ownnet.Need(t)
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

// ip runs ip(8) in this namespace.
func ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(tool(t, "ip"), args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
