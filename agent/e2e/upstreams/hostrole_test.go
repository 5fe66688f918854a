//go:build linux

package upstreams_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Keys from AWS's documentation: the root of every upstream that has one.
const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

const (
	account = "111122223333"
	door    = "127.0.0.1:31340" // of the daemon: the protocol of containers, one path for each role
)

// A daemon is a running hostrole.
type daemon struct {
	*process
	door, socket string
	before       []string // what stands before a program to put it beside the daemon
}

// startHostrole runs hostrole with the sources and roles of config. Everybody
// may have the roles, at door. At the end of the test it checks that SIGTERM
// ends the daemon well.
func startHostrole(t testing.TB, endpoint string, roles []string, config string) *daemon {
	t.Helper()
	return startAt(t, door, nil, endpoint, roles, config)
}

// startAt is startHostrole at a door of its own, and with what has to stand
// before the program, if any.
func startAt(t testing.TB, door string, before []string, endpoint string, roles []string, config string) *daemon {
	t.Helper()
	dir := t.TempDir()
	names, err := json.Marshal(roles)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "hostrole.toml")
	text := fmt.Sprintf(`version = 1
[log]
level = "debug"
format = "json"
[admin]
socket = %q
group = "root"
[rotation]
splay = "0s"
[upstream]
region = "us-east-1"
endpoint = %q
timeout = "10s"
[[listener]]
name = "door"
kind = "ecs"
address = [%q]
ingress = ""
manage_address = false
%s
[[allow]]
name = "everyone"
any = true
roles = %s
`, filepath.Join(dir, "admin.sock"), endpoint, door, config, names)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	argv := slices.Concat(before, []string{os.Getenv(binaryEnv), "run", "--config", file})
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = bare(t)
	d := &daemon{process: start(t, "hostrole", cmd), door: door, socket: filepath.Join(dir, "admin.sock"), before: before}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.done:
			if d.err != nil {
				t.Errorf("hostrole ended with %v after SIGTERM, want status 0", d.err)
			}
		case <-time.After(15 * time.Second):
			t.Error("hostrole was still there 15 s after SIGTERM")
		}
	})
	d.await(t, "has its socket", 20*time.Second, func() bool {
		_, err := os.Stat(d.socket)
		return err == nil
	})
	return d
}

// run is one command of the operator, and what it wrote on both streams.
func (d *daemon) run(t testing.TB, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Getenv(binaryEnv), args...)
	cmd.Env = bare(t, "HOSTROLE_ADMIN_SOCKET="+d.socket)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// serves waits until a role has a credential.
func (d *daemon) serves(t testing.TB, role string) {
	t.Helper()
	if out, err := d.run(t, "wait", "--role", role, "--timeout", "30s"); err != nil {
		t.Fatalf("role %s: %v\n%s", role, err, out)
	}
}

// A grant is what a program gets of a role, as credential_process prints it.
type grant struct {
	AccessKeyID string `json:"AccessKeyId"`
	Expiration  time.Time
}

// grant is what hostrole serves of a role now.
func (d *daemon) grant(t testing.TB, role string) grant {
	t.Helper()
	out, err := d.run(t, "credential-process", "--role", role)
	var g grant
	if err != nil || json.Unmarshal([]byte(out), &g) != nil || g.AccessKeyID == "" {
		t.Fatalf("the credential of %s: %v", role, err)
	}
	return g
}

// renews has hostrole ask the upstream again, and checks that another
// credential is served then.
func (d *daemon) renews(t testing.TB, role string) {
	t.Helper()
	before := d.grant(t, role)
	if out, err := d.run(t, "refresh", role); err != nil {
		t.Fatalf("renewing %s: %v\n%s", role, err, out)
	}
	if after := d.grant(t, role); after.AccessKeyID == before.AccessKeyID {
		t.Errorf("after its renewal, %s has the key that it had: %s", role, after.AccessKeyID)
	}
}

// refuses has hostrole ask the upstream again, and checks that the operator is
// told no, in these words.
func (d *daemon) refuses(t testing.TB, role string, words ...string) {
	t.Helper()
	out, err := d.run(t, "refresh", role)
	if err == nil {
		t.Errorf("%s was renewed, want a refusal:\n%s", role, out)
		return
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			t.Errorf("%q is not in what the operator is told of %s:\n%s", w, role, out)
		}
	}
	t.Logf("the operator is told of %s: %s", role, strings.TrimSpace(out))
}

// keeps is refuses of a role that has a credential, which stays. It asks twice:
// what hostrole has begun by itself, as it does when a file changes, is over
// after the first time.
func (d *daemon) keeps(t testing.TB, role string, words ...string) {
	t.Helper()
	d.refuses(t, role, words...)
	before := d.grant(t, role)
	if out, err := d.run(t, "refresh", role); err == nil {
		t.Errorf("%s was renewed, want a refusal:\n%s", role, out)
	}
	if after := d.grant(t, role); after != before {
		t.Errorf("after a refused renewal the key of %s is %s, want %s as before", role, after.AccessKeyID, before.AccessKeyID)
	}
}

// sdk runs AWS's SDK for Go with nothing but the daemon to ask: it finds a
// role's credential by its own chain, puts an object into the bucket and reads
// it back, unless there is no S3 endpoint. It returns the error of the program.
func (d *daemon) sdk(t testing.TB, role, endpoint, bucket string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	argv := slices.Concat(d.before, []string{os.Getenv(clientsEnv), "creds", "v2"})
	if endpoint != "" {
		argv = slices.Concat(d.before, []string{os.Getenv(clientsEnv), "s3", "v2", endpoint, bucket})
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = bare(t, d.asks(role))
	cmd.WaitDelay = time.Second
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, text.String())
	}
	var found struct{ AccessKeyID string }
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		return err
	}
	if want := d.grant(t, role).AccessKeyID; found.AccessKeyID != want {
		return fmt.Errorf("the SDK has the key %s, and hostrole serves %s", found.AccessKeyID, want)
	}
	return nil
}

// asks is the variable that has an SDK ask the daemon for a role.
func (d *daemon) asks(role string) string {
	return "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://" + d.door + "/role/" + role
}

// whoami is whom an STS takes the AWS CLI for, which has nothing but the daemon
// to ask.
func (d *daemon) whoami(t testing.TB, role, endpoint string) string {
	t.Helper()
	d.serves(t, role)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	argv := slices.Concat(d.before, []string{tool(t, "aws"), "--endpoint-url", endpoint, "sts", "get-caller-identity", "--query", "Arn", "--output", "text"})
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = bare(t, d.asks(role))
	cmd.WaitDelay = time.Second
	var text bytes.Buffer
	cmd.Stderr = &text
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("asking %s who role %s is: %v\n%s", endpoint, role, err, text.String())
	}
	return strings.TrimSpace(string(out))
}

// works is sdk for what has to work.
func (d *daemon) works(t testing.TB, role, endpoint, bucket string) {
	t.Helper()
	d.serves(t, role)
	if err := d.sdk(t, role, endpoint, bucket); err != nil {
		t.Errorf("role %s: %v", role, err)
	}
}
