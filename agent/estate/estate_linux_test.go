package estate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/estate"
	"github.com/hostrole/hostrole/rotation"
	"github.com/hostrole/hostrole/rotation/credential"
	"github.com/hostrole/hostrole/rotation/handover"
	"github.com/hostrole/hostrole/rotation/store"
)

const (
	childEnv = "ESTATE_TEST_CHILD" // makes this binary a process with something to inherit; its value is an address to listen on
	bootID   = "5b0d9a2e-0f3c-4d0e-9a3c-6f1f1c0e7a11"
	secret   = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	app  = credential.NewKey("app")
)

func live(id string) credential.Credential {
	return credential.Credential{AccessKeyID: id, SecretKey: credential.NewSecret(secret), Token: credential.NewSecret("a-session-token"),
		Issued: noon.Add(-time.Minute), Expires: noon.Add(time.Hour), Received: 59 * time.Minute}
}

func options(log *bytes.Buffer) estate.Options {
	return estate.Options{Log: slog.New(slog.NewTextHandler(log, nil)), BootID: bootID,
		Now: func() time.Time { return noon }, Boot: func() time.Duration { return time.Hour }}
}

func TestMain(m *testing.M) {
	if at := os.Getenv(childEnv); at != "" {
		_ = os.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid())) // a manager knows it, exec does not
		child(netip.MustParseAddrPort(at))
	}
	os.Exit(m.Run())
}

// child inherits, says what it has got, and ends.
func child(at netip.AddrPort) {
	var log bytes.Buffer
	e := estate.Inherit(options(&log))
	var st store.Store
	for k, c := range e.Restore(&st, []rotation.Job{{Key: app}}) { // of callers who have not asked yet
		fmt.Printf("left=%v %s\n", k, c.AccessKeyID)
	}
	fmt.Printf("key=%x credential=%s\n", e.TokenKey()[:2], st.Slot(app).Load().Credential.AccessKeyID)
	e.KeepOnly(func(is netip.AddrPort, device string) bool { return is == at && device == "" })
	l, err := e.Listen(context.Background(), at, "")
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(100 * time.Millisecond))
	if c, err := l.Accept(); err == nil {
		fmt.Println("a caller waited")
		_ = c.Close()
	}
	e.Close()
	fmt.Print(strings.ReplaceAll(log.String(), secret, "SECRET SHOWN"))
	os.Exit(0)
}

// manager is a notify socket of this test.
type manager struct{ *net.UnixConn }

func newManager(t *testing.T) manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return manager{l}
}

// next is one message, and the descriptor that came with it.
func (m manager) next(t *testing.T) (text string, f *os.File) {
	t.Helper()
	_ = m.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	b, oob := make([]byte, 1024), make([]byte, 256)
	n, k, _, _, err := m.ReadMsgUnix(b, oob)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", nil
	}
	if err != nil {
		t.Error(err)
		return "", nil
	}
	if msgs, err := syscall.ParseSocketControlMessage(oob[:k]); err == nil && len(msgs) == 1 {
		if fds, err := syscall.ParseUnixRights(&msgs[0]); err == nil && len(fds) == 1 {
			f = os.NewFile(uintptr(fds[0]), "told")
			t.Cleanup(func() { _ = f.Close() })
		}
	}
	return string(b[:n]), f
}

