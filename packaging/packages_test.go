//go:build linux

// Package packaging_test makes the packages and looks at them: what is in them,
// that they are the same each time, what others' checkers say, and what a deb
// does to a host under a real systemd.
//
// # Why not
//
// Not with a package manager of the machine: the tests would change it. Not in
// the program's own module: what these tests read manifests and images with
// is ten times the program.
package packaging_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const epoch = "1700000000"

// run runs a program in a folder and returns what it wrote.
func run(t *testing.T, dir string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "VERSION="+version, "COMMIT=0123456789ab", "SOURCE_DATE_EPOCH="+epoch)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// version is that of the packages that are looked at.
const version = "v1.2.3"

// tool skips a test without a program, or fails it where nothing may be left out.
func tool(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("HOSTROLE_E2E") == "require" {
				t.Fatalf("missing: %s", name)
			}
			t.Skipf("SKIPPED, missing: %s", name)
		}
	}
}

// built makes packages from a copy of the sources, so that no two come from the
// same folder, and returns where they are.
func built(t *testing.T, kinds string, archs ...string) string {
	t.Helper()
	tool(t, "git", "go")
	root := absolute(t, "..")
	env := []string{"env", "DIST=dist"}
	for name, path := range map[string]string{"HOSTROLE": "hostrole", "NFPM": "tools/nfpm-v2.45.2", "CYCLONEDX": "tools/cyclonedx-gomod-v1.10.0"} {
		path = filepath.Join(root, "build", path)
		if _, err := os.Stat(path); err != nil {
			if os.Getenv("HOSTROLE_E2E") == "require" {
				t.Fatalf("%v: make dist makes it", err)
			}
			t.Skipf("SKIPPED, missing: %s; make dist makes it", path)
		}
		env = append(env, name+"="+path)
	}
	dir := t.TempDir()
	run(t, root, "bash", "-c", `git -c safe.directory='*' ls-files -coz --exclude-standard | tar --null --ignore-failed-read -T - -cf - | tar -xf - -C "$0"`, dir)
	run(t, dir, slices.Concat(env, []string{"packaging/build", kinds}, archs)...)
	return filepath.Join(dir, "dist")
}

// only is the one file with that ending.
func only(t *testing.T, dir, ending string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"+ending))
	if err != nil || len(all) != 1 {
		t.Fatalf("%s: %d files: %v", ending, len(all), err)
	}
	return all[0]
}

// holds are the paths that each package has, with their modes.
var holds = map[string]string{
	"usr/bin/hostrole":                                    "-rwxr-xr-x",
	"etc/hostrole/":                                       "drwxr-xr-x",
	"etc/hostrole/hostrole.d/":                            "drwxr-xr-x",
	"etc/hostrole/hostrole.toml":                          "-rw-r--r--",
	"usr/share/man/man8/hostrole.8.gz":                    "-rw-r--r--",
	"usr/share/man/man5/hostrole.toml.5.gz":               "-rw-r--r--",
	"usr/share/man/man1/hostrole-status.1.gz":             "-rw-r--r--",
	"usr/share/bash-completion/completions/hostrole":      "-rw-r--r--",
	"usr/share/fish/vendor_completions.d/hostrole.fish":   "-rw-r--r--",
	"usr/share/doc/hostrole/install.md":                   "-rw-r--r--",
	"usr/share/doc/hostrole/examples/hostrole.rules.yaml": "-rw-r--r--",
}

// looked compares a listing with what a package has to have: nothing that
// somebody else may write, and nothing of another time.
func looked(t *testing.T, entries []*tar.Header, more map[string]string) {
	t.Helper()
	found := map[string]string{}
	for _, h := range entries {
		name := strings.TrimPrefix(h.Name, "./")
		if h.FileInfo().IsDir() {
			name = strings.TrimSuffix(name, "/") + "/"
		}
		found[name] = h.FileInfo().Mode().String()
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o7022 != 0 {
			t.Errorf("%s: mode %o, owner %d:%d", name, h.Mode, h.Uid, h.Gid)
		}
		if got := h.ModTime.Unix(); fmt.Sprint(got) != epoch {
			t.Errorf("%s is of %s", name, h.ModTime.UTC().Format(time.RFC3339))
		}
	}
	for _, want := range []map[string]string{holds, more} {
		for name, mode := range want {
			if found[name] != mode {
				t.Errorf("%s has the mode %q, not %s", name, found[name], mode)
			}
		}
	}
}

// entries reads an archive, and stops where another one begins.
func entries(t *testing.T, r io.Reader) (all []*tar.Header) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
	}
}

var units = map[string]string{
	"usr/lib/systemd/system/hostrole.service":            "-rw-r--r--",
	"usr/lib/systemd/system/hostrole@.service":           "-rw-r--r--",
	"usr/lib/systemd/system/hostrole.socket":             "-rw-r--r--",
	"usr/lib/systemd/system/hostrole-wait.service":       "-rw-r--r--",
	"usr/lib/systemd/system/hostrole-credentials.target": "-rw-r--r--",
	"usr/lib/systemd/system-preset/50-hostrole.preset":   "-rw-r--r--",
	"usr/lib/sysusers.d/hostrole.conf":                   "-rw-r--r--",
}

