package cgroup_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hostrole/hostrole/imds/caller"
	"github.com/hostrole/hostrole/imds/caller/cgroup"
)

// A tree is a folder with cgroups, which need not be the kernel's.
type tree struct {
	t    testing.TB
	root string
}

// newTree is a tree of folders that looks like the kernel's.
func newTree(t testing.TB, paths ...string) tree {
	dir, err := os.MkdirTemp("/dev/shm", "hostrole-test-") // a disk is slow
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	tr := tree{t, dir}
	for _, p := range paths {
		tr.add(p)
	}
	return tr
}

// realTree is a cgroup of this test in the kernel's tree.
func realTree(t testing.TB) tree {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if unix.Statfs(mount, &fs) != nil || int64(fs.Type) != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		dir, err := os.MkdirTemp(mount, "hostrole-test-")
		if err != nil {
			t.Skipf("SKIPPED, missing: the right to make a cgroup: %v", err)
		}
		tr := tree{t, dir}
		t.Cleanup(func() { tr.remove("") })
		return tr
	}
	t.Skip("SKIPPED, missing: a mounted cgroup v2")
	return tree{}
}

func (tr tree) add(path string) (id uint64) {
	tr.t.Helper()
	if err := os.MkdirAll(filepath.Join(tr.root, path), 0o755); err != nil {
		tr.t.Fatal(err)
	}
	return tr.id(path)
}

func (tr tree) id(path string) uint64 {
	tr.t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(tr.root, path), &st); err != nil {
		tr.t.Fatal(err)
	}
	return st.Ino
}

// remove takes off a cgroup and all below it.
func (tr tree) remove(path string) {
	var dirs []string
	_ = filepath.WalkDir(filepath.Join(tr.root, path), func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		if err := unix.Rmdir(d); err != nil {
			tr.t.Error(err)
		}
	}
}

func (tr tree) enricher() *cgroup.Enricher {
	start := time.Now()
	return cgroup.New(cgroup.Options{Root: tr.root, Boot: func() time.Duration { return time.Since(start) }})
}

func ask(ctx context.Context, e *cgroup.Enricher, id uint64) (caller.Caller, error) {
	who := caller.Caller{UID: caller.NewID(1000), Cgroup: id}
	err := e.Enrich(ctx, caller.Conn{}, &who)
	return who, err
}

// want checks the unit and the container of the cgroup with that id.
func want(t *testing.T, e *cgroup.Enricher, id uint64, unit, container string) {
	t.Helper()
	if who, err := ask(t.Context(), e, id); err != nil || who.Unit != unit || who.Container != container {
		t.Errorf("cgroup %d is of %q in container %q, %v, want %q and %q", id, who.Unit, who.Container, err, unit, container)
	}
}

// refuse checks that nothing is said of the cgroup with that id.
func refuse(t *testing.T, e *cgroup.Enricher, id uint64, want error) {
	t.Helper()
	who, err := ask(t.Context(), e, id)
	if !errors.Is(err, want) {
		t.Errorf("cgroup %d: error %v, want %v", id, err, want)
	}
	if who.Unit+who.Slice+who.Container+who.Runtime != "" {
		t.Errorf("cgroup %d is refused and has facts: %+v", id, who)
	}
}

func TestFactsOfACaller(t *testing.T) {
	t.Parallel()
	tr := newTree(t, "system.slice/app.service", "user.slice/user-1000.slice/user@1000.service/app.slice/app.service")
	id := tr.add("machine.slice/machine-web.scope/payload")
	who := caller.Caller{Listener: "host", UID: caller.NewID(0), User: "root", Cgroup: id, Inode: 7}
	if err := tr.enricher().Enrich(t.Context(), caller.Conn{}, &who); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%+v", who), fmt.Sprintf("%+v", caller.Caller{Listener: "host", UID: caller.NewID(0), User: "root", Cgroup: id, Inode: 7,
		Unit: "machine-web.scope", Slice: "machine.slice", Container: "web", Runtime: "systemd-nspawn"}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	e := tr.enricher()
	want(t, e, tr.id("system.slice/app.service"), "app.service", "")
	want(t, e, tr.id("user.slice/user-1000.slice/user@1000.service/app.slice/app.service"), "user@1000.service", "")
	want(t, e, tr.id("system.slice"), "", "")
	want(t, e, tr.id(""), "", "")
	if n := e.Walks(); n != 1 {
		t.Errorf("%d walks, want one", n)
	}
}

func TestUnknownCallerIsLeftAlone(t *testing.T) {
	t.Parallel()
	tr := newTree(t, "system.slice/app.service")
	e := tr.enricher()
	who := caller.Caller{Cgroup: tr.id("system.slice/app.service")}
	if err := e.Enrich(t.Context(), caller.Conn{}, &who); err != nil || who.Unit != "" || e.Walks() != 0 {
		t.Errorf("got %+v, %v after %d walks, want nothing", who, err, e.Walks())
	}
}

