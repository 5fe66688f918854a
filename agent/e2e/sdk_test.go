//go:build linux

package e2e_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite testdata/sdk with what the clients ask for now")

// An sdk is a client of the metadata service as programs in the field use it.
// argv returns how it is run with the arguments ENDPOINT BUCKET, or skips t.
type sdk struct {
	name string
	argv func(t *testing.T) []string
}

var sdks = []sdk{
	{"aws-sdk-go-v2", func(t *testing.T) []string { return []string{goClients(t), "s3", "v2"} }},
	{"minio-go", func(t *testing.T) []string { return []string{goClients(t), "s3", "minio"} }},
	{"boto3", func(t *testing.T) []string {
		python := tool(t, "python3")
		probe := exec.Command(python, "-c", "import boto3")
		probe.Env = bare(t)
		if out, err := probe.CombinedOutput(); err != nil {
			missing(t, "boto3: run agent/e2e/setup.sh (%s)", out)
		}
		return []string{python, "clients/boto3_client.py"}
	}},
	{"awscli", func(t *testing.T) []string {
		tool(t, "aws")
		return []string{tool(t, "sh"), "clients/awscli.sh"}
	}},
	{"aws-sdk-js-v3", func(t *testing.T) []string {
		node := tool(t, "node")
		modules := cached(t, "node/node_modules")
		lock, err := os.ReadFile("clients/node/package-lock.json")
		if err != nil {
			t.Fatal(err)
		}
		if made, err := os.ReadFile(cached(t, "node/package-lock.json")); err != nil || string(made) != string(lock) {
			missing(t, "the JavaScript client as package-lock.json has it now: run agent/e2e/setup.sh")
		}
		// Node looks for modules beside the program.
		dir := t.TempDir()
		program, err := os.ReadFile("clients/node/client.mjs")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "client.mjs"), program, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
			t.Fatal(err)
		}
		return []string{node, filepath.Join(dir, "client.mjs")}
	}},
	{"curl", func(t *testing.T) []string {
		tool(t, "curl")
		return []string{tool(t, "sh"), "clients/curl.sh"}
	}},
}

// TestSDKs runs each client with nothing configured but a region. Each has to
// end up with the key that hostrole serves, put an object and read it back,
// and ask hostrole for exactly what its golden file says.
func TestSDKs(t *testing.T) {
	startMinIO(t, nil)
	d := startHostrole(t, preamble(t, minioURL, "app")+`
[role.app]
arn = "`+anyARN+`"
from = "source.keys"
duration = "1h"
`)
	for _, c := range sdks {
		t.Run(c.name, func(t *testing.T) {
			argv := append(c.argv(t), minioURL, bucket)
			want := d.credential(t, "app").AccessKeyId
			from := d.settle(t)
			out := output(t, time.Minute, bare(t), argv...)
			golden(t, filepath.Join("testdata", "sdk", c.name+".txt"), func() string { return sequence(d.out.since(from)) })
			var result struct{ Client, Version, AccessKeyID string }
			if err := json.Unmarshal(out, &result); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Logf("%s %s", result.Client, result.Version)
			if after := d.credential(t, "app").AccessKeyId; after != want {
				t.Fatalf("the key changed from %s to %s under the test", want, after)
			}
			if result.AccessKeyID != want {
				t.Errorf("the client has the key %q, hostrole serves %q", result.AccessKeyID, want)
			}
		})
	}
}

// settle waits until the log has what was asked before: a request is logged
// after its answer, which its client does not wait for. It returns the log's
// size.
func (d *daemon) settle(t testing.TB) int {
	t.Helper()
	size, since := d.out.size(), time.Now()
	d.await(t, "has logged all requests", 10*time.Second, func() bool {
		if now := d.out.size(); now != size {
			size, since = now, time.Now()
		}
		return time.Since(since) > 250*time.Millisecond
	})
	return size
}

var (
	roleName = regexp.MustCompile(`(/iam/security-credentials//?)[^/]+$`)
	dated    = regexp.MustCompile(`^/\d{4}-\d\d-\d\d/`)
)

// sequence renders the requests of a log, one a line.
func sequence(log string) string {
	var lines strings.Builder
	for _, r := range requests(log) {
		path := dated.ReplaceAllString(roleName.ReplaceAllString(r.Path, "${1}ROLE"), "/DATE/")
		fmt.Fprintf(&lines, "%s %s %d\n", r.Method, path, r.Status)
	}
	return lines.String()
}

// golden compares with a file, or rewrites it. A log may be a moment late:
// got is asked again until it agrees, or five seconds have passed.
func golden(t *testing.T, path string, got func() string) {
	t.Helper()
	want, err := os.ReadFile(path)
	now := got()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatalf("%v: run go test with -update", err)
	}
	for end := time.Now().Add(5 * time.Second); now != string(want) && time.Now().Before(end); now = got() {
		<-time.After(20 * time.Millisecond)
	}
	if now != string(want) {
		t.Errorf("the requests differ from %s\ngot:\n%swant:\n%s", path, now, want)
	}
}

func TestSequence(t *testing.T) {
	log := `{"level":"INFO","msg":"serving"}
not JSON
{"level":"DEBUG","msg":"request","method":"PUT","path":"/latest/api/token","status":200}
{"level":"DEBUG","msg":"request","method":"GET","path":"/latest/meta-data/iam/security-credentials/app","status":200}
{"level":"DEBUG","msg":"request","method":"GET","path":"/2021-03-23/meta-data/iam/security-credentials/","status":401}
`
	want := `PUT /latest/api/token 200
GET /latest/meta-data/iam/security-credentials/ROLE 200
GET /DATE/meta-data/iam/security-credentials/ 401
`
	if got := sequence(log); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}
