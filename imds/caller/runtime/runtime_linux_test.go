package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/runtime"
)

var (
	idA     = strings.Repeat("a", 64)
	idB     = strings.Repeat("b", 64)
	imageID = "sha256:" + strings.Repeat("1", 64)
	digest  = "sha256:" + strings.Repeat("2", 64)
)

// inspected is what Docker and Podman say of a container.
func inspected(id, name string) string {
	return fmt.Sprintf(`{"Id":%q,"Name":"/%s","Image":%q,"State":{"Pid":4711},"Config":{"Image":"registry.example.com/web:7","Labels":{"tier":"front"}}}`, id, name, imageID)
}

const pulled = `{"RepoDigests":["registry.example.com/web@%s","mirror.example.org/web@sha256:%s"]}`

// An api is an engine's, on a unix socket, which says what a test has it say.
type api struct {
	path  string
	asked atomic.Int32 // questions about containers
	mu    sync.Mutex
	says  func(w http.ResponseWriter, r *http.Request) // nil: the usual
	srv   *httptest.Server
}

func startAPI(t *testing.T, path string) *api {
	t.Helper()
	a := &api{path: path}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	a.srv = httptest.NewUnstartedServer(a)
	a.srv.Listener = l
	a.srv.Start()
	t.Cleanup(a.srv.Close)
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/containers/") {
		a.asked.Add(1)
	}
	a.mu.Lock()
	says := a.says
	a.mu.Unlock()
	if says != nil {
		says(w, r)
		return
	}
	usual(w, r)
}

// usual knows the two containers, and where their image was pulled from.
func usual(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/containers/" + idA + "/json":
		_, _ = io.WriteString(w, inspected(idA, "web"))
	case "/containers/" + idB + "/json":
		_, _ = io.WriteString(w, inspected(idB, "db"))
	case "/images/" + imageID + "/json":
		_, _ = fmt.Fprintf(w, pulled, digest, strings.Repeat("3", 64))
	default:
		http.NotFound(w, r)
	}
}

func (a *api) say(f func(w http.ResponseWriter, r *http.Request)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.says = f
}

// A bench is an Enricher whose time, tree and failures a test has in hand.
type bench struct {
	*runtime.Enricher
	now  atomic.Int64
	mu   sync.Mutex
	gone map[uint64]bool
	errs []error
}

func newBench(t *testing.T, o runtime.Options) *bench {
	t.Helper()
	b := &bench{gone: map[uint64]bool{}}
	b.now.Store(int64(time.Hour))
	o.Boot = func() time.Duration { return time.Duration(b.now.Load()) }
	o.Alive = func(cgroup uint64) bool { b.mu.Lock(); defer b.mu.Unlock(); return !b.gone[cgroup] }
	o.Failed = func(_ string, err error) { b.mu.Lock(); defer b.mu.Unlock(); b.errs = append(b.errs, err) }
	e, err := runtime.New(o)
	if err != nil {
		t.Fatal(err)
	}
	b.Enricher = e
	b.BePatient()
	return b
}

func (b *bench) later(d time.Duration) { b.now.Add(int64(d)) }

func (b *bench) failures() []error { b.mu.Lock(); defer b.mu.Unlock(); return slices.Clone(b.errs) }

// who is what b adds to the caller in a container.
func (b *bench) who(t *testing.T, made string, cgroup uint64, id string) caller.Caller {
	t.Helper()
	who := caller.Caller{UID: caller.NewID(0), Cgroup: cgroup, Container: id, Runtime: made}
	if err := b.Enrich(t.Context(), caller.Conn{}, &who); err != nil {
		t.Error(err)
	}
	return who
}

func nameless(t *testing.T, who caller.Caller) {
	t.Helper()
	if who.ContainerName != "" || who.Image != "" || who.ImageDigest != "" || who.Labels != nil || who.Namespace != "" || who.ServiceAccount != "" {
		t.Errorf("there are names: %+v", who)
	}
}

