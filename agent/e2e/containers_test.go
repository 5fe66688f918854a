//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/ecs"
	"github.com/hostrole/hostrole/imds/eks"
	"github.com/hostrole/hostrole/imds/imdstest"
)

// containerConfig is the host of the scripts of imds/ecs and imds/eks.
const containerConfig = `version = 1
[log]
level = "debug"
format = "json"
[rotation]
splay = "0s"
[upstream]
region = "eu-central-1"
endpoint = "%[1]s"
%[2]s
[source.keys]
kind = "static"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_access_key = { file = "%[3]s/secret" }
[source.minio]
kind = "process"
command = ["/bin/cat", "%[3]s/keys.json"]
[role.app]
arn = "arn:aws:iam::111122223333:role/app-role"
from = "source.keys"
[role.second]
arn = "arn:aws:iam::444455556666:role/path/second-role"
from = "source.keys"
[role.odd]
arn = "arn:aws:iam::111122223333:role/a+b=c,d@e"
from = "source.keys"
[role.minio]
from = "source.minio"
[role.other]
arn = "arn:aws:iam::111122223333:role/other"
from = "source.keys"
`

// A containerState is what one state of these scripts changes.
type containerState struct {
	denied bool
	own    bool   // at a loopback address
	open   bool   // and without a token there
	sts    string // as in state
	nokeys bool   // the issuer's keys are gone
}

var containerStates = map[string]containerState{
	"app": {}, "forever": {}, "account": {},
	"denied": {denied: true}, "own": {own: true}, "open": {own: true, open: true}, "nokeys": {nokeys: true},
	"dead": {sts: "away"}, "refused": {sts: "AccessDenied"}, "failed": {sts: "ValidationError"},
}

const (
	fullURIToken = "Basic dGhlIGxpc3RlbmVyJ3M6dG9rZW4=" // as in imds/ecs
	fullURI      = "127.0.0.1:51679"
)

// A container is a target of scripts: hostrole in one state, at one address.
// Answers are not EC2's.
type container struct {
	address string
	server  string
	values  map[string]string
}

func (c container) Dial(ctx context.Context, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp4", c.address)
}

func (c container) Value(_ context.Context, _, name string) (string, error) {
	if v, ok := c.values[name]; ok {
		return v, nil
	}
	return "", fmt.Errorf("there is no value %q", name)
}

// Check is what every answer has to be, whatever it answers.
func (c container) Check(a imdstest.Answer, _ bool) error {
	if v, n := a.Lookup("Connection"); n != 1 || v != "close" {
		return errors.New("the answer does not close its connection")
	}
	if v, n := a.Lookup("Server"); v != c.server || n > 1 {
		return fmt.Errorf("the answer has the Server header %q, want %q", v, c.server)
	}
	if has := strings.Contains(string(a.Body), "AccessKeyId"); has != (a.Status == 200) && len(a.Body) > 0 {
		return fmt.Errorf("row 109: the status is %d, and the body has a credential: %v", a.Status, has)
	}
	return nil
}

// The scripts' times are those of their host in memory. A credential that never
// expires is shown one that is six hours away, which no text can say.
var (
	scriptExpiry = "2026-01-02T09:04:05Z"
	sixHours     = regexp.MustCompile(`(?m)^body ==\n\| (.*)2026-01-02T09:05:00Z(.*)\n\\ no newline$`)
)

func atTime(text string, expires time.Time) string {
	text = strings.ReplaceAll(text, scriptExpiry, expires.UTC().Format(time.RFC3339))
	return sixHours.ReplaceAllStringFunc(text, func(body string) string {
		m := sixHours.FindStringSubmatch(body)
		return "body ~ ^" + regexp.QuoteMeta(m[1]) + `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ` + regexp.QuoteMeta(m[2]) + "$"
	})
}

