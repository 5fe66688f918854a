package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// status --watch follows a window that is made smaller and larger, and gives
// back the terminal that it found, with the newest status on it.
func TestWatchIsResized(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), filepath.Join(binaries, "hostrole"), "demo", "--", "sh", "-c", "hostrole wait && exec hostrole status --watch")
	cmd.Env = []string{"PATH=" + binaries + string(os.PathListSeparator) + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TERM=xterm"}
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var mu sync.Mutex
	var seen strings.Builder
	read := make(chan struct{})
	go func() {
		defer close(read)
		b := make([]byte, 4096)
		for {
			n, err := f.Read(b)
			mu.Lock()
			seen.Write(b[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	// frames waits for the frames that begin from now on until one is as asked.
	frame := func(what string, is func(lines []string) bool) {
		t.Helper()
		mu.Lock()
		from := seen.Len()
		mu.Unlock()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(20 * time.Second); ; <-tick.C {
			mu.Lock()
			text := seen.String()[from:]
			mu.Unlock()
			all := strings.Split(text, "\x1b[H")
			for _, one := range all[1:] {
				if body, _, whole := strings.Cut(one, "\x1b[J"); whole && is(strings.Split(strings.ReplaceAll(body, "\x1b[K", ""), "\r\n")) {
					return
				}
			}
			if time.Now().After(end) {
				t.Fatalf("no frame %s in %q", what, text)
			}
		}
	}
	plain := strings.NewReplacer("\x1b[1m", "", "\x1b[31m", "", "\x1b[33m", "", "\x1b[0m", "")
	fits := func(lines []string, wide, high int) bool {
		if len(lines) > high {
			return false
		}
		for _, l := range lines {
			if len([]rune(plain.Replace(l))) > wide {
				return false
			}
		}
		return true
	}
	frame("shows all", func(lines []string) bool {
		return fits(lines, 80, 40) && len(lines) > 5 && strings.Contains(lines[len(lines)-1], "169.254")
	})
	if err := pty.Setsize(f, &pty.Winsize{Rows: 4, Cols: 30}); err != nil {
		t.Fatal(err)
	}
	frame("is cut", func(lines []string) bool { return fits(lines, 30, 4) && strings.HasPrefix(lines[3], "… and ") })
	if err := pty.Setsize(f, &pty.Winsize{Rows: 40, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	frame("shows all again", func(lines []string) bool { return len(lines) > 5 && strings.Contains(lines[len(lines)-1], "169.254") })
	if _, err := f.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	err = cmd.Wait()
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err != nil && !(ok && s.ExitStatus() == 130) {
		t.Errorf("it ends with %v", err)
	}
	<-read
	if _, after, back := strings.Cut(seen.String(), "\x1b[?1049l"); !back || !strings.Contains(after, "roles served") {
		t.Errorf("it leaves %q", after)
	}
}