func TestNamesOfAContainer(t *testing.T) {
	for _, made := range []string{"docker", "podman"} {
		path := filepath.Join(t.TempDir(), "sock")
		a := startAPI(t, path)
		b := newBench(t, map[string]runtime.Options{"docker": {Docker: path}, "podman": {Podman: path}}[made])
		who := b.who(t, made, 7, idA)
		if who.ContainerName != "web" || who.Image != "registry.example.com/web:7" || who.ImageDigest != digest || !maps.Equal(who.Labels, map[string]string{"tier": "front"}) {
			t.Errorf("%s: got %+v", made, who)
		}
		for range 3 {
			b.who(t, made, 7, idA)
		}
		if n := a.asked.Load(); n != 1 {
			t.Errorf("%s: asked %d times within its life, want once", made, n)
		}
		if other := b.who(t, made, 8, idB); other.ContainerName != "db" {
			t.Errorf("%s: the other container is called %q", made, other.ContainerName)
		}
		// Of the other runtime, inside of another container, by itself on the
		// host, and of a kernel that names no cgroup.
		for _, c := range []caller.Caller{{Cgroup: 9, Container: idA, Runtime: "lxc"}, {Cgroup: 9, Container: "user@1000.service/" + idA, Runtime: made}, {Cgroup: 9, Runtime: made}, {Cgroup: 1, Container: idA, Runtime: made}} {
			before := a.asked.Load()
			nameless(t, b.who(t, c.Runtime, c.Cgroup, c.Container))
			if a.asked.Load() != before {
				t.Errorf("%s: asked about %+v", made, c)
			}
		}
	}
}

// What an engine says that does not count, or that it does not say, leaves the
// caller without names.
func TestAnswersThatDoNotCount(t *testing.T) {
	for what, tc := range map[string]struct {
		says func(w http.ResponseWriter, r *http.Request)
		want error // nil: nothing has failed
	}{
		"about another container": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, inspected(idB, "web")) }, runtime.ErrRefused},
		"about none":              {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) }, runtime.ErrRefused},
		"not JSON":                {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `<html>`) }, runtime.ErrRefused},
		"cut off":                 {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, inspected(idA, "web")[:40]) }, runtime.ErrRefused},
		"an error":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, runtime.ErrRefused},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/containers/"+idB+"/json", http.StatusFound)
		}, runtime.ErrRefused},
		"without an end": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"Name":"`)
			for range 64 {
				_, _ = io.WriteString(w, strings.Repeat("x", 64<<10))
			}
		}, runtime.ErrRefused},
		"of an image that fails": {func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/images/") {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			usual(w, r)
		}, runtime.ErrRefused},
		"that there is none": {http.NotFound, nil},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sock")
			a := startAPI(t, path)
			a.say(tc.says)
			b := newBench(t, runtime.Options{Docker: path})
			nameless(t, b.who(t, "docker", 7, idA))
			errs := b.failures()
			if tc.want == nil && len(errs) > 0 || tc.want != nil && (len(errs) != 1 || !errors.Is(errs[0], tc.want)) {
				t.Errorf("told of %v, want %v", errs, tc.want)
			}
			// The runtime comes to its senses.
			a.say(nil)
			b.later(time.Second)
			if who := b.who(t, "docker", 7, idA); who.ContainerName != "web" {
				t.Errorf("a second later: %+v", who)
			}
		})
	}
}

// A runtime that hangs costs a caller his patience once, and nobody else
// anything.
func TestRuntimeThatHangs(t *testing.T) {
	dir := t.TempDir()
	docker, podman := startAPI(t, filepath.Join(dir, "docker")), startAPI(t, filepath.Join(dir, "podman"))
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	docker.say(func(http.ResponseWriter, *http.Request) { <-release })
	b := newBench(t, runtime.Options{Docker: docker.path, Podman: podman.path})
	b.BeAsUsual()
	var all sync.WaitGroup
	for i := range uint64(50) {
		all.Go(func() {
			began := time.Now()
			nameless(t, b.who(t, "docker", 100+i%10, idA))
			if took := time.Since(began); took > runtime.Endurance {
				t.Errorf("a caller waited %v, want %v at most", took, runtime.Patience)
			}
		})
	}
	for docker.asked.Load() == 0 {
		goruntime.Gosched()
	}
	began := time.Now()
	for b.who(t, "podman", 7, idA).ContainerName != "web" { // at once, but for a busy machine
		if took := time.Since(began); took > runtime.Endurance {
			t.Fatalf("a caller of the other runtime has no name after %v", took)
		}
	}
	all.Wait()
	for len(b.failures()) == 0 {
		nameless(t, b.who(t, "docker", 100, idA)) // waits for the same answer
	}
	if errs := b.failures(); len(errs) != 1 || !errors.Is(errs[0], runtime.ErrUnavailable) {
		t.Errorf("told of %v, want one %v", errs, runtime.ErrUnavailable)
	}
	before := docker.asked.Load()
	nameless(t, b.who(t, "docker", 300, idB))
	if more := docker.asked.Load() - before; more != 0 {
		t.Errorf("it is not left alone: %d questions more", more)
	}
}

