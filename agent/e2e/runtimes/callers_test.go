//go:build linux

package runtimes_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hostrole/hostrole/agent/devsts"
)

// Keys from AWS's documentation.
const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	account       = "111122223333"
)

// A ledger is an STS that remembers which role each key is of.
type ledger struct {
	sts   http.Handler
	mu    sync.Mutex
	roles map[string]string // by access key id
}

func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := httptest.NewRecorder()
	l.sts.ServeHTTP(rec, r)
	var doc struct {
		Key  string `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
		User string `xml:"AssumeRoleResult>AssumedRoleUser>Arn"`
	}
	body := rec.Body.Bytes()
	if xml.Unmarshal(body, &doc) == nil && doc.Key != "" {
		l.mu.Lock()
		l.roles[doc.Key] = strings.Split(doc.User, "/")[1]
		l.mu.Unlock()
	}
	for name, values := range rec.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body)
}

func (l *ledger) roleOf(key string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.roles[key]
}

// serveSTS is an STS with these roles until the test ends.
func serveSTS(t *testing.T, roles []string) (url string, l *ledger) {
	t.Helper()
	root := "arn:aws:iam::" + account + ":user/host"
	o := devsts.Options{Account: account, Region: "us-east-1", Now: time.Now, Users: []devsts.User{{ARN: root, AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}}}
	for _, r := range roles {
		o.Roles = append(o.Roles, devsts.Role{ARN: "arn:aws:iam::" + account + ":role/" + r, Principals: []string{root}})
	}
	l = &ledger{sts: devsts.New(o), roles: map[string]string{}}
	srv := httptest.NewServer(l)
	t.Cleanup(srv.Close)
	return srv.URL, l
}

// rules are those of the machine, in order: each has the role of its name.
var rules = []struct{ role, facts string }{
	{"unit-a", `unit = ["app-a.service"]`},
	{"unit-b", `unit = ["app-b.service"]`},
	{"docker-label", `label = ["tier=front"]` + "\n" + `listener = ["docker"]`},
	{"docker-host", `container = ["batch"]` + "\n" + `listener = ["host"]`},
	{"podman-image", `image = ["localhost/client:1"]` + "\n" + `listener = ["podman"]`},
	{"podman-host", `image = ["localhost/client:1"]` + "\n" + `listener = ["host"]`},
	{"machine", `container = ["box"]`},
	{"containerd", `container = ["` + containerdID + `"]`},
	{"lxc", `container = ["jail"]`},
	{"rootless", `container = ["user@1005.service/podman-*.scope"]`},
	{"alice", `user = ["alice"]`},
	{"bob", `user = ["bob"]`},
	{"root", `user = ["root"]`},
}

// containerdID is what the container of containerd is called.
const containerdID = "jar"

func configuration(sts string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `version = 1
[rotation]
splay = "0s"
[upstream]
region = "us-east-1"
endpoint = %q
[audit]
file = "/var/lib/hostrole/audit.jsonl"
[runtime]
podman = "/run/podman.sock"
[[listener]]
name = "host"
kind = "imds"
address = ["169.254.169.254:80"]
[[listener]]
name = "docker"
kind = "imds"
address = ["169.254.169.254:80"]
ingress = "docker0"
[[listener]]
name = "podman"
kind = "imds"
address = ["169.254.169.254:80"]
ingress = "podman0"
[source.keys]
kind = "static"
access_key_id = %q
secret_access_key = { credential = "aws-secret" }
`, sts, exampleKey)
	for _, r := range rules {
		fmt.Fprintf(&b, "[role.%s]\narn = \"arn:aws:iam::%s:role/%s\"\nfrom = \"source.keys\"\n[[allow]]\nname = %q\nroles = [%q]\n%s\n", r.role, account, r.role, r.role, r.role, r.facts)
	}
	return b.String()
}

// prepare puts users, units, engines and images into m.
func (m *machine) prepare() {
	m.t.Helper()
	for name, uid := range map[string]string{"alice": "1001", "bob": "1002", "mallory": "1003", "svc": "1004", "carol": "1005"} {
		m.run("useradd", "--create-home", "--uid", uid, "--user-group", "--shell", "/bin/bash", name)
	}
	for _, unit := range []string{"app-a", "app-b", "app-c"} {
		m.write("/etc/systemd/system/"+unit+".service", "[Service]\nType=oneshot\nUser=svc\nEnvironment=AWS_REGION=us-east-1\nExecStart=/opt/e2e/clients creds v2\nStandardOutput=truncate:/run/"+unit+".out\n")
	}
	m.write("/etc/containers/containers.conf", "[containers]\npids_limit = 0\n[engine]\nruntime = \"runc\"\nevents_logger = \"file\"\nservice_timeout = 0\n[network]\nnetwork_backend = \"netavark\"\n")
	m.write("/etc/systemd/system/podman.socket.d/group.conf", "[Socket]\nListenStream=\nListenStream=/run/podman.sock\nSymlinks=/run/podman/podman.sock\nSocketGroup=docker\nSocketMode=0660\n")
	for _, dir := range []string{"/var/lib/docker", "/var/lib/containers", "/var/lib/containerd", "/home/carol"} {
		m.run("sh", "-c", `mkdir -p "$0" && mount -t tmpfs tmpfs "$0"`, dir) // no overlay on an overlay
	}
	m.run("chown", "carol:", "/home/carol")
	m.run("systemctl", "daemon-reload")
	m.run("systemctl", "start", "containerd.service", "docker.service", "podman.socket")
	m.run("docker", "import", "/opt/e2e/image.tar", "client:1")
	m.run("podman", "import", "-q", "/opt/e2e/image.tar", "localhost/client:1")
	m.run("podman", "run", "-d", "--name", "hold", "localhost/client:1", "/bin/hold") // else the bridge goes with the last container
	for _, dir := range []string{"/run/box", "/run/lxc/jail/rootfs", "/run/bundle"} {
		m.run("sh", "-c", `mkdir -p "$0" && tar -C "$0" -xf /opt/e2e/image.tar`, dir)
	}
	m.write("/run/lxc/jail/config", "lxc.uts.name = jail\nlxc.rootfs.path = dir:/run/lxc/jail/rootfs\nlxc.net.0.type = none\nlxc.environment = AWS_REGION=us-east-1\nlxc.environment = HOME=/\nlxc.init.cmd = /bin/clients creds v2\nlxc.apparmor.profile = unconfined\nlxc.console.logfile = /run/lxc/out\n")
	m.write("/run/spec.json", m.spec())
}

// spec is containerd's own default, on the host's network and without limits:
// this kernel need not have the controllers.
func (m *machine) spec() string {
	m.t.Helper()
	var s map[string]any
	if err := json.Unmarshal([]byte(m.run("ctr", "oci", "spec")), &s); err != nil {
		m.t.Fatal(err)
	}
	linux, process := s["linux"].(map[string]any), s["process"].(map[string]any)
	delete(linux, "resources")
	delete(process, "rlimits")
	linux["cgroupsPath"] = "/default/" + containerdID
	linux["namespaces"] = slices.DeleteFunc(linux["namespaces"].([]any), func(n any) bool { return n.(map[string]any)["type"] == "network" })
	process["args"], process["env"] = []string{"/bin/clients", "creds", "v2"}, []string{"AWS_REGION=us-east-1", "HOME=/"}
	s["root"] = map[string]any{"path": "/run/bundle", "readonly": false}
	text, err := json.Marshal(s)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// asUser runs the client as a process of a user's on the host.
func asUser(user, kind string) []string {
	return []string{"systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--uid=" + user, "--slice=user.slice", "--setenv=AWS_REGION=us-east-1", "/opt/e2e/clients", "creds", kind}
}

// unit runs the client as a service.
func unit(name string) []string {
	return []string{"sh", "-c", `rm -f /run/$0.out; systemctl start $0.service; s=$?; cat /run/$0.out; [ $s = 0 ] || journalctl -u $0.service -o cat -n 5 >&2; exit $s`, name}
}

// rootless runs the client in a container of carol's own Podman.
func rootless() []string {
	return []string{"systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--machine=carol@.host", "--user", "--setenv=AWS_REGION=us-east-1",
		"podman", "run", "--rm", "--network=slirp4netns", "--env=AWS_REGION", "localhost/client:1", "/bin/clients", "creds", "v2"}
}

// pasta runs the client behind pasta, in a scope such as carol's Podman would
// have for it; the Podman of this machine is older than that.
func pasta() []string {
	return []string{"systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--machine=carol@.host", "--user", "--setenv=AWS_REGION=us-east-1", "--property=IgnoreSIGPIPE=no",
		"systemd-run", "--quiet", "--user", "--scope", "--unit=podman-77", "pasta", "--quiet", "--config-net", "-4", "--interface", "docker0", "--address", "192.0.2.2", "--netmask", "24", "--gateway", "192.0.2.1", "--", "/opt/e2e/clients", "creds", "v2"}
}

// callers are who asks, and what each gets; "" is nothing.
var callers = []struct {
	what, role string
	argv       []string
}{
	{"a user of the host", "alice", asUser("alice", "v2")},
	{"another user, with another SDK", "bob", asUser("bob", "minio")},
	{"a user without a rule", "", asUser("mallory", "v2")},
	{"a unit", "unit-a", unit("app-a")},
	{"another unit of the same user", "unit-b", unit("app-b")},
	{"a unit of that user without a rule", "", unit("app-c")},
	{"root on the host", "root", asUser("root", "v1")},
	{"a Docker container on its bridge, by its label", "docker-label",
		[]string{"docker", "run", "--rm", "--label", "tier=front", "-e", "AWS_REGION", "client:1", "/bin/clients", "creds", "v2"}},
	{"a Docker container on its bridge with another label", "",
		[]string{"docker", "run", "--rm", "--label", "tier=back", "-e", "AWS_REGION", "client:1", "/bin/clients", "creds", "v2"}},
	{"a Docker container on the host's network, by its name", "docker-host",
		[]string{"docker", "run", "--rm", "--name", "batch", "--network", "host", "-e", "AWS_REGION", "client:1", "/bin/clients", "creds", "v2"}},
	{"a Docker container on the host's network with another name, as root", "",
		[]string{"docker", "run", "--rm", "--name", "other", "--network", "host", "-e", "AWS_REGION", "client:1", "/bin/clients", "creds", "v2"}},
	{"a Docker container on the host's network as a user's uid", "",
		[]string{"docker", "run", "--rm", "--network", "host", "--user", "1001", "-e", "AWS_REGION", "client:1", "/bin/clients", "creds", "v2"}},
	{"a Podman container on its bridge, by its image", "podman-image",
		[]string{"podman", "run", "--rm", "--env", "AWS_REGION", "localhost/client:1", "/bin/clients", "creds", "v1"}},
	{"a Podman container on the host's network, by its image", "podman-host",
		[]string{"podman", "run", "--rm", "--network", "host", "--env", "AWS_REGION", "localhost/client:1", "/bin/clients", "creds", "v2"}},
	{"an nspawn machine", "machine",
		[]string{"systemd-nspawn", "--quiet", "-D", "/run/box", "--machine=box", "--console=pipe", "--setenv=AWS_REGION=us-east-1", "/bin/clients", "creds", "v2"}},
	{"a container of containerd's", "containerd",
		[]string{"ctr", "run", "--rm", "--config", "/run/spec.json", containerdID}},
	{"an LXC container", "lxc",
		[]string{"sh", "-c", "lxc-start -P /run/lxc -n jail -F; cat /run/lxc/out"}},
	{"a rootless Podman container behind slirp4netns", "rootless", rootless()},
	{"a rootless container behind pasta", "rootless", pasta()},
	{"the user of that container", "", asUser("carol", "v2")},
}

// One address, many roles: whoever asks has the role of the one rule that is
// meant for it, by the kernel's word and the runtime's, through the default
// chain of a real SDK. Who has no rule sees a host without a role, though it is
// root within its container, or has the uid of somebody with a role.
func TestOneAddressManyRoles(t *testing.T) {
	need(t, "systemd-nspawn", "nsenter", "dockerd", "podman", "runc", "containerd", "lxc-start", "slirp4netns", "pasta", "newuidmap", "ip", "tar")
	var names []string
	for _, r := range rules {
		names = append(names, r.role)
	}
	url, issued := serveSTS(t, names)
	m := boot(t, map[string][]byte{"clients": built(t, "clients"), "image.tar": image(t, "clients", "hold")})
	m.prepare()
	m.write("/etc/hostrole/hostrole.toml", configuration(url))
	m.write("/etc/hostrole/aws-secret", exampleSecret+"\n")
	m.run("chmod", "600", "/etc/hostrole/aws-secret")
	m.dropIn("secret.conf")

	t.Run("without the rights to look behind a bridge it does not start", func(t *testing.T) { m.lacksRights(t) })

	m.dropIn("containers.conf")
	m.dropIn("container-names.conf")
	m.run("systemctl", "daemon-reload")
	m.run("systemctl", "start", "hostrole.service")
	for _, r := range rules {
		m.run("hostrole", "wait", "--role", r.role, "--timeout", "30s")
	}
	m.run("loginctl", "enable-linger", "carol")
	m.run("chmod", "666", "/dev/net/tun")
	eventually(t, "carol has a manager", 20*time.Second, func() bool {
		_, _, err := m.try("systemctl", "is-active", "--quiet", "user@1005.service")
		return err == nil
	})
	m.run("systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--machine=carol@.host", "--user", "podman", "import", "-q", "/opt/e2e/image.tar", "localhost/client:1")

	var mu sync.Mutex
	seen := map[string]bool{}
	for _, c := range callers {
		t.Run(c.what, func(t *testing.T) {
			out, errs, err := m.try(c.argv...)
			if c.role == "" {
				if err == nil {
					t.Fatalf("it has a credential of %q: %s", issued.roleOf(keyIn(out)), out)
				}
				// The SDK has had an answer: no role, not no service.
				if !strings.Contains(errs+out, "404") {
					t.Errorf("it ended with %v and not because there is no role\n%s\n%s", err, out, errs)
				}
				return
			}
			key := keyIn(out)
			if got := issued.roleOf(key); err != nil || got != c.role {
				t.Fatalf("the SDK has the key %q of the role %q, want %q: %v\n%s\n%s", key, got, c.role, err, out, errs)
			}
			mu.Lock()
			seen[key] = true
			mu.Unlock()
		})
	}
	roles := map[string]bool{}
	for _, c := range callers {
		roles[c.role] = true
	}
	delete(roles, "")
	if len(seen) != len(roles) && !t.Failed() {
		t.Errorf("%d different credentials for %d roles", len(seen), len(roles))
	}
	t.Run("each decision has its record", func(t *testing.T) { m.recorded(t) })
	t.Run("explain knows what the runtime says", func(t *testing.T) {
		said := m.run("hostrole", "explain", "--container", m.run("podman", "inspect", "-f", "{{.Id}}", "hold"))
		for _, rule := range []string{"podman-image", "podman-host"} {
			if !strings.Contains(strings.Join(strings.Fields(said), " "), rule+" is the first rule that matches, by listener and image") {
				t.Errorf("it does not say that %s decides, by the image:\n%s", rule, said)
			}
		}
	})
	t.Run("the sockets of bridges outlast a restart, and go with their bridges", func(t *testing.T) { m.keepsSockets(t) })
	t.Run("a restart of the engines changes nothing", func(t *testing.T) { m.restarts(t, issued) })
}

// keepsSockets looks at the sockets behind the bridges, which a service manager
// keeps: over a restart of the daemon they are the same, and over the end of a
// bridge they are not.
func (m *machine) keepsSockets(t *testing.T) {
	sockets := func() string {
		return m.run("sh", "-c", `ss -H -ltne 'sport = :80' | grep -o '%[a-z0-9]*:80 .*ino:[0-9]*' | sed 's/ .*ino:/ /' | sort`)
	}
	kept := func() string { return m.run("systemctl", "show", "-P", "NFileDescriptorStore", "hostrole.service") }
	before, descriptors := sockets(), kept()
	if !strings.Contains(before, "%docker0:80 ") || !strings.Contains(before, "%podman0:80 ") {
		t.Fatalf("there are %s: this test shows nothing", before)
	}
	m.run("systemctl", "restart", "hostrole.service")
	if after := sockets(); after != before || kept() != descriptors {
		t.Errorf("before:\n%s (%s kept)\nafter:\n%s (%s kept)", before, descriptors, after, kept())
	}
	m.run("ip", "link", "set", "docker0", "name", "docker1")
	eventually(t, "the socket of a bridge that is gone is closed", 10*time.Second, func() bool { return !strings.Contains(sockets(), "docker") && kept() != descriptors })
	m.run("ip", "link", "set", "docker1", "name", "docker0")
	eventually(t, "a bridge that is back has a socket", 10*time.Second, func() bool { return strings.Contains(sockets(), "%docker0:80 ") && kept() == descriptors })
}

// dropIn installs an example of the service's.
func (m *machine) dropIn(name string) {
	m.t.Helper()
	m.copy("../../../systemd/units/examples/hostrole.service.d/"+name, "/etc/systemd/system/hostrole.service.d/"+name)
}

// keyIn is the access key id in what a client has printed.
func keyIn(out string) string {
	found := regexp.MustCompile(`"accessKeyId":"([A-Z0-9]+)"`).FindStringSubmatch(out)
	if found == nil {
		return ""
	}
	return found[1]
}

// lacksRights has the unit as it is shipped, and with one of the two rights.
func (m *machine) lacksRights(t *testing.T) {
	dropIn := "/etc/systemd/system/hostrole.service.d/some.conf"
	for given, want := range map[string]string{"": "it lacks CAP_SYS_ADMIN and CAP_SYS_PTRACE", "CAP_SYS_ADMIN": "it lacks CAP_SYS_PTRACE", "CAP_SYS_PTRACE": "it lacks CAP_SYS_ADMIN"} {
		m.write(dropIn, "[Service]\nCapabilityBoundingSet="+oneOf(given, "CAP_NET_ADMIN")+"\nAmbientCapabilities="+oneOf(given, "CAP_NET_ADMIN")+"\nRestrictNamespaces=\nRestrictNamespaces=net\nRestart=no\n")
		m.run("systemctl", "daemon-reload")
		since := m.run("date", "+%s")
		if _, _, err := m.try("systemctl", "start", "hostrole.service"); err == nil {
			t.Errorf("with %q it starts", given)
		}
		said := m.run("journalctl", "--no-pager", "-o", "cat", "-u", "hostrole.service", "--since=@"+since)
		if !strings.Contains(said, want) || !strings.Contains(said, "AmbientCapabilities=CAP_SYS_ADMIN CAP_SYS_PTRACE") {
			t.Errorf("with %q it does not say that %s, and what to do:\n%s", given, want, said)
		}
	}
	m.run("rm", dropIn)
	m.run("systemctl", "daemon-reload")
	_, _, _ = m.try("systemctl", "reset-failed", "hostrole.service")
}

func oneOf(text, or string) string {
	if text == "" {
		return or
	}
	return text
}

// recorded looks for the records of the audit file.
func (m *machine) recorded(t *testing.T) {
	text := m.run("cat", "/var/lib/hostrole/audit.jsonl")
	granted, denied := map[string]bool{}, 0
	for line := range strings.Lines(text) {
		for _, r := range rules {
			if strings.Contains(line, fmt.Sprintf("%q", r.role)) {
				granted[r.role] = true
			}
		}
		if strings.Contains(line, `"verdict":"denied"`) {
			denied++
		}
	}
	for _, r := range rules {
		if !granted[r.role] {
			t.Errorf("no record names the rule %s", r.role)
		}
	}
	if denied == 0 {
		t.Errorf("no record of who has no rule")
	}
	if bytes.Contains([]byte(text), []byte(exampleSecret)) {
		t.Error("a record holds a secret")
	}
}

// restarts has an engine's daemon hang, ends it, and starts it again: nobody
// notices whose rules do not need it.
func (m *machine) restarts(t *testing.T, issued *ledger) {
	m.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", "docker.service")
	began := time.Now()
	out, errs, err := m.try("podman", "run", "--rm", "--network", "host", "--env", "AWS_REGION", "localhost/client:1", "/bin/clients", "creds", "v2")
	if got := issued.roleOf(keyIn(out)); err != nil || got != "podman-host" {
		t.Errorf("while Docker hangs, Podman's container has the role %q: %v\n%s", got, err, errs)
	}
	t.Logf("while Docker hangs, a container of Podman's has its role after %v", time.Since(began).Round(time.Millisecond))
	m.run("systemctl", "kill", "--kill-who=main", "--signal=CONT", "docker.service")
	m.run("systemctl", "stop", "docker.socket", "docker.service")
	out, errs, err = m.try(asUser("alice", "v2")...)
	if got := issued.roleOf(keyIn(out)); err != nil || got != "alice" {
		t.Errorf("without Docker, alice has the role %q: %v\n%s", got, err, errs)
	}
	out, errs, err = m.try("podman", "run", "--rm", "--env", "AWS_REGION", "localhost/client:1", "/bin/clients", "creds", "v2")
	if got := issued.roleOf(keyIn(out)); err != nil || got != "podman-image" {
		t.Errorf("without Docker, Podman's container has the role %q: %v\n%s", got, err, errs)
	}
	m.run("systemctl", "start", "docker.service")
	out, errs, err = m.try("docker", "run", "--rm", "--label", "tier=front", "-e", "AWS_REGION", "client:1", "/bin/clients", "creds", "v2")
	if got := issued.roleOf(keyIn(out)); err != nil || got != "docker-label" {
		t.Errorf("with Docker again, its container has the role %q: %v\n%s", got, err, errs)
	}
}
