package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/admin"
)

// The test binary is also a user at the socket: see asUser.
func TestMain(m *testing.M) {
	if socket := os.Getenv("ADMIN_TEST_SOCKET"); socket != "" {
		for verb := range verbs {
			fmt.Printf("%s=%s\n", verb, call(context.Background(), admin.NewClient(socket), verb))
		}
		return
	}
	os.Exit(m.Run())
}

// call makes one call and names how it ended.
func call(ctx context.Context, c *admin.Client, verb string) string {
	var err error
	switch verb {
	case "status":
		_, err = c.Status(ctx)
	case "explain":
		_, err = c.Explain(ctx, 7, "")
	case "refresh":
		_, err = c.Refresh(ctx, "app")
	case "reload":
		_, err = c.Reload(ctx)
	case "revoke":
		_, err = c.Revoke(ctx, "app")
	case "credential-process":
		_, err = c.Process(ctx, "")
	}
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, admin.ErrDenied):
		return "denied"
	}
	return err.Error()
}

// verbs says who may what: everybody, members of the group, or only root and
// the daemon's own user.
var verbs = map[string]string{
	"credential-process": "everybody", "status": "members", "explain": "members",
	"refresh": "owners", "reload": "owners", "revoke": "owners",
}

// serve answers on a socket in a folder that every user reaches, and counts
// the operations that were done.
func serve(t *testing.T, change func(*admin.Options)) (socket string, did *atomic.Int64) {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	did = new(atomic.Int64)
	o := admin.Options{
		Status:  func() admin.Status { did.Add(1); return admin.Status{Version: 1} },
		Explain: func(uint32, string) (admin.Explanation, error) { did.Add(1); return admin.Explanation{}, nil },
		Refresh: func(context.Context, string) (admin.Renewal, error) { did.Add(1); return admin.Renewal{}, nil },
		Reload:  func(context.Context) (admin.Reload, error) { did.Add(1); return admin.Reload{}, nil },
		Revoke:  func(string) (admin.Revocation, error) { did.Add(1); return admin.Revocation{}, nil },
		Process: func(_ context.Context, p admin.Peer, _ string) ([]byte, error) {
			did.Add(1)
			return fmt.Appendf(nil, `{"uid":%d}`, p.UID), nil
		},
	}
	if os.Geteuid() == 65534 { // is nobody's own user
		o.Peer = func(net.Conn) (admin.Peer, error) { return admin.Peer{UID: 0}, nil }
	}
	if change != nil {
		change(&o)
	}
	socket = filepath.Join(dir, "admin.sock")
	l, err := admin.Listen(t.Context(), socket, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- admin.New(o).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return socket, did
}

// Every operation for every kind of user.
func TestMatrix(t *testing.T) {
	own := uint32(os.Geteuid())
	mine := "everybody members owners"
	if own == 65534 {
		mine = "everybody" // whoever has no meaning here reads so as well
	}
	for user, c := range map[string]struct {
		peer    admin.Peer
		unknown bool
		may     string // all that the user may
	}{
		"root":                       {peer: admin.Peer{UID: 0}, may: "everybody members owners"},
		"the daemon's own user":      {peer: admin.Peer{UID: own, GID: 9}, may: mine},
		"a member":                   {peer: admin.Peer{UID: 4242, GID: 7}, may: "everybody members"},
		"a stranger":                 {peer: admin.Peer{UID: 4243, GID: 8}, may: "everybody"},
		"a user that overflows":      {peer: admin.Peer{UID: 1<<32 - 1, GID: 1<<32 - 1}, may: "everybody"},
		"nobody the kernel can name": {unknown: true},
	} {
		socket, did := serve(t, func(o *admin.Options) {
			o.Group = "operators"
			o.Member = func(p admin.Peer) (bool, error) { return p.GID == 7, nil }
			o.Peer = func(net.Conn) (admin.Peer, error) {
				if c.unknown {
					return admin.Peer{}, errors.New("the kernel does not say")
				}
				return c.peer, nil
			}
		})
		for verb, who := range verbs {
			before := did.Load()
			got := call(t.Context(), admin.NewClient(socket), verb)
			may := strings.Contains(c.may, who) && c.may != ""
			if (got == "done") != may || (did.Load() != before) != may {
				t.Errorf("%s, %s: %s, and it was done %d times", user, verb, got, did.Load()-before)
			}
			if !may && !c.unknown && got != "denied" {
				t.Errorf("%s, %s: %s, want that it is denied", user, verb, got)
			}
		}
	}
}

// The same with users of this host and the kernel's word on them.
func TestMatrixOfRealUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has other users")
	}
	socket, _ := serve(t, func(o *admin.Options) { o.Group = "daemon" })
	for user, c := range map[string]struct {
		uid, gid uint32
		groups   []uint32
		may      string
	}{
		"root":                              {0, 0, nil, "everybody members owners"},
		"a member by its first group":       {4242, 1, nil, "everybody members"}, // daemon is 1 everywhere
		"a member by the user database":     {1, 4242, nil, "everybody members"},
		"a stranger":                        {4243, 4243, nil, "everybody"},
		"a stranger in the group of root":   {4243, 0, nil, "everybody"},
		"who only says so in a later group": {4243, 4243, []uint32{1}, "everybody"}, // see "# Why not"
	} {
		got := asUser(t, c.uid, c.gid, c.groups, socket)
		for verb, who := range verbs {
			want := verb + "=" + map[bool]string{true: "done", false: "denied"}[strings.Contains(c.may, who)]
			if !slices.Contains(strings.Fields(got), want) {
				t.Errorf("%s: %s, want %s", user, got, want)
			}
		}
	}
}