func TestCgroupThatIsNotThere(t *testing.T) {
	t.Parallel()
	tr := newTree(t, "system.slice/app.service", "system.slice/other.service")
	e := tr.enricher()
	id, other := tr.id("system.slice/app.service"), tr.id("system.slice/other.service")
	refuse(t, e, 0, cgroup.ErrUnsaid)
	if n := e.Walks(); n != 0 {
		t.Errorf("%d walks for nothing", n)
	}
	refuse(t, e, 1<<63, cgroup.ErrGone)
	want(t, e, id, "app.service", "")

	// Another takes the place of one that is known.
	before := e.Walks()
	if err := os.Rename(filepath.Join(tr.root, "system.slice/app.service"), filepath.Join(tr.root, "app.service")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(tr.root, "system.slice/other.service"), filepath.Join(tr.root, "system.slice/app.service")); err != nil {
		t.Fatal(err)
	}
	refuse(t, e, id, cgroup.ErrGone)
	refuse(t, e, other, cgroup.ErrGone)
	if n := e.Walks(); n != before {
		t.Errorf("%d walks for those that were known, want none", n-before)
	}
}

func TestNewCgroupIsFound(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	e := tr.enricher()
	for i := range 5 {
		unit := fmt.Sprintf("app-%d.service", i)
		want(t, e, tr.add("system.slice/"+unit), unit, "")
	}
	if n := e.Walks(); n != 5 {
		t.Errorf("%d walks, want 5", n)
	}
}

// What the kernel does, as far as the rest relies on it.
func TestRealCgroups(t *testing.T) {
	t.Parallel()
	tr := realTree(t)
	e := tr.enricher()
	if err := e.Available(); err != nil {
		t.Errorf("Available() = %v", err)
	}
	if !e.Partial() {
		t.Error("a cgroup below the root is taken for the whole tree")
	}
	id := tr.add("system.slice/app.service/deep")
	want(t, e, id, "app.service", "")
	want(t, e, tr.id("system.slice"), "", "")
	tr.remove("system.slice/app.service")
	refuse(t, e, id, cgroup.ErrGone)
	again := tr.add("system.slice/app.service/deep")
	if again == id {
		t.Errorf("the kernel has used id %d again", id)
	}
	refuse(t, e, id, cgroup.ErrGone)
	want(t, e, again, "app.service", "")
	if err := os.Rename(filepath.Join(tr.root, "system.slice"), filepath.Join(tr.root, "other.slice")); err == nil {
		t.Error("the kernel has renamed a cgroup")
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	for what, root := range map[string]string{"no tree of cgroup v2": t.TempDir(), "no such file": filepath.Join(t.TempDir(), "none")} {
		e := cgroup.New(cgroup.Options{Root: root, Boot: func() time.Duration { return 0 }})
		if err := e.Available(); !errors.Is(err, cgroup.ErrUnavailable) || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "unified_cgroup_hierarchy") {
			t.Errorf("where there is %s: %v", what, err)
		}
	}
	if _, err := ask(t.Context(), cgroup.New(cgroup.Options{Root: filepath.Join(t.TempDir(), "none"), Boot: func() time.Duration { return 0 }}), 7); err == nil || errors.Is(err, cgroup.ErrGone) {
		t.Errorf("a tree that cannot be read: %v", err)
	}
}

// A user makes more cgroups than anybody looks at. Only what is far down in
// his own part is not found.
func TestOwnerWithTooManyCgroups(t *testing.T) {
	t.Parallel()
	const user = "user.slice/user-1000.slice/user@1000.service"
	tr := newTree(t, "zzz.slice/app.service/deep", user+"/app.slice", "payload")
	for i := range cgroup.OwnerLimit {
		if err := os.Mkdir(filepath.Join(tr.root, user, "app.slice", fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range cgroup.OwnerLimit + 1 { // the service manager may
		if err := os.Mkdir(filepath.Join(tr.root, "zzz.slice", fmt.Sprintf("%d.service", i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	deep := strings.Repeat("/"+strings.Repeat("d", 200), cgroup.PathLimit/200+1)
	e := tr.enricher()
	want(t, e, tr.id("zzz.slice/app.service/deep"), "app.service", "")
	want(t, e, tr.id(user+"/app.slice"), "user@1000.service", "")
	for i := range cgroup.OwnerLimit + 1 {
		unit := fmt.Sprintf("%d.service", i)
		want(t, e, tr.id("zzz.slice/"+unit), unit, "")
	}
	refused := 0
	for i := range cgroup.OwnerLimit {
		if _, err := ask(t.Context(), e, tr.id(fmt.Sprintf("%s/app.slice/%d", user, i))); err != nil {
			refused++
			break // each takes a walk
		}
	}
	if refused == 0 {
		t.Error("all are found: this test shows nothing")
	}
	refuse(t, e, tr.add("payload"+deep), cgroup.ErrGone)
	want(t, e, tr.id(filepath.Dir("payload"+deep)), "", "")
}

// A user hides his cgroups, at his own expense.
func TestHiddenCgroup(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("SKIPPED, missing: a user from whom something can be hidden")
	}
	const user = "user.slice/user-1000.slice/user@1000.service"
	tr := newTree(t, user+"/app.slice/a", "zzz.slice/app.service")
	hidden := tr.id(user + "/app.slice/a")
	if err := os.Chmod(filepath.Join(tr.root, user, "app.slice"), 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Chmod(filepath.Join(tr.root, user, "app.slice"), 0o755) }()
	e := tr.enricher()
	want(t, e, tr.id("zzz.slice/app.service"), "app.service", "")
	refuse(t, e, hidden, cgroup.ErrGone)
}

func TestTreeInMotion(t *testing.T) {
	t.Parallel()
	tr := newTree(t, "system.slice/app.service", "system.slice/busy.service")
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			dir := filepath.Join(tr.root, "system.slice/busy.service", fmt.Sprint(i))
			_ = os.MkdirAll(filepath.Join(dir, "a/b"), 0o755)
			_ = os.RemoveAll(dir)
		}
	})
	e := tr.enricher()
	for range 20 {
		refuse(t, e, 1<<63, cgroup.ErrGone)
		want(t, e, tr.id("system.slice/app.service"), "app.service", "")
	}
	close(stop)
	group.Wait()
}

// All who ask while others walk share the next walk.
func TestManyAskForTheSameWalk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTree(t)
		e := tr.enricher()
		id := tr.add("system.slice/app.service")
		release := e.Hold()
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				if who, err := ask(t.Context(), e, id); err != nil || who.Unit != "app.service" {
					t.Errorf("got %+v, %v", who, err)
				}
			})
		}
		synctest.Wait()
		release()
		group.Wait()
		if n := e.Walks(); n != 1 {
			t.Errorf("%d walks, want one", n)
		}
	})
}

