package systemd_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hostrole/hostrole/systemd"
)

// manager is a notify socket of this test.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return l
}

// told reads one datagram and the descriptors that came with it.
func told(t *testing.T, l *net.UnixConn) (text string, files []*os.File) {
	t.Helper()
	_ = l.SetReadDeadline(time.Now().Add(5 * time.Second))
	b, oob := make([]byte, 1024), make([]byte, 256)
	n, m, _, _, err := l.ReadMsgUnix(b, oob)
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := syscall.ParseSocketControlMessage(oob[:m])
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range msgs {
		fds, err := syscall.ParseUnixRights(&msg)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "told")
			t.Cleanup(func() { _ = f.Close() })
			files = append(files, f)
		}
	}
	return string(b[:n]), files
}

func TestStoredListenerLivesOn(t *testing.T) {
	m := manager(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := systemd.Store("listener 127.0.0.1_80 lo", l.(*net.TCPListener)); err != nil {
		t.Fatal(err)
	}
	text, files := told(t, m)
	if want := "FDSTORE=1\nFDPOLL=0\nFDNAME=listener 127.0.0.1_80 lo"; text != want || len(files) != 1 {
		t.Fatalf("the manager was told %q with %d descriptors", text, len(files))
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatalf("the socket that the manager holds is closed: %v", err)
	}
	_ = c.Close()
	again, err := net.FileListener(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got, err := again.Accept(); err != nil {
		t.Errorf("what was waiting is lost: %v", err)
	} else {
		_ = got.Close()
	}
}

func TestRemoveNamesTheDescriptor(t *testing.T) {
	m := manager(t)
	if err := systemd.Remove("state-1"); err != nil {
		t.Fatal(err)
	}
	if text, files := told(t, m); text != "FDSTOREREMOVE=1\nFDNAME=state-1" || len(files) != 0 {
		t.Errorf("the manager was told %q with %d descriptors", text, len(files))
	}
}

func TestNamesThatTheManagerWouldChange(t *testing.T) {
	manager(t)
	for _, name := range []string{"", "a:b", "a\nREADY=1", "ä", strings.Repeat("x", 256)} {
		if err := systemd.Store(name, os.Stdin); err == nil {
			t.Errorf("Store takes %q", name)
		}
		if err := systemd.Remove(name); err == nil {
			t.Errorf("Remove takes %q", name)
		}
	}
}

func TestStoreWithoutAManagerIsNoError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := systemd.Store("x", os.Stdin); err != nil {
		t.Error(err)
	}
	if err := systemd.Remove("x"); err != nil {
		t.Error(err)
	}
	if systemd.Held() {
		t.Error("there is said to be a manager")
	}
}

// childEnv makes this binary a process that a manager gave descriptors to.
const childEnv = "SYSTEMD_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "mine":
		_ = os.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid())) // a manager knows it, exec does not
	}
	for _, f := range systemd.Received() {
		b := make([]byte, 16)
		n, _ := f.Read(b)
		flags, _, _ := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_GETFD, 0)
		fmt.Printf("%s=%s inherited=%t\n", f.Name(), b[:n], flags&syscall.FD_CLOEXEC == 0)
	}
	fmt.Printf("again=%d left=%q\n", len(systemd.Received()), os.Getenv("LISTEN_PID")+os.Getenv("LISTEN_FDS")+os.Getenv("LISTEN_FDNAMES"))
	os.Exit(0)
}

func TestReceivedIsTakenOnce(t *testing.T) {
	for child, want := range map[string]string{
		"mine":           "state-0=one inherited=false\nhost=two inherited=false\nagain=0 left=\"\"\n",
		"someone else's": "again=0 left=\"\"\n",
	} {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), childEnv+"="+child, "LISTEN_PID=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=state-0:host")
		for _, text := range []string{"one", "two"} {
			path := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
		out, err := cmd.Output()
		if err != nil || string(out) != want {
			t.Errorf("%s: got %q, %v, want %q", child, out, err, want)
		}
	}
}

func TestWatchFeedsOnlyProgress(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	synctest.Test(t, func(t *testing.T) {
		asked, fed, hangs := 0, 0, false
		ended := make(chan struct{})
		start := time.Now()
		go func() {
			defer close(ended)
			systemd.Watch(t.Context(), 8*time.Second, func(since time.Duration) bool {
				if since != 2*time.Second {
					t.Errorf("looks are %v apart", since)
				}
				asked++
				hangs = time.Since(start) >= 20*time.Second
				return !hangs
			}, func(err error) {
				if err != nil {
					t.Error(err)
				}
				fed++
			})
		}()
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if asked != 31 || fed != 10 {
			t.Errorf("progress was asked for %d times and told %d times, want 31 and 10", asked, fed)
		}
	})
}

func TestNobodyWatches(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "")
	if d, err := systemd.Interval(); d != 0 || err != nil {
		t.Errorf("got %v, %v", d, err)
	}
	t.Setenv("WATCHDOG_USEC", "8000000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	if d, err := systemd.Interval(); d != 8*time.Second || err != nil {
		t.Errorf("got %v, %v", d, err)
	}
	t.Setenv("WATCHDOG_USEC", "often")
	if _, err := systemd.Interval(); err == nil {
		t.Error("a number that is none passes")
	}
}

func TestSettleWaitsForTheManager(t *testing.T) {
	m := manager(t)
	settled := make(chan error, 1)
	go func() { settled <- systemd.Settle() }()
	text, files := told(t, m)
	if text != "BARRIER=1" || len(files) != 1 {
		t.Fatalf("the manager was told %q with %d descriptors", text, len(files))
	}
	early := time.NewTimer(50 * time.Millisecond)
	select {
	case err := <-settled:
		t.Errorf("it did not wait: %v", err)
	case <-early.C:
	}
	_ = files[0].Close()
	if err := <-settled; err != nil {
		t.Error(err)
	}
}