func TestPackages(t *testing.T) {
	tool(t, "dpkg-deb", "rpm", "man")
	one, other := built(t, "deb,rpm,apk,tar", "amd64"), built(t, "deb,rpm,apk,tar", "amd64")

	t.Run("the same each time", func(t *testing.T) {
		all, err := os.ReadDir(one)
		if err != nil || len(all) < 5 {
			t.Fatalf("%d files: %v", len(all), err)
		}
		for _, f := range all {
			a, err := os.ReadFile(filepath.Join(one, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(other, f.Name()))
			if err != nil || !bytes.Equal(a, b) {
				t.Errorf("%s differs: %v", f.Name(), err)
			}
			t.Logf("%s: %d bytes", f.Name(), len(a))
		}
	})
	t.Run("deb", func(t *testing.T) {
		deb := only(t, one, "_1.2.3-1_amd64.deb")
		looked(t, entries(t, strings.NewReader(run(t, ".", "dpkg-deb", "--fsys-tarfile", deb))), units)
		if got := run(t, ".", "dpkg-deb", "-I", deb, "conffiles"); got != "/etc/hostrole/hostrole.toml\n" {
			t.Errorf("conffiles: %q", got)
		}
		if got := run(t, ".", "dpkg-deb", "-f", deb, "Depends"); strings.TrimSpace(got) != "" {
			t.Errorf("it depends on %s", got)
		}
	})
	t.Run("lintian", func(t *testing.T) {
		tool(t, "lintian")
		if got := run(t, ".", "lintian", "--allow-root", "--display-info", "--tag-display-limit", "0", "--fail-on", "error,warning,info", only(t, one, ".deb")); strings.Contains(got, ": hostrole") {
			t.Error(got)
		}
	})
	t.Run("rpm", func(t *testing.T) {
		rpm := only(t, one, ".x86_64.rpm")
		if got := run(t, ".", "rpm", "-K", "--nosignature", rpm); !strings.Contains(got, "digests OK") {
			t.Errorf("rpm -K: %s", got)
		}
		list := run(t, ".", "rpm", "-qp", "--qf", "[%{FILEMODES:perms} %{FILENAMES}\n]", rpm)
		for _, want := range []map[string]string{holds, units} {
			for name, mode := range want {
				if !strings.Contains(list, mode+" /"+strings.TrimSuffix(name, "/")+"\n") {
					t.Errorf("%s is not there with %s in\n%s", name, mode, list)
				}
			}
		}
		if got := run(t, ".", "rpm", "-qcp", rpm); got != "/etc/hostrole/hostrole.toml\n" {
			t.Errorf("configuration: %q", got)
		}
		if got := run(t, ".", "rpm", "-qdp", rpm); !strings.Contains(got, "/man8/hostrole.8.gz") || strings.Contains(got, "/usr/bin") {
			t.Errorf("documentation: %s", got)
		}
		if got := run(t, ".", "rpm", "-qp", "--scripts", rpm); regexp.MustCompile(`systemctl.*\s(enable|preset|start|restart)\s`).MatchString(got) {
			t.Errorf("it enables or starts something:\n%s", got)
		}
	})
	t.Run("rpmlint", func(t *testing.T) {
		tool(t, "rpmlint", "cpio")
		// The names in an rpm begin with a slash, and rpmlint unpacks it: onto
		// the machine, if cpio is not told otherwise.
		real, err := exec.LookPath("cpio")
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "cpio"), []byte("#!/bin/sh\nexec "+real+" --no-absolute-filenames \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		if got := run(t, ".", "rpmlint", "-r", "rpm/rpmlintrc", only(t, one, ".x86_64.rpm")); !strings.Contains(got, "0 errors, 0 warnings") {
			t.Error(got)
		}
	})
	t.Run("apk", func(t *testing.T) {
		// Three archives, one behind the other: signature, control, data.
		r := bytes.NewReader(read(t, only(t, one, ".apk")))
		var all []*tar.Header
		for r.Len() > 0 {
			z, err := gzip.NewReader(r)
			if err != nil {
				t.Fatal(err)
			}
			z.Multistream(false)
			data, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, entries(t, bytes.NewReader(data))...)
		}
		all = slices.DeleteFunc(all, func(h *tar.Header) bool { return strings.HasPrefix(h.Name, ".") })
		looked(t, all, map[string]string{"etc/init.d/hostrole": "-rwxr-xr-x", "etc/conf.d/hostrole": "-rw-r--r--"})
	})
	t.Run("tarball", func(t *testing.T) {
		z, err := gzip.NewReader(bytes.NewReader(read(t, only(t, one, "-1.2.3-linux-amd64.tar.gz"))))
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, h := range entries(t, z) {
			names[h.Name] = true
			if h.Uid != 0 || h.Mode&0o7022 != 0 || fmt.Sprint(h.ModTime.Unix()) != epoch {
				t.Errorf("%s: mode %o, owner %d, of %v", h.Name, h.Mode, h.Uid, h.ModTime)
			}
		}
		for _, want := range []string{"hostrole", "hostrole.toml", "LICENSE", "man/hostrole.8.gz", "units/hostrole.service", "completion/hostrole.zsh", "docs/install.md"} {
			if !names["hostrole-1.2.3-linux-amd64/"+want] {
				t.Errorf("%s is not there", want)
			}
		}
		sbom := string(read(t, only(t, one, ".cdx.json")))
		for _, want := range []string{`"bomFormat": "CycloneDX"`, "github.com/vishvananda/netlink", "github.com/aws/aws-sdk-go-v2"} {
			if !strings.Contains(sbom, want) {
				t.Errorf("the SBOM does not name %s", want)
			}
		}
	})
	t.Run("the program says what it is", func(t *testing.T) {
		dir := t.TempDir()
		run(t, ".", "dpkg-deb", "-x", only(t, one, ".deb"), dir)
		if got := run(t, ".", filepath.Join(dir, "usr/bin/hostrole"), "version"); !strings.HasPrefix(got, "hostrole v1.2.3 (0123456789ab) go") {
			t.Errorf("its version is %q", got)
		}
		tool(t, "curl")
		if got := run(t, ".", filepath.Join(dir, "usr/bin/hostrole"), "demo", "--", "sh", "-c", `curl -sS --unix-socket "$HOSTROLE_ADMIN_SOCKET" http://localhost/metrics`); !strings.Contains(got, `,revision="0123456789ab",version="v1.2.3"} 1`) {
			t.Errorf("hostrole_build_info is not there: %.300s", got)
		}
		for _, page := range []string{"man8/hostrole.8", "man5/hostrole.toml.5", "man1/hostrole-status.1"} {
			if got := run(t, ".", "man", "--warnings", "-l", filepath.Join(dir, "usr/share/man", page+".gz")); !strings.Contains(got, "2023-11-14") || !strings.Contains(got, "NAME") {
				t.Errorf("%s: %.300s", page, got)
			}
		}
		if got := run(t, ".", "lexgrog", filepath.Join(dir, "usr/share/man/man8/hostrole.8.gz")); !strings.Contains(got, "give a Linux host") {
			t.Errorf("lexgrog: %s", got)
		}
	})
	t.Run("on a host", func(t *testing.T) {
		tool(t, "systemd-nspawn", "nsenter", "curl")
		if os.Getuid() != 0 {
			t.Skip("SKIPPED: boots a system, which needs root")
		}
		files := t.TempDir()
		credential := fmt.Sprintf(`{"Version":1,"AccessKeyId":"AKIAIOSFODNN7EXAMPLE","SecretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY","SessionToken":"a-session-token","Expiration":%q}`,
			time.Now().Add(6*time.Hour).UTC().Format(time.RFC3339))
		for name, text := range map[string]string{"hostrole.toml": fmt.Sprintf(hostConfig, "", "169.254.169.254"), "credential.json": credential,
			"second.toml": fmt.Sprintf(hostConfig, "[admin]\nsocket = \"/run/hostrole@second/admin.sock\"\n", "169.254.169.253")} {
			if err := os.WriteFile(filepath.Join(files, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		deb := only(t, one, ".deb")
		t.Log(run(t, ".", "testdata/lifecycle.sh", deb, deb, files))
	})
}

const hostConfig = `version = 1
%s[upstream]
region = "us-east-1"
[rotation]
splay = "0s"
[[listener]]
name = "host"
kind = "imds"
address = ["%s:80"]
[[allow]]
name = "everyone"
any = true
roles = ["app"]
[source.helper]
kind = "process"
command = ["/bin/cat", "/etc/hostrole/credential.json"]
[role.app]
from = "source.helper"
`

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The versions of packages sort as the tags do.
func TestVersions(t *testing.T) {
	for _, c := range []struct{ tag, deb, apk string }{
		{"v1.2.3", "1.2.3", "1.2.3"},
		{"v1.2.3-dirty", "1.2.3.dirty", "1.2.3"},
		{"v1.2.3-rc.1", "1.2.3~rc1", "1.2.3_rc1"},
		{"v1.2.3-4-g0123abc", "1.2.3+git20231114.0123456789ab", "1.2.3_git20231114"},
		{"dev", "0~git20231114.0123456789ab", "0_git20231114"},
	} {
		for kind, want := range map[string]string{"deb": c.deb, "rpm": c.deb, "apk": c.apk} {
			cmd := exec.Command("./build", "version", kind)
			cmd.Env = append(os.Environ(), "VERSION="+c.tag, "COMMIT=0123456789ab", "SOURCE_DATE_EPOCH="+epoch)
			if got, err := cmd.Output(); err != nil || strings.TrimSpace(string(got)) != want {
				t.Errorf("%s of %s is %q, not %s: %v", kind, c.tag, got, want, err)
			}
		}
	}
}