func TestWalksArePaced(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ took, rest time.Duration }{
		{0, cgroup.RestAtLeast}, {cgroup.RestAtLeast, cgroup.Pace * cgroup.RestAtLeast}, {time.Second, cgroup.RestAtMost},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr, start, looks := newTree(t), time.Now(), 0
			e := cgroup.New(cgroup.Options{Root: tr.root, Boot: func() time.Duration {
				looks++ // before a walk, at its beginning, at its end
				return time.Since(start) + time.Duration(looks/3)*c.took
			}})
			const walks = 4
			for range walks {
				refuse(t, e, 1<<63, cgroup.ErrGone)
			}
			if took, want := time.Since(start), (walks-1)*c.rest; took != want {
				t.Errorf("with walks of %v the next one waits %v, want %v", c.took, took/(walks-1), c.rest)
			}
		})
	}
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTree(t, "system.slice/app.service")
		e := tr.enricher()
		ctx, cancel := context.WithTimeout(t.Context(), cgroup.RestAtLeast/2)
		defer cancel()
		refuse(t, e, 1<<63, cgroup.ErrGone)
		if _, err := ask(ctx, e, 1<<63); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while walks rest: %v", err)
		}
		release := e.Hold()
		if _, err := ask(ctx, e, 1<<63); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while another walks: %v", err)
		}
		if _, err := ask(ctx, e, tr.id("system.slice/app.service")); err != nil {
			t.Errorf("of one that is known: %v", err)
		}
		release()
	})
}

func TestKnownCgroupAllocatesNoMoreThanItsPath(t *testing.T) {
	tr := newTree(t, "system.slice/app.service")
	e, id := tr.enricher(), tr.id("system.slice/app.service")
	who := caller.Caller{UID: caller.NewID(1000), Cgroup: id}
	if n := testing.AllocsPerRun(1000, func() {
		if err := e.Enrich(t.Context(), caller.Conn{}, &who); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations for each caller, want one", n)
	}
}

// FuzzAppendFolders reads entries that the kernel would not write.
func FuzzAppendFolders(f *testing.F) {
	entry := func(kind byte, name string) []byte {
		b := make([]byte, (19+len(name)+8)&^7)
		b[16], b[18] = byte(len(b)), kind
		copy(b[19:], name)
		return b
	}
	f.Add(slices.Concat(entry(unix.DT_DIR, "."), entry(unix.DT_DIR, "app.service"), entry(unix.DT_REG, "cgroup.procs")))
	f.Add(entry(unix.DT_DIR, "x")[:20])
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, entries []byte) {
		for _, name := range cgroup.AppendFolders(nil, entries) {
			if name == "." || name == ".." || strings.Contains(name, "\x00") {
				t.Errorf("there is a folder %q", name)
			}
		}
	})
}

// units makes so many cgroups and returns their ids.
func (tr tree) units(n int) (ids []uint64) {
	for i := range n {
		ids = append(ids, tr.add(fmt.Sprintf("system.slice/app-%d.service", i)))
	}
	return ids
}

// BenchmarkUnit is what the unit costs beside the uid: of a cgroup that is
// known, and of one that is not.
func BenchmarkUnit(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("known/cgroups=%d", n), func(b *testing.B) {
			tr := realTree(b)
			ids := tr.units(n)
			e, i := tr.enricher(), 0
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ask(b.Context(), e, ids[i%n]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
		b.Run(fmt.Sprintf("walk/cgroups=%d", n), func(b *testing.B) {
			tr := realTree(b)
			ids := tr.units(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ask(b.Context(), tr.enricher(), ids[0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
