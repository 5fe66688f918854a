//go:build linux

package runtimes_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A line is one rule of a configuration, with one value for each fact that it
// asks for.
type line struct {
	uid                       int // 0: not asked
	unit, container, listener string
	any                       bool
	role                      string
}

// means is the oracle: what the documentation says that a rule means, of an
// asker as it was made.
func (l line) means(a *asker) bool {
	if l.listener != "" && l.listener != a.listener {
		return false
	}
	if l.uid != 0 && (l.uid != a.uid || a.container != "" && l.unit == "" && l.container == "") {
		return false // a rule about users does not mean containers
	}
	if l.unit != "" && l.unit != a.unit {
		return false
	}
	return l.container == "" || l.container == a.container
}

func (l line) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[[allow]]\nroles = [%q]\n", l.role)
	if l.any {
		b.WriteString("any = true\n")
	}
	if l.uid != 0 {
		fmt.Fprintf(&b, "uid = [%d]\n", l.uid)
	}
	for key, value := range map[string]string{"unit": l.unit, "container": l.container, "listener": l.listener} {
		if value != "" {
			fmt.Fprintf(&b, "%s = [%q]\n", key, value)
		}
	}
	return b.String()
}

// draw makes a rule.
func draw(r *rand.Rand, roles []string) line {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	for {
		l := line{role: pick(roles...)}
		if r.IntN(8) == 0 {
			l.any = true
			l.listener = pick("", "host", "bridge")
			return l
		}
		if r.IntN(2) == 0 {
			l.uid = 1001 + r.IntN(4)
		}
		if r.IntN(3) == 0 {
			l.unit = pick("app-1.service", "app-2.service")
		} else if r.IntN(3) == 0 {
			l.container = pick(containerA, containerB, containerC)
		}
		if r.IntN(4) == 0 {
			l.listener = pick("host", "bridge")
		}
		if l.uid != 0 || l.unit != "" || l.container != "" {
			return l
		}
	}
}

var containerA, containerB, containerC = strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)

// The cgroups of the askers, below the root of the tree, and what they are.
var groups = []struct{ path, unit, container string }{
	{"hostrolee2e.slice/app-1.service", "app-1.service", ""},
	{"hostrolee2e.slice/app-2.service", "app-2.service", ""},
	{"docker/" + containerA, "", containerA},
	{"docker/" + containerB, "", containerB},
	{"docker/" + containerC, "", containerC},
}

// makeGroups makes the cgroups until the test ends.
func makeGroups(t *testing.T) (root string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for m := range strings.Lines(string(mounts)) {
		if f := strings.Fields(m); len(f) > 2 && f[2] == "cgroup2" {
			root = f[1]
		}
	}
	for _, g := range groups {
		dir := root
		for name := range strings.SplitSeq(g.path, "/") {
			dir = filepath.Join(dir, name)
			made := dir
			if err := os.Mkdir(dir, 0o755); err == nil { // #nosec G301 -- as all cgroups
				t.Cleanup(func() {
					eventually(t, "the cgroup is empty", 10*time.Second, func() bool { return os.Remove(made) == nil })
				})
			} else if !os.IsExist(err) {
				t.Fatal(err)
			}
		}
	}
	return root
}

// serve runs hostrole with a configuration until the test ends, where the tree
// of cgroups is version 2 alone.
func serve(t *testing.T, root, config string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "hostrole.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	said := &journal{}
	cmd := exec.Command("sh", "-c", `[ "$0" = /sys/fs/cgroup ] || mount --bind "$0" /sys/fs/cgroup; exec "$1" run --config "$2"`, root, filepath.Join(os.Getenv(scratchEnv), "hostrole"), file) // #nosec G204 -- the program under test
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Error("hostrole does not end")
		}
		if t.Failed() {
			text := said.String()
			t.Logf("hostrole wrote last:\n%s", text[max(0, len(text)-3000):])
		}
	})
	eventually(t, "hostrole serves", 20*time.Second, func() bool {
		if len(done) > 0 {
			t.Fatalf("it ended: %s", said)
		}
		return strings.Contains(said.String(), `"serving"`)
	})
}

