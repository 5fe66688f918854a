//go:build linux

package installed_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

const (
	qemuEnv = "HOSTROLE_E2E_QEMU" // "1": boot a virtual machine as well
	example = "AKIAIOSFODNN7EXAMPLE"
)

const guestConfig = `version = 1
[metadata]
region = "eu-west-1"
[rotation]
splay = "0s"
[[allow]]
any = true
roles = ["app"]
[source.helper]
kind = "process"
command = ["/bin/cat", "/etc/hostrole/credential.json"]
[role.app]
from = "source.helper"
[[listener]]
name = "host"
kind = "imds"
address = ["169.254.169.254:80", "[fd00:ec2::254]:80"]
link = "hostrole0"
`

// TestVirtualMachine installs the package on Debian's own kernel, where the
// address has a dummy link, control groups have all controllers, and the kernel
// learns who calls from a module.
func TestVirtualMachine(t *testing.T) {
	if os.Getenv(qemuEnv) != "1" {
		t.Skipf("SKIPPED: make qemu runs it, with %s=1: a machine without the help of a processor takes its time", qemuEnv)
	}
	ground(t)
	cache := os.Getenv("HOSTROLE_E2E_CACHE")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(base, "hostrole-e2e")
	}
	from := filepath.Join(cache, "qemu-bookworm")
	if _, err := os.Stat(filepath.Join(from, "made-of")); err != nil {
		ownnet.Missing(t, "a virtual machine: run agent/e2e/installed/setup.sh")
	}
	dir := t.TempDir()
	for name, path := range map[string]string{"hostrole.deb": built("first.deb"), "clients": built("clients"), "check.sh": "testdata/guest.sh"} {
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o755) // #nosec G306 -- programs
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	credential := fmt.Sprintf(`{"Version":1,"AccessKeyId":%q,"SecretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY","SessionToken":"a-session-token","Expiration":%q}`,
		example, time.Now().Add(6*time.Hour).UTC().Format(time.RFC3339))
	for name, text := range map[string]string{"hostrole.toml": guestConfig, "credential.json": credential} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { // #nosec G306 -- the daemon reads it
			t.Fatal(err)
		}
	}
	bridges := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", filepath.Join(dir, "netns"), "../../../imds/caller/netns")
	bridges.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := bridges.CombinedOutput(); err != nil {
		t.Fatalf("building the tests of callers behind bridges: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), "testdata/qemu.sh", from, dir).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		said[word] = strings.TrimSpace(rest)
	}
	for word, want := range map[string]string{
		"virtual": "qemu", "served": example, "type": "dummy", "again": example, "restart": "same", "memory": "100663296 100663296", "tasks": "64",
		"modules": "0", "loaded": "2", "left": "", "failed": "",
	} {
		if got, ok := said[word]; !ok || got != want {
			t.Errorf("%s is %q, want %q", word, got, want)
		}
	}
	for word, want := range map[string]string{"kernel": "cloud", "sdk": example, "link": "169.254.169.254/32", "kill": "same ", "controllers": "memory", "without": "tcp_diag"} {
		if !strings.Contains(said[word], want) {
			t.Errorf("%s is %q, without %q", word, said[word], want)
		}
	}
	if !strings.Contains(said["link"], "fd00:ec2::254/128") {
		t.Errorf("the link has %s", said["link"])
	}
	for _, word := range []string{"dpkg", "check", "timeout", "purge"} {
		if got, ok := said[word]; ok {
			t.Errorf("%s: %s", word, got)
		}
	}
	if got := strings.Fields(said["bridges"]); len(got) < 2 || got[0] != "0" || strings.Contains(said["bridges"], "VLANs") {
		t.Errorf("callers behind bridges: %s", said["bridges"])
	}
	if _, ok := said["end"]; !ok {
		t.Error("the script did not end")
	}
}
