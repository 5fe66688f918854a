package systemd_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The drop-ins for containers are understood, and with them the service is as
// confined as what it needs then lets it be: an exposure of 2.3 at most, against
// 1.8 without.
func TestContainerDropIns(t *testing.T) {
	program := analyze(t)
	root := tree(t, "containers.conf", "container-names.conf")
	for what, args := range map[string][]string{
		"verify":   {"verify", "--root=" + root, "--man=no", "/usr/lib/systemd/system/hostrole.service"},
		"security": {"security", "--no-pager", "--offline=true", "--root=" + root, "--threshold=23", "hostrole.service"},
	} {
		out, err := exec.Command(program, args...).CombinedOutput()
		if err != nil || what == "verify" && strings.Contains(string(out), "hostrole") {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
	// It is the drop-in that is measured: what the unit gives itself alone would pass.
	out, err := exec.Command(program, "security", "--no-pager", "--offline=true", "--root="+root, "--threshold=18", "hostrole.service").CombinedOutput()
	if err == nil {
		t.Errorf("the drop-ins were not read:\n%s", out)
	}
}
