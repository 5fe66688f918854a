package docs_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/hostrole/hostrole/agent/e2e/machine"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if dir := os.Getenv(worldEnv); dir != "" {
		fmt.Fprintln(os.Stderr, serveWorld(dir))
		os.Exit(1)
	}
	code := m.Run()
	if scratch != "" {
		_ = os.RemoveAll(scratch)
	}
	os.Exit(code)
}

// missing skips t for the want of something, or fails it where everything is
// required.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("HOSTROLE_E2E") == "require" {
		t.Fatal("missing, and HOSTROLE_E2E=require: " + what)
	}
	t.Skip("SKIPPED, missing: " + what)
}

// scratch is the folder of what is built once.
var scratch string

// packages makes the packages of a release, from a copy of the sources: others
// may build too.
var packages = sync.OnceValues(func() (string, error) {
	var err error
	if scratch, err = os.MkdirTemp("", "hostrole-docs-"); err != nil {
		return "", err
	}
	tree, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	cmd := exec.Command("bash", "-c", `set -euo pipefail
git -c safe.directory='*' -C "$0" ls-files -coz --exclude-standard | tar -C "$0" --null --ignore-failed-read -T - -cf - | tar -xf - -C "$1"
cd "$1"
mkdir -p build
CGO_ENABLED=0 go build -trimpath -buildvcs=false -o build/hostrole ./cmd/hostrole
DIST=dist NFPM=$0/build/tools/nfpm-v2.45.2 VERSION=v1.2.3 COMMIT=0123456789ab SOURCE_DATE_EPOCH=1700000000 CYCLONEDX=$0/build/tools/cyclonedx-gomod-v1.10.0 packaging/build deb,tar,sums amd64`, tree, scratch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("making the package: %w\n%s", err, out)
	}
	return filepath.Join(scratch, "dist"), nil
})

// release is the folder of the packages, and scratch then the clone in which they
// were made.
func release(t *testing.T) string {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		missing(t, "amd64: the pages name its package")
	}
	for _, tool := range []string{"nfpm-v2.45.2", "cyclonedx-gomod-v1.10.0"} {
		if _, err := os.Stat(filepath.Join(root, "build", "tools", tool)); err != nil {
			missing(t, tool+": make dist builds it")
		}
	}
	noteSources(t)
	dist, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return dist
}

// sudo is what the pages mean by it. The machine has none, and its operator is
// root: this one changes the user and sets variables, and keeps the one by which
// the CLI trusts the machine's authority.
const sudo = `#!/bin/sh
user=
while :; do
  case $1 in
    -u) user=$2; shift 2 ;;
    *=*) export "$1"; shift ;;
    *) break ;;
  esac
done
if [ -n "$user" ]; then HOME=/; export HOME; exec runuser -u "$user" -- "$@"; fi
exec "$@"
`

// A part is what is typed of one page.
type part struct {
	page     string   // below packaging/docs
	sections []string // nil for all
}

// A start is what is typed on one machine, from its first boot.
type start struct {
	name  string
	parts []part
	files map[string]string // what the pages say that one needs, in the folder where one types, or by whole paths
	edits map[string]string // the configuration that is there before a command: where a page leaves it to the reader
	minio bool              // its server is MinIO, which is in the machine as well
	setup string            // further commands of the world
}

// corp is a configuration for install.md, which leaves it to the reader.
const corp = `version = 1
[upstream]
region = "eu-central-1"
[source.helper]
kind = "process"
command = ["/bin/cat", "/opt/world/credential.json"]
[role.app]
from = "source.helper"
[[allow]]
user = ["app"]
roles = ["app"]
`

// profile is that of migrate.md.
const profile = `[profile app]
role_arn       = arn:aws:iam::111122223333:role/app
source_profile = base
region         = eu-central-1
`

var starts = []start{
	{name: "oidc", parts: []part{{page: "quickstart/oidc.md"}, {page: "sources/README.md"}, {"security.md", []string{"A credential was stolen"}}},
		files: map[string]string{"client-secret": "of-the-client\n"}},
	{name: "saml", parts: []part{{page: "quickstart/saml.md"}}, files: map[string]string{"idp-password": "of-the-account\n"}},
	{name: "x509", parts: []part{{page: "quickstart/x509.md"}}},
	{name: "vault", parts: []part{{page: "quickstart/vault.md"}}, files: map[string]string{"role-id": "of-the-approle\n", "secret-id": "of-the-host\n"}},
	{name: "minio", parts: []part{{page: "quickstart/minio.md"}}, files: map[string]string{"secret-key": exampleSecret + "\n"}, minio: true},
	{name: "containers", parts: []part{{page: "quickstart/containers.md"}}, setup: "ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up; groupadd -f docker"},
	{name: "install", parts: []part{{"install.md", []string{"Verify", "Debian and Ubuntu"}}}, edits: map[string]string{"sudo hostrole check --live": corp},
		setup: "useradd alice"},
	{name: "tarball", parts: []part{{"install.md", []string{"From the tarball"}}, {"rotation.md", []string{"When it fails"}}, {"migrate.md", []string{"Credentials files"}}},
		files: map[string]string{home + "/.aws/config": profile, home + "/.aws/credentials": "[base]\naws_access_key_id = " + exampleKey + "\naws_secret_access_key = " + exampleSecret + "\n"}},
}

