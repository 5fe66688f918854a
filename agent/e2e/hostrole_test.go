//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hostrole/hostrole/imds/imdstest/ownnet"
)

const (
	metadataHost = "169.254.169.254"
	metadataURL  = "http://" + metadataHost + "/latest/"
)

// Keys from AWS's documentation: the root of every upstream that we start.
const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// A daemon is a running hostrole.
type daemon struct {
	*process
	killed bool // by its test, with SIGKILL
}

// startHostrole runs the hostrole under test with a configuration until the
// test ends. It returns once the metadata address answers, and checks at the
// end that SIGTERM ends it with status 0 and the address off the host.
func startHostrole(t testing.TB, configTOML string) *daemon {
	t.Helper()
	ownnet.Need(t)
	if !ownnet.RealRoot() {
		ownnet.Missing(t, "a real root: in a user namespace hostrole cannot tell callers apart, and does not start")
	}
	binary := os.Getenv(binaryEnv)
	noteSources(t)
	config := filepath.Join(t.TempDir(), "hostrole.toml")
	if err := os.WriteFile(config, []byte(configTOML), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "--config", config)
	cmd.Env = bare(t)
	d := &daemon{process: start(t, "hostrole", cmd)}
	t.Cleanup(func() { d.stop(t) })
	d.await(t, "answers on "+metadataHost, 10*time.Second, func() bool {
		c, err := net.DialTimeout("tcp", metadataHost+":80", time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return d
}

// stop ends the daemon as a service manager does.
func (d *daemon) stop(t testing.TB) {
	t.Helper()
	if d.killed {
		return
	}
	if err := d.end(syscall.SIGTERM); err != nil {
		t.Errorf("hostrole ended with %v after SIGTERM, want status 0", err)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Error(err)
	}
	for _, a := range addrs {
		if strings.HasPrefix(a.String(), metadataHost+"/") {
			t.Errorf("%s is still on the host after hostrole ended", a)
		}
	}
}

// preamble is what the configurations of these tests have in common: every
// caller may have roles, whose STS is at endpoint.
func preamble(t testing.TB, endpoint string, roles ...string) string {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(exampleSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`version = 1
[log]
level = "debug"
format = "json"
[admin]
socket = %q
group = "root"
[rotation]
splay = "0s"
refresh_after = "1m"
[upstream]
region = "us-east-1"
endpoint = %q
[[listener]]
name = "host"
kind = "imds"
address = ["169.254.169.254:80"]
[[allow]]
name = "everyone"
any = true
roles = %s
[source.keys]
kind = "static"
access_key_id = %q
secret_access_key = { file = %q }
`, filepath.Join(dir, "admin.sock"), endpoint, encode(t, roles), exampleKey, secret)
}

// A document is what the metadata service says of a role.
type document struct {
	Code, Message, Type                 string
	AccessKeyId, SecretAccessKey, Token string // as on the wire
	LastUpdated, Expiration             time.Time
}

// fetch asks the metadata service for path as a careful client does, and
// returns the status and the body.
func fetch(ctx context.Context, path string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy
	do := func(method, path, header, value string) (int, []byte, error) {
		req, err := http.NewRequestWithContext(ctx, method, metadataURL+path, nil)
		if err != nil {
			return 0, nil, err
		}
		req.Header.Set(header, value)
		resp, err := client.Do(req)
		if err != nil {
			return 0, nil, err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return resp.StatusCode, body, errors.Join(err, resp.Body.Close())
	}
	status, token, err := do(http.MethodPut, "api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	if err != nil || status != http.StatusOK {
		return status, nil, errors.Join(err, fmt.Errorf("a token was answered with %d", status))
	}
	return do(http.MethodGet, path, "X-aws-ec2-metadata-token", string(token))
}

// credential waits until role has a credential and returns its document.
func (d *daemon) credential(t testing.TB, role string) document {
	t.Helper()
	var doc document
	var last string
	defer func() {
		if t.Failed() {
			t.Logf("the last answer: %s", last)
		}
	}()
	d.await(t, "has a credential of "+role, 15*time.Second, func() bool {
		status, body, err := fetch(t.Context(), "meta-data/iam/security-credentials/"+role)
		if last = fmt.Sprint(status, " ", err); status != http.StatusOK {
			return false
		}
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&doc); err != nil {
			t.Fatalf("the document of %s: %v", role, err)
		}
		last = doc.Code + " " + doc.Message
		return doc.Code == "Success"
	})
	return doc
}

// A request is one line of hostrole's log at level debug.
type request struct {
	Time     time.Time `json:"time"` // of the line
	Took     string    `json:"took"`
	Msg      string    `json:"msg"`
	Listener string    `json:"listener"`
	Method   string    `json:"method"`
	Path     string    `json:"path"`
	Status   int       `json:"status"`
}

// began is when hostrole had the whole request.
func (r request) began() time.Time {
	took, _ := time.ParseDuration(r.Took) // 0 in a line without
	return r.Time.Add(-took)
}

// requests finds the requests that hostrole logged, in order. Whatever else is
// in the log is passed over.
func requests(log string) []request {
	var found []request
	for line := range strings.Lines(log) {
		var r request
		if json.Unmarshal([]byte(line), &r) == nil && r.Msg == "request" {
			found = append(found, r)
		}
	}
	return found
}

// noteSources looks at every folder of the module, so that the test cache of
// the go command, which notes what a test reads, does not call the tests of
// yesterday's binary passed.
func noteSources(t testing.TB) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), ".") && len(e.Name()) > 2 {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
