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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

var update = flag.Bool("update", false, "rewrite testdata/sdk with what the clients ask for now")

// An sdk is a client of the metadata service as programs in the field use it.
// argv returns how it is run with the arguments ENDPOINT BUCKET, or skips t. It
// prints one line of JSON: client, version, and the accessKeyId that its chain
// found, or "" where it does not tell. What can be said of it in few words is in
// a row of packaging/docs/clients.md.
type sdk struct {
	name    string
	version string // without what a distribution adds
	local   bool   // it is the machine's own, and may be of another version
	argv    func(t *testing.T) []string
	mode    bool   // asks over IPv6 when it is told so
	region  string // its golden file of TestRegion or TestNoRegion; "" for neither
	blind   string // why nobody can see which key it found; "" for most

	// loop is a program that uses it for long, with the same arguments: it says
	// who it is, and after each line of its input how its turn went. nil: each
	// run starts anew.
	loop    func(t *testing.T) []string
	patient bool // see patientLife
	insists bool // it tries so often that its record has each request of a turn once, in no order
	sure    bool // it is told its role, and does not ask for a list
	life    life
}

var sdks = []sdk{
	{name: "aws-sdk-go-v2", version: "1.47.7", mode: true, region: "region-aws-sdk-go-v2", argv: goClient("s3", "v2"), loop: goClient("loop", "v2"),
		life: life{unnoticed, recovers, stale}},
	{name: "aws-sdk-go-v1", version: "1.55.8", region: "region-aws-sdk-go-v1", argv: goClient("s3", "v1"), loop: goClient("loop", "v1"),
		life: life{unnoticed, once, once}},
	{name: "minio-go", version: "7.4.1", region: "region-minio-go", argv: goClient("s3", "minio"), loop: goClient("loop", "minio"),
		life: life{unnoticed, between, once}},
	{name: "boto3", version: "1.43.11", local: true, mode: true, region: "region-botocore", argv: python("boto3_client.py"), loop: python("boto3_loop.py"), patient: true,
		life: life{unnoticed, between, once}},
	{name: "awscli", version: "1.45.11", local: true, mode: true, argv: func(t *testing.T) []string {
		tool(t, "aws")
		return []string{tool(t, "sh"), "clients/awscli.sh"}
	}, life: life{unnoticed, runFails, anew}},
	{name: "aws-sdk-js-v3", version: "3.1169.0", mode: true, region: "region-aws-sdk-js-v3", argv: node("node", "client.mjs"), loop: node("node", "loop.mjs", "aws-sdk-js-v3"), patient: true,
		life: life{unnoticed, between, once}},
	{name: "aws-sdk-js-v2", version: "2.1693.0", region: "region-aws-sdk-js-v2", argv: node("node", "v2.mjs"), loop: node("node", "loop.mjs", "aws-sdk-js-v2"), patient: true,
		life: life{unnoticed, between, twice}},
	{name: "minio-js", version: "8.0.7", region: "region-minio-js", argv: node("node", "minio.mjs"), blind: "it reads AccessKeyID where EC2 says AccessKeyId",
		loop: node("node", "loop.mjs", "minio-js"), life: life{unnoticed, between, once}},
	{name: "aws-crt", version: "1.33.2", region: "region-aws-crt", argv: node("node", "crt.mjs"), loop: node("node", "loop.mjs", "aws-crt"),
		life: life{unnoticed, once, once}},
	{name: "curl", version: "7.88.1", local: true, argv: func(t *testing.T) []string {
		tool(t, "curl")
		return []string{tool(t, "sh"), "clients/curl.sh"}
	}, life: life{unnoticed, runFails, anew}},
}

// goClient runs the Go client program.
func goClient(args ...string) func(t *testing.T) []string {
	return func(t *testing.T) []string { return append([]string{goClients(t)}, args...) }
}

// python runs a program of clients with the Python that has boto3.
func python(program string) func(t *testing.T) []string {
	return func(t *testing.T) []string { return []string{boto3(t), filepath.Join("clients", program)} }
}

// boto3 returns the Python that has it.
func boto3(t *testing.T) string {
	t.Helper()
	python := tool(t, "python3")
	probe := exec.Command(python, "-c", "import boto3")
	probe.Env = bare(t)
	if out, err := probe.CombinedOutput(); err != nil {
		ownnet.Missing(t, "boto3: run agent/e2e/setup.sh (%s)", out)
	}
	return python
}

