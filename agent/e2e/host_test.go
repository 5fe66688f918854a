//go:build linux

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

// ip runs ip(8) in this namespace.
func ip(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(tool(t, "ip"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// snapshot is all that a daemon could leave behind on the network.
func snapshot(t testing.TB) string {
	t.Helper()
	return ip(t, "-4", "addr") + ip(t, "-6", "addr") + ip(t, "link") + ip(t, "route", "show", "table", "all") + ip(t, "rule")
}

func held(t testing.TB) bool {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool { return a.String() == metadataHost+"/32" })
}

// simple is a configuration whose role's keys come from a program.
func simple(t testing.TB, rule string) string {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "keys.json")
	err := os.WriteFile(keys, encode(t, map[string]any{
		"Version": 1, "AccessKeyId": "ASIAIOSFODNN7EXAMPLE", "SecretAccessKey": exampleSecret,
		"SessionToken": "session", "Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
	}), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`version = 1
[log]
level = "debug"
format = "json"
[rotation]
splay = "0s"
[metadata]
region = "eu-central-1"
[source.helper]
kind = "process"
command = ["/bin/cat", %q]
[role.app]
from = "source.helper"
%s`, keys, rule)
}

const anybody = "[[allow]]\nany = true\nroles = [\"app\"]\n"

// The address comes and goes with the daemon, is put back when something takes
// it off, and nothing else changes on the host.
func TestAddress(t *testing.T) {
	before := snapshot(t)
	d := startHostrole(t, simple(t, anybody))
	if shown := ip(t, "addr", "show", "dev", "lo"); !strings.Contains(shown, "inet 169.254.169.254/32 scope host lo") {
		t.Errorf("not a host address of lo:\n%s", shown)
	}
	var took []time.Duration
	for range 20 {
		ip(t, "addr", "del", metadataHost+"/32", "dev", "lo")
		gone := time.Now()
		for !held(t) {
			if time.Since(gone) > 5*time.Second {
				t.Fatal("not put back within 5 s")
			}
		}
		took = append(took, time.Since(gone))
	}
	slices.Sort(took)
	t.Logf("put back after %v at the median, %v at most", took[len(took)/2], took[len(took)-1])
	if took[len(took)/2] > 100*time.Millisecond {
		t.Errorf("the address was away for %v at the median, want less than 100ms", took[len(took)/2])
	}
	d.credential(t, "app")
	d.stop(t)
	if after := snapshot(t); after != before {
		t.Errorf("the host is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// A daemon that is killed leaves its address, and the next one takes it over
// and takes it off.
func TestLeftOver(t *testing.T) {
	before := snapshot(t)
	config := simple(t, anybody)
	killed := startHostrole(t, config)
	killed.killed = true
	_ = killed.end(syscall.SIGKILL)
	if !held(t) {
		t.Fatal("the kernel took the address off: this test shows nothing")
	}
	d := startHostrole(t, config)
	d.credential(t, "app")
	d.stop(t)
	if after := snapshot(t); after != before {
		t.Errorf("the host is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// refuses runs a daemon that must end by itself with a status and a message.
func refuses(t *testing.T, config string, status int, words ...string) {
	t.Helper()
	if !ownnet.RealRoot() {
		ownnet.Missing(t, "a real root: in a user namespace hostrole does not start")
	}
	file := filepath.Join(t.TempDir(), "hostrole.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Getenv(binaryEnv), "run", "--config", file)
	cmd.Env = bare(t)
	p := start(t, "hostrole", cmd)
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		t.Fatal("the daemon runs")
	}
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Errorf("exit status %d, want %d", got, status)
	}
	for _, w := range words {
		if !strings.Contains(p.out.since(0), w) {
			t.Errorf("%q is not in its message:\n%s", w, p.out.since(0))
		}
	}
}

func TestRefusesTheAddressOfSomebodyElse(t *testing.T) {
	ip(t, "addr", "add", metadataHost+"/32", "dev", "lo")
	defer ip(t, "addr", "del", metadataHost+"/32", "dev", "lo")
	before := snapshot(t)
	refuses(t, simple(t, anybody), 1, metadataHost, "lo")
	if after := snapshot(t); after != before {
		t.Errorf("the host is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

func TestRefusesToShadowARealService(t *testing.T) {
	ip(t, "link", "add", "uplink", "type", "bridge")
	defer ip(t, "link", "del", "uplink")
	ip(t, "link", "set", "uplink", "up")
	ip(t, "route", "add", metadataHost+"/32", "dev", "uplink")
	before := snapshot(t)
	refuses(t, simple(t, anybody), 1, "uplink", "allow_shadow = true")
	if after := snapshot(t); after != before {
		t.Errorf("the host is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// A second daemon fails at the port, and the first one does not notice.
func TestASecondDaemonIsHarmless(t *testing.T) {
	config := simple(t, anybody)
	d := startHostrole(t, config)
	before := snapshot(t)
	refuses(t, config, 1, "another program has port 80")
	if after := snapshot(t); after != before {
		t.Errorf("the host is not as it was.\nbefore:\n%s\nafter:\n%s", before, after)
	}
	d.credential(t, "app")
}

// ask is one request of another user, by curl.
func ask(t *testing.T, uid int, args ...string) (status, body string) {
	t.Helper()
	argv := []string{tool(t, "setpriv"), "--reuid", fmt.Sprint(uid), "--regid", fmt.Sprint(uid), "--clear-groups",
		tool(t, "curl"), "-s", "-w", "\n%{http_code}"}
	out := strings.Split(string(output(t, 10*time.Second, bare(t), append(argv, args...)...)), "\n")
	return out[len(out)-1], strings.Join(out[:len(out)-1], "\n")
}

// The kernel says who calls: two users get two roles from one address, and a
// third one sees a host without any.
func TestEveryUserHasItsOwnRole(t *testing.T) {
	if !ownnet.RealRoot() {
		ownnet.Missing(t, "a real root, to be several users")
	}
	config := simple(t, "[role.other]\nfrom = \"source.helper\"\n[[allow]]\nuid = [1001]\nroles = [\"app\"]\n[[allow]]\nuid = [1002]\nroles = [\"other\", \"app\"]\n")
	d := startHostrole(t, config)
	tokenOf := func(uid int) string {
		status, token := ask(t, uid, "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", metadataURL+"api/token")
		if status != "200" {
			t.Fatalf("a token for uid %d: status %s", uid, status)
		}
		return "X-aws-ec2-metadata-token: " + token
	}
	const list = metadataURL + "meta-data/iam/security-credentials/"
	for uid, want := range map[int]string{1001: "app", 1002: "other"} {
		if status, role := ask(t, uid, "-H", tokenOf(uid), list); status != "200" || role != want {
			t.Errorf("uid %d is shown %q (%s), want %q", uid, role, status, want)
		}
	}
	d.await(t, "has both roles", 10*time.Second, func() bool {
		status, body := ask(t, 1002, "-H", tokenOf(1002), list+"other")
		var doc document
		return status == "200" && json.Unmarshal([]byte(body), &doc) == nil && doc.Code == "Success"
	})
	for _, c := range []struct {
		uid  int
		path string
		want string
	}{
		{1002, list + "app", "200"}, {1001, list + "other", "404"},
		{1003, list, "404"}, {1003, list + "app", "404"}, {1003, metadataURL + "meta-data/instance-id", "200"},
	} {
		if status, body := ask(t, c.uid, "-H", tokenOf(c.uid), c.path); status != c.want {
			t.Errorf("uid %d, %s: status %s, want %s\n%s", c.uid, c.path, status, c.want, body)
		}
	}
	if !strings.Contains(d.out.since(0), "denied: no rule gives this caller a role") {
		t.Error("a denial left no record")
	}
}

// Without root and without the address, anybody may run it.
func TestOrdinaryUser(t *testing.T) {
	if !ownnet.RealRoot() {
		ownnet.Missing(t, "a real root, to become an ordinary user")
	}
	dir, err := os.MkdirTemp("", "hostrole-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	config := strings.Replace(simple(t, anybody), "[source.helper]", `[[listener]]
name = "laptop"
kind = "imds"
address = ["127.0.0.1:31338"]
ingress = ""
manage_address = false
tokens = "optional"
[source.helper]`, 1)
	config = strings.Replace(config, `command = ["/bin/cat", `, `command = ["/bin/cat", "`+filepath.Join(dir, "keys.json")+`"] # `, 1)
	keys := encode(t, map[string]any{"Version": 1, "AccessKeyId": "ASIAIOSFODNN7EXAMPLE", "SecretAccessKey": exampleSecret,
		"SessionToken": "session", "Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)})
	binary, err := os.ReadFile(os.Getenv(binaryEnv))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"hostrole.toml": []byte(config), "keys.json": keys, "hostrole": binary} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool(t, "setpriv"), "--reuid", "1001", "--regid", "1001", "--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all",
		filepath.Join(dir, "hostrole"), "run", "--config", filepath.Join(dir, "hostrole.toml"))
	cmd.Env = bare(t)
	p := start(t, "hostrole", cmd)
	p.await(t, "serves a credential", 10*time.Second, func() bool {
		resp, err := http.Get("http://127.0.0.1:31338/latest/meta-data/iam/security-credentials/app")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		var doc document
		return json.NewDecoder(resp.Body).Decode(&doc) == nil && doc.Code == "Success"
	})
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
