package command_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/rotation/command"
)

func sh(script string, limit time.Duration) command.Command {
	return command.Command{Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Timeout: limit}
}

func TestOutput(t *testing.T) {
	out, err := sh("echo hello; echo noise >&2", 10*time.Second).Output(t.Context())
	if err != nil || string(out) != "hello\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestFailureTellsTheErrorAndNotTheOutput(t *testing.T) {
	_, err := sh("echo SECRET; printf 'it is\\n\\033[31mlocked' >&2; exit 3", 10*time.Second).Output(t.Context())
	if err == nil || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), "it is [31mlocked") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
}

func TestTimeoutEndsTheWholeGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	_, err := sh("sleep 60 & echo $! > "+pidFile+"; wait", 300*time.Millisecond).Output(t.Context())
	if err == nil || !strings.Contains(err.Error(), "did not end within 300ms") {
		t.Fatalf("got %v", err)
	}
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		// An orphan that nobody has reaped yet is dead all the same.
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if syscall.Kill(pid, 0) != nil || err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("the program's child %d is still there", pid)
}

func TestCancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sh("echo x", time.Minute).Output(ctx); err == nil {
		t.Error("no error")
	}
}

func TestEndlessOutputIsCut(t *testing.T) {
	_, err := sh("head -c 300000 /dev/zero", 10*time.Second).Output(t.Context())
	if err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

func TestEnvironKeepsTheDaemonsOwn(t *testing.T) {
	got := command.Environ([]string{"PATH=/bin", "NOTIFY_SOCKET=/run/n", "LISTEN_FDS=1", "WATCHDOG_USEC=1", "AWS_PROFILE=x", "AWS_EC2_METADATA_DISABLED=false"})
	want := []string{"PATH=/bin", "AWS_PROFILE=x", "AWS_EC2_METADATA_DISABLED=true"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMissingProgram(t *testing.T) {
	_, err := command.Command{Argv: []string{"/nonexistent/helper"}, Timeout: time.Second}.Output(t.Context())
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/helper") {
		t.Errorf("got %v", err)
	}
}
