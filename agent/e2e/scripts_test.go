//go:build linux

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	identity "github.com/hostrole/hostrole/imds/document"
	"github.com/hostrole/hostrole/imds/imdstest"
)

// scriptConfig is the host of imds/ec2's scripts in TOML. Its listener has
// everybody's usual answers; what a state changes is put in by name.
const scriptConfig = `version = 1
[log]
level = "debug"
format = "json"
[rotation]
splay = "0s"
[upstream]
region = "eu-central-1"
endpoint = "%[1]s"
[[listener]]
name = "host"
kind = "imds"
address = ["169.254.169.254:80"]
tokens = "%[2]s"
strict_headers = %[3]v
[[listener]]
name = "docker"
kind = "imds"
address = ["127.0.0.1:31338"]
ingress = ""
manage_address = false
[metadata]
instance_id = "i-0123456789abcdef0"
instance_type = "m5.large"
account_id = "111122223333"
image_id = "ami-0123456789abcdef0"
%[4]s
[metadata.tags]
Name = "db-7"
"a+b=c,d@e" = "odd"
[metadata.extra]
hostname = "db-7.example.com"
local-hostname = "db-7.example.com"
ramdisk-id = "ari-0123"
[source.keys]
kind = "static"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_access_key = { file = "secret" }
[source.minio]
kind = "process"
command = ["/bin/cat", "keys.json"]
[role.app]
%[5]s
[role.second]
arn = "arn:aws:iam::444455556666:role/path/second-role"
from = "source.keys"
[role.odd]
arn = "arn:aws-cn:iam::777788889999:role/a+b=c,d@e"
from = "source.keys"
[role.minio]
from = "source.minio"
[role.other]
arn = "arn:aws:iam::111122223333:role/other"
from = "source.keys"
[[allow]]
name = "test"
%[6]s
`

// A state is what one state of the scripts changes in that host.
type state struct {
	tokens   string        // "" is required
	lax      bool          // without strict headers
	bare     bool          // without user data
	gzip     bool          // with user data that is compressed
	denied   bool          // the caller has no role
	roles    string        // "" is app, second, odd and minio
	sts      string        // code of the STS's refusal; "" grants, "away" ends the connection
	life     time.Duration // of the keys of app, from a file that is taken away then; 0 is an hour, renewed
	outlived bool          // wait until those have expired
	forever  bool          // the keys of app never expire
	signed   bool          // by a site key
	restart  bool          // and tokens are of the process before
}

// scriptStates are those of imds/ec2's scripts.
var scriptStates = map[string]state{
	"req":     {},
	"opt":     {tokens: "optional"},
	"creds":   {tokens: "credentials"},
	"lax":     {tokens: "optional", lax: true},
	"bare":    {tokens: "optional", bare: true},
	"gzip":    {tokens: "optional", gzip: true},
	"norole":  {denied: true},
	"denied":  {denied: true},
	"minio":   {roles: `["minio"]`},
	"dead":    {sts: "away"},
	"refused": {sts: "AccessDenied"},
	"failed":  {sts: "ValidationError"},
	"stale":   {life: 10 * time.Second},
	"expired": {life: 4 * time.Second, outlived: true},
	"forever": {forever: true},
	"signed":  {tokens: "optional", signed: true},
	"restart": {restart: true},
}

// The program's tree has one leaf more than the host of the scripts: every
// host has a local-hostname.
var moreLeaves = strings.NewReplacer("| instance-type\n| local-ipv4\n", "| instance-type\n| local-hostname\n| local-ipv4\n")

// TestScripts runs the conformance scripts, byte for byte, against the program
// on the real address.
func TestScripts(t *testing.T) {
	uplink(t)
	byState := scripts(t, moreLeaves)
	passed := 0
	for _, name := range slices.Sorted(maps.Keys(byState)) {
		t.Run(name, func(t *testing.T) {
			s := scriptStates[name]
			target := startState(t, s)
			cases := byState[name]
			if s.signed {
				cases = scripts(t, target.signatures(t))[name]
			}
			for _, c := range cases {
				t.Run(c.String(), func(t *testing.T) {
					if err := c.Run(t.Context(), target); err != nil {
						t.Fatal(err)
					}
					passed++
				})
			}
			for _, bad := range byState[name][0].Spoiled()[:1] {
				if bad.Run(t.Context(), target) == nil {
					t.Errorf("%s passes", bad)
				}
			}
		})
	}
	t.Logf("%d cases passed", passed)
}

