package operator_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/hostrole/hostrole/cmd/hostrole/operator"
)

// A unit and a container are found by a process of theirs.
func TestUnitsAndContainers(t *testing.T) {
	uid, path, err := operator.Self()
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
		got, at, err := operator.Subject(tree, unit, "")
		if want == "" && (err != nil || got != uid || at != path) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s is uid %d in %q, %v", unit, got, at, err)
		}
	}
	for _, c := range []string{id, id[:12]} {
		if got, at, err := operator.Subject(tree, "", c); err != nil || got != uid || at != path {
			t.Errorf("container %s is uid %d in %q, %v", c, got, at, err)
		}
	}
	if _, _, err := operator.Subject(tree, "", "0000"); err == nil {
		t.Error("a container that is not there was found")
	}
	if _, _, err := operator.Subject(tree, "app.service", id); err == nil {
		t.Error("two subjects are one too many")
	}
}