// Podman's service starts when it is asked: the caller's next request has what
// the first was too early for.
func TestRuntimeThatIsSlow(t *testing.T) {
	a := startAPI(t, filepath.Join(t.TempDir(), "sock"))
	release := make(chan struct{})
	a.say(func(w http.ResponseWriter, r *http.Request) { <-release; usual(w, r) })
	b := newBench(t, runtime.Options{Podman: a.path})
	b.BeAsUsual()
	nameless(t, b.who(t, "podman", 7, idA))
	b.BePatient()
	close(release)
	if who := b.who(t, "podman", 7, idA); who.ContainerName != "web" || len(b.failures()) != 0 {
		t.Errorf("got %+v, %v", who, b.failures())
	}
	if n := a.asked.Load(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}

// A runtime that is restarted takes nothing back, and what it says afterwards
// counts.
func TestRuntimeIsRestarted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	a := startAPI(t, path)
	b := newBench(t, runtime.Options{Docker: path})
	b.who(t, "docker", 7, idA)
	a.srv.Close()
	for range 3 {
		b.later(time.Minute)
		if who := b.who(t, "docker", 7, idA); who.ContainerName != "web" || who.ImageDigest != digest {
			t.Errorf("while it is away: %+v", who)
		}
		nameless(t, b.who(t, "docker", 8, idB))
	}
	again := startAPI(t, path)
	again.say(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/images/") {
			http.NotFound(w, r) // removed
			return
		}
		_, _ = io.WriteString(w, inspected(idA, "renamed"))
	})
	b.later(time.Minute)
	if who := b.who(t, "docker", 7, idA); who.ContainerName != "renamed" || who.ImageDigest != imageID {
		t.Errorf("after it is back: %+v", who)
	}
	again.say(http.NotFound)
	b.later(9 * time.Second)
	if who := b.who(t, "docker", 7, idA); who.ContainerName != "renamed" {
		t.Errorf("within 10 s it was asked again: %+v", who)
	}
	b.later(2 * time.Second)
	nameless(t, b.who(t, "docker", 7, idA))
}

// Names end with the cgroup that they were asked for: a container that is
// started again under its id has another one.
func TestNamesEndWithTheContainer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	a := startAPI(t, path)
	b := newBench(t, runtime.Options{Docker: path})
	for cgroup := range uint64(50) {
		if cgroup > 0 {
			b.mu.Lock()
			b.gone[100+cgroup-1] = true
			b.mu.Unlock()
		}
		a.say(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/images/") {
				usual(w, r)
				return
			}
			_, _ = io.WriteString(w, inspected(idA, fmt.Sprintf("life-%d", cgroup)))
		})
		if who := b.who(t, "docker", 100+cgroup, idA); who.ContainerName != fmt.Sprintf("life-%d", cgroup) {
			t.Errorf("in life %d it is called %q", cgroup, who.ContainerName)
		}
		if n := b.Kept(); n != 1 {
			t.Fatalf("%d containers are remembered, and one is there", n)
		}
	}
}

func TestManyCallersAreOneQuestion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	a := startAPI(t, path)
	release := make(chan struct{})
	a.say(func(w http.ResponseWriter, r *http.Request) { <-release; usual(w, r) })
	b := newBench(t, runtime.Options{Docker: path})
	// Who asks first does not wait for the answer.
	gone, leave := context.WithCancel(t.Context())
	var first, all sync.WaitGroup
	first.Go(func() {
		who := caller.Caller{Cgroup: 7, Container: idA, Runtime: "docker"}
		if err := b.Enrich(gone, caller.Conn{}, &who); err != nil {
			t.Error(err)
		}
		nameless(t, who)
	})
	for a.asked.Load() == 0 {
		goruntime.Gosched()
	}
	for range 50 {
		all.Go(func() {
			if who := b.who(t, "docker", 7, idA); who.ContainerName != "web" {
				t.Errorf("got %+v", who)
			}
		})
	}
	leave()
	first.Wait()
	close(release)
	all.Wait()
	if n := a.asked.Load(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}

// A socket that another user listens on is not asked: his word is not the
// system's.
func TestSocketOfSomebodyElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, missing: root, to listen as another user")
	}
	dir, err := os.MkdirTemp("", "runtime-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // #nosec G302 -- another user's socket is to be made in it
		t.Fatal(err)
	}
	path := filepath.Join(dir, "sock")
	listening := make(chan net.Listener)
	go func() {
		goruntime.LockOSThread() // and never unlock: the thread ends with its other user
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 1001, 1001, 1001); errno != 0 {
			t.Error(errno)
		}
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Error(err)
		}
		listening <- l
	}()
	l := <-listening
	if l == nil {
		return
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(usual))
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	b := newBench(t, runtime.Options{Docker: path})
	nameless(t, b.who(t, "docker", 7, idA))
	if errs := b.failures(); len(errs) != 1 || !errors.Is(errs[0], runtime.ErrRefused) || !strings.Contains(errs[0].Error(), "uid 1001") {
		t.Errorf("told of %v, want that it is uid 1001's", errs)
	}
}
