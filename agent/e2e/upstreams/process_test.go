//go:build linux

package upstreams_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

// A process is a program that a test started. It ends with the test at the
// latest, and with the test binary if that is killed.
type process struct {
	name string
	cmd  *exec.Cmd
	out  *journal // what it wrote, on both streams
	done chan struct{}
	err  error // of Wait; set when done is closed
}

// start runs cmd until the test ends. When the test failed, it shows what the
// program wrote last.
func start(t testing.TB, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: name, cmd: cmd, out: &journal{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			text := strings.Split(p.out.String(), "\n")
			t.Logf("%s wrote last:\n%s", name, strings.Join(text[max(0, len(text)-30):], "\n"))
		}
	})
	return p
}

// await polls until ready returns true. It fails the test when p ends before,
// or after limit.
func (p *process) await(t testing.TB, what string, limit time.Duration, ready func() bool) {
	t.Helper()
	eventually(t, p.name+" "+what, limit, func() bool {
		select {
		case <-p.done:
			t.Fatalf("%s ended before it %s: %v", p.name, what, p.err)
		default:
		}
		return ready()
	})
}

// listens waits until something takes connections at address.
func (p *process) listens(t testing.TB, address string, limit time.Duration) {
	t.Helper()
	p.await(t, "listens at "+address, limit, func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// eventually polls until ready returns true and fails the test after limit.
func eventually(t testing.TB, what string, limit time.Duration, ready func() bool) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(limit); !ready(); <-poll.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v for: %s", limit, what)
		}
	}
}

// bare is the environment of a program: no credential can be in reach, and no
// proxy.
func bare(t testing.TB, more ...string) []string {
	return append([]string{
		"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8",
		"AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
	}, more...)
}

// tool returns the path of a program, or skips t.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		ownnet.Missing(t, "%s: run agent/e2e/setup.sh", name)
	}
	return path
}

// cached returns the path of what the setup scripts keep under name, or skips
// t.
func cached(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("HOSTROLE_E2E_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(base, "hostrole-e2e")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		ownnet.Missing(t, "%s: run agent/e2e/setup.sh", name)
	}
	return path
}

// heavy skips a test whose server takes minutes to build, unless it is asked
// for.
func heavy(t testing.TB) {
	t.Helper()
	if os.Getenv("HOSTROLE_E2E_UPSTREAMS") != "all" {
		t.Skip("its server takes minutes to build: agent/e2e/setup.sh --upstreams, then HOSTROLE_E2E_UPSTREAMS=all, or make upstreams")
	}
}

// pinned returns the version that a go.mod or a setup script names: the word
// behind pattern.
func pinned(t testing.TB, file, pattern string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)` + pattern + `(\S+)`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no version behind %q", file, pattern)
	}
	return string(m[1])
}

// write puts a file into a folder of the test, for its owner alone, and
// returns its path.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	replace(t, path, text)
	return path
}

// replace changes a file as a rotating agent does: whole, by its name.
func replace(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A journal keeps what a program writes.
type journal struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}