// at is where the operator types, and home where the own files are.
const (
	at   = "/home/admin"
	home = "/root"
)

// boot starts the machine of a page: Debian with the AWS CLI, a user app, the
// files that the page asks for, and the servers of its world.
func boot(t *testing.T, s start) *machine.Machine {
	t.Helper()
	if why := machine.Missing(); why != "" {
		missing(t, why)
	}
	dist := release(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	certs := certificates(t)
	trusted, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		missing(t, "ca-certificates")
	}
	if !s.minio { // whose page says how it comes to be trusted
		trusted = append(trusted, certs["ca.crt"]...)
	}
	o := machine.Options{OwnNetwork: true, Copies: map[string]string{self: "/opt/docs.test", dist: at}, Files: map[string]string{
		"/etc/hosts":                         "127.0.0.1 localhost " + strings.Join(names, " ") + "\n",
		"/usr/local/bin/sudo":                sudo,
		"/opt/world/ca.crt":                  certs["ca.crt"],
		"/opt/world/public.crt":              certs["servers.crt"],
		"/opt/world/private.key":             certs["servers.key"],
		"/etc/ssl/certs/ca-certificates.crt": string(trusted),
		"/etc/ssl/host/device.crt":           certs["device.crt"],
		"/etc/ssl/host/device.key":           certs["device.key"],
		at + "/minio-ca.crt":                 certs["ca.crt"],
		at + "/authority.pem":                certs["ca.crt"],
		"/opt/world/credential.json": fmt.Sprintf(`{"Version":1,"AccessKeyId":%q,"SecretAccessKey":%q,"SessionToken":"a-session-token","Expiration":%q}`,
			exampleKey, exampleSecret, time.Now().Add(6*time.Hour).UTC().Format(time.RFC3339)),
	}}
	for name, text := range s.files {
		if !filepath.IsAbs(name) {
			name = filepath.Join(at, name)
		}
		o.Files[name] = text
	}
	m := machine.Start(t, o, "hostrole*", "world*")
	m.Run(t, "chmod", "755", "/usr/local/bin/sudo")
	m.Run(t, "chmod", "600", "/etc/ssl/host/device.key")
	// An index of all manual pages takes seconds; a CLI of pyenv is for root alone.
	m.Run(t, "sh", "-c", `rm -f /var/lib/dpkg/info/man-db.triggers /usr/sbin/policy-rc.d
useradd --system --shell /usr/sbin/nologin app
aws=$(command -v aws)
case $aws in */shims/*) aws=$(pyenv which aws) ;; esac
[ "$aws" = /usr/bin/aws ] || ln -sf "$aws" /usr/local/bin/aws
chmod a+x /root`)
	if s.setup != "" {
		m.Run(t, "sh", "-ec", s.setup)
	}
	m.Run(t, "systemd-run", "--quiet", "--unit=world", "-E", worldEnv+"=/opt/world", "/opt/docs.test")
	ready := []string{"127.0.0.1/443", "127.0.0.1/8200"}
	if s.minio {
		m.Run(t, "systemd-run", "--quiet", "--unit=world-minio", "-E", "MINIO_ROOT_USER="+exampleKey, "-E", "MINIO_ROOT_PASSWORD="+exampleSecret,
			"-E", "MINIO_UPDATE=off", "-E", "MINIO_BROWSER=off", "-E", "MINIO_CALLHOME_ENABLE=off",
			minio(t), "server", "--certs-dir", "/opt/world", "--address", "127.0.0.1:9000", "/opt/objects")
		ready = append(ready, "127.0.0.1/9000")
	}
	eventually(t, "the servers of the page listen", 30*time.Second, func() bool {
		for _, address := range ready {
			if m.Command("bash", "-c", "exec 3<>/dev/tcp/"+address).Run() != nil {
				return false
			}
		}
		return !s.minio || m.Command("curl", "-sfk", "https://127.0.0.1:9000/minio/health/ready").Run() == nil
	})
	return m
}

// minio is the program that agent/e2e/setup.sh builds.
func minio(t *testing.T) string {
	t.Helper()
	mod, err := os.ReadFile("../minio/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`github.com/minio/minio (\S+)`).FindSubmatch(mod)
	if version == nil {
		t.Fatal("../minio/go.mod names no MinIO")
	}
	dir := os.Getenv("HOSTROLE_E2E_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(base, "hostrole-e2e")
	}
	path := filepath.Join(dir, "minio-"+string(version[1]))
	if _, err := os.Stat(path); err != nil {
		missing(t, path+": run agent/e2e/setup.sh")
	}
	return path
}

// noteSources has the go command's cache of tests know what is run here: all of
// the module. Without it, yesterday's hostrole would pass today.
func noteSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // what somebody else has just taken away
		case e.IsDir() && (e.Name() == "build" || strings.HasPrefix(e.Name(), ".") && len(e.Name()) > 2):
			return filepath.SkipDir
		case filepath.Ext(path) == ".md":
			_, err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, limit time.Duration, ready func() bool) {
	t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(limit); !ready(); <-poll.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v for: %s", limit, what)
		}
	}
}

