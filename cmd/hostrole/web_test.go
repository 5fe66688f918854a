package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/hostrole/hostrole/agent/admin"
)

// status --web shows what the daemon of a demo does, to one browser.
func TestStatusWeb(t *testing.T) {
	t.Parallel()
	env := append(os.Environ(), "PATH="+binaries+string(os.PathListSeparator)+os.Getenv("PATH"))
	demo := exec.CommandContext(t.Context(), filepath.Join(binaries, "hostrole"), "demo", "--", "sh", "-c",
		`hostrole wait && hostrole credential-process >/dev/null; hostrole credential-process --role '<b>nobody' 2>/dev/null; echo "$HOSTROLE_ADMIN_SOCKET"; exec cat`)
	demo.Env = env
	hold, err := demo.StdinPipe() // cat ends with it, and the demo with cat
	if err != nil {
		t.Fatal(err)
	}
	socket := begin(t, demo)

	h, err := admin.NewClient(socket).History(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	schema := compiled(t, admin.HistorySchema)
	if got, err := jsonschema.UnmarshalJSON(bytes.NewReader(text)); err != nil || schema.Validate(got) != nil || len(h.Roles) != 2 || len(h.Tallies) == 0 {
		t.Errorf("the history is not what its schema says: %s, %v", text, err)
	}
	h.Roles[0].Lives[0].Credential = "no id"
	if text, err = json.Marshal(h); err != nil {
		t.Fatal(err)
	}
	if bad, err := jsonschema.UnmarshalJSON(bytes.NewReader(text)); err != nil || schema.Validate(bad) == nil {
		t.Error("the schema takes anything")
	}

	web := exec.CommandContext(t.Context(), filepath.Join(binaries, "hostrole"), "status", "--web", "--socket", socket)
	web.Env = append(env, "SSH_CONNECTION=")
	url := begin(t, web)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: 10 * time.Second}
	look := func(c *http.Client, url string) (int, string, string) {
		resp, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text), resp.Request.URL.String()
	}
	code, page, at := look(client, url)
	for _, want := range []string{"2 of 2 roles", "arn:aws:iam::111122223333:role/demo-app", "&lt;b&gt;nobody", ">granted<", ">denied<", "2 answers", `class="lifeleft"`} {
		if code != http.StatusOK || !strings.Contains(page, want) {
			t.Errorf("%d, without %q: %s", code, want, page)
		}
	}
	for _, secret := range []string{"wJalrXUtnFEMI", "SecretAccessKey"} {
		if strings.Contains(page, secret) {
			t.Errorf("%s is on the page", secret)
		}
	}
	if code, _, _ := look(http.DefaultClient, at); code != http.StatusForbidden {
		t.Errorf("another browser is answered %d", code)
	}
	if code, _, _ := look(http.DefaultClient, url); code != http.StatusForbidden {
		t.Errorf("the address works twice: %d", code)
	}

	_ = hold.Close()
	if err := demo.Wait(); err != nil {
		t.Fatal(err)
	}
	if code, text, _ := look(client, at); code != http.StatusServiceUnavailable || !strings.Contains(text, "no daemon answers") {
		t.Errorf("without a daemon it is %d: %s", code, text)
	}
	_ = web.Process.Signal(syscall.SIGINT)
	if err := web.Wait(); err != nil {
		t.Errorf("after Ctrl-C it ends with %v", err)
	}
}

// begin starts a program and returns the first line that it writes.
func begin(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr, cmd.WaitDelay = os.Stderr, 5*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}
