package systemd_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const unitDir = "units"

// analyze returns the path of systemd-analyze, or skips t.
func analyze(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("SKIPPED, missing: systemd-analyze")
	}
	return path
}

// tree is a file system with the units installed, and the drop-ins of names.
func tree(t *testing.T, dropIns ...string) string {
	t.Helper()
	root := t.TempDir()
	install := func(from, to string, mode fs.FileMode) {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, to)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, to), b, mode); err != nil {
			t.Fatal(err)
		}
	}
	units, err := filepath.Glob(unitDir + "/hostrole*.*")
	if err != nil || len(units) == 0 {
		t.Fatalf("no units: %v", err)
	}
	for _, u := range units {
		install(u, "usr/lib/systemd/system/"+filepath.Base(u), 0o644)
	}
	for _, other := range []string{"sysinit", "basic", "shutdown", "sockets", "multi-user"} {
		if err := os.WriteFile(filepath.Join(root, "usr/lib/systemd/system", other+".target"), []byte("[Unit]\nDescription=Of the system\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range dropIns {
		install(unitDir+"/examples/hostrole.service.d/"+d, "etc/systemd/system/hostrole.service.d/"+d, 0o644)
	}
	for _, program := range []string{"usr/bin/hostrole", "bin/kill"} { // it looks whether they are there
		install("/proc/self/exe", program, 0o755)
	}
	return root
}

func TestUnitsAreUnderstood(t *testing.T) {
	program := analyze(t)
	for name, dropIns := range map[string][]string{"as shipped": nil, "with the examples": {"socket.conf", "secret.conf"}} {
		root := tree(t, dropIns...)
		args := []string{"verify", "--root=" + root, "--man=no"}
		for _, u := range []string{"hostrole.service", "hostrole@second.service", "hostrole.socket", "hostrole-wait.service", "hostrole-credentials.target"} {
			args = append(args, "/usr/lib/systemd/system/"+u)
		}
		out, err := exec.Command(program, args...).CombinedOutput()
		var ours []string
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "hostrole") {
				ours = append(ours, line)
			}
		}
		if len(ours) > 0 || err != nil && strings.Contains(string(out), "hostrole") {
			t.Errorf("%s: %v\n%s", name, err, strings.Join(ours, ""))
		}
	}
}

func TestUnitsAreConfined(t *testing.T) {
	program := analyze(t)
	units, err := filepath.Glob(unitDir + "/*.service")
	if err != nil || len(units) < 3 {
		t.Fatalf("%d units: %v", len(units), err)
	}
	for _, unit := range units {
		out, err := exec.Command(program, "security", "--no-pager", "--offline=true", "--threshold=18", unit).CombinedOutput()
		if err != nil {
			t.Errorf("%s: the exposure is above 1.8: %v\n%s", unit, err, out)
		}
	}
}

// What the daemon relies on and no score shows.
func TestUnitsKeepTheirPromises(t *testing.T) {
	for unit, lines := range map[string][]string{
		"hostrole.service": {"Type=notify", "FileDescriptorStoreMax=1024", "WatchdogSec=8s", "StartLimitIntervalSec=0", "Restart=always",
			"RestartPreventExitStatus=78", "NotifyAccess=main", "LimitCORE=0", "SystemCallErrorNumber=EPERM"},
		"hostrole.socket": {"FreeBind=yes", "BindToDevice=lo", "ListenStream=169.254.169.254:80", "FileDescriptorName=host"},
	} {
		b, err := os.ReadFile(filepath.Join(unitDir, unit))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if !strings.Contains(string(b), "\n"+line+"\n") {
				t.Errorf("%s does not say %s", unit, line)
			}
		}
	}
}

// A second daemon is confined and kept as the first one is: only what names it
// differs.
func TestUnitOfASecondDaemonIsTheSame(t *testing.T) {
	lines := func(unit string) map[string]bool {
		b, err := os.ReadFile(filepath.Join(unitDir, unit))
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]bool{}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				all[line] = true
			}
		}
		return all
	}
	first, second := lines("hostrole.service"), lines("hostrole@.service")
	for one, other := range map[string]string{
		"Description=Role credentials on the metadata address": "Description=Role credentials on another address, %i",
		"ExecStart=/usr/bin/hostrole run":                      "ExecStart=/usr/bin/hostrole run --config /etc/hostrole/%i.toml",
		"ExecReload=/usr/bin/hostrole reload":                  "ExecReload=/usr/bin/hostrole reload --socket /run/hostrole@%i/admin.sock",
		"RuntimeDirectory=hostrole":                            "RuntimeDirectory=hostrole@%i",
		"StateDirectory=hostrole":                              "StateDirectory=hostrole@%i",
		"User=hostrole":                                        "User=hostrole-%i",
	} {
		if !first[one] || !second[other] {
			t.Errorf("missing: %q in the one unit, or %q in the other", one, other)
		}
		delete(first, one)
		delete(second, other)
	}
	delete(second, "Group=hostrole")
	for line := range first {
		if !second[line] {
			t.Errorf("hostrole@.service does not say %s", line)
		}
	}
	for line := range second {
		if !first[line] {
			t.Errorf("hostrole.service does not say %s", line)
		}
	}
}