// asUser makes all calls in a process of another user.
func asUser(t *testing.T, uid, gid uint32, groups []uint32, socket string) string {
	t.Helper()
	self, err := os.Open("/proc/self/exe") // which that user could not find by its path
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = self.Close() }()
	cmd := exec.CommandContext(t.Context(), "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Env = []string{"ADMIN_TEST_SOCKET=" + socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as uid %d: %v\n%s", uid, err, out)
	}
	return strings.TrimSpace(string(out))
}

// The kernel says in which cgroup the peer is, where it can.
func TestCgroup(t *testing.T) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Skipf("no cgroups: %v", err)
	}
	var got atomic.Pointer[admin.Peer]
	socket, _ := serve(t, func(o *admin.Options) {
		o.Process = func(_ context.Context, p admin.Peer, _ string) ([]byte, error) {
			got.Store(&p)
			return []byte("{}"), nil
		}
	})
	if got := call(t.Context(), admin.NewClient(socket), "credential-process"); got != "done" {
		t.Fatal(got)
	}
	p := got.Load()
	if p.Cgroup == "" {
		t.Skip("this kernel does not say who the peer is; it does since 6.5")
	}
	if want := admin.CgroupPath(string(text)); p.Cgroup != want || int(p.UID) != os.Geteuid() {
		t.Errorf("the peer is %+v, in want of %q", *p, want)
	}
	for text, want := range map[string]string{
		"0::/system.slice/app.service\n": "/system.slice/app.service", "1:name=systemd:/x\n0::/y\n": "/y", "0::/gone (deleted)\n": "", "4:memory:/z\n": "", "": "",
	} {
		if got := admin.CgroupPath(text); got != want {
			t.Errorf("%q is in %q, want %q", text, got, want)
		}
	}
}