func unsealed(t *testing.T, f *os.File) handover.Contents {
	t.Helper()
	b, err := handover.Unseal(f)
	if err != nil {
		t.Fatal(err)
	}
	c, err := handover.Decode(b, handover.Moment{BootID: bootID, Wall: noon, Boot: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestThereIsAlwaysAState(t *testing.T) {
	m := newManager(t)
	var log bytes.Buffer
	e := estate.Inherit(options(&log))
	key := e.TokenKey()
	for i, want := range []struct{ stored, removed string }{{"state-0", "state-1"}, {"state-1", "state-0"}, {"state-0", "state-1"}} {
		creds := map[credential.Key]credential.Credential{app: live(fmt.Sprint("AKIAIOSFODNN7EXAMPL", i))}
		if err := e.Write(creds); err != nil {
			t.Fatal(err)
		}
		text, f := m.next(t)
		if text != "FDSTORE=1\nFDPOLL=0\nFDNAME="+want.stored || f == nil {
			t.Fatalf("first %q", text)
		}
		if c := unsealed(t, f); !bytes.Equal(c.TokenKey, key) || c.Credentials[app].AccessKeyID != creds[app].AccessKeyID {
			t.Errorf("the state is %v", c)
		}
		if text, _ := m.next(t); text != "FDSTOREREMOVE=1\nFDNAME="+want.removed {
			t.Errorf("then %q", text)
		}
		if err := e.Write(creds); err != nil {
			t.Fatal(err)
		}
		if text, _ := m.next(t); text != "" {
			t.Errorf("what has not changed is written again: %q", text)
		}
	}
	if err := e.Write(nil); err != nil { // a role was revoked
		t.Fatal(err)
	}
	if _, f := m.next(t); f == nil || len(unsealed(t, f).Credentials) != 0 {
		t.Error("a credential that is gone is handed over")
	}
}

func TestWithoutAManagerNothingIsWritten(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var log bytes.Buffer
	e := estate.Inherit(options(&log))
	if err := e.Write(map[credential.Key]credential.Credential{app: {}}); err != nil {
		t.Error(err)
	}
}

// state is what a process with this key and credential left some time ago.
func state(t *testing.T, key byte, id string, ago time.Duration) *os.File {
	t.Helper()
	b, err := handover.Encode(handover.Contents{TokenKey: bytes.Repeat([]byte{key}, 32), Written: time.Hour - ago,
		Credentials: map[credential.Key]credential.Credential{app: live(id), credential.NewKey("of a caller"): live("x")}}, bootID)
	if err != nil {
		t.Fatal(err)
	}
	return sealed(t, b)
}

func sealed(t *testing.T, b []byte) *os.File {
	t.Helper()
	f, err := handover.Seal(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// socket listens on a loopback port; the descriptor outlives its listener.
func socket(t *testing.T) (*os.File, string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	at := l.Addr().String()
	_ = l.Close()
	return f, at
}

// free is an address on which nobody listens.
func free(t *testing.T) string {
	t.Helper()
	f, at := socket(t)
	_ = f.Close()
	return at
}

// run runs child with descriptors of these names, and returns what it says.
func run(t *testing.T, at string, names []string, files []*os.File) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), childEnv+"="+at, fmt.Sprint("LISTEN_FDS=", len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("the child: %v", err)
	}
	return string(out)
}

func TestSuccessorHasKeyCredentialAndCallers(t *testing.T) {
	newManager(t)
	f, at := socket(t)
	waiting, err := net.Dial("tcp4", at) // while no process serves
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	got := run(t, at, []string{"state-1", "listener x", "state-0"}, []*os.File{state(t, 0xaa, "NEW", time.Minute), f, state(t, 0xbb, "OLD", time.Hour)})
	if want := "left=ca47e967 x\nkey=aaaa credential=NEW\na caller waited\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatIsDamagedIsPassedOver(t *testing.T) {
	newManager(t)
	at := free(t)
	plain, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	got := run(t, at, []string{"state-0", "state-1", "state-2", "host"},
		[]*os.File{state(t, 0xcc, "GOOD", time.Hour), sealed(t, []byte("not ours")), plain, plain})
	if !strings.HasPrefix(got, "left=ca47e967 x\nkey=cccc credential=GOOD\n") {
		t.Errorf("the good one is not used: %s", got)
	}
	if n := strings.Count(got, "level=WARN"); n != 3 {
		t.Errorf("%d warnings, want 3: %s", n, got)
	}
}

func TestSocketThatNobodyWantsIsGivenUp(t *testing.T) {
	m := newManager(t)
	ours, _ := socket(t)
	unit, _ := socket(t)
	at := free(t)
	var told []string
	ended, done := make(chan struct{}), make(chan struct{})
	go func() { // the manager, which ends the wait for it by closing what it was sent
		defer close(done)
		for {
			text, f := m.next(t)
			if f != nil {
				_ = f.Close()
			}
			if text != "" {
				told = append(told, text)
			}
			select {
			case <-ended:
				if text == "" {
					return
				}
			default:
			}
		}
	}()
	got := run(t, at, []string{"listener old", "host"}, []*os.File{ours, unit})
	close(ended)
	<-done
	if !strings.Contains(got, "no listener has its address and its ingress") || !strings.Contains(got, "name=host") || strings.Contains(got, "listener old") {
		t.Errorf("the log: %s", got)
	}
	want := []string{"FDSTOREREMOVE=1\nFDNAME=listener old", "BARRIER=1", "FDSTORE=1\nFDPOLL=0\nFDNAME=listener " + strings.ReplaceAll(at, ":", "_")}
	if !slices.Equal(told, want) {
		t.Errorf("the manager was told %q, want %q", told, want)
	}
}

// The owner of a table of nftables is kept, and that of the process before is
// let go of only then.
func TestOwnersOfTablesAreKept(t *testing.T) {
	m := newManager(t)
	var log bytes.Buffer
	e := estate.Inherit(options(&log))
	owner, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "owner"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = owner.Close() }()
	e.KeepTables(map[string]syscall.Conn{"hostrole-169.254.169.254": owner})
	if text, f := m.next(t); !strings.Contains(text, "FDNAME=table hostrole-169.254.169.254") || f == nil {
		t.Errorf("the manager was told %q, with %v", text, f)
	}
	if text, _ := m.next(t); text != "" || log.Len() != 0 {
		t.Errorf("and then %q; the log says %s", text, log.String())
	}
}
