//go:build linux

package e2e_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

const cephURL = "http://127.0.0.1:7480"

// startCeph runs a Ceph cluster until the test ends; testdata/ceph.sh says what
// is in it.
func startCeph(t testing.TB) {
	t.Helper()
	if !ownnet.RealRoot() {
		ownnet.Missing(t, "a real root, for Ceph's mounts")
	}
	tree := cached(t, "ceph-bookworm")
	scratch := t.TempDir()
	cmd := exec.Command(tool(t, "unshare"), "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc",
		"--propagation", "private", "bash", "testdata/ceph.sh", tree, scratch)
	cmd.Env = bare(t)
	p := start(t, "Ceph", cmd)
	p.await(t, "answers", 90*time.Second, ready(t, cephURL))
}

// TestCephRotation is the promise of the whole program: with sessions of six
// seconds, over twenty changes of the key, not one request of a client that
// never pauses fails, and every key that was replaced is really dead.
func TestCephRotation(t *testing.T) {
	if testing.Short() {
		t.Skip("twenty sessions take a minute and a half")
	}
	clients := goClients(t)
	startCeph(t)
	d := startHostrole(t, preamble(t, cephURL, "app")+`
[role.app]
arn = "arn:aws:iam:::role/app"
from = "source.keys"
duration = "6s"
`)
	doc := d.credential(t, "app")
	mustS3(t, doc, cephURL, http.MethodPut, "/"+bucket, "")

	for name, options := range map[string][]string{
		// Without a window it would sign with a key until the key's last
		// instant; a quarter of the session is what hostrole leaves at least.
		"v2": {"--window", "1500ms"},
		// It renews at four fifths of a key's life by itself.
		"minio": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			argv := append([]string{clients, "steady", name, cephURL, bucket, "--rotations", "20", "--limit", "4m"}, options...)
			out := output(t, 5*time.Minute, bare(t), argv...)
			var sum struct {
				Operations, Failed, Rotations int
				DeadKeys                      int `json:"dead_keys"`
			}
			if err := json.Unmarshal(out, &sum); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if sum.Failed != 0 || sum.Rotations < 20 || sum.DeadKeys != sum.Rotations || sum.Operations < 20*sum.Rotations {
				t.Errorf("got %s, want 20 rotations, each with a dead key and many operations, and none failed", bytes.TrimSpace(out))
			}
			t.Logf("%s", bytes.TrimSpace(out))
		})
	}
}

// TestCephRefusal: a role that does not trust the host's identity is refused
// by the upstream, and callers get EC2's document about it.
func TestCephRefusal(t *testing.T) {
	startCeph(t)
	d := startHostrole(t, preamble(t, cephURL, "app")+`
[role.app]
arn = "arn:aws:iam:::role/denied"
from = "source.keys"
duration = "6s"
`)
	var doc document
	d.await(t, "reports the refusal", 15*time.Second, func() bool {
		status, body, err := fetch(t.Context(), "meta-data/iam/security-credentials/denied")
		return err == nil && status == http.StatusOK && json.Unmarshal(body, &doc) == nil
	})
	if doc.Code != "AssumeRoleUnauthorizedAccess" || doc.AccessKeyId != "" {
		t.Errorf("got code %q and key %q, want AssumeRoleUnauthorizedAccess and none", doc.Code, doc.AccessKeyId)
	}
}

// goClients builds the Go client program, once and offline: setup.sh has
// fetched what it needs.
func goClients(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(os.Getenv(scratchEnv), "clients")
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	cmd := exec.Command(tool(t, "go"), "build", "-C", "clients", "-trimpath", "-o", binary, ".")
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	if bytes.Contains(out, []byte("GOPROXY=off")) {
		ownnet.Missing(t, "the modules of the Go clients: run agent/e2e/setup.sh (%s)", out)
	}
	if err != nil {
		t.Fatalf("building the Go clients: %v\n%s", err, out)
	}
	return binary
}
