package watch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/hostrole/hostrole/agent/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A volume is a folder as Kubernetes projects it: the names are links into a
// folder that one rename replaces.
type volume struct {
	t   *testing.T
	dir string
	n   int
}

func (v *volume) swap(content string) {
	v.t.Helper()
	v.n++
	data := fmt.Sprintf("..2026_%d", v.n)
	must(v.t, os.Mkdir(filepath.Join(v.dir, data), 0o755))
	write(v.t, filepath.Join(v.dir, data, "token"), content)
	must(v.t, os.Symlink(data, filepath.Join(v.dir, "..data_tmp")))
	must(v.t, os.Rename(filepath.Join(v.dir, "..data_tmp"), filepath.Join(v.dir, "..data")))
	if v.n == 1 {
		must(v.t, os.Symlink("..data/token", filepath.Join(v.dir, "token")))
	} else {
		must(v.t, os.RemoveAll(filepath.Join(v.dir, fmt.Sprintf("..2026_%d", v.n-1))))
	}
}

// changes are the ways in which a file gets other content, each told once.
var changes = []struct {
	name   string
	before func(t *testing.T, dir string) (path string)
	change func(t *testing.T, dir string)
}{
	{"a write in place", file, func(t *testing.T, dir string) { write(t, dir+"/f", "new") }},
	{"truncated, then written in parts", file, func(t *testing.T, dir string) {
		f, err := os.Create(dir + "/f")
		must(t, err)
		for range 20 {
			_, err := f.WriteString("part ")
			must(t, err)
			time.Sleep(10 * time.Millisecond)
		}
		must(t, f.Close())
	}},
	{"another file renamed over it", file, func(t *testing.T, dir string) {
		write(t, dir+"/f.tmp", "new")
		must(t, os.Rename(dir+"/f.tmp", dir+"/f"))
	}},
	{"an editor that keeps the old one", file, func(t *testing.T, dir string) {
		must(t, os.Rename(dir+"/f", dir+"/f~"))
		write(t, dir+"/f", "new")
	}},
	{"removed", file, func(t *testing.T, dir string) { must(t, os.Remove(dir+"/f")) }},
	{"made", func(_ *testing.T, dir string) string { return dir + "/f" }, func(t *testing.T, dir string) { write(t, dir+"/f", "new") }},
	{"made with its folders", func(_ *testing.T, dir string) string { return dir + "/a/b/f" }, func(t *testing.T, dir string) {
		must(t, os.MkdirAll(dir+"/a/b", 0o755))
		write(t, dir+"/a/b/f", "new")
	}},
	{"its folder replaced", func(t *testing.T, dir string) string {
		must(t, os.Mkdir(dir+"/d", 0o755))
		write(t, dir+"/d/f", "old")
		return dir + "/d/f"
	}, func(t *testing.T, dir string) {
		must(t, os.Mkdir(dir+"/d2", 0o755))
		write(t, dir+"/d2/f", "new")
		must(t, os.Rename(dir+"/d", dir+"/d1"))
		must(t, os.Rename(dir+"/d2", dir+"/d"))
	}},
	{"a name more in a folder", func(t *testing.T, dir string) string {
		must(t, os.Mkdir(dir+"/d", 0o755))
		return dir + "/d"
	}, func(t *testing.T, dir string) { write(t, dir+"/d/20.toml", "new") }},
	{"the folder itself made", func(_ *testing.T, dir string) string { return dir + "/d" }, func(t *testing.T, dir string) {
		must(t, os.Mkdir(dir+"/d", 0o755))
	}},
	{"a volume of Kubernetes", func(t *testing.T, dir string) string {
		(&volume{t: t, dir: dir}).swap("old")
		return dir + "/token"
	}, func(t *testing.T, dir string) { (&volume{t: t, dir: dir, n: 1}).swap("new") }},
	{"a link far away", func(t *testing.T, dir string) string {
		must(t, os.MkdirAll(dir+"/x/y", 0o755))
		write(t, dir+"/x/y/f", "old")
		must(t, os.Symlink("../x", dir+"/x/self"))
		must(t, os.Symlink(dir+"/x/self/y/f", dir+"/f"))
		return dir + "/f"
	}, func(t *testing.T, dir string) { write(t, dir+"/x/y/f", "new") }},
	{"a link that points elsewhere", func(t *testing.T, dir string) string {
		write(t, dir+"/one", "old")
		write(t, dir+"/two", "new")
		must(t, os.Symlink("one", dir+"/f"))
		return dir + "/f"
	}, func(t *testing.T, dir string) {
		must(t, os.Symlink("two", dir+"/f.tmp"))
		must(t, os.Rename(dir+"/f.tmp", dir+"/f"))
	}},
}