const uplinkMAC = "02:29:96:8f:6a:2d"

// uplink gives the host its one interface until the test ends. The other end
// stays here: nothing leads out.
func uplink(t *testing.T) {
	t.Helper()
	ip(t, "link", "add", "uplink", "address", uplinkMAC, "type", "veth", "peer", "name", "peer")
	t.Cleanup(func() { ip(t, "link", "del", "uplink") })
	ip(t, "link", "set", "peer", "up")
	ip(t, "link", "set", "uplink", "up")
	ip(t, "addr", "add", "10.0.0.1/24", "dev", "uplink")
	ip(t, "addr", "add", "10.0.0.2/24", "dev", "uplink")
	ip(t, "route", "add", "192.0.2.0/24", "dev", "uplink") // documentation, which stands for the world
}

// scripts are the cases of imds/ec2 by their states, with a change.
func scripts(t *testing.T, change *strings.Replacer) map[string][]imdstest.Case {
	t.Helper()
	files, err := filepath.Glob("../../imds/ec2/testdata/*.http")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	byState := map[string][]imdstest.Case{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cases, err := imdstest.Parse(filepath.Base(name), change.Replace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			if _, ok := scriptStates[c.State]; !ok {
				t.Errorf("%s:%d: the state %q is not known here", c.File, c.Line, c.State)
			}
			byState[c.State] = append(byState[c.State], c)
		}
	}
	return byState
}

// A program is a target of scripts: hostrole in one state.
type program struct {
	t     *testing.T
	token string // "" asks for one
	site  []byte // certificate
}

// signatures puts the program's signatures, which have to hold, in the place of
// those that the scripts made up.
func (p program) signatures(t *testing.T) *strings.Replacer {
	t.Helper()
	leaf := func(name string) string {
		status, body, err := fetch(t.Context(), "dynamic/instance-identity/"+name)
		if err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %v", name, status, err)
		}
		return string(body)
	}
	doc := []byte(leaf("document"))
	var change []string
	for made, name := range map[string]string{"| c2lnbmF0dXJl\n| c2lnbmF0dXJl\n": "signature", "| cGtjczc=\n| cGtjczc=\n": "pkcs7", "| cnNhMjA0OA==\n": "rsa2048"} {
		signature := leaf(name)
		if err := identity.Verify(p.site, doc, []byte(signature)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		change = append(change, made, "| "+strings.ReplaceAll(signature, "\n", "\n| ")+"\n")
	}
	return strings.NewReplacer(change...)
}