// TestContainerScripts is TestScripts for the two other protocols.
func TestContainerScripts(t *testing.T) {
	for _, kind := range []string{"ecs", "eks"} {
		expires := time.Now().Add(90 * time.Minute).Truncate(time.Second)
		byState := map[string][]imdstest.Case{}
		name := "8.5-" + kind + ".http"
		text, err := os.ReadFile(filepath.Join("../../imds", kind, "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		cases, err := imdstest.Parse(name, atTime(string(text), expires))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			byState[c.State] = append(byState[c.State], c)
		}
		for _, state := range slices.Sorted(maps.Keys(byState)) {
			t.Run(kind+" "+state, func(t *testing.T) {
				s, ok := containerStates[state]
				if state == "mute" {
					t.Skipf("%d case not run: no decision can be recorded where the disk is full", len(byState[state]))
				}
				if !ok {
					t.Fatalf("the state %q is not known here", state)
				}
				target := startContainer(t, kind, s, expires)
				for _, c := range byState[state] {
					t.Run(c.String(), func(t *testing.T) {
						if err := c.Run(t.Context(), target); err != nil {
							t.Error(err)
						}
					})
				}
				for _, bad := range byState[state][0].Spoiled()[:1] {
					if bad.Run(t.Context(), target) == nil {
						t.Errorf("%s passes", bad)
					}
				}
			})
		}
		t.Logf("%s: %d cases", kind, len(cases))
	}
}

// startContainer runs hostrole in a state until the test ends.
func startContainer(t *testing.T, kind string, s containerState, expires time.Time) container {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("secret", []byte(exampleSecret))
	write("keys.json", encode(t, map[string]any{"Version": 1, "AccessKeyId": exampleKey, "SecretAccessKey": exampleSecret}))
	c := container{address: "169.254.170.2:80", server: ecs.Server, values: map[string]string{"A": fullURIToken}}
	changed := []byte(fullURIToken)
	changed[len(changed)-1] ^= 1
	c.values["A.changed"] = string(changed)

	rules := "[[allow]]\nany = true\nroles = [\"app\", \"second\", \"odd\", \"minio\"]\n"
	listener := "kind = \"ecs\"\naddress = [\"169.254.170.2:80\"]\n"
	var keys string
	switch {
	case kind == "eks":
		c.address, c.server, c.values = "169.254.170.23:80", eks.Server, imdstest.PodTokens(time.Now())
		set, err := json.Marshal(imdstest.PublishedKeys("short", "es256", "es384", "es512", "rsa"))
		if err != nil {
			t.Fatal(err)
		}
		keys = write("jwks.json", set)
		listener = fmt.Sprintf("kind = \"eks\"\naddress = [\"169.254.170.23:80\", \"[fd00:ec2::23]:80\"]\neks = { issuer = %q, jwks_file = %q }\n", imdstest.PodIssuer, keys)
		rules = ""
		for pod, roles := range map[string]string{"shop/cart": `"app", "second"`, "shop/books": `"second"`, "shop/disk": `"minio"`} {
			rules += fmt.Sprintf("[[allow]]\npod = [%q]\nroles = [%s]\n", pod, roles)
		}
	case s.own:
		c.address = fullURI
		listener = "kind = \"ecs\"\naddress = [\"" + fullURI + "\"]\ningress = \"\"\nmanage_address = false\n"
		if !s.open {
			listener += "authorization = { file = \"" + write("authorization", []byte(fullURIToken)) + "\"}\n"
		}
	}
	if s.denied {
		rules = "[[allow]]\nuid = [4242]\nroles = [\"app\"]\n"
	}
	sts := newSTSOf(t, s.sts, exampleKey, expires)
	// startHostrole waits for EC2's address, which these hosts have as well.
	listener = "[[listener]]\nname = \"containers\"\n" + listener + "[[listener]]\nname = \"host\"\nkind = \"imds\"\naddress = [\"169.254.169.254:80\"]\n"
	d := startHostrole(t, fmt.Sprintf(containerConfig, sts, listener+rules, dir))
	if s.sts == "" {
		d.await(t, "has its credentials", 15*time.Second, func() bool { return strings.Count(d.out.since(0), `"msg":"renewed"`) >= 5 })
	}
	if s.nokeys {
		if err := os.Remove(keys); err != nil {
			t.Fatal(err)
		}
	}
	return c
}