// The kernel tells, so that no look of the clock is waited for.
func TestAChangeIsToldOnce(t *testing.T) {
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := real(t)
			path := c.before(t, dir)
			told := run(t, watch.Options{Paths: paths(path), Every: time.Hour})
			c.change(t, dir)
			if got := next(t, told); !slices.Equal(got, []string{path}) {
				t.Fatalf("told of %q, want %q", got, path)
			}
			none(t, told, 600*time.Millisecond)
			// The watch has followed to where the file is now.
			if strings.HasPrefix(c.name, "a volume") {
				for n := 2; n < 5; n++ {
					(&volume{t: t, dir: dir, n: n}).swap(fmt.Sprint("newer ", n))
					next(t, told)
				}
			}
		})
	}
}

// Without a single event, every change is told within the time between two
// looks.
func TestAChangeIsToldWithoutEvents(t *testing.T) {
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			dir := real(t)
			path := c.before(t, dir)
			synctest.Test(t, func(t *testing.T) {
				var logged bytes.Buffer
				told := make(chan []string, 9)
				w := watch.New(watch.Options{Paths: paths(path), Changed: func(_ context.Context, p []string) { told <- p },
					Log: slog.New(slog.NewTextHandler(&logged, nil))})
				watch.Blind(w, syscall.EMFILE)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- w.Run(ctx) }()
				synctest.Wait()
				start := time.Now()
				c.change(t, dir)
				if got := <-told; !slices.Equal(got, []string{path}) {
					t.Errorf("told of %q, want %q", got, path)
				}
				if after := time.Since(start); after > time.Minute+2*time.Second {
					t.Errorf("told after %v", after)
				}
				time.Sleep(10 * time.Minute)
				if len(told) > 0 {
					t.Errorf("told again of %q", <-told)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if n := strings.Count(logged.String(), "max_user_instances"); n != 1 {
					t.Errorf("said %d times that the kernel does not tell:\n%s", n, &logged)
				}
			})
		})
	}
}

func TestWhatIsTheSameIsNotTold(t *testing.T) {
	dir := real(t)
	path := file(t, dir)
	told := run(t, watch.Options{Paths: paths(path), Every: time.Hour})
	write(t, path, "old") // again
	write(t, dir+"/other", "new")
	must(t, os.Chmod(path, 0o640))
	write(t, dir+"/f.tmp", "old")
	must(t, os.Rename(dir+"/f.tmp", path))
	none(t, told, time.Second)
}

func TestAFileIsToldOnceItIsWhole(t *testing.T) {
	dir := real(t)
	path := file(t, dir)
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		w := watch.New(watch.Options{Paths: paths(path), Log: slog.New(slog.DiscardHandler), Changed: func(context.Context, []string) {
			b, err := os.ReadFile(path)
			must(t, err)
			seen = append(seen, string(b))
		}})
		watch.Blind(w, errors.ErrUnsupported)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		time.Sleep(time.Minute + 150*time.Millisecond) // in the middle of a look
		for _, part := range []string{"a", "ab", "abc"} {
			write(t, path, part)
			time.Sleep(150 * time.Millisecond)
		}
		time.Sleep(2 * time.Minute)
		cancel()
		<-done
		if !slices.Equal(seen, []string{"abc"}) {
			t.Errorf("read %q", seen)
		}
	})
}

