package subject_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hostrole/hostrole/cmd/hostrole/subject"
)

// A unit and a container are found by a process of theirs.
func TestUnitsAndContainers(t *testing.T) {
	uid, path, err := (&subject.Subject{PID: os.Getpid(), UID: -1}).Find(nil)
	if err != nil || int(uid) != os.Geteuid() {
		t.Fatalf("this process is uid %d, %v", uid, err)
	}
	id := strings.Repeat("4f2b", 16)
	me := &fstest.MapFile{Data: fmt.Appendf(nil, "%d\n1\n", os.Getpid())}
	tree := fstest.MapFS{
		"system.slice/app.service/cgroup.procs":                     me,
		"system.slice/idle.service/cgroup.procs":                    {},
		"system.slice/split.service/worker/cgroup.procs":            me,
		"system.slice/split.service/cgroup.procs":                   {},
		"system.slice/docker-" + id + ".scope/cgroup.procs":         me,
		"system.slice/engine.service/docker/" + id + "/x/y/z/procs": me,
	}
	for unit, want := range map[string]string{"app.service": "", "idle.service": "no process of it runs", "gone.service": "no process of it runs", "app": "no process of it runs"} {
		got, at, err := find(tree, unit, "")
		if want == "" && (err != nil || got != uid || at != path) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s is uid %d in %q, %v", unit, got, at, err)
		}
	}
	for _, c := range []string{id, id[:12]} {
		if got, at, err := find(tree, "", c); err != nil || got != uid || at != path {
			t.Errorf("container %s is uid %d in %q, %v", c, got, at, err)
		}
	}
	if _, _, err := find(tree, "", "0000"); err == nil {
		t.Error("a container that is not there was found")
	}
	if _, _, err := find(tree, "app.service", id); err == nil {
		t.Error("two subjects are one too many")
	}
}

func find(tree fs.FS, unit, container string) (uint32, string, error) {
	return (&subject.Subject{Unit: unit, Container: container, UID: -1}).Find(tree)
}

// What can be completed is what runs.
func TestNames(t *testing.T) {
	id := strings.Repeat("4f2b", 16)
	one := &fstest.MapFile{Data: []byte("1\n")}
	tree := fstest.MapFS{
		"system.slice/web-1.service/cgroup.procs":           one,
		"system.slice/split.service/worker/cgroup.procs":    one,
		"system.slice/idle.service/cgroup.procs":            {},
		"system.slice/docker-" + id + ".scope/cgroup.procs": one,
	}
	if got := subject.Units(tree); !slices.Equal(got, []string{"split.service", "web-1.service"}) {
		t.Errorf("the units are %q", got)
	}
	if got := subject.Containers(tree); !slices.Equal(got, []string{id[:12]}) {
		t.Errorf("the containers are %q", got)
	}
	file := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(file, []byte("root:x:0:0::/root:/bin/sh\n# odd\napp:x:1000:1000::/:/bin/false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := subject.Users(file); !slices.Equal(got, []string{"root", "app"}) {
		t.Errorf("the users are %q", got)
	}
}

// A process of this network is not elsewhere; one that is not there is not
// known to be.
func TestElsewhere(t *testing.T) {
	if subject.Elsewhere(os.Getpid(), os.Getpid()) || subject.Elsewhere(os.Getpid(), 1<<30) {
		t.Error("this process is elsewhere")
	}
}
