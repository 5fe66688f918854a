//go:build linux

package e2e_test

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"

	"golang.org/x/sys/unix"
)

// A fileKeeper is what a service manager is to hostrole, where there is none: it
// keeps the descriptors that it is sent and gives them to the next process.
type fileKeeper struct {
	socket string
	mu     sync.Mutex
	kept   map[string]*os.File // guarded by mu
	ready  int                 // guarded by mu: how often a process said so
}

func keepFiles(t *testing.T) *fileKeeper {
	t.Helper()
	k := &fileKeeper{socket: filepath.Join(t.TempDir(), "notify"), kept: map[string]*os.File{}}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: k.socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b, oob := make([]byte, 4096), make([]byte, 256)
		for {
			n, m, _, _, err := conn.ReadMsgUnix(b, oob)
			if err != nil {
				return
			}
			k.take(string(b[:n]), oob[:m])
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
		for _, f := range k.kept {
			_ = f.Close()
		}
	})
	return k
}

func (k *fileKeeper) take(text string, oob []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, name, _ := strings.Cut(text, "FDNAME=")
	if msgs, err := syscall.ParseSocketControlMessage(oob); err == nil && len(msgs) == 1 {
		if fds, err := syscall.ParseUnixRights(&msgs[0]); err == nil && len(fds) == 1 {
			syscall.CloseOnExec(fds[0])
			k.kept[name] = os.NewFile(uintptr(fds[0]), name)
		}
	}
	if f := k.kept[name]; f != nil && strings.HasPrefix(text, "FDSTOREREMOVE=1") {
		_ = f.Close()
		delete(k.kept, name)
	}
	if strings.HasPrefix(text, "READY=1") {
		k.ready++
	}
}

// names are those of what is kept, and said is how often a process was ready.
func (k *fileKeeper) names() (names []string, said int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.kept)), k.ready
}

// copies are what is kept now, whatever a process that still runs sends meanwhile,
// and how often one was ready.
func (k *fileKeeper) copies(t *testing.T) (names []string, files []*os.File, said int) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	names = slices.Sorted(maps.Keys(k.kept))
	for _, name := range names {
		fd, err := unix.FcntlInt(k.kept[name].Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, os.NewFile(uintptr(fd), name))
	}
	return names, files, k.ready
}

// start runs a process of hostrole with what is kept, until it is ready.
func (k *fileKeeper) start(t *testing.T, config string) *process {
	t.Helper()
	names, files, was := k.copies(t)
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" run --config "$1"`, os.Getenv(binaryEnv), config)
	cmd.Env = append(bare(t), "NOTIFY_SOCKET="+k.socket, fmt.Sprint("LISTEN_FDS=", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	cmd.ExtraFiles = files
	p := start(t, "hostrole", cmd)
	for _, f := range files {
		_ = f.Close()
	}
	p.await(t, "is ready", 10*time.Second, func() bool { _, now := k.names(); return now > was })
	return p
}

// What a process of hostrole leaves, the next one has, however the first ended
// and whatever the upstream does: the callers that wait, the credential, the
// tokens. TestService shows the same with the real service manager.
func TestHandover(t *testing.T) {
	ownnet.Need(t)
	if !ownnet.RealRoot() {
		ownnet.Missing(t, "a real root: in a user namespace hostrole cannot tell callers apart, and does not start")
	}
	noteSources(t)
	dir := t.TempDir()
	upstream, config := filepath.Join(dir, "credential.json"), filepath.Join(dir, "hostrole.toml")
	text := strings.Replace(systemConfig, "/etc/hostrole/credential.json", upstream, 1) + fmt.Sprintf("[admin]\nsocket = %q\n", filepath.Join(dir, "admin.sock"))
	for path, text := range map[string]string{upstream: credentialFile(exampleKey), config: text} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k := keepFiles(t)
	p := k.start(t, config)
	eventually(t, "the role's credential is served", 10*time.Second, func() bool { return keyServed(t.Context()) == exampleKey })
	token := sessionToken(t)
	eventually(t, "socket and state are kept", 10*time.Second, func() bool {
		names, _ := k.names()
		return slices.Equal(names, []string{"listener 169.254.169.254_80 lo", "state-1"}) // state-0 was without a credential
	})
	if err := os.Remove(upstream); err != nil {
		t.Fatal(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM} {
		if err := p.end(sig); err != nil && sig == syscall.SIGTERM {
			t.Errorf("hostrole ended with %v", err)
		}
		early := make(chan string, 1)
		go func() { early <- keyServed(t.Context()) }() // while no process runs
		p = k.start(t, config)
		if got := <-early; got != exampleKey {
			t.Errorf("after %v, a caller that came early got %s", sig, got)
		}
		accepts(t, token)
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	eventually(t, "the address ends by itself", 20*time.Second, func() bool {
		out, err := exec.Command("ip", "-o", "address", "show").Output()
		return err == nil && !strings.Contains(string(out), metadataHost)
	})
}