// node runs a program of clients/FOLDER with the modules that setup.sh has
// installed for that folder.
func node(folder, program string, args ...string) func(t *testing.T) []string {
	return func(t *testing.T) []string {
		t.Helper()
		binary := tool(t, "node")
		modules := cached(t, filepath.Join(folder, "node_modules"))
		made, err := filepath.Glob(filepath.Join("clients", folder, "package*.json"))
		if err != nil || len(made) == 0 {
			t.Fatalf("clients/%s has no package.json: %v", folder, err)
		}
		for _, file := range made {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(cached(t, filepath.Join(folder, filepath.Base(file)))); err != nil || string(got) != string(want) {
				ownnet.Missing(t, "the JavaScript clients as %s has them now: run agent/e2e/setup.sh", file)
			}
		}
		// Node looks for modules beside the program.
		dir := t.TempDir()
		text, err := os.ReadFile(filepath.Join("clients", folder, program))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, program), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
			t.Fatal(err)
		}
		return append([]string{binary, filepath.Join(dir, program)}, args...)
	}
}

// sdkConfig is a host with one role, whose STS is MinIO's. Its key lives for
// half a day, so that it hardly ever changes under a test.
func sdkConfig(t *testing.T) string {
	return strings.Replace(preamble(t, minioURL, "app"), `refresh_after = "1m"`, `refresh_after = "24h"`, 1) + `
[role.app]
arn = "` + anyARN + `"
from = "source.keys"
duration = "12h"
`
}

// TestSDKs runs each client with nothing configured but a region.
func TestSDKs(t *testing.T) {
	startMinIO(t, nil)
	w := newWitness(t)
	d := startHostrole(t, sdkConfig(t))
	for _, c := range sdks {
		t.Run(c.name, func(t *testing.T) { c.run(t, d, w, bare(t)) })
	}
}

// TestSDKsOverIPv6: those that have a switch for it ask the same, at the other
// address and nowhere else.
func TestSDKsOverIPv6(t *testing.T) {
	startMinIO(t, nil)
	w := newWitness(t)
	d := startHostrole(t, sdkConfig(t)+`
[[listener]]
name = "six"
kind = "imds"
address = ["[fd00:ec2::254]:80"]
`)
	for _, c := range sdks {
		if !c.mode {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			log := c.run(t, d, w, bare(t, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6"))
			for _, r := range requests(log) {
				if r.Listener != "six" {
					t.Errorf("%s %s went to the listener %q", r.Method, r.Path, r.Listener)
				}
			}
		})
	}
}

// run runs a client. It has to end up with the key that hostrole serves, put
// an object and read it back, and ask hostrole for exactly what its golden
// file says. It returns the log of the time that it ran.
func (c sdk) run(t *testing.T, d *daemon, w *witness, env []string) (log string) {
	t.Helper()
	argv := append(c.argv(t), w.url, bucket)
	want := d.credential(t, "app").AccessKeyId
	from := d.settle(t)
	w.forget()
	out := output(t, 2*time.Minute, env, argv...)
	golden(t, filepath.Join("testdata", "sdk", c.name+".txt"), func() string { return sequence(d.out.since(from)) })
	log = d.out.since(from)
	var result struct{ Client, Version, AccessKeyID string }
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.known(t, result.Client, result.Version)
	if after := d.credential(t, "app").AccessKeyId; after != want {
		t.Fatalf("the key changed from %s to %s under the test", want, after)
	}
	if result.AccessKeyID != "" && result.AccessKeyID != want {
		t.Errorf("the client has the key %q, hostrole serves %q", result.AccessKeyID, want)
	}
	if seen := w.seen(); c.blind == "" && !slices.Equal(seen, []string{want}) {
		t.Errorf("the client signed with the keys %q, hostrole serves %q", seen, want)
	}
	return log
}

var release = regexp.MustCompile(`^v?([0-9]+(?:\.[0-9]+)*)`)

// known compares what a client calls itself with the matrix.
func (c sdk) known(t *testing.T, name, version string) {
	t.Helper()
	t.Logf("%s %s", name, version)
	if m := release.FindStringSubmatch(version); !c.local && (m == nil || m[1] != c.version) {
		t.Errorf("%s has the version %q, the matrix says %q: it changes with packaging/docs/clients.md", c.name, version, c.version)
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

// sequence renders the requests of a log, one a line, in the order in which
// they came: a client may have its answer, and its next one as well, before
// the first is logged.
func sequence(log string) string {
	var lines strings.Builder
	all := requests(log)
	slices.SortStableFunc(all, func(a, b request) int { return a.began().Compare(b.began()) })
	for _, r := range all {
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
{"time":"2026-01-02T03:04:05.002Z","level":"DEBUG","msg":"request","method":"GET","path":"/2021-03-23/meta-data/late","status":401,"took":"100µs"}
{"time":"2026-01-02T03:04:05.003Z","level":"DEBUG","msg":"request","method":"GET","path":"/2021-03-23/meta-data/iam/security-credentials/","status":401,"took":"2ms"}
`
	want := `PUT /latest/api/token 200
GET /latest/meta-data/iam/security-credentials/ROLE 200
GET /DATE/meta-data/iam/security-credentials/ 401
GET /DATE/meta-data/late 401
`
	if got := sequence(log); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}