// Random callers, under random rules, have exactly what an oracle says that
// knows how they were made: over real connections, of several users, units,
// containers and network namespaces at once, some of which leave before they
// are known.
func TestEveryCallerHasItsOwnRole(t *testing.T) {
	need(t, "ip", "nsenter", "mount")
	const total, rounds = 10_000, 10      // connections that are answered
	seed := uint64(time.Now().UnixNano()) // #nosec G115 -- any number
	r := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	root := makeGroups(t)
	run(t, "ip", "link", "add", bridgeName, "type", "bridge")
	run(t, "ip", "addr", "add", gateway+"/24", "dev", bridgeName)
	run(t, "ip", "link", "set", bridgeName, "up")
	t.Cleanup(func() { run(t, "ip", "link", "del", bridgeName) })

	var askers []*asker
	for i, g := range groups {
		for j := range 2 {
			a := &asker{uid: 1001 + (i+2*j)%4, unit: g.unit, container: g.container, listener: "host"}
			address := ""
			if g.container != "" && j == 1 {
				a.listener, address = "bridge", fmt.Sprintf("172.30.0.%d", 10+i)
			}
			a.begin(t, filepath.Join(root, g.path), address)
			askers = append(askers, a)
		}
	}
	roles := []string{"r1", "r2", "r3", "r4"}
	url, issued := serveSTS(t, roles)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(exampleSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	granted, denied, wrong := 0, 0, 0
	for round := range rounds {
		t.Run(fmt.Sprintf("round %d", round), func(t *testing.T) {
			var rules []line
			for range 4 + r.IntN(8) {
				rules = append(rules, draw(r, roles))
			}
			serve(t, root, wireConfig(t, url, secret, roles, rules))
			var all sync.WaitGroup
			for _, a := range askers {
				others := make([]string, total/rounds/connections/len(askers))
				for i := range others {
					others[i] = roles[r.IntN(len(roles))]
				}
				want := ""
				if i := slices.IndexFunc(rules, func(l line) bool { return l.means(a) }); i >= 0 {
					want = rules[i].role
				}
				all.Go(func() {
					for _, other := range others {
						got, err := a.ask(other)
						if err != nil || got.Failed != "" {
							t.Errorf("%v: %v %s", a, err, got.Failed)
							return
						}
						role := ""
						if got.Key != "" {
							role = issued.roleOf(got.Key)
						}
						mu.Lock()
						if want == "" {
							denied++
						} else {
							granted++
						}
						if got.Role != want || role != want || (got.Other == 200) != (other == want) {
							wrong++
							t.Errorf("%v: shown %q, the key is of %q, and %s is answered with %d; the oracle says %q\n%v", a, got.Role, role, other, got.Other, want, rules)
						}
						mu.Unlock()
					}
				})
			}
			all.Wait()
		})
	}
	t.Logf("%d connections of %d callers: %d asked with a role, %d without; %d wrong", (granted+denied)*connections, len(askers), granted, denied, wrong)
	if granted == 0 || denied == 0 {
		t.Errorf("%d granted, %d denied: this test shows too little", granted, denied)
	}
}

func wireConfig(t *testing.T, sts, secret string, roles []string, rules []line) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `version = 1
[log]
format = "json"
[admin]
socket = %q
group = "root"
[rotation]
splay = "0s"
[upstream]
region = "us-east-1"
endpoint = %q
[[listener]]
name = "host"
kind = "imds"
address = ["169.254.169.254:80"]
[[listener]]
name = "bridge"
kind = "imds"
address = ["169.254.169.254:80"]
ingress = %q
[source.keys]
kind = "static"
access_key_id = %q
secret_access_key = { file = %q }
`, filepath.Join(t.TempDir(), "admin.sock"), sts, bridgeName, exampleKey, secret)
	for _, r := range roles {
		fmt.Fprintf(&b, "[role.%s]\narn = \"arn:aws:iam::%s:role/%s\"\nfrom = \"source.keys\"\n", r, account, r)
	}
	for _, l := range rules {
		b.WriteString(l.String())
	}
	return b.String()
}