// exits is how a page shows another exit status than 0; "…" is any.
var exits = regexp.MustCompile(`^\[exit status (\d+|…)\]$`)

// typed runs a command as an operator types it, and compares what it shows.
func typed(t *testing.T, m *machine.Machine, b block, c command) {
	t.Helper()
	status, want := "0", c.want
	if n := len(want); n > 0 {
		if x := exits.FindStringSubmatch(want[n-1]); x != nil {
			status, want = x[1], want[:n-1]
		}
	}
	cmd := m.Command("env", "-i", "HOME="+home, "LANG=C.UTF-8", "AWS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-c", "cd \"$(cat /run/typing 2>/dev/null || echo "+at+")\"\n"+c.text+"\ns=$?; pwd >/run/typing; exit $s")
	out, err := cmd.CombinedOutput()
	got := "0"
	if err != nil {
		got = fmt.Sprint(cmd.ProcessState.ExitCode())
	}
	if got != status && (status != "…" || got == "0") {
		t.Fatalf("%s:%d: %s\nexit status %s, want %s:\n%s", b.page, c.line, c.text, got, status, out)
	}
	if c.want == nil {
		return
	}
	if problem := shows(want, string(out)); problem != "" {
		t.Errorf("%s:%d: %s\n%s:\n%s", b.page, c.line, c.text, problem, out)
	}
}

// parsed is a configuration without its comments and its order.
func parsed(t *testing.T, text string) (v map[string]any) {
	t.Helper()
	if err := toml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

const configuration = "/etc/hostrole/hostrole.toml"

// writes are the commands that write a configuration, and where to. On a page
// that has one, a configuration is what they are to have written.
var writes = map[string]string{"hostrole init": configuration, "hostrole import-profile": "hostrole.toml"}

// TestQuickStarts types what each page says, in its order. A configuration of
// the page is put where the page says that it goes, unless hostrole writes it:
// then it is compared.
func TestQuickStarts(t *testing.T) {
	for _, s := range starts {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel() // most of it waits for disks and for other processes
			began := time.Now()
			m := boot(t, s)
			booted := time.Now()
			count := 0
			for _, p := range s.parts {
				count += p.typed(t, m, s.edits)
			}
			if log := m.Try("journalctl", "-u", "hostrole*", "--no-pager", "-o", "cat"); strings.Contains(log, exampleSecret) || strings.Contains(log, "of-the-") {
				t.Error("the journal shows a secret")
			}
			t.Logf("%d commands and files, %.1f s of typing by a machine; it was up in %.1f s", count, time.Since(booted).Seconds(), booted.Sub(began).Seconds())
		})
	}
}

// typed does what a part says, and returns how many things that were.
func (p part) typed(t *testing.T, m *machine.Machine, edits map[string]string) (count int) {
	t.Helper()
	written := ""
	for _, b := range blocks(t, "packaging/docs/"+p.page) {
		if p.sections != nil && !slices.Contains(p.sections, b.section) {
			continue
		}
		switch b.info {
		case "toml":
			if written == "" {
				m.Write(t, configuration, b.text)
				count++
			} else if got, want := parsed(t, m.Run(t, "sh", "-c", `cd "$(cat /run/typing)" && cat "$0"`, written)), parsed(t, b.text); !reflect.DeepEqual(got, want) {
				t.Errorf("%v: hostrole has written\n%v, the page has\n%v", b, got, want)
			}
		case "console":
			all, err := b.commands()
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				if text := edits[c.text]; text != "" {
					m.Write(t, configuration, text)
				}
				typed(t, m, b, c)
				count++
				for words, path := range writes {
					if strings.Contains(c.text, words) {
						written = path
					}
				}
			}
		}
	}
	if count == 0 {
		t.Errorf("%s %v has nothing to type", p.page, p.sections)
	}
	return count
}

// TestDemoCommands types what the front page has for a program of one's own, in
// a clone, and sees that the program gets a role.
func TestDemoCommands(t *testing.T) {
	release(t)
	own := t.TempDir()
	typed := 0
	for _, b := range blocks(t, "README.md") {
		if b.info != "console" || !strings.HasPrefix(b.text, "$ ./build/hostrole demo -- ") {
			continue
		}
		all, err := b.commands()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			cmd := exec.Command("bash", "-c", c.text)
			cmd.Dir = scratch
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + own}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), ":assumed-role/demo-app/") && !strings.Contains(string(out), "iam-role") {
				t.Errorf("%v: %s: %v\n%s", b, c.text, err, out)
			}
			typed++
		}
	}
	if typed == 0 {
		t.Error("the front page has no command with demo")
	}
}