// An error of the daemon comes out of the client as what it was.
func TestFailures(t *testing.T) {
	var fail error
	socket, _ := serve(t, func(o *admin.Options) {
		o.Refresh = func(context.Context, string) (admin.Renewal, error) { return admin.Renewal{}, fail }
	})
	for _, kind := range []error{admin.ErrDenied, admin.ErrUnknown, admin.ErrNotReady, admin.ErrRefused} {
		fail = fmt.Errorf("renewing: %w", admin.Fail(kind, "because of \"this\""))
		if _, err := admin.NewClient(socket).Refresh(t.Context(), "app"); !errors.Is(err, kind) || err.Error() != `renewing: because of "this"` {
			t.Errorf("%v came back as %v", kind, err)
		}
	}
	fail = errors.New("something else")
	if _, err := admin.NewClient(socket).Refresh(t.Context(), "app"); err == nil || err.Error() != "something else" {
		t.Errorf("an error without a kind came back as %v", err)
	}
}

func TestAPanicStaysThere(t *testing.T) {
	var log lockedLog
	socket, _ := serve(t, func(o *admin.Options) {
		o.Status = func() admin.Status { panic("oh") }
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	c := admin.NewClient(socket)
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "a fault in the daemon") {
		t.Errorf("a panic is told as %v", err)
	}
	if _, err := c.Process(t.Context(), ""); err != nil {
		t.Errorf("after a panic: %v", err)
	}
	if !strings.Contains(log.String(), "server_test.go") {
		t.Error("the log has no stack")
	}
}

type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedLog) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// One user with many connections keeps neither root nor another user out, and
// has a place again once it lets go of some.
func TestAFloodStaysThere(t *testing.T) {
	var uid atomic.Uint32
	socket, _ := serve(t, func(o *admin.Options) {
		o.Peer = func(net.Conn) (admin.Peer, error) { return admin.Peer{UID: uid.Load()}, nil }
	})
	uid.Store(4242)
	var open []net.Conn
	for range 100 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	for _, c := range open[64:] { // turned away at once: the rest of the door is in order
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("a connection beyond the limit: %v", err)
		}
	}
	for _, other := range []uint32{0, 4243} {
		uid.Store(other)
		if got := call(t.Context(), admin.NewClient(socket), "credential-process"); got != "done" {
			t.Errorf("uid %d: %s", other, got)
		}
	}
	for _, c := range open {
		_ = c.Close()
	}
	uid.Store(4242)
	until := time.Now().Add(5 * time.Second)
	for call(t.Context(), admin.NewClient(socket), "credential-process") != "done" {
		if time.Now().After(until) {
			t.Fatal("the user has no place again")
		}
	}
}

// Requests that wait for an upstream end with the daemon.
func TestTheEndWaitsForNobody(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := admin.Listen(t.Context(), socket, "")
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan struct{})
	srv := admin.New(admin.Options{Process: func(ctx context.Context, _ admin.Peer, _ string) ([]byte, error) {
		close(waiting)
		<-ctx.Done()
		return nil, admin.Fail(admin.ErrNotReady, "the daemon ends")
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended, answered := make(chan error, 1), make(chan error, 1)
	go func() { ended <- srv.Serve(ctx, l) }()
	go func() { _, err := admin.NewClient(socket).Process(t.Context(), ""); answered <- err }()
	<-waiting
	cancel()
	if err := <-answered; !errors.Is(err, admin.ErrNotReady) {
		t.Errorf("who waited is told %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := admin.NewClient(socket).Status(t.Context()); !errors.Is(err, admin.ErrNoDaemon) {
		t.Errorf("after the end: %v", err)
	}
}

// What is none of its requests is refused, whatever the right.
func TestOtherRequests(t *testing.T) {
	socket, did := serve(t, nil)
	web := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	for request, want := range map[string]int{
		"GET /v1/reload": 405, "GET /v1/credential-process": 405, "POST /v1/status": 405, "GET /": 404, "GET /v1/nothing": 404,
		"GET /metrics": 404, "GET /v1/explain?uid=4294967296": 400, "GET /v1/explain": 400, "GET /v1/../v1/status": 307,
	} {
		method, path, _ := strings.Cut(request, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, "http://x"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := web.Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want || did.Load() != 0 {
			t.Errorf("%s: status %d, want %d; %d operations", request, resp.StatusCode, want, did.Load())
		}
	}
}
