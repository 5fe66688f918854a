//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
		p.end(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("%s wrote last:\n%s", name, p.out.tail(40))
		}
	})
	return p
}

// end sends sig unless p has ended, waits for the end and returns its error.
func (p *process) end(sig syscall.Signal) error {
	select {
	case <-p.done:
		return p.err
	default:
	}
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
		return p.err
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s was still there 15 s after %v", p.name, sig)
	}
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

// output runs a program to its end, with an environment that holds nothing but
// env, and returns what it wrote on its standard output.
func output(t testing.TB, limit time.Duration, env []string, argv ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = env
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.Bytes()
}

// bare is the environment of a caller: no credential but the metadata
// service's can be in reach, and no proxy.
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

// cached returns the path of what setup.sh keeps under name, or skips t.
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

// pinned returns the version of a module that the go.mod below dir requires.
func pinned(t testing.TB, dir, module string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^\s*(?:require )?` + regexp.QuoteMeta(module) + ` (\S+)`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s/go.mod does not require %s", dir, module)
	}
	return string(m[1])
}

// A journal keeps what a program writes.
type journal struct {
	mu   sync.Mutex // guards text
	text []byte
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text = append(j.text, b...)
	return len(b), nil
}

// since returns the whole lines after the first n bytes.
func (j *journal) since(n int) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	text := j.text[n:]
	return string(text[:bytes.LastIndexByte(text, '\n')+1])
}

func (j *journal) size() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.text)
}

// tail returns the last n lines, without the requests of hostrole's log:
// while a test waits, it asks often.
func (j *journal) tail(n int) string {
	lines := slices.DeleteFunc(strings.SplitAfter(j.since(0), "\n"), func(line string) bool {
		return strings.Contains(line, `"msg":"request"`)
	})
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
