package machine

import (
	"bufio"
	"context"
	_ "embed" // boot.sh
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

//go:embed boot.sh
var boot string

const (
	bootLimit = 60 * time.Second
	stopLimit = 20 * time.Second
)

// Options of a Machine. The zero Options are a machine without hostrole, in the
// network of the test.
type Options struct {
	// Copies are files and folders of this machine, and where they go: the
	// content of a folder goes into one of that name.
	Copies map[string]string
	// Files are texts by the paths where they go, readable for everybody.
	Files map[string]string
	// Packages is a folder of Debian packages, unpacked but not configured.
	Packages string
	// OwnNetwork gives it a network namespace of its own, with nothing in it.
	// Otherwise it has the test's, which then must not be the machine's own.
	OwnNetwork bool
	// Size bounds what it can write, such as "2g". Default: 1g.
	Size string
	// Arguments are for systemd-nspawn.
	Arguments []string
}

// A Machine runs until its test ends. It may be used concurrently.
type Machine struct {
	leader string
	own    bool
}

// Missing is what this machine lacks to boot another one, or "".
func Missing() string {
	uids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil || os.Getuid() != 0 || strings.Join(strings.Fields(string(uids)), " ") != "0 0 4294967295" {
		return "root on the host, to boot a system"
	}
	for _, tool := range []string{"systemd-nspawn", "nsenter", "pgrep", "bash"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + ": run agent/e2e/setup.sh"
		}
	}
	if mounts, err := os.ReadFile("/proc/mounts"); err != nil || !strings.Contains(string(mounts), " cgroup2 ") {
		return "cgroup v2"
	}
	return ""
}

// Start boots a Machine and returns when it runs. At the end of a test that
// failed it shows the journals of units, patterns of their names.
func Start(t testing.TB, o Options, units ...string) *Machine {
	t.Helper()
	if o.Size == "" {
		o.Size = "1g"
	}
	dir := t.TempDir()
	script, tree := filepath.Join(dir, "boot.sh"), filepath.Join(dir, "tree")
	write(t, script, boot, 0o700)
	for path, text := range o.Files {
		write(t, filepath.Join(tree, path), text, 0o644)
	}
	for from, to := range o.Copies {
		info, err := os.Stat(from)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			from += "/."
		}
		at := filepath.Join(tree, to)
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", `mkdir -p "$(dirname "$1")" && cp -rT "$0" "$1" && chmod -R a+rX "$1"`, from, at).CombinedOutput(); err != nil { // #nosec G204 -- a test's own paths
			t.Fatalf("copying %s: %v\n%s", from, err, out)
		}
	}
	if err := os.MkdirAll(tree, 0o700); err != nil {
		t.Fatal(err)
	}
	// Not the test's context: that ends before what is to stop the machine.
	cmd := exec.CommandContext(context.Background(), script, append([]string{tree, o.Packages, o.Size}, o.Arguments...)...) // #nosec G204 -- likewise
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Setpgid: true}                                  // its mounts go with it
	if o.OwnNetwork {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	}
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := &Machine{own: o.OwnNetwork}
	t.Cleanup(func() {
		if t.Failed() && m.leader != "" {
			t.Logf("the journal:\n%s", m.Try(append([]string{"journalctl", "--no-pager", "-n", "80"}, eachUnit(units)...)...))
		}
		stop(t, cmd, hold)
	})
	m.leader = leaderOf(t, cmd, out)
	return m
}

func eachUnit(patterns []string) (args []string) {
	for _, p := range patterns {
		args = append(args, "-u", p)
	}
	return args
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755) // #nosec G301 -- a root that everybody reads
	if err == nil {
		err = os.WriteFile(path, []byte(text), mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// leaderOf waits until the script says which process is the first of the
// machine.
func leaderOf(t testing.TB, cmd *exec.Cmd, out io.Reader) string {
	t.Helper()
	late := time.AfterFunc(bootLimit, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) })
	defer late.Stop()
	var said strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if pid, ok := strings.CutPrefix(lines.Text(), "leader "); ok {
			return pid
		}
		said.WriteString(lines.Text() + "\n")
	}
	t.Fatalf("the machine did not boot within %v:\n%s", bootLimit, said.String())
	return ""
}

// stop ends the script, which ends the machine.
func stop(t testing.TB, cmd *exec.Cmd, hold io.Closer) {
	t.Helper()
	_ = hold.Close()
	late := time.AfterFunc(stopLimit, func() {
		t.Errorf("the machine did not stop within %v", stopLimit)
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	})
	_ = cmd.Wait()
	late.Stop()
}

// Command is a program in the machine, not started.
func (m *Machine) Command(argv ...string) *exec.Cmd {
	into := []string{"-t", m.leader, "-m", "-u", "-i", "-p", "-C"}
	if m.own {
		into = append(into, "-n")
	}
	cmd := exec.CommandContext(context.Background(), "nsenter", append(append(into, "--"), argv...)...) // #nosec G204 -- what a test asks for
	cmd.WaitDelay = time.Second                                                                         // a service that was started may keep the output open
	return cmd
}

// Try runs a program in the machine and returns what it wrote, with the error
// in brackets if it failed.
func (m *Machine) Try(argv ...string) string {
	out, err := m.Command(argv...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s(%v)", out, err)
	}
	return strings.TrimSpace(string(out))
}

// Run is Try for what must not fail.
func (m *Machine) Run(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := m.Command(argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// Write puts a text into a file of the machine, and makes its folder.
func (m *Machine) Write(t testing.TB, path, text string) {
	t.Helper()
	cmd := m.Command("sh", "-c", `mkdir -p "$(dirname "$0")" && cat >"$0"`, path)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("writing %s: %v\n%s", path, err, out)
	}
}

// Property is one of a unit, by systemctl.
func (m *Machine) Property(unit, name string) string {
	return m.Try("systemctl", "show", unit, "--value", "-p", name)
}
