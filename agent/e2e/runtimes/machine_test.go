//go:build linux

package runtimes_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A machine is a system that runs under systemd, with hostrole and the container
// engines in it, in this network namespace.
type machine struct {
	t      *testing.T
	leader string
}

// A journal is what a program has written so far.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) String() string { j.mu.Lock(); defer j.mu.Unlock(); return j.buf.String() }

// boot starts a machine until the test ends; files are in its /opt/e2e.
func boot(t *testing.T, files map[string][]byte) *machine {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil { // #nosec G306 -- some are programs
			t.Fatal(err)
		}
	}
	cmd := exec.Command("testdata/machine.sh", filepath.Join(os.Getenv(scratchEnv), "hostrole"), "../../../systemd/units", dir)
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &journal{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM} // its mounts go with it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	m := &machine{t: t}
	t.Cleanup(func() {
		if t.Failed() && m.leader != "" {
			out, _ := m.command(context.Background(), "journalctl", "--no-pager", "-n", "80", "-u", "hostrole*").CombinedOutput()
			t.Logf("the journal:\n%s", out)
		}
		_ = hold.Close()
		select {
		case <-done:
		case <-time.After(40 * time.Second):
			t.Error("the machine did not stop")
		}
	})
	eventually(t, "the machine runs", 60*time.Second, func() bool {
		for line := range strings.Lines(said.String()) {
			if pid, ok := strings.CutPrefix(line, "leader "); ok {
				m.leader = strings.TrimSpace(pid)
			}
		}
		if m.leader == "" && len(done) > 0 {
			t.Fatalf("it ended: %s", said)
		}
		return m.leader != ""
	})
	return m
}

func (m *machine) command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", m.leader, "-m", "-u", "-i", "-p", "-C", "--", "env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "AWS_REGION=us-east-1"}, argv...)...)
	cmd.WaitDelay = time.Second
	return cmd
}

// try runs a program in m and returns what it wrote to its output, and else.
func (m *machine) try(argv ...string) (out, errs string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := m.command(ctx, argv...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return strings.TrimSpace(o.String()), strings.TrimSpace(e.String()), err
}

// run is try for what must not fail.
func (m *machine) run(argv ...string) string {
	m.t.Helper()
	out, errs, err := m.try(argv...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s\n%s", strings.Join(argv, " "), err, out, errs)
	}
	return out
}

// write puts a text into a file of m.
func (m *machine) write(path, text string) {
	m.t.Helper()
	cmd := m.command(m.t.Context(), "sh", "-c", `mkdir -p "${0%/*}" && cat >"$0"`, path)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("writing %s: %v\n%s", path, err, out)
	}
}

// copy puts a file of this tree into a file of m.
func (m *machine) copy(from, to string) {
	m.t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(to, string(text))
}

// built is a program that was built before the tests.
func built(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(os.Getenv(scratchEnv), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func eventually(t testing.TB, what string, limit time.Duration, ready func() bool) {
	t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(limit); !ready(); <-poll.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v for: %s", limit, what)
		}
	}
}

// image is a container's file system with these programs in it.
func image(t *testing.T, programs ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"bin", "etc", "usr", "proc", "sys", "dev", "tmp", "run"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil { // #nosec G301 -- others run it
			t.Fatal(err)
		}
	}
	files := map[string][]byte{"etc/os-release": nil, "etc/passwd": []byte("root:x:0:0::/:/bin/false\n")}
	for _, name := range programs {
		files["bin/"+name] = built(t, name)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil { // #nosec G306 -- others run it
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	cmd := exec.Command("tar", "--owner=0", "--group=0", "-C", dir, "-cf", "-", ".")
	cmd.Stdout, cmd.Stderr = &out, io.Discard
	if err := cmd.Run(); err != nil {
		t.Fatal(fmt.Errorf("packing an image: %w", err))
	}
	return out.Bytes()
}
