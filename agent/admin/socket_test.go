package admin_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hostrole/hostrole/agent/admin"
)

func there(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// The socket, and its folder when that was made for it, go when it is closed.
func TestListenLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	path := filepath.Join(dir, "admin.sock")
	s, err := admin.Listen(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(path)
	if err != nil || st.Mode().Perm() != 0o666 || st.Mode().Type() != fs.ModeSocket {
		t.Errorf("the socket is %v, %v", st.Mode(), err)
	}
	if s.Warning != nil {
		t.Error(s.Warning)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if there(t, dir) {
		t.Error("the folder that was made for it is there still")
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestAFolderThatWasThereStays(t *testing.T) {
	dir := t.TempDir()
	s, err := admin.Listen(t.Context(), filepath.Join(dir, "admin.sock"), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil || !there(t, dir) {
		t.Errorf("%v, and the folder is there: %v", err, there(t, dir))
	}
}

func TestListenReplacesWhatACrashLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	s, err := admin.Listen(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

func TestListenTouchesNothingElse(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir} {
		if _, err := admin.Listen(t.Context(), path, ""); !errors.Is(err, admin.ErrNotSocket) || !there(t, path) {
			t.Errorf("%s: %v, and it is there: %v", path, err, there(t, path))
		}
	}
	if text, err := os.ReadFile(file); string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := admin.Listen(t.Context(), filepath.Join(dir, "no", "folder", "s"), ""); !errors.Is(err, fs.ErrNotExist) || there(t, filepath.Join(dir, "no")) {
		t.Errorf("below a folder that is not there: %v", err)
	}
	if _, err := admin.Listen(t.Context(), filepath.Join(dir, strings.Repeat("x", 120)), ""); err == nil {
		t.Error("a path that is too long for a socket is no error")
	}
}

// The socket of a daemon that runs is not taken from it, and a daemon removes
// no socket that has taken its place.
func TestTwoDaemons(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	first, err := admin.Listen(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Listen(t.Context(), path, ""); !errors.Is(err, admin.ErrInUse) {
		t.Errorf("a second daemon: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := admin.Listen(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil || !there(t, path) {
		t.Errorf("the first one took the socket of the second with it: %v", err)
	}
	if err := second.Close(); err != nil || there(t, path) {
		t.Errorf("the second one left its socket: %v", err)
	}
}

func TestAGroupThatIsNotThereIsAWarning(t *testing.T) {
	s, err := admin.Listen(t.Context(), filepath.Join(t.TempDir(), "s"), "there-is-no-such-group")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if s.Warning == nil || !strings.Contains(s.Warning.Error(), "there is no group there-is-no-such-group") {
		t.Errorf("the warning is %v", s.Warning)
	}
}

func TestNobodyAnswers(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	for _, path := range []string{stale, filepath.Join(dir, "nothing")} {
		if _, err := admin.NewClient(path).Status(t.Context()); !errors.Is(err, admin.ErrNoDaemon) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
