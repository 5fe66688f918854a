//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

// ruleset is all that nftables has here.
func ruleset(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(tool(t, "nft"), "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("nft list ruleset: %v\n%s", err, out)
	}
	return string(out)
}

func TestNobodyOutsideReachesARedirectedListener(t *testing.T) {
	s := surround(t)
	answers(t, "web", ":80")
	d := startHostrole(t, everyListener(t, "redirect = true"))
	d.credential(t, "app")
	offHost(t, s, "web")
}

// webServer is a real one on port 80 of all addresses: nginx's place is taken by
// Python's, which every test machine has.
func webServer(t *testing.T) *process {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("it works\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool(t, "python3"), "-m", "http.server", "--bind", "::", "--directory", dir, "80")
	cmd.Env = bare(t)
	p := start(t, "web server", cmd)
	p.await(t, "answers", 10*time.Second, func() bool { return pageOf(t, "127.0.0.1") == "it works\n" })
	return p
}

func pageOf(t *testing.T, host string) string {
	t.Helper()
	out, _ := exec.Command(tool(t, "curl"), "-s", "-m", "3", "http://"+host+"/").CombinedOutput()
	return string(out)
}

// A web server has port 80 on all addresses, and hostrole is beside it,
// whichever comes first. Every caller has its own role still, and nothing is
// left behind.
func TestRedirectBesideAWebServer(t *testing.T) {
	if !ownnet.RealRoot() {
		ownnet.Missing(t, "a real root: in a user namespace hostrole does not start")
	}
	config := simple(t, `
[[listener]]
name = "host"
kind = "imds"
address = ["169.254.169.254:80", "[fd00:ec2::254]:80"]
redirect = true
[[allow]]
uid = [1001]
roles = ["app"]
[[allow]]
uid = [1002]
roles = ["other"]
[role.other]
from = "source.helper"
`)
	before, rules := snapshot(t), ruleset(t)
	asks := func(t *testing.T, uid int, host string) (status, body string) {
		t.Helper()
		_, token := ask(t, uid, "-m", "3", "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", "http://"+host+"/latest/api/token")
		return ask(t, uid, "-m", "3", "-H", "X-aws-ec2-metadata-token: "+token, "http://"+host+"/latest/meta-data/iam/security-credentials/")
	}
	served := func(t *testing.T) {
		t.Helper()
		for uid, want := range map[int]string{1001: "app", 1002: "other"} {
			for _, host := range []string{metadataHost, "[" + metadataHost6 + "]"} {
				eventually(t, fmt.Sprintf("uid %d has its role at %s", uid, host), 10*time.Second, func() bool {
					status, body := asks(t, uid, host)
					return status == "200" && body == want
				})
			}
		}
		if status, body := asks(t, 1003, metadataHost); status != "404" {
			t.Errorf("somebody else gets %s %s", status, body)
		}
		for _, host := range []string{"127.0.0.1", "[::1]"} {
			if got := pageOf(t, host); got != "it works\n" {
				t.Errorf("the web server at %s: %q", host, got)
			}
		}
		// Who dials the port behind it is nobody.
		for _, at := range []string{metadataHost + ":254", "[" + metadataHost6 + "]:254"} {
			if got := here(at); got != "nobody" {
				t.Errorf("%s answers at %s", got, at)
			}
		}
	}
	left := func(t *testing.T) {
		t.Helper()
		if after := snapshot(t); after != before {
			t.Errorf("the host is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
		}
		eventually(t, "nftables are as they were", 5*time.Second, func() bool { return ruleset(t) == rules })
	}
	t.Run("which is there first", func(t *testing.T) {
		web := webServer(t)
		refuses(t, strings.Replace(config, "redirect = true", "", 1), 1, "another program has port 80",
			fmt.Sprintf("python3 (pid %d, uid 0) on [::]:80", web.cmd.Process.Pid), "redirect = true")
		d := startHostrole(t, config)
		served(t)
		refuses(t, config, 1, "another program has port 254", fmt.Sprintf("hostrole (pid %d", d.cmd.Process.Pid))
		served(t)
		d.stop(t)
		left(t)
		_ = web.end(syscall.SIGTERM)
	})
	t.Run("which comes later", func(t *testing.T) {
		d := startRedirected(t, config)
		web := webServer(t)
		served(t)
		_ = web.end(syscall.SIGKILL)
		webServer(t)
		served(t)
		d.stop(t)
		left(t)
	})
	t.Run("and a firewall that is loaded anew", func(t *testing.T) {
		webServer(t)
		d := startHostrole(t, config)
		served(t)
		load := exec.Command(tool(t, "nft"), "-f", "-")
		load.Stdin = strings.NewReader("flush ruleset\ntable inet filter {\n chain input {\n  type filter hook input priority 0; policy accept;\n }\n}\n")
		if out, err := load.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		served(t)
		if out, err := exec.Command(tool(t, "nft"), "delete", "table", "inet", "filter").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		d.stop(t)
		left(t)
	})
	t.Run("and a crash", func(t *testing.T) {
		webServer(t)
		d := startHostrole(t, config)
		served(t)
		d.killed = true
		_ = d.end(syscall.SIGKILL)
		d = startHostrole(t, config)
		served(t)
		d.stop(t)
		left(t)
	})
}

// startRedirected is startHostrole where nobody has port 80 yet.
func startRedirected(t *testing.T, config string) *daemon {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hostrole.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Getenv(binaryEnv), "run", "--config", file)
	cmd.Env = bare(t)
	d := &daemon{process: start(t, "hostrole", cmd)}
	t.Cleanup(func() { d.stop(t) })
	d.await(t, "answers", 10*time.Second, func() bool { return here(metadataHost+":80") == "hostrole" })
	return d
}

// The identity is that of the client's socket, whose address is the one it
// dialled: ten callers at once have ten answers.
func TestIdentityBehindARedirect(t *testing.T) {
	if !ownnet.RealRoot() {
		ownnet.Missing(t, "a real root, to be several users")
	}
	answers(t, "web", ":80")
	var rules strings.Builder
	rules.WriteString("[[listener]]\nname = \"host\"\nkind = \"imds\"\nredirect = true\n")
	for i := range 10 {
		fmt.Fprintf(&rules, "[[allow]]\nuid = [%d]\nroles = [\"role%d\"]\n[role.role%d]\nfrom = \"source.helper\"\n", 2000+i, i, i)
	}
	startHostrole(t, simple(t, rules.String()))
	script := `for i in 1 2 3 4 5 6 7 8 9 10; do
		T=$(curl -s -m 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
		curl -s -m 3 -H "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/meta-data/iam/security-credentials/; echo
	done`
	type result struct{ want, got string }
	results := make(chan result)
	for i := range 10 {
		go func() {
			uid := fmt.Sprint(2000 + i)
			out, _ := exec.Command("setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "sh", "-c", script).CombinedOutput()
			results <- result{fmt.Sprintf("role%d", i), string(out)}
		}()
	}
	for range 10 {
		r := <-results
		if r.got != strings.Repeat(r.want+"\n", 10) {
			t.Errorf("%s was asked for, and there was %q", r.want, r.got)
		}
	}
}