// startState runs hostrole in a state until the test ends.
func startState(t *testing.T, s state) program {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keys := map[string]any{"Version": 1, "AccessKeyId": exampleKey, "SecretAccessKey": exampleSecret}
	app := "arn = \"arn:aws:iam::111122223333:role/app-role\"\nfrom = \"source.keys\""
	rule := "any = true\nroles = [\"app\", \"second\", \"odd\", \"minio\"]"
	userData, tokens := "user_data = { file = \"user-data\" }", "required"
	switch {
	case s.denied:
		rule = strings.Replace(rule, "any = true", "uid = [4242]", 1)
	case s.roles != "":
		rule = "any = true\nroles = " + s.roles
	}
	if s.bare {
		userData = ""
	}
	if s.tokens != "" {
		tokens = s.tokens
	}
	if s.life != 0 || s.forever {
		// The table's name is served where the role has no ARN.
		app = "from = \"source.app\"\n[source.app]\nkind = \"process\"\ncommand = [\"/bin/cat\", \"app.json\"]"
		rule = strings.Replace(rule, "app", "app-role", 1)
	}
	config := fmt.Sprintf(scriptConfig, newSTS(t, s.sts), tokens, !s.lax, userData, app, rule)
	if s.life != 0 || s.forever {
		config = strings.Replace(config, "[role.app]", "[role.app-role]", 1)
	}
	write("secret", exampleSecret)
	if s.gzip {
		write("user-data", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x03"+strings.Repeat("\x00", 9))
	} else {
		write("user-data", "#!/bin/sh\n\x00\xff is a byte\n")
	}
	config = strings.ReplaceAll(config, `"keys.json"`, fmt.Sprintf("%q", write("keys.json", string(encode(t, keys)))))
	expires := time.Now().Add(s.life)
	if s.life != 0 {
		keys["SessionToken"], keys["Expiration"] = "session", expires.UTC().Format(time.RFC3339)
	}
	appKeys := write("app.json", string(encode(t, keys)))
	config = strings.ReplaceAll(config, `"app.json"`, fmt.Sprintf("%q", appKeys))
	config = strings.ReplaceAll(config, `{ file = "`, `{ file = "`+dir+`/`)
	var site []byte
	if s.signed {
		path := filepath.Join(dir, "site.pem")
		key, err := identity.LoadOrCreate(path, "i-0123456789abcdef0", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		site = key.Certificate()
		config = strings.Replace(config, "[metadata]\n", fmt.Sprintf("[metadata]\nsite_key = { file = %q }\n", path), 1)
	}
	if s.restart {
		return program{t: t, token: restarted(t, write("hostrole.toml", config))}
	}
	d := startHostrole(t, config)
	switch {
	case s.life != 0:
		d.credential(t, "app-role")
		if err := os.Remove(appKeys); err != nil {
			t.Fatal(err)
		}
		d.await(t, "has failed to renew", 15*time.Second, func() bool { return strings.Contains(d.out.since(0), `"msg":"renewal failed"`) })
	case s.sts == "" && !s.denied && s.roles == "":
		d.credential(t, "app-role")
		d.credential(t, "second-role")
		d.credential(t, "a+b=c,d@e")
	}
	if s.outlived {
		d.await(t, "has seen its credential expire", 15*time.Second, func() bool { return time.Now().After(expires) })
	}
	return program{t: t, site: site}
}

// restarted runs hostrole, and another one in its place until the test ends. It
// returns a token of the first.
func restarted(t *testing.T, config string) (token string) {
	t.Helper()
	k := keepFiles(t)
	first := k.start(t, config)
	token = sessionToken(t)
	eventually(t, "its state is kept", 10*time.Second, func() bool {
		names, _ := k.names()
		return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "state") })
	})
	if err := first.end(syscall.SIGTERM); err != nil {
		t.Errorf("hostrole ended with %v", err)
	}
	second := k.start(t, config)
	t.Cleanup(func() {
		if err := second.end(syscall.SIGTERM); err != nil {
			t.Errorf("hostrole ended with %v", err)
		}
		eventually(t, "the address ends by itself", 20*time.Second, func() bool { return !held(t) })
	})
	return token
}

// Dial connects to the one address of all states.
func (p program) Dial(ctx context.Context, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp4", metadataHost+":80")
}

// Value gets tokens in the ways that the scripts ask for.
func (p program) Value(ctx context.Context, state, name string) (string, error) {
	here := imdstest.Client{Dial: func(ctx context.Context) (net.Conn, error) { return p.Dial(ctx, state) }}
	switch name {
	case "T":
		if p.token != "" {
			return p.token, nil
		}
		return here.Token(ctx, 21600)
	case "T.expired":
		token, err := here.Token(ctx, 1)
		select {
		case <-time.After(2100 * time.Millisecond): // it ends on a whole second
		case <-ctx.Done():
			err = errors.Join(err, ctx.Err())
		}
		return token, err
	case "T.elsewhere":
		const docker = "127.0.0.1:31338"
		return imdstest.Client{Host: docker, Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp4", docker)
		}}.Token(ctx, 60)
	case "T.neighbour":
		status, token := ask(p.t, 1001, "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", metadataURL+"api/token")
		if status != "200" {
			return "", fmt.Errorf("a token for another user was answered with %s", status)
		}
		return token, nil
	}
	return "", fmt.Errorf("there is no value %q", name)
}

// newSTS is an upstream that says the same to everybody until the test ends.
func newSTS(t testing.TB, code string) (url string) {
	t.Helper()
	return newSTSOf(t, code, "ASIAIOSFODNN7EXAMPLE", time.Now().Add(time.Hour))
}

// newSTSOf is newSTS with a key and its end.
func newSTSOf(t testing.TB, code, key string, expires time.Time) (url string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		switch code {
		case "":
			fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>`+
				`<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>FwoGZXIvYXdzEXAMPLETOKEN==</SessionToken>`+
				`<Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
				key, exampleSecret, expires.UTC().Format(time.RFC3339))
		case "away":
			panic(http.ErrAbortHandler)
		default:
			status := http.StatusBadRequest
			if code == "AccessDenied" {
				status = http.StatusForbidden
			}
			w.WriteHeader(status)
			fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code>`+
				`<Message>secret detail</Message></Error><RequestId>r</RequestId></ErrorResponse>`, code)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}