// A path that is listed later is no change by itself, and its next one is told.
func TestLearn(t *testing.T) {
	dir := real(t)
	one, two := file(t, dir), dir+"/sub/g"
	must(t, os.Mkdir(dir+"/sub", 0o755))
	write(t, two, "old")
	list := make(chan []string, 1)
	list <- []string{one}
	told := make(chan []string, 9)
	w := watch.New(watch.Options{Every: time.Hour, Log: slog.New(slog.DiscardHandler),
		Paths:   func() []string { l := <-list; list <- l; return l },
		Changed: func(_ context.Context, p []string) { told <- p }})
	start(t, w)
	<-list
	list <- []string{one, two}
	w.Learn()
	write(t, two, "new") // at once
	if got := next(t, told); !slices.Equal(got, []string{two}) {
		t.Errorf("told of %q", got)
	}
	none(t, told, 500*time.Millisecond)
}

// What is no file is neither opened nor waited for.
func TestAFIFOIsNotOpened(t *testing.T) {
	dir := real(t)
	must(t, syscall.Mkfifo(dir+"/f", 0o600))
	told := run(t, watch.Options{Paths: paths(dir + "/f"), Every: time.Hour})
	must(t, os.Remove(dir+"/f"))
	write(t, dir+"/f", "a file")
	next(t, told)
}

func TestFolders(t *testing.T) {
	dir := real(t)
	must(t, os.MkdirAll(dir+"/a/b", 0o755))
	must(t, os.Symlink("a", dir+"/link"))
	must(t, os.Symlink("loop", dir+"/loop"))
	for name, c := range map[string]struct{ path, want string }{
		"a file":                         {"a/b/f", "a a/b"},
		"a folder":                       {"a/b", ". a a/b"},
		"a link on the way":              {"link/b/f", ". a a/b"},
		"folders that are not there yet": {"a/x/y/z/f", ". a"},
		"a link to itself ends":          {"loop/f", ". .."},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			for w := range strings.FieldsSeq(c.want) {
				want = append(want, filepath.Join(dir, w))
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, watch.Folders([]string{filepath.Join(dir, c.path)})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Ten thousand events in a second, and the queue that overflows by them, cost a
// look or two and lose nothing.
func TestAFloodOfEvents(t *testing.T) {
	dir := real(t)
	path := file(t, dir)
	told := run(t, watch.Options{Paths: paths(path), Every: time.Hour})
	for n := range 40_000 {
		name := filepath.Join(dir, fmt.Sprint("noise", n%50))
		if n%2 == 0 {
			must(t, os.Mkdir(name, 0o755))
		} else {
			_ = os.Remove(filepath.Join(dir, fmt.Sprint("noise", (n-1)%50)))
		}
	}
	write(t, path, "new")
	next(t, told)
}

func file(t *testing.T, dir string) string {
	t.Helper()
	write(t, dir+"/f", "old")
	return dir + "/f"
}

func run(t *testing.T, o watch.Options) <-chan []string {
	t.Helper()
	told := make(chan []string, 9)
	o.Changed = func(_ context.Context, p []string) { told <- p }
	o.Log = slog.New(slog.DiscardHandler)
	start(t, watch.New(o))
	return told
}

func start(t *testing.T, w *watch.Watcher) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func next(t *testing.T, told <-chan []string) []string {
	t.Helper()
	select {
	case p := <-told:
		return p
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was told")
		return nil
	}
}

func none(t *testing.T, told <-chan []string, during time.Duration) {
	t.Helper()
	select {
	case p := <-told:
		t.Fatalf("told of %q, which has not changed", p)
	case <-time.After(during):
	}
}

// real is a folder of the test's by a path without links.
func real(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	return dir
}

func paths(p ...string) func() []string { return func() []string { return p } }

func write(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
